import java.util.Collections;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooKeeper;

/**
 * The lock of the ZooKeeper recipes: everyone queues with an ephemeral sequential node and watches only the
 * node in front of its own, so that a release wakes one contender and not all of them.
 */
final class FairLock {
    private final ZooKeeper zk;
    private final String root;
    private final AtomicInteger wakeups;
    private String name;

    FairLock(ZooKeeper zk, String root, AtomicInteger wakeups) {
        this.zk = zk;
        this.root = root;
        this.wakeups = wakeups;
    }

    /** Takes a place in the queue and returns its number. */
    int enqueue() throws KeeperException, InterruptedException {
        String path = zk.create(root + "/lock-", new byte[0], Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL_SEQUENTIAL);
        name = path.substring(root.length() + 1);
        return Integer.parseInt(name.substring("lock-".length()));
    }

    /** Returns when nobody is in front; the latch goes down as soon as the one in front is watched. */
    void await(CountDownLatch watching) throws KeeperException, InterruptedException {
        for (;;) {
            List<String> queue = zk.getChildren(root, false);
            Collections.sort(queue);
            int place = queue.indexOf(name);
            if (place == 0) {
                watching.countDown();
                return;
            }
            CountDownLatch gone = new CountDownLatch(1);
            boolean there = zk.exists(root + "/" + queue.get(place - 1), event -> {
                wakeups.incrementAndGet();
                gone.countDown();
            }) != null;
            if (there) {
                watching.countDown();
                Check.await("the one in front to go", gone);
            }
        }
    }

    void release() throws KeeperException, InterruptedException {
        zk.delete(root + "/" + name, -1);
    }
}
