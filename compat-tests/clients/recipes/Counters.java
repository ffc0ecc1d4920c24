import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.atomic.AtomicValue;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.shared.SharedCount;
import org.apache.curator.retry.RetryNTimes;

final class Counters {
    private Counters() {}

    /** Under a lock, so that a write in doubt can be looked up: the count is exact. */
    static final class Shared implements Worker.Recipe {
        private final AtomicInteger added = new AtomicInteger();
        private final List<SharedCount> counts = new ArrayList<>();

        @Override
        public List<Worker> workers(List<CuratorFramework> clients) throws Exception {
            List<Worker> workers = new ArrayList<>();
            for (CuratorFramework curator : clients.subList(1, 4)) {
                InterProcessMutex mutex = new InterProcessMutex(curator, "/shared-lock");
                SharedCount count = new SharedCount(curator, "/shared", 0);
                count.start();
                counts.add(count);
                workers.add(new Worker("shared count " + workers.size()) {
                    @Override
                    void section() throws Exception {
                        Check.that("no lock", mutex.acquire(LONG_S, TimeUnit.SECONDS));
                        int next = value(curator) + 1;
                        // It writes over the version that it has seen, which may be an old one.
                        while (value(curator) != next) {
                            count.trySetCount(count.getVersionedValue(), next);
                        }
                        added.incrementAndGet();
                        mutex.release();
                    }
                });
            }
            return workers;
        }

        private static int value(CuratorFramework curator) throws Exception {
            return ByteBuffer.wrap(curator.getData().forPath("/shared")).getInt();
        }

        @Override
        public String check(CuratorFramework curator) throws Exception {
            Check.equal("count", added.get(), value(curator));
            for (SharedCount count : counts) {
                Worker.until("every counter has seen it", () -> count.getCount() == added.get());
            }
            return "counted " + added;
        }
    }

    /** An increment in doubt is made again, so the sum is exact but for the breaks of connections. */
    static final class Atomic implements Worker.Recipe {
        private final AtomicInteger added = new AtomicInteger();
        private CuratorFramework[] used;

        @Override
        public List<Worker> workers(List<CuratorFramework> clients) {
            used = clients.subList(0, 3).toArray(new CuratorFramework[0]);
            List<Worker> workers = new ArrayList<>();
            for (CuratorFramework curator : used) {
                DistributedAtomicLong number = new DistributedAtomicLong(curator, "/long", new RetryNTimes(600, 10));
                workers.add(new Worker("atomic long " + workers.size()) {
                    @Override
                    void section() throws Exception {
                        AtomicValue<Long> value = number.increment();
                        Check.that("increment failed", value.succeeded());
                        Check.equal("difference", 1L, value.postValue() - value.preValue());
                        added.incrementAndGet();
                    }
                });
            }
            return workers;
        }

        @Override
        public String check(CuratorFramework curator) throws Exception {
            long sum = new DistributedAtomicLong(curator, "/long", new RetryNTimes(1, 1)).get().postValue();
            long twice = sum - added.get();
            Check.that(added + " increments make " + sum, twice >= 0);
            int breaks = Crashes.breaks(used);
            Check.that(twice + " increments too many, and only " + breaks + " breaks", twice <= breaks);
            return added + " increments make " + sum;
        }
    }
}
