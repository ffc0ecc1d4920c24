import java.io.ByteArrayOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Queue;
import java.util.Random;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.StatsTrack;
import org.apache.zookeeper.Watcher.Event.KeeperState;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooDefs.Perms;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.cli.SetQuotaCommand;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.Id;
import org.apache.zookeeper.data.Stat;
import org.apache.zookeeper.server.SnapshotFormatter;
import org.apache.zookeeper.server.persistence.TxnLogToolkit;
import org.apache.zookeeper.util.ServiceUtils;

/**
 * One data directory goes back and forth between two kinds of server. Each must serve, to the last field of
 * every Stat, the tree that the other one has left, and the sessions go with it: one client stays through it
 * all and keeps its ephemerals.
 */
public final class Roundtrip {
    private static final List<ACL> OPEN = Ids.OPEN_ACL_UNSAFE;
    private static final byte[] NONE = new byte[0];
    private static final int ROUNDS = 3;
    /** Here live ephemerals of sessions that are left to expire: no part of what must be equal. */
    private static final String DOOMED = "/doomed";

    private final String tested;
    private final String address;
    private final int port;
    private final Path work;
    private final Path data;
    private final Random random = new Random(42);
    private final BlockingQueue<KeeperState> keeperStates = new LinkedBlockingQueue<>();
    private ZooKeeper keeper;
    private long keeperSession;
    private Server server;
    private Tree last;
    private long zxid;
    private Load load;
    /** Java takes snapshots while it writes, in the last round. */
    private boolean javaIsFuzzy;
    /** Such a snapshot may come with the digest of another moment, and then whoever loads it, Java too, reports a mismatch. */
    private boolean wrongDigests;
    private Set<Path> foreign = Set.of();

    public static void main(String[] args) {
        ServiceUtils.setSystemExitProcedure(code -> {
            throw new IllegalStateException("a tool wants to exit with " + code);
        });
        new Roundtrip(args[0], args[1], Path.of(args[2])).run();
        System.exit(0);
    }

    private Roundtrip(String tested, String address, Path work) {
        this.tested = tested;
        this.address = address;
        this.work = work;
        port = Integer.parseInt(address.substring(address.indexOf(':') + 1));
        data = work.resolve("data");
    }

    private void run() {
        Check.step("start", () -> {
            start(tested);
            keeper = new ZooKeeper(address, 60_000, event -> keeperStates.add(event.getState()));
            keeperSession = keeper.getSessionId();
            awaitKeeper();
            keeperSession = keeper.getSessionId();
            keeper.create(DOOMED, NONE, OPEN, CreateMode.PERSISTENT);
        });
        for (int round = 1; round <= ROUNDS; round++) {
            String name = "round " + round + ": ";
            String mine = "/" + tested + round;
            String java = "/back" + round;
            boolean gently = round == 2;
            boolean underLoad = round == 3;
            String compression = List.of("CHECKED", "gz", "snappy").get(round - 1);
            Check.step(name + "snapshots of kind " + compression, () -> set("snapshot.compression.method", compression));
            javaIsFuzzy = round == 3;
            Check.step(name + tested + " writes", () -> write(mine));
            Check.step(name + (gently ? "it is stopped" : underLoad ? "it is killed under load" : "it is killed"), () -> {
                if (underLoad) {
                    killUnderLoad(mine);
                } else {
                    stop(gently);
                }
            });
            Check.step(name + "Java's tools read its files", this::tools);
            if (underLoad) {
                Check.step(name + "Java has all that was acknowledged", this::acknowledged);
            }
            Check.step(name + "Java serves its tree", () -> {
                start("java");
                compare(underLoad);
            });
            Check.step(name + "a session of before expires", () -> expire(mine));
            Check.step(name + "Java writes", () -> write(java));
            Check.step(name + "Java is stopped", () -> stop(gently));
            Check.step(name + tested + " serves Java's tree", () -> {
                foreign = files();
                start(tested);
                compare(false);
                expire(java);
                last = read();
            });
            Check.step(name + "without dataDir/zooid too", () -> {
                stop(gently);
                deleteImage();
                start(tested);
                compare(false);
            });
        }
        Check.step("the end of the session", this::end);
    }

    private void start(String kind) throws Exception {
        boolean small = kind.equals("zooid") || javaIsFuzzy;
        set("snapCount", small ? "150" : "100000");
        server = Server.start(kind, port, work);
        Check.that("zxid " + server.zxid() + " after " + zxid, server.zxid() >= zxid);
        if (keeper != null) {
            awaitKeeper();
        }
    }

