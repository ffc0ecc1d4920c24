import java.util.Objects;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/** What the Java cases share: a line per step, a first failure that ends the run, a deadline on every wait. */
final class Check {
    static final int DEADLINE_S = 20;

    interface Body {
        void run() throws Exception;
    }

    private Check() {}

    static void step(String name, Body body) {
        long start = System.nanoTime();
        try {
            body.run();
        } catch (Throwable e) {
            System.out.println("FAILED " + name);
            e.printStackTrace(System.out);
            System.exit(1);
        }
        System.out.printf("ok %s (%d ms)%n", name, (System.nanoTime() - start) / 1_000_000);
    }

    static void that(String what, boolean holds) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    static void equal(String what, Object want, Object got) {
        if (!Objects.equals(want, got)) {
            throw new AssertionError(what + ": expected " + want + ", got " + got);
        }
    }

    /** The body must fail with an exception whose text has that word in it, such as the name of an error code. */
    static void fails(String word, Body body) {
        try {
            body.run();
        } catch (Exception e) {
            if (e.toString().contains(word)) {
                return;
            }
            throw new AssertionError("expected " + word + ", got " + e, e);
        }
        throw new AssertionError("expected " + word + ", got success");
    }

    static <T> T next(String what, BlockingQueue<T> queue) throws InterruptedException {
        T got = queue.poll(DEADLINE_S, TimeUnit.SECONDS);
        that("timed out waiting for " + what, got != null);
        return got;
    }

    static void await(String what, CountDownLatch latch) throws InterruptedException {
        that("timed out waiting for " + what, latch.await(DEADLINE_S, TimeUnit.SECONDS));
    }

    /** For what announces itself by no event. */
    static void until(String what, Callable<Boolean> holds) throws Exception {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(DEADLINE_S);
        while (!holds.call()) {
            that("timed out waiting until " + what, System.nanoTime() < end);
            Thread.sleep(5);
        }
    }
}
