import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.locks.Lease;

/** As long as no session ends, these exclude exactly. */
final class Locks {
    private Locks() {}

    static final class Mutex implements Worker.Recipe {
        private final AtomicInteger holders = new AtomicInteger();
        private final AtomicInteger added = new AtomicInteger();

        @Override
        public List<Worker> workers(List<CuratorFramework> clients) throws Exception {
            clients.get(0).create().forPath("/mutex-count", Worker.bytes(0));
            List<Worker> workers = new ArrayList<>();
            for (CuratorFramework curator : clients.subList(0, 4)) {
                InterProcessMutex mutex = new InterProcessMutex(curator, "/mutex");
                workers.add(new Worker("mutex " + workers.size()) {
                    @Override
                    void section() throws Exception {
                        Check.that("no lock", mutex.acquire(LONG_S, TimeUnit.SECONDS));
                        Check.equal("holders of the lock", 1, holders.incrementAndGet());
                        int count = number(curator, "/mutex-count");
                        // Said again after a loss it sets the same, so it counts once.
                        curator.setData().forPath("/mutex-count", bytes(count + 1));
                        added.incrementAndGet();
                        holders.decrementAndGet();
                        mutex.release();
                    }
                });
            }
            return workers;
        }

        @Override
        public String check(CuratorFramework curator) throws Exception {
            Check.equal("count", added.get(), Worker.number(curator, "/mutex-count"));
            Check.equal("waiting", List.of(), Worker.children(curator, "/mutex"));
            return "counted " + added;
        }
    }

    static final class ReadWrite implements Worker.Recipe {
        private final AtomicInteger readers = new AtomicInteger();
        private final AtomicInteger most = new AtomicInteger();
        private final AtomicInteger writers = new AtomicInteger();
        private final AtomicInteger written = new AtomicInteger();

        @Override
        public List<Worker> workers(List<CuratorFramework> clients) throws Exception {
            clients.get(0).create().forPath("/left", Worker.bytes(0));
            clients.get(0).create().forPath("/right", Worker.bytes(0));
            List<Worker> workers = new ArrayList<>();
            for (CuratorFramework curator : clients.subList(0, 2)) {
                InterProcessReadWriteLock lock = new InterProcessReadWriteLock(curator, "/read-write");
                workers.add(new Worker("writer " + workers.size()) {
                    @Override
                    void section() throws Exception {
                        Check.that("no write lock", lock.writeLock().acquire(LONG_S, TimeUnit.SECONDS));
                        Check.equal("writers", 1, writers.incrementAndGet());
                        Check.equal("readers beside a writer", 0, readers.get());
                        byte[] next = bytes(number(curator, "/left") + 1);
                        curator.setData().forPath("/left", next);
                        curator.setData().forPath("/right", next);
                        written.incrementAndGet();
                        writers.decrementAndGet();
                        lock.writeLock().release();
                    }
                });
            }
            for (CuratorFramework curator : clients.subList(2, 5)) {
                InterProcessReadWriteLock lock = new InterProcessReadWriteLock(curator, "/read-write");
                workers.add(new Worker("reader " + workers.size()) {
                    @Override
                    void section() throws Exception {
                        Check.that("no read lock", lock.readLock().acquire(LONG_S, TimeUnit.SECONDS));
                        most.accumulateAndGet(readers.incrementAndGet(), Math::max);
                        Check.equal("writers beside a reader", 0, writers.get());
                        // A server on which the writer's lock is gone has also what was written under it.
                        Check.equal("right", number(curator, "/left"), number(curator, "/right"));
                        Check.equal("writers beside a reader", 0, writers.get());
                        readers.decrementAndGet();
                        lock.readLock().release();
                    }
                });
            }
            return workers;
        }

        @Override
        public String check(CuratorFramework curator) throws Exception {
            Check.equal("left", written.get(), Worker.number(curator, "/left"));
            Check.equal("right", written.get(), Worker.number(curator, "/right"));
            Check.that("no two readers were ever inside", most.get() > 1);
            return written + " writes, " + most + " readers at once";
        }
    }

    static final class Semaphore implements Worker.Recipe {
        private static final int LEASES = 2;
        private final AtomicInteger holders = new AtomicInteger();
        private final AtomicInteger most = new AtomicInteger();

        @Override
        public List<Worker> workers(List<CuratorFramework> clients) {
            List<Worker> workers = new ArrayList<>();
            for (CuratorFramework curator : clients.subList(0, 4)) {
                InterProcessSemaphoreV2 semaphore = new InterProcessSemaphoreV2(curator, "/semaphore", LEASES);
                workers.add(new Worker("semaphore " + workers.size()) {
                    @Override
                    void section() throws Exception {
                        Lease lease = semaphore.acquire(LONG_S, TimeUnit.SECONDS);
                        Check.that("no lease", lease != null);
                        int now = holders.incrementAndGet();
                        Check.that(now + " leases", now <= LEASES);
                        most.accumulateAndGet(now, Math::max);
                        curator.checkExists().forPath("/semaphore");
                        holders.decrementAndGet();
                        semaphore.returnLease(lease);
                    }
                });
            }
            return workers;
        }

        @Override
        public String check(CuratorFramework curator) throws Exception {
            Check.equal("most leases at once", LEASES, most.get());
            // Leases are deleted in the background.
            Worker.until("all leases are back", () -> Worker.children(curator, "/semaphore/leases").isEmpty());
            return most + " leases at once";
        }
    }
}