    /** From the next start on. */
    private void set(String key, String value) throws IOException {
        Path file = work.resolve("zoo.cfg");
        String rest = Files.readString(file).replaceAll("(?m)^" + key + "=.*\n", "");
        Files.writeString(file, rest + key + "=" + value + "\n");
    }

    private void stop(boolean gently) throws Exception {
        checkDigests();
        zxid = server.zxid();
        keeperStates.clear();
        if (gently) {
            server.terminate();
        } else {
            server.kill();
        }
    }

    private void awaitKeeper() throws Exception {
        KeeperState state;
        do {
            state = Check.next("the client that stays to come back", keeperStates);
            Check.that("its session has expired", state != KeeperState.Expired);
        } while (state != KeeperState.SyncConnected);
        Check.that("it has another session", keeperSession == 0 || keeper.getSessionId() == keeperSession);
    }

    /** A client that may read everything. */
    private ZooKeeper connect(String to, int timeout) throws Exception {
        CountDownLatch connected = new CountDownLatch(1);
        ZooKeeper zk = new ZooKeeper(to, timeout, event -> {
            if (event.getState() == KeeperState.SyncConnected) {
                connected.countDown();
            }
        });
        Check.await("a connection", connected);
        zk.addAuthInfo("digest", "user:secret".getBytes());
        return zk;
    }

    private Tree read() throws Exception {
        ZooKeeper zk = connect(address, 10_000);
        try {
            return Tree.read(zk, DOOMED);
        } finally {
            zk.close();
        }
    }

    /** After a kill under load the tree is known only as far as answers came; then what is found is the measure. */
    private void compare(boolean unknownTail) throws Exception {
        Tree now = read();
        if (!unknownTail) {
            now.mustEqual(last);
        }
        last = now;
        checkDigests();
    }

    private void checkDigests() throws Exception {
        if (!wrongDigests) {
            server.checkDigests();
        }
    }

    // --- writing

    private void write(String root) throws Exception {
        wrongDigests |= javaIsFuzzy && server.kind.equals("java");
        ZooKeeper zk = connect(address, 10_000);
        zk.create(root, "root".getBytes(), OPEN, CreateMode.PERSISTENT);
        modes(zk, root);
        data(zk, root + "/data");
        acls(zk, root + "/acls");
        deletes(zk, root + "/deletes");
        multis(zk, root + "/multi");
        quotas(zk, root + "/quota");
        refused(zk, root + "/refused");
        many(zk, root + "/many");
        closed(root + "/closed");
        doom(root);
        zk.close();
        last = read();
    }

    private void modes(ZooKeeper zk, String root) throws Exception {
        String path = root + "/modes";
        zk.create(path, NONE, OPEN, CreateMode.PERSISTENT);
        zk.create(path + "/persistent", NONE, OPEN, CreateMode.PERSISTENT);
        for (int i = 0; i < 3; i++) {
            zk.create(path + "/sequential-", NONE, OPEN, CreateMode.PERSISTENT_SEQUENTIAL);
            keeper.create(path + "/ephemeral-sequential-", NONE, OPEN, CreateMode.EPHEMERAL_SEQUENTIAL);
        }
        keeper.create(path + "/ephemeral", "mine".getBytes(), OPEN, CreateMode.EPHEMERAL);
        zk.create(path + "/container", NONE, OPEN, CreateMode.CONTAINER);
        zk.create(path + "/container/child", NONE, OPEN, CreateMode.PERSISTENT);
        zk.create(path + "/ttl", NONE, OPEN, CreateMode.PERSISTENT_WITH_TTL, new Stat(), 3_600_000);
        zk.create(path + "/ttl-sequential-", NONE, OPEN, CreateMode.PERSISTENT_SEQUENTIAL_WITH_TTL, new Stat(), 3_600_000);
    }

