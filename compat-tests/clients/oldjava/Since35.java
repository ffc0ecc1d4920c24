import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import org.apache.zookeeper.AsyncCallback;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.Watcher.Event.EventType;
import org.apache.zookeeper.Watcher.WatcherType;
import org.apache.zookeeper.admin.ZooKeeperAdmin;
import org.apache.zookeeper.data.Stat;

/** Containers, TTLs, creates that return a Stat, removal of watches, reconfiguration. */
final class Since35 {
    private Since35() {}

    static void run(Since34 test) throws Exception {
        String path = test.root + "/since35";
        Stat stat = new Stat();
        test.a.create(path, Since34.NONE, Since34.OPEN, CreateMode.CONTAINER, stat);
        Check.equal("czxid", stat.getCzxid(), stat.getMzxid());
        test.a.create(path + "/ttl", Since34.NONE, Since34.OPEN, CreateMode.PERSISTENT_WITH_TTL, stat, 60_000);
        Check.equal("sequence", path + "/ttl-0000000001", test.a.create(path + "/ttl-", Since34.NONE, Since34.OPEN,
                CreateMode.PERSISTENT_SEQUENTIAL_WITH_TTL, stat, 60_000));
        BlockingQueue<String> created = new LinkedBlockingQueue<>();
        AsyncCallback.Create2Callback answer = (rc, asked, context, name, made) -> created.add(rc + " " + name + " " + made.getDataLength());
        test.a.create(path + "/async", new byte[3], Since34.OPEN, CreateMode.PERSISTENT, answer, null);
        Check.equal("created", "0 " + path + "/async 3", Check.next("an answer", created));

        Since34.Events watch = new Since34.Events();
        test.b.getData(path, watch, null);
        test.b.getChildren(path, watch);
        test.b.removeWatches(path, watch, WatcherType.Data, false);
        watch.expect(EventType.DataWatchRemoved, path);
        test.b.removeAllWatches(path, WatcherType.Any, false);
        watch.expect(EventType.ChildWatchRemoved, path);
        test.a.setData(path, Since34.NONE, -1);
        test.b.exists(path, false);
        Check.equal("events of removed watches", 0, watch.nodes.size());
        Check.fails("NoWatcher", () -> test.b.removeWatches(path, watch, WatcherType.Any, false));

        Since34.Events events = new Since34.Events();
        ZooKeeperAdmin admin = new ZooKeeperAdmin(test.server, 10_000, events);
        Check.equal("configuration", 0, admin.getConfig(false, stat).length);
        Check.fails("ReconfigDisabled", () -> admin.reconfigure("server.5=127.0.0.1:1:2;3", null, null, -1, stat));
        admin.close();
    }
}
