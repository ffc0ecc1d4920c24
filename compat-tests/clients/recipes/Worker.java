import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import org.apache.curator.framework.CuratorFramework;
import org.apache.zookeeper.KeeperException;

/** Uses a recipe again and again until the end, and counts how often. */
abstract class Worker extends Thread {
    /** For whatever a fault may hold up: a client sees a stopped server only after most of its session timeout. */
    static final int LONG_S = 60;

    static volatile boolean isOver;
    static volatile Throwable failure;

    volatile int sections;

    Worker(String name) {
        super(name);
        setDaemon(true);
    }

    /** One use. Its checks are those that hold at any time. */
    abstract void section() throws Exception;

    /** What is to be closed or drained after the last section. */
    void end() throws Exception {}

    @Override
    public final void run() {
        try {
            while (!isOver) {
                section();
                sections++;
                // Some fifty of these share a small machine with three servers.
                LockSupport.parkNanos(TimeUnit.MILLISECONDS.toNanos(5));
            }
            end();
        } catch (Throwable e) {
            failure = new AssertionError(getName() + " has failed", e);
        }
    }

    static void until(String what, Callable<Boolean> holds) throws Exception {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(LONG_S);
        while (!holds.call()) {
            if (failure != null) {
                throw new AssertionError("waiting until " + what, failure);
            }
            Check.that("timed out waiting until " + what, System.nanoTime() < end);
            Thread.sleep(5);
        }
    }

    static byte[] bytes(Object value) {
        return value.toString().getBytes(StandardCharsets.UTF_8);
    }

    static String text(byte[] bytes) {
        return new String(bytes, StandardCharsets.UTF_8);
    }

    static int number(CuratorFramework curator, String path) throws Exception {
        return Integer.parseInt(text(curator.getData().forPath(path)));
    }

    /** Of a container, which goes when it is empty. */
    static List<String> children(CuratorFramework curator, String path) throws Exception {
        try {
            return curator.getChildren().forPath(path);
        } catch (KeeperException.NoNodeException e) {
            return List.of();
        }
    }

    /** A recipe: who uses it, and what must hold when nobody does any more. */
    interface Recipe {
        List<Worker> workers(List<CuratorFramework> clients) throws Exception;

        /** With a client that has written since, so that it reads nothing old. Says what there is to tell. */
        String check(CuratorFramework curator) throws Exception;
    }
}