    private void data(ZooKeeper zk, String path) throws Exception {
        byte[] binary = new byte[256];
        byte[] big = new byte[200_000];
        random.nextBytes(binary);
        random.nextBytes(big);
        zk.create(path, null, OPEN, CreateMode.PERSISTENT);
        zk.create(path + "/null", null, OPEN, CreateMode.PERSISTENT);
        zk.create(path + "/empty", NONE, OPEN, CreateMode.PERSISTENT);
        zk.create(path + "/binary", binary, OPEN, CreateMode.PERSISTENT);
        zk.create(path + "/big", big, OPEN, CreateMode.PERSISTENT);
        zk.create(path + "/grüße, 世界", "\uD83D\uDE00".getBytes(StandardCharsets.UTF_8), OPEN, CreateMode.PERSISTENT);
        zk.create(path + "/a b", NONE, OPEN, CreateMode.PERSISTENT);
        String deep = path;
        for (int i = 0; i < 30; i++) {
            deep += "/d" + i;
            zk.create(deep, NONE, OPEN, CreateMode.PERSISTENT);
        }
        for (int i = 0; i < 5; i++) {
            zk.setData(path + "/empty", ("" + i).getBytes(), i);
        }
        zk.setData(path + "/binary", null, -1);
        zk.setData(path + "/null", big, 0);
        zk.setData(path + "/null", NONE, 1);
    }

