import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.RetryNTimes;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.data.Stat;

/**
 * Curator against three servers, one of which goes: sessions and ephemerals stay, and a lock has one holder. Says
 * `ready` when all clients are at work. A line on stdin says that the fault is over; then they must all have gone on.
 */
public final class Failover {
    private static final int CLIENTS = 4;
    /** Sections that each client must have after the fault. */
    private static final int MORE = 5;

    private static final AtomicInteger holders = new AtomicInteger();
    private static final AtomicInteger added = new AtomicInteger();
    private static volatile boolean isOver;
    private static volatile Throwable failure;

    public static void main(String[] args) throws Exception {
        Check.step("failover", () -> run(args[0]));
        System.exit(0);
    }

    private static void run(String servers) throws Exception {
        List<Worker> workers = new ArrayList<>();
        for (int number = 0; number < CLIENTS; number++) {
            workers.add(new Worker(servers, number));
        }
        workers.forEach(Worker::start);
        until("all are at work", workers, 0, MORE);
        System.out.println("ready");
        Check.that("nobody says that the fault is over", System.in.read() >= 0);
        int most = workers.stream().mapToInt(worker -> worker.sections).max().getAsInt();
        until("all go on", workers, most, MORE);
        for (Worker worker : workers) {
            worker.check();
        }
        isOver = true;
        for (Worker worker : workers) {
            worker.join(TimeUnit.SECONDS.toMillis(Check.DEADLINE_S));
            Check.that("a worker does not end", !worker.isAlive());
        }
        byte[] count = workers.get(0).curator.getData().forPath("/count");
        Check.equal("the count", added.get(), Integer.parseInt(new String(count, StandardCharsets.UTF_8)));
        workers.forEach(worker -> worker.curator.close());
        System.out.println(added.get() + " sections");
    }

    private static void until(String what, List<Worker> workers, int from, int more) throws Exception {
        Check.until(what, () -> {
            if (failure != null) {
                throw new AssertionError("a worker has failed", failure);
            }
            return workers.stream().allMatch(worker -> worker.sections >= from + more);
        });
    }

    /** Goes through the lock again and again, and adds one to a node each time. */
    private static final class Worker extends Thread {
        final CuratorFramework curator;
        final InterProcessMutex mutex;
        final String mine;
        final long session;
        volatile int sections;
        volatile boolean wasLost;

        Worker(String servers, int number) throws Exception {
            setDaemon(true);
            curator = CuratorFrameworkFactory.newClient(servers, 10_000, 10_000, new RetryNTimes(200, 100));
            curator.getConnectionStateListenable().addListener((client, state) -> {
                if (state == ConnectionState.LOST && !isOver) {
                    wasLost = true;
                }
            });
            curator.start();
            Check.that("no connection", curator.blockUntilConnected(Check.DEADLINE_S, TimeUnit.SECONDS));
            if (number == 0) {
                curator.create().forPath("/count", "0".getBytes(StandardCharsets.UTF_8));
            }
            mine = "/mine-" + number;
            curator.create().withMode(CreateMode.EPHEMERAL).forPath(mine, new byte[0]);
            session = curator.getZookeeperClient().getZooKeeper().getSessionId();
            mutex = new InterProcessMutex(curator, "/lock");
        }

        @Override
        public void run() {
            try {
                while (!isOver) {
                    section();
                }
            } catch (Throwable e) {
                failure = e;
            }
        }

        private void section() throws Exception {
            Check.that("no lock", mutex.acquire(Check.DEADLINE_S, TimeUnit.SECONDS));
            try {
                Check.equal("holders of the lock", 1, holders.incrementAndGet());
                int count = Integer.parseInt(new String(curator.getData().forPath("/count"), StandardCharsets.UTF_8));
                // Said again after a loss it sets the same, so it counts once.
                curator.setData().forPath("/count", Integer.toString(count + 1).getBytes(StandardCharsets.UTF_8));
                added.incrementAndGet();
                sections++;
                holders.decrementAndGet();
            } finally {
                mutex.release();
            }
        }

        void check() throws Exception {
            Check.that("the session of " + mine + " was lost", !wasLost);
            Check.equal("session of " + mine, session, curator.getZookeeperClient().getZooKeeper().getSessionId());
            Stat stat = curator.checkExists().forPath(mine);
            Check.that(mine + " is gone", stat != null);
            Check.equal("owner of " + mine, session, stat.getEphemeralOwner());
        }
    }
}
