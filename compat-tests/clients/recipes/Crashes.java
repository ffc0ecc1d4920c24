import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Scanner;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.RetryNTimes;

/**
 * Curator's recipes against three servers whose leader goes and comes back. All of them are used all the time, and
 * each must get on without the old leader, and again with it. Asks on stdout for what is to happen to the leader, and
 * is answered with a line on stdin.
 */
public final class Crashes {
    private static final int CLIENTS = 6;
    /** Uses of its recipe that every worker must have in each state of the ensemble. */
    private static final int MORE = 10;

    private static final int SESSION_MS = 15_000;
    private static final Map<CuratorFramework, AtomicInteger> breaks = new ConcurrentHashMap<>();
    private static final Map<CuratorFramework, Long> sessions = new ConcurrentHashMap<>();
    private static final Scanner answers = new Scanner(System.in);
    private static String servers;

    public static void main(String[] args) {
        servers = args[0];
        Check.step("recipes", Crashes::run);
        System.exit(0);
    }

    /** A session that outlives every fault; its end would be one of the servers' making. */
    static CuratorFramework client() throws Exception {
        CuratorFramework curator = CuratorFrameworkFactory.newClient(servers, SESSION_MS, SESSION_MS, new RetryNTimes(600, 100));
        breaks.put(curator, new AtomicInteger());
        curator.getConnectionStateListenable().addListener((client, state) -> {
            if (state == ConnectionState.SUSPENDED) {
                breaks.get(client).incrementAndGet();
            }
            if (state == ConnectionState.LOST && !Worker.isOver) {
                Worker.failure = new AssertionError("a session was lost");
            }
        });
        curator.start();
        Check.that("no connection", curator.blockUntilConnected(Worker.LONG_S, TimeUnit.SECONDS));
        sessions.put(curator, curator.getZookeeperClient().getZooKeeper().getSessionId());
        return curator;
    }

    /** The session that it has had from the start. */
    static long session(CuratorFramework client) {
        return sessions.get(client);
    }

    /**
     * How often these clients have lost a connection. Each loss leaves one request in doubt for each thread, and not
     * every recipe can tell what has become of it.
     */
    static int breaks(CuratorFramework... clients) {
        int sum = 0;
        for (CuratorFramework client : clients) {
            sum += breaks.get(client).get();
        }
        return sum;
    }

    private static void run() throws Exception {
        List<CuratorFramework> clients = new ArrayList<>();
        while (clients.size() < CLIENTS) {
            clients.add(client());
        }
        Map<String, Worker.Recipe> recipes = new LinkedHashMap<>();
        recipes.put("InterProcessMutex", new Locks.Mutex());
        recipes.put("InterProcessReadWriteLock", new Locks.ReadWrite());
        recipes.put("InterProcessSemaphoreV2", new Locks.Semaphore());
        recipes.put("LeaderLatch", new Leaders.Latch());
        recipes.put("LeaderSelector", new Leaders.Selector());
        recipes.put("DistributedBarrier", new Barriers.Single());
        recipes.put("DistributedDoubleBarrier", new Barriers.Double());
        recipes.put("SharedCount", new Counters.Shared());
        recipes.put("DistributedAtomicLong", new Counters.Atomic());
        recipes.put("SimpleDistributedQueue", new Queues.Simple());
        recipes.put("DistributedQueue", new Queues.Locked());
        recipes.put("PersistentNode", new Nodes.Persistent());
        recipes.put("CuratorCache", new Nodes.Cache());
        recipes.put("GroupMember", new Nodes.Group());
        recipes.put("ServiceDiscovery", new Nodes.Services());
        recipes.put("transactions", new Operations.Transactions());
        recipes.put("AsyncCuratorFramework", new Operations.Async());

        Map<String, List<Worker>> workers = new LinkedHashMap<>();
        List<Worker> all = new ArrayList<>();
        for (Map.Entry<String, Worker.Recipe> recipe : recipes.entrySet()) {
            List<Worker> some = recipe.getValue().workers(clients);
            workers.put(recipe.getKey(), some);
            all.addAll(some);
        }
        all.forEach(Worker::start);
        allGoOn("with all three", all);
        for (String signal : List.of("KILL", "KILL", "STOP")) {
            ask("leader: " + signal);
            allGoOn("without the old leader", all);
            ask("back");
            allGoOn("with it", all);
        }

        Worker.isOver = true;
        for (Worker worker : all) {
            worker.join(TimeUnit.SECONDS.toMillis(Worker.LONG_S));
            Check.that(worker.getName() + " does not end", !worker.isAlive());
        }
        if (Worker.failure != null) {
            throw new AssertionError("at the end", Worker.failure);
        }
        CuratorFramework fresh = client();
        fresh.create().forPath("/fresh");
        for (Map.Entry<String, Worker.Recipe> recipe : recipes.entrySet()) {
            String told = recipe.getValue().check(fresh);
            int sections = workers.get(recipe.getKey()).stream().mapToInt(worker -> worker.sections).sum();
            System.out.printf("ok %s: used %d times%s%n", recipe.getKey(), sections, told.isEmpty() ? "" : ", " + told);
        }
        System.out.printf("%d workers on %d clients, whose connections broke %d times%n", all.size(), breaks.size(),
                breaks(breaks.keySet().toArray(new CuratorFramework[0])));
    }

    private static void allGoOn(String when, List<Worker> all) throws Exception {
        Map<Worker, Integer> from = new HashMap<>();
        all.forEach(worker -> from.put(worker, worker.sections));
        long start = System.nanoTime();
        for (Worker worker : all) {
            Worker.until(worker.getName() + " goes on " + when, () -> worker.sections >= from.get(worker) + MORE);
        }
        System.out.printf("all go on %s (%d ms)%n", when, (System.nanoTime() - start) / 1_000_000);
    }

    private static void ask(String what) {
        System.out.println(what);
        Check.that("nobody says that it is done: " + what, answers.hasNextLine());
        answers.nextLine();
    }
}
