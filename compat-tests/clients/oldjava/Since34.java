import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import org.apache.zookeeper.AsyncCallback;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.OpResult;
import org.apache.zookeeper.Transaction;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.Watcher.Event.EventType;
import org.apache.zookeeper.Watcher.Event.KeeperState;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooDefs.Perms;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.Id;
import org.apache.zookeeper.data.Stat;

/** What every client can do, and the way into what later ones can: classes Since35, Since36, Since37 if they are there. */
public class Since34 {
    static final List<ACL> OPEN = Ids.OPEN_ACL_UNSAFE;
    static final byte[] NONE = new byte[0];

    final String server;
    final String root;
    final ZooKeeper a;
    final ZooKeeper b;

    public static void main(String[] args) throws Exception {
        Since34 test = new Since34(args[0], args[1]);
        Check.step("operations", test::operations);
        Check.step("asynchronous", test::asynchronous);
        Check.step("transactions", test::transactions);
        Check.step("watches", test::watches);
        Check.step("access", test::access);
        Check.step("a cut line", test::cutLine);
        Check.step("session id and password", test::reattach);
        for (String later : Arrays.asList("Since35", "Since36", "Since37")) {
            Class<?> steps;
            try {
                steps = Class.forName(later);
            } catch (ClassNotFoundException e) {
                break;
            }
            Check.step(later, () -> steps.getDeclaredMethod("run", Since34.class).invoke(null, test));
        }
        test.a.close();
        test.b.close();
        System.exit(0);
    }

    Since34(String server, String version) throws Exception {
        this.server = server;
        root = "/v" + version;
        a = connect(server, new Events());
        b = connect(server, new Events());
        a.create(root, NONE, OPEN, CreateMode.PERSISTENT);
    }

    /** A watcher that keeps changes of nodes and of the connection apart. */
    static final class Events implements Watcher {
        final BlockingQueue<WatchedEvent> nodes = new LinkedBlockingQueue<>();
        final BlockingQueue<KeeperState> states = new LinkedBlockingQueue<>();

        @Override
        public void process(WatchedEvent event) {
            if (event.getType() == EventType.None) {
                states.add(event.getState());
            } else {
                nodes.add(event);
            }
        }

        void state(KeeperState wanted) throws InterruptedException {
            while (Check.next("the state " + wanted, states) != wanted) {
                // Disconnected on the way
            }
        }

        void expect(EventType type, String path) throws InterruptedException {
            WatchedEvent event = Check.next(type + " " + path, nodes);
            Check.equal("event", type + " " + path, event.getType() + " " + event.getPath());
        }
    }

    static ZooKeeper connect(String server, Events events) throws Exception {
        ZooKeeper zk = new ZooKeeper(server, 10_000, events);
        events.state(KeeperState.SyncConnected);
        return zk;
    }

    private void operations() throws Exception {
        String path = root + "/ops";
        Check.equal("path", path, a.create(path, "1".getBytes(), OPEN, CreateMode.PERSISTENT));
        Check.fails("NodeExists", () -> a.create(path, NONE, OPEN, CreateMode.PERSISTENT));
        Check.fails("NoNode", () -> a.create(root + "/none/x", NONE, OPEN, CreateMode.PERSISTENT));
        Check.equal("sequence", path + "/s-0000000000", a.create(path + "/s-", null, OPEN, CreateMode.PERSISTENT_SEQUENTIAL));
        Check.equal("sequence", path + "/e-0000000001", a.create(path + "/e-", NONE, OPEN, CreateMode.EPHEMERAL_SEQUENTIAL));
        a.create(path + "/e", NONE, OPEN, CreateMode.EPHEMERAL);
        Check.fails("NoChildrenForEphemerals", () -> a.create(path + "/e/x", NONE, OPEN, CreateMode.PERSISTENT));
        Stat stat = new Stat();
        Check.equal("data", "1", new String(b.getData(path, false, stat)));
        Check.equal("children", 3, stat.getNumChildren());
        Check.equal("no data", null, b.getData(path + "/s-0000000000", false, stat));
        Check.equal("version", 1, b.setData(path, "22".getBytes(), 0).getVersion());
        Check.fails("BadVersion", () -> b.setData(path, NONE, 0));
        Check.equal("owner", a.getSessionId(), b.exists(path + "/e", false).getEphemeralOwner());
        Check.equal("exists", null, b.exists(root + "/none", false));
        List<String> children = new ArrayList<>(b.getChildren(path, false, stat));
        Collections.sort(children);
        Check.equal("children", Arrays.asList("e", "e-0000000001", "s-0000000000"), children);
        Check.equal("cversion", 3, stat.getCversion());
        Check.fails("NotEmpty", () -> a.delete(path, -1));
        Check.fails("BadVersion", () -> a.delete(path + "/e", 3));
        a.delete(path + "/e", 0);
        Check.fails("NoNode", () -> a.delete(path + "/e", -1));
    }