    private void acls(ZooKeeper zk, String path) throws Exception {
        Id user = new Id("digest", "user:5w9W4eL3797Y4Wq8AcKUPPk8ha4=");
        Id other = new Id("digest", "other:AAAAAAAAAAAAAAAAAAAAAAAAAAA=");
        ACL mine = new ACL(Perms.ALL, user);
        zk.create(path, NONE, OPEN, CreateMode.PERSISTENT);
        zk.create(path + "/creator", NONE, Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
        zk.create(path + "/read", NONE, Ids.READ_ACL_UNSAFE, CreateMode.PERSISTENT);
        zk.create(path + "/ip", NONE, Arrays.asList(mine, new ACL(Perms.READ, new Id("ip", "127.0.0.0/8"))), CreateMode.PERSISTENT);
        zk.create(path + "/several", NONE, Arrays.asList(mine, new ACL(Perms.WRITE | Perms.CREATE, other)), CreateMode.PERSISTENT);
        zk.create(path + "/set", NONE, OPEN, CreateMode.PERSISTENT);
        for (int i = 0; i < 4; i++) {
            zk.setACL(path + "/set", Arrays.asList(mine, new ACL(i, other)), i);
        }
    }

    private void deletes(ZooKeeper zk, String path) throws Exception {
        zk.create(path, NONE, OPEN, CreateMode.PERSISTENT);
        for (int i = 0; i < 10; i++) {
            zk.create(path + "/s-", NONE, OPEN, CreateMode.PERSISTENT_SEQUENTIAL);
        }
        for (int i = 5; i < 10; i++) {
            zk.delete(path + "/s-000000000" + i, 0);
        }
        zk.create(path + "/s-", NONE, OPEN, CreateMode.PERSISTENT_SEQUENTIAL);
        for (int i = 0; i < 3; i++) {
            zk.create(path + "/again", NONE, OPEN, CreateMode.PERSISTENT);
            zk.setData(path + "/again", NONE, 0);
            if (i < 2) {
                zk.delete(path + "/again", 1);
            }
        }
        zk.create(path + "/emptied", NONE, OPEN, CreateMode.PERSISTENT);
        zk.create(path + "/emptied/x", NONE, OPEN, CreateMode.PERSISTENT);
        zk.delete(path + "/emptied/x", -1);
    }

    private void multis(ZooKeeper zk, String path) throws Exception {
        zk.multi(Arrays.asList(
                Op.create(path, NONE, OPEN, CreateMode.PERSISTENT),
                Op.create(path + "/s-", NONE, OPEN, CreateMode.PERSISTENT_SEQUENTIAL),
                Op.create(path + "/s-", NONE, OPEN, CreateMode.PERSISTENT_SEQUENTIAL),
                Op.create(path + "/container", NONE, OPEN, CreateMode.CONTAINER),
                Op.create(path + "/container/x", NONE, OPEN, CreateMode.PERSISTENT),
                Op.create(path + "/ttl", NONE, OPEN, CreateMode.PERSISTENT_WITH_TTL, 3_600_000),
                Op.create(path + "/gone", NONE, OPEN, CreateMode.PERSISTENT),
                Op.setData(path, "1".getBytes(), 0),
                Op.setData(path, "2".getBytes(), 1),
                Op.check(path, 2),
                Op.delete(path + "/gone", 0)));
        keeper.multi(Arrays.asList(
                Op.create(path + "/ephemeral", NONE, OPEN, CreateMode.EPHEMERAL),
                Op.setData(path + "/ephemeral", "x".getBytes(), 0)));
        Check.fails("BadVersion", () -> zk.multi(Arrays.asList(
                Op.create(path + "/never", NONE, OPEN, CreateMode.PERSISTENT),
                Op.delete(path + "/s-0000000000", -1),
                Op.check(path, 77))));
        Check.fails("NoNode", () -> zk.multi(Arrays.asList(
                Op.setData(path, "3".getBytes(), -1), Op.delete(path + "/none", -1))));
    }

    private void quotas(ZooKeeper zk, String path) throws Exception {
        zk.create(path, "12345".getBytes(), OPEN, CreateMode.PERSISTENT);
        StatsTrack quota = new StatsTrack();
        quota.setCount(100);
        quota.setByteHardLimit(10_000);
        SetQuotaCommand.createQuota(zk, path, quota);
        for (int i = 0; i < 5; i++) {
            zk.create(path + "/n" + i, new byte[i * 10], OPEN, CreateMode.PERSISTENT);
        }
        zk.setData(path + "/n1", new byte[500], -1);
        zk.delete(path + "/n4", -1);
        keeper.create(path + "/ephemeral", new byte[7], OPEN, CreateMode.EPHEMERAL);
    }

    /** Writes that fail keep their place in the log. */
    private void refused(ZooKeeper zk, String path) throws Exception {
        zk.create(path, NONE, OPEN, CreateMode.PERSISTENT);
        keeper.create(path + "/ephemeral", NONE, OPEN, CreateMode.EPHEMERAL);
        Check.fails("NodeExists", () -> zk.create(path, NONE, OPEN, CreateMode.PERSISTENT));
        Check.fails("NoNode", () -> zk.create(path + "/x/y", NONE, OPEN, CreateMode.PERSISTENT));
        Check.fails("NoChildrenForEphemerals", () -> zk.create(path + "/ephemeral/x", NONE, OPEN, CreateMode.PERSISTENT));
        Check.fails("BadVersion", () -> zk.setData(path, NONE, 5));
        Check.fails("BadVersion", () -> zk.setACL(path, OPEN, 5));
        Check.fails("NotEmpty", () -> zk.delete(path, -1));
        Check.fails("NoNode", () -> zk.delete(path + "/x", -1));
        Check.fails("InvalidACL", () -> keeper.create(path + "/x", NONE, Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT));
    }

    /** Enough to roll the log over and to have snapshots taken in the midst of it. */
    private void many(ZooKeeper zk, String path) throws Exception {
        int count = 400;
        BlockingQueue<Integer> answers = new LinkedBlockingQueue<>();
        zk.create(path, NONE, OPEN, CreateMode.PERSISTENT);
        for (int i = 0; i < count; i++) {
            String name = path + "/n" + random.nextInt(150);
            switch (random.nextInt(4)) {
                case 0 -> zk.delete(name, -1, (rc, asked, context) -> answers.add(rc), null);
                case 1 -> zk.setData(name, ("" + i).getBytes(), -1, (rc, asked, context, stat) -> answers.add(rc), null);
                default -> zk.create(name, ("" + i).getBytes(), OPEN, CreateMode.PERSISTENT, (rc, asked, context, made) -> answers.add(rc), null);
            }
        }
        for (int i = 0; i < count; i++) {
            int rc = Check.next("an answer", answers);
            Check.that("code " + rc, rc == 0 || rc == KeeperException.Code.NONODE.intValue() || rc == KeeperException.Code.NODEEXISTS.intValue());
        }
    }

    /** Closing a session deletes what it owns, in one transaction. */
    private void closed(String path) throws Exception {
        ZooKeeper zk = connect(address, 10_000);
        zk.create(path, NONE, OPEN, CreateMode.PERSISTENT);
        for (int i = 0; i < 20; i++) {
            zk.create(path + "/e" + i, NONE, OPEN, CreateMode.EPHEMERAL);
        }
        zk.create(path + "/stays", NONE, OPEN, CreateMode.PERSISTENT);
        zk.close();
    }

    // --- sessions that do not end well

    private static String doomed(String root) {
        return DOOMED + "/of-" + root.substring(1);
    }

    private void doom(String root) throws Exception {
        try (Relay relay = new Relay(address)) {
            ZooKeeper zk = connect(relay.address(), 3_000);
            zk.create(doomed(root), NONE, OPEN, CreateMode.EPHEMERAL);
            // The relay goes, and with it the line; the handle is left to itself.
        }
    }

    /** The server that comes next knows the session and ends it in its time. */
    private void expire(String root) throws Exception {
        CountDownLatch gone = new CountDownLatch(1);
        if (keeper.exists(doomed(root), event -> gone.countDown()) != null) {
            Check.await("the session of " + doomed(root) + " to expire", gone);
        }
    }

    private void killUnderLoad(String root) throws Exception {
        String path = root + "/load";
        ZooKeeper zk = connect(address, 10_000);
        zk.create(path, NONE, OPEN, CreateMode.PERSISTENT);
        load = new Load(zk, path);
        for (int i = 0; i < 100; i++) {
            load.next();
        }
        Check.await("the load to run", load.running);
        keeperStates.clear();
        server.kill();
        zk.close();
    }

    private void acknowledged() throws Exception {
        start("java");
        ZooKeeper check = connect(address, 10_000);
        List<String> found = check.getChildren(load.path, false);
        check.close();
        Set<String> lost = new TreeSet<>(load.acknowledged);
        found.forEach(name -> lost.remove(load.path + "/" + name));
        Check.equal("acknowledged writes that are lost, of " + load.acknowledged.size(), Set.of(), lost);
        stop(false);
    }

    /** Creates, each of which brings the next one when it is acknowledged, until the server is gone. */
    private static final class Load {
        final Queue<String> acknowledged = new ConcurrentLinkedQueue<>();
        final CountDownLatch running = new CountDownLatch(500);
        private final AtomicInteger number = new AtomicInteger();
        private final ZooKeeper zk;
        final String path;

        Load(ZooKeeper zk, String path) {
            this.zk = zk;
            this.path = path;
        }

        void next() {
            String name = path + "/n" + number.getAndIncrement();
            zk.create(name, new byte[100], OPEN, CreateMode.PERSISTENT, (rc, asked, context, made) -> {
                if (rc == 0) {
                    acknowledged.add(made);
                    running.countDown();
                    next();
                }
            }, null);
        }
    }

    private void end() throws Exception {
        int owned = keeper.getEphemerals().size();
        Check.that("ephemerals of the session: " + owned, owned >= 2 * ROUNDS * 6);
        keeper.close();
        ZooKeeper zk = connect(address, 10_000);
        Check.equal("a node of the closed session", null, zk.exists("/" + tested + "1/modes/ephemeral", false));
        Check.equal("a node of the closed session", null, zk.exists("/back1/modes/ephemeral", false));
        Check.that("few nodes", last.size() > 500);
        zk.close();
        stop(true);
    }

    // --- files

    private void deleteImage() throws IOException {
        Path image = data.resolve("zooid");
        if (tested.equals("zooid")) {
            Check.that("there is no " + image, Files.isDirectory(image));
        }
        if (Files.isDirectory(image)) {
            try (Stream<Path> files = Files.walk(image)) {
                for (Path file : files.sorted(Comparator.reverseOrder()).collect(Collectors.toList())) {
                    Files.delete(file);
                }
            }
        }
    }

    /** Apache's own readers of snapshots and logs understand every file that this server has made. */
    private void tools() throws Exception {
        int transactions = 0;
        for (Path file : files()) {
            if (foreign.contains(file)) {
                continue;
            }
            String name = file.getFileName().toString();
            if (name.startsWith("log.")) {
                String text = output(() -> TxnLogToolkit.main(new String[] {"-d", file.toString()}));
                Check.that(name + ": " + text, !text.contains("CRC ERROR") && !text.contains("Exception"));
                String count = text.replaceAll("(?s).*EOF reached after (\\d+) txns.*", "$1");
                Check.that(name + ": no end: " + text, count.matches("\\d+"));
                transactions += Integer.parseInt(count);
            } else if (name.startsWith("snapshot.")) {
                String text;
                try {
                    text = output(() -> SnapshotFormatter.main(new String[] {file.toString()}));
                } catch (EOFException e) {
                    // Java writes in place, so a kill may leave half a snapshot under its final name.
                    Check.equal(name + ": half a snapshot, written by", "java", tested);
                    continue;
                }
                Check.that(name + ": " + text, text.contains("\n/zookeeper/quota\n") && text.contains("Session Details"));
            }
        }
        Check.that("transactions in the logs: " + transactions, transactions > 500);
    }

    private Set<Path> files() throws IOException {
        try (Stream<Path> all = Files.list(data.resolve("version-2"))) {
            return all.collect(Collectors.toCollection(TreeSet::new));
        }
    }

    private static String output(Check.Body body) throws Exception {
        PrintStream out = System.out;
        ByteArrayOutputStream text = new ByteArrayOutputStream();
        System.setOut(new PrintStream(text, true, StandardCharsets.UTF_8));
        try {
            body.run();
        } finally {
            System.setOut(out);
        }
        return text.toString(StandardCharsets.UTF_8);
    }
}
