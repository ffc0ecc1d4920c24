import java.io.IOException;
import java.net.ServerSocket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.ha.HAServiceProtocol.HAServiceState;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.Stat;

/**
 * Two services with fail-over controllers, each pair a process, and what becomes of them. A plain ZooKeeper client
 * looks at what the controllers keep.
 */
public final class Pair {
    private static final String PARENT = "/hadoop-ha/pair";
    private static final String LOCK = PARENT + "/ActiveStandbyElectorLock";
    private static final String BREADCRUMB = PARENT + "/ActiveBreadCrumb";

    private final Configuration conf;
    private final String servers;
    private final Path work;
    private ZooKeeper zk;
    private Node a;
    private Node b;
    /** Everything that is said, and what is done to the processes: nanoseconds, who, what. */
    private final List<Event> history = new ArrayList<>();

    private record Event(long time, Node who, String what) {
        @Override
        public String toString() {
            return who + " " + what;
        }
    }

    public static void main(String[] args) {
        Pair test = new Pair(args[0], Path.of(args[1]));
        Check.step("the parent node", test::format);
        Check.step("one is active, one stands by", test::start);
        Check.step("the active one is killed", test::killed);
        Check.step("fail-over on demand", test::onDemand);
        Check.step("the active one is stopped, and goes on", test::stopped);
        Check.step("the leader of the ensemble is killed", test::leader);
        Check.step("the leader and the active one are killed at once", test::both);
        Check.step("never two that are active", test::neverTwo);
        System.exit(0);
    }

    private Pair(String servers, Path work) {
        this.servers = servers;
        this.work = work;
        conf = Target.configuration(servers);
    }

    private static int freePort() throws Exception {
        try (ServerSocket free = new ServerSocket(0)) {
            return free.getLocalPort();
        }
    }

    /** A service and its controller, through its processes. */
    private final class Node {
        final String name;
        final Target target;
        Child child;

        Node(String name) throws Exception {
            this.name = name;
            target = new Target(conf, freePort(), freePort());
        }

        void start(Node other, String... options) throws Exception {
            List<String> args = new ArrayList<>(List.of(servers, target.toString(), other.target.toString()));
            args.addAll(List.of(options));
            child = new Child(name, work, "Service", args.toArray(String[]::new));
        }

        /** Until it says this. */
        void says(String what) throws Exception {
            String line;
            do {
                line = take(child.next("'" + what + "'"));
            } while (!line.equals(what));
        }

        void takeAll() {
            for (String line = child.lines.poll(); line != null; line = child.lines.poll()) {
                take(line);
            }
        }

        private String take(String line) {
            String[] words = line.split(" ", 2);
            history.add(new Event(Long.parseLong(words[0]), this, words[1]));
            return words[1];
        }

        void kill() throws Exception {
            child.kill();
            takeAll();
            history.add(new Event(System.nanoTime(), this, "killed"));
        }

        HAServiceState state() throws Exception {
            return target.state(conf);
        }

        @Override
        public String toString() {
            return name;
        }
    }

    private void format() throws Exception {
        CountDownLatch connected = new CountDownLatch(1);
        zk = new ZooKeeper(servers, 30_000, event -> connected.countDown());
        Check.await("a connection", connected);
        a = new Node("a");
        b = new Node("b");
        a.start(b, "-formatZK");
        Check.equal("exit code", 0, a.child.exitCode());
        Check.equal("children", List.of(), synced().getChildren(PARENT, false));
    }

    private void start() throws Exception {
        a.start(b);
        a.says("active");
        b.start(a);
        b.says("standby");
        active(a, b);
    }

    /** Its server may be behind those of the others: what is read next is not older than what they have seen. */
    private ZooKeeper synced() {
        zk.sync("/", (code, path, context) -> { }, null);
        return zk;
    }

    private String text(String path, Stat stat) throws KeeperException, InterruptedException {
        return new String(synced().getData(path, false, stat), StandardCharsets.UTF_8);
    }