    private void asynchronous() throws Exception {
        String path = root + "/async";
        int count = 300;
        BlockingQueue<Integer> order = new LinkedBlockingQueue<>();
        AsyncCallback.StringCallback created = (rc, asked, context, name) -> order.add(rc == 0 ? (Integer) context : rc);
        AsyncCallback.StatCallback set = (rc, asked, context, stat) -> order.add(rc == 0 ? (Integer) context : rc);
        a.create(path, NONE, OPEN, CreateMode.PERSISTENT, created, 0);
        for (int i = 1; i < count; i++) {
            a.setData(path, NONE, i - 1, set, i);
        }
        for (int i = 0; i < count; i++) {
            Check.equal("answer", i, Check.next("an answer", order));
        }
        CountDownLatch synced = new CountDownLatch(1);
        b.sync(path, (rc, asked, context) -> synced.countDown(), null);
        Check.await("sync", synced);
        BlockingQueue<String> answers = new LinkedBlockingQueue<>();
        b.getData(path, false, (rc, asked, context, data, stat) -> answers.add("version " + stat.getVersion()), null);
        b.exists(root + "/none", false, (rc, asked, context, stat) -> answers.add("rc " + rc), null);
        b.getChildren(path, false, (rc, asked, context, names, stat) -> answers.add(names.toString()), null);
        b.getACL(path, new Stat(), (rc, asked, context, acl, stat) -> answers.add(acl.get(0).getId().getScheme()), null);
        b.delete(path, -1, (rc, asked, context) -> answers.add("rc " + rc), null);
        for (String want : Arrays.asList("version " + (count - 1), "rc -101", "[]", "world", "rc 0")) {
            Check.equal("answer", want, Check.next("an answer", answers));
        }
    }

    private void transactions() throws Exception {
        String path = root + "/multi";
        List<OpResult> results = a.multi(Arrays.asList(
                Op.create(path, "1".getBytes(), OPEN, CreateMode.PERSISTENT),
                Op.create(path + "/s-", NONE, OPEN, CreateMode.PERSISTENT_SEQUENTIAL),
                Op.setData(path, "2".getBytes(), 0),
                Op.check(path, 1),
                Op.delete(path + "/s-0000000000", 0)));
        Check.equal("created", path + "/s-0000000000", ((OpResult.CreateResult) results.get(1)).getPath());
        Check.equal("version", 1, ((OpResult.SetDataResult) results.get(2)).getStat().getVersion());
        try {
            a.multi(Arrays.asList(Op.delete(path, -1), Op.check(root + "/none", 0), Op.delete(root, -1)));
            throw new AssertionError("a failed check did not fail the transaction");
        } catch (KeeperException.NoNodeException e) {
            List<Integer> codes = new ArrayList<>();
            e.getResults().forEach(result -> codes.add(((OpResult.ErrorResult) result).getErr()));
            Check.equal("codes", Arrays.asList(0, -101, -2), codes);
        }
        Check.that("undone", b.exists(path, false) != null);
        Transaction transaction = a.transaction();
        transaction.delete(path, 1).create(path, NONE, OPEN, CreateMode.EPHEMERAL).commit();
        Check.equal("again", a.getSessionId(), b.exists(path, false).getEphemeralOwner());
    }

    private void watches() throws Exception {
        String path = root + "/watch";
        Events data = new Events();
        Events children = new Events();
        Events exists = new Events();
        a.create(path, NONE, OPEN, CreateMode.PERSISTENT);
        b.getData(path, data, null);
        b.getChildren(path, children);
        b.exists(path + "/x", exists);
        a.create(path + "/x", NONE, OPEN, CreateMode.PERSISTENT);
        a.setData(path, NONE, -1);
        a.setData(path, NONE, -1);
        exists.expect(EventType.NodeCreated, path + "/x");
        children.expect(EventType.NodeChildrenChanged, path);
        data.expect(EventType.NodeDataChanged, path);
        b.getData(path + "/x", data, null);
        a.delete(path + "/x", -1);
        data.expect(EventType.NodeDeleted, path + "/x");
        b.exists(path, false);
        Check.equal("more events", 0, data.nodes.size() + children.nodes.size() + exists.nodes.size());
    }

