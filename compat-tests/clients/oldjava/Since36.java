import java.util.Arrays;
import java.util.List;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.OpResult;
import org.apache.zookeeper.Watcher.Event.EventType;
import org.apache.zookeeper.Watcher.Event.KeeperState;
import org.apache.zookeeper.Watcher.WatcherType;
import org.apache.zookeeper.ZooKeeper;

/** Watches that stay, transactions of reads, and two ways to count. */
final class Since36 {
    private Since36() {}

    static void run(Since34 test) throws Exception {
        String path = test.root + "/since36";
        Since34.Events recursive = new Since34.Events();
        Since34.Events persistent = new Since34.Events();
        test.a.create(path, "1".getBytes(), Since34.OPEN, CreateMode.PERSISTENT);
        test.b.addWatch(path, recursive, AddWatchMode.PERSISTENT_RECURSIVE);
        test.a.create(path + "/x", Since34.NONE, Since34.OPEN, CreateMode.EPHEMERAL);
        recursive.expect(EventType.NodeCreated, path + "/x");
        test.a.setData(path + "/x", Since34.NONE, -1);
        recursive.expect(EventType.NodeDataChanged, path + "/x");
        test.a.setData(path, "2".getBytes(), -1);
        recursive.expect(EventType.NodeDataChanged, path);
        test.b.removeWatches(path, recursive, WatcherType.Any, false);
        recursive.expect(EventType.PersistentWatchRemoved, path);
        test.b.addWatch(path, persistent, AddWatchMode.PERSISTENT);
        for (int i = 0; i < 3; i++) {
            test.a.setData(path, "2".getBytes(), -1);
            persistent.expect(EventType.NodeDataChanged, path);
        }
        test.a.create(path + "/y", Since34.NONE, Since34.OPEN, CreateMode.PERSISTENT);
        persistent.expect(EventType.NodeChildrenChanged, path);

        List<OpResult> results = test.b.multi(Arrays.asList(Op.getData(path), Op.getChildren(path), Op.getData(path + "/none")));
        Check.equal("data", "2", new String(((OpResult.GetDataResult) results.get(0)).getData()));
        Check.equal("children", 2, ((OpResult.GetChildrenResult) results.get(1)).getChildren().size());
        Check.equal("error", -101, ((OpResult.ErrorResult) results.get(2)).getErr());

        Check.equal("ephemerals", Arrays.asList(path + "/x"), test.a.getEphemerals(path));
        Check.equal("ephemerals", 0, test.b.getEphemerals().size());
        Check.equal("all children", 2, test.b.getAllChildrenNumber(path));

        // A watch that stays is set again on a new connection.
        try (Relay relay = new Relay(test.server)) {
            Since34.Events events = new Since34.Events();
            Since34.Events stays = new Since34.Events();
            ZooKeeper zk = Since34.connect(relay.address(), events);
            zk.addWatch(path, stays, AddWatchMode.PERSISTENT_RECURSIVE);
            relay.cut();
            events.state(KeeperState.SyncConnected);
            // After the first answer of the new connection the watch is set: it was asked for before.
            zk.exists(path, false);
            test.a.setData(path + "/y", Since34.NONE, -1);
            stays.expect(EventType.NodeDataChanged, path + "/y");
            zk.close();
        }
    }
}
