import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooKeeper;

/** Twenty sessions contend for one lock. */
public final class Lock {
    private static final int CONTENDERS = 20;
    private static final int ROUNDS = 5;

    private final List<ZooKeeper> sessions = new ArrayList<>();
    private final ExecutorService threads = Executors.newFixedThreadPool(CONTENDERS);

    public static void main(String[] args) {
        Lock test = new Lock();
        Check.step("connect", () -> test.connect(args[0]));
        Check.step("queue, one release at a time", test::oneByOne);
        Check.step("contend in rounds", test::rounds);
        Check.step("a contender in the middle leaves", test::leave);
        System.exit(0);
    }

    private void connect(String server) throws Exception {
        for (int i = 0; i < CONTENDERS; i++) {
            CountDownLatch connected = new CountDownLatch(1);
            sessions.add(new ZooKeeper(server, 10_000, event -> connected.countDown()));
            Check.await("a connection", connected);
        }
        for (String path : List.of("/one", "/rounds", "/leave", "/count")) {
            sessions.get(0).create(path, "0".getBytes(), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        }
    }

    /** All are queued and watch before the first release; then each release must wake the next one alone. */
    private void oneByOne() throws Exception {
        AtomicInteger wakeups = new AtomicInteger();
        BlockingQueue<Integer> acquired = new LinkedBlockingQueue<>();
        List<FairLock> locks = new ArrayList<>();
        List<Integer> numbers = new ArrayList<>();
        List<Future<?>> waiters = new ArrayList<>();
        for (ZooKeeper zk : sessions) {
            FairLock lock = new FairLock(zk, "/one", wakeups);
            int number = lock.enqueue();
            locks.add(lock);
            numbers.add(number);
            CountDownLatch watching = new CountDownLatch(1);
            waiters.add(threads.submit(() -> {
                lock.await(watching);
                return acquired.add(number);
            }));
            Check.await("a watch in the queue", watching);
        }
        for (int i = 0; i < CONTENDERS; i++) {
            Check.equal("the next holder", numbers.get(i), Check.next("the next holder", acquired));
            Check.equal("other holders", List.of(), new ArrayList<>(acquired));
            Check.equal("wakeups so far", i, wakeups.get());
            locks.get(i).release();
        }
        for (Future<?> waiter : waiters) {
            waiter.get(Check.DEADLINE_S, TimeUnit.SECONDS);
        }
        // An event precedes every later reply of its session: after this none can be under way.
        for (ZooKeeper zk : sessions) {
            zk.exists("/one", false);
        }
        Check.equal("wakeups", CONTENDERS - 1, wakeups.get());
    }

    /** The guarded section reads and writes a node without a version: only the lock keeps the count right. */
    private void rounds() throws Exception {
        AtomicInteger inside = new AtomicInteger();
        List<Integer> order = Collections.synchronizedList(new ArrayList<>());
        List<Future<?>> running = new ArrayList<>();
        for (ZooKeeper zk : sessions) {
            running.add(threads.submit(() -> {
                for (int round = 0; round < ROUNDS; round++) {
                    FairLock lock = new FairLock(zk, "/rounds", new AtomicInteger());
                    int number = lock.enqueue();
                    lock.await(new CountDownLatch(1));
                    Check.equal("contenders inside", 1, inside.incrementAndGet());
                    order.add(number);
                    int count = Integer.parseInt(new String(zk.getData("/count", false, null), StandardCharsets.UTF_8));
                    zk.setData("/count", Integer.toString(count + 1).getBytes(StandardCharsets.UTF_8), -1);
                    inside.decrementAndGet();
                    lock.release();
                }
                return null;
            }));
        }
        for (Future<?> contender : running) {
            contender.get(Check.DEADLINE_S, TimeUnit.SECONDS);
        }
        List<Integer> sorted = new ArrayList<>(order);
        Collections.sort(sorted);
        Check.equal("order of the holders", sorted, new ArrayList<>(order));
        String count = new String(sessions.get(0).getData("/count", false, null), StandardCharsets.UTF_8);
        Check.equal("the guarded count", Integer.toString(CONTENDERS * ROUNDS), count);
    }

    /** A closed session takes its place in the queue with it; who stood behind moves up and does not get the lock. */
    private void leave() throws Exception {
        AtomicInteger wakeups = new AtomicInteger();
        List<FairLock> locks = new ArrayList<>();
        for (ZooKeeper zk : sessions.subList(0, 3)) {
            FairLock lock = new FairLock(zk, "/leave", wakeups);
            lock.enqueue();
            locks.add(lock);
        }
        CountDownLatch watching = new CountDownLatch(1);
        Future<?> last = threads.submit(() -> {
            locks.get(2).await(watching);
            return null;
        });
        Check.await("a watch in the queue", watching);
        sessions.get(1).close();
        Check.until("the last contender wakes", () -> wakeups.get() == 1);
        sessions.get(2).exists("/leave", false);
        Check.that("the last contender has the lock while the first one holds it", !last.isDone());
        locks.get(0).release();
        last.get(Check.DEADLINE_S, TimeUnit.SECONDS);
        Check.that("wakeups beyond two: " + wakeups.get(), wakeups.get() <= 2);
    }
}