    private void access() throws Exception {
        String path = root + "/secret";
        ZooKeeper zk = connect(server, new Events());
        zk.addAuthInfo("digest", "user:secret".getBytes());
        zk.create(path, "1".getBytes(), Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
        Stat stat = new Stat();
        Id user = new Id("digest", "user:5w9W4eL3797Y4Wq8AcKUPPk8ha4=");
        Check.equal("acl", Collections.singletonList(new ACL(Perms.ALL, user)), zk.getACL(path, stat));
        Check.fails("NoAuth", () -> b.getData(path, false, null));
        Check.fails("NoAuth", () -> b.create(path + "/x", NONE, OPEN, CreateMode.PERSISTENT));
        Check.equal("aversion", 1,
                zk.setACL(path, Arrays.asList(new ACL(Perms.ALL, user), new ACL(Perms.READ, Ids.ANYONE_ID_UNSAFE)), 0).getAversion());
        Check.fails("BadVersion", () -> zk.setACL(path, OPEN, 0));
        Check.equal("data", "1", new String(b.getData(path, false, null)));
        Check.fails("NoAuth", () -> b.setData(path, NONE, -1));
        Check.fails("InvalidACL", () -> b.create(root + "/bad", NONE, Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT));
        zk.close();
        Events refused = new Events();
        ZooKeeper bad = connect(server, refused);
        bad.addAuthInfo("unheardof", NONE);
        refused.state(KeeperState.AuthFailed);
        bad.close();
    }

    /** The client comes back by itself: same session, same ephemerals, and it learns what it has missed. */
    private void cutLine() throws Exception {
        try (Relay relay = new Relay(server)) {
            Events events = new Events();
            ZooKeeper zk = connect(relay.address(), events);
            long session = zk.getSessionId();
            String path = root + "/line";
            zk.create(path, NONE, OPEN, CreateMode.EPHEMERAL);
            Events data = new Events();
            Events exists = new Events();
            Events quiet = new Events();
            zk.getData(path, data, null);
            zk.exists(root + "/missed", exists);
            zk.getChildren(root, quiet);
            relay.cut();
            b.setData(path, "changed".getBytes(), -1);
            b.create(root + "/missed", NONE, OPEN, CreateMode.PERSISTENT);
            events.state(KeeperState.SyncConnected);
            Check.equal("session", session, zk.getSessionId());
            data.expect(EventType.NodeDataChanged, path);
            exists.expect(EventType.NodeCreated, root + "/missed");
            quiet.expect(EventType.NodeChildrenChanged, root);
            Check.equal("owner", session, b.exists(path, false).getEphemeralOwner());
            zk.close();
            Check.equal("closed", null, b.exists(path, false));
        }
    }

    /** Another handle takes the session over; one with a wrong password does not. */
    private void reattach() throws Exception {
        Relay relay = new Relay(server);
        ZooKeeper first = connect(relay.address(), new Events());
        String path = root + "/attached";
        first.create(path, NONE, OPEN, CreateMode.EPHEMERAL);
        relay.close();
        Events wrong = new Events();
        ZooKeeper thief = new ZooKeeper(server, 10_000, wrong, first.getSessionId(), new byte[16]);
        wrong.state(KeeperState.Expired);
        thief.close();
        Events events = new Events();
        ZooKeeper second = new ZooKeeper(server, 10_000, events, first.getSessionId(), first.getSessionPasswd());
        events.state(KeeperState.SyncConnected);
        Check.equal("session", first.getSessionId(), second.getSessionId());
        Check.equal("owner", second.getSessionId(), second.exists(path, false).getEphemeralOwner());
        Events gone = new Events();
        b.exists(path, gone);
        second.close();
        gone.expect(EventType.NodeDeleted, path);
        Events late = new Events();
        ZooKeeper third = new ZooKeeper(server, 10_000, late, first.getSessionId(), first.getSessionPasswd());
        late.state(KeeperState.Expired);
        third.close();
    }
}