    /** Both services, the lock and the breadcrumb agree that it is this one. */
    private void active(Node node, Node other) throws Exception {
        until(node + " alone is active",
                () -> node.state() == HAServiceState.ACTIVE && other.state() == HAServiceState.STANDBY);
        holder(node);
        Stat stat = new Stat();
        Check.equal("breadcrumb", node.target.toString(), text(BREADCRUMB, stat));
        Check.equal("owner of the breadcrumb", 0L, stat.getEphemeralOwner());
    }

    /** The session that holds the lock for this one. */
    private long holder(Node node) throws Exception {
        Stat stat = new Stat();
        Check.equal("lock", node.target.toString(), text(LOCK, stat));
        Check.that("the lock belongs to no session", stat.getEphemeralOwner() != 0);
        return stat.getEphemeralOwner();
    }

    private void until(String what, Callable<Boolean> holds) throws Exception {
        Check.until(what, () -> {
            try {
                return holds.call();
            } catch (KeeperException.ConnectionLossException | IOException e) {
                // The line to a server that was killed, or to a service.
                return false;
            }
        });
    }

    private void killed() throws Exception {
        a.kill();
        b.says("fence " + a.target.servicePort);
        b.says("active");
        a.start(b);
        a.says("standby");
        active(b, a);
    }

    /** What `haadmin -failover` does. Nobody is fenced, since the old one does as it is told. */
    private void onDemand() throws Exception {
        int before = history.size();
        a.target.getZKFCProxy(conf, 15_000).gracefulFailover();
        b.says("standby");
        a.says("active");
        active(a, b);
        Check.that("somebody was fenced",
                history.stream().skip(before).noneMatch(event -> event.what.startsWith("fence")));
        // After a while it takes part again.
        b.says("standby");
    }

    private void stopped() throws Exception {
        long before = holder(a);
        a.child.signal("STOP");
        b.says("fence " + a.target.servicePort);
        b.says("active");
        long since = holder(b);
        Check.that("another session holds the lock", since != before);
        a.child.signal("CONT");
        a.says("standby");
        active(b, a);
        Check.equal("the session that holds the lock", since, holder(b));
        // Only with a new session can it take over again.
        b.kill();
        a.says("fence " + b.target.servicePort);
        a.says("active");
        Check.that("the session that was over holds the lock", holder(a) != before);
        b.start(a);
        b.says("standby");
        active(a, b);
    }

    /** Its session outlives the leader, and so it stays. */
    private void leader() throws Exception {
        long before = holder(a);
        int known = history.size();
        String leader = Ensemble.killLeader();
        Ensemble.lever("await_members 2");
        until("the lock can be read", () -> holder(a) == before);
        active(a, b);
        Ensemble.restart(leader);
        until("the lock can be read", () -> holder(a) == before);
        active(a, b);
        b.takeAll();
        Check.that("b was active",
                history.stream().skip(known).noneMatch(event -> event.who == b && event.what.equals("active")));
    }

    private void both() throws Exception {
        String leader = Ensemble.killLeader();
        a.kill();
        b.says("fence " + a.target.servicePort);
        b.says("active");
        a.start(b);
        a.says("standby");
        active(b, a);
        Ensemble.restart(leader);
        until("the lock can be read", () -> holder(b) != 0);
        active(b, a);
    }

    /** Nobody becomes active while another is that was neither told to stand by, nor fenced, nor killed. */
    private void neverTwo() {
        a.takeAll();
        b.takeAll();
        history.sort(Comparator.comparingLong(Event::time));
        Set<Node> active = new HashSet<>();
        int changes = 0;
        for (Event event : history) {
            Node other = event.who == a ? b : a;
            if (event.what.equals("active")) {
                Check.that(event.who + " becomes active beside " + other + ": " + history, !active.contains(other));
                changes += active.add(event.who) ? 1 : 0;
            } else {
                active.remove(event.what.startsWith("fence ") ? other : event.who);
            }
        }
        Check.equal("how often somebody became active", 6, changes);
        Check.equal("who is active at the end", Set.of(b), active);
        a.child.close();
        b.child.close();
    }
}
