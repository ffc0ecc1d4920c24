import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.barriers.DistributedBarrier;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.data.Stat;

/** One worker each, whose section has several clients in threads of their own. */
final class Barriers {
    private static final ExecutorService threads = Executors.newCachedThreadPool();

    private Barriers() {}

    private static void allOf(List<Future<?>> members) throws Exception {
        for (Future<?> member : members) {
            member.get(2 * Worker.LONG_S, TimeUnit.SECONDS);
        }
    }

    static final class Single implements Worker.Recipe {
        private volatile boolean stands;
        private final AtomicInteger passed = new AtomicInteger();

        @Override
        public List<Worker> workers(List<CuratorFramework> clients) throws Exception {
            DistributedBarrier setter = new DistributedBarrier(clients.get(0), "/barrier");
            List<CuratorFramework> waiters = clients.subList(1, 4);
            for (int number = 0; number < waiters.size(); number++) {
                waiters.get(number).create().forPath("/barrier-waiter-" + number);
            }
            return List.of(new Worker("barrier") {
                @Override
                void section() throws Exception {
                    setter.setBarrier();
                    stands = true;
                    List<Future<?>> waiting = new ArrayList<>();
                    for (int number = 0; number < waiters.size(); number++) {
                        CuratorFramework curator = waiters.get(number);
                        String mine = "/barrier-waiter-" + number;
                        waiting.add(threads.submit(() -> {
                            // Whoever has written since then does not read from before the barrier.
                            curator.setData().forPath(mine);
                            Check.that("the barrier stays",
                                    new DistributedBarrier(curator, "/barrier").waitOnBarrier(LONG_S, TimeUnit.SECONDS));
                            Check.that("passed a barrier that stands", !stands);
                            passed.incrementAndGet();
                            return null;
                        }));
                    }
                    clients.get(4).setData().forPath("/barrier-waiter-0");
                    clients.get(4).setData().forPath("/barrier-waiter-0");
                    stands = false;
                    setter.removeBarrier();
                    allOf(waiting);
                }
            });
        }

        @Override
        public String check(CuratorFramework curator) throws Exception {
            Check.equal("barrier", null, curator.checkExists().forPath("/barrier"));
            return passed + " passed";
        }
    }

    /**
     * A break of the connection makes it fail, and it may let one in early when the connection is back. Then the member
     * tries again; without a break nobody gets in or out before the last one.
     */
    static final class Double implements Worker.Recipe {
        private static final int MEMBERS = 3;
        private int rounds;
        private final AtomicInteger redone = new AtomicInteger();
        private final AtomicInteger early = new AtomicInteger();
        private List<CuratorFramework> members;

        @Override
        public List<Worker> workers(List<CuratorFramework> clients) {
            members = clients.subList(2, 2 + MEMBERS);
            return List.of(new Worker("double barrier") {
                @Override
                void section() throws Exception {
                    String path = "/double-" + rounds++;
                    AtomicInteger came = new AtomicInteger();
                    AtomicInteger went = new AtomicInteger();
                    CountDownLatch inside = new CountDownLatch(MEMBERS);
                    List<Future<?>> all = new ArrayList<>();
                    for (CuratorFramework member : members) {
                        all.add(threads.submit(() -> {
                            int breaks = Crashes.breaks(member);
                            came.incrementAndGet();
                            DistributedDoubleBarrier barrier = enter(member, path);
                            whole(came, member, breaks);
                            // Whoever is in early would go before the others have seen that all are there.
                            inside.countDown();
                            Check.that("not all get in", inside.await(LONG_S, TimeUnit.SECONDS));
                            breaks = Crashes.breaks(member);
                            went.incrementAndGet();
                            leave(member, path, barrier);
                            whole(went, member, breaks);
                            return null;
                        }));
                    }
                    allOf(all);
                }
            });
        }

        /** All have come to where this one has passed, unless its connection broke. */
        private void whole(AtomicInteger count, CuratorFramework member, int breaks) throws Exception {
            if (count.get() < MEMBERS) {
                early.incrementAndGet();
                Worker.until("a break is known that let one pass", () -> Crashes.breaks(member) > breaks);
            }
        }

        private DistributedDoubleBarrier enter(CuratorFramework curator, String path) throws Exception {
            while (true) {
                DistributedDoubleBarrier barrier = new DistributedDoubleBarrier(curator, path, MEMBERS);
                try {
                    Check.that("cannot enter", barrier.enter(Worker.LONG_S, TimeUnit.SECONDS));
                    return barrier;
                } catch (KeeperException e) {
                    redone.incrementAndGet();
                    clear(curator, path);
                }
            }
        }

        private void leave(CuratorFramework curator, String path, DistributedDoubleBarrier barrier) throws Exception {
            try {
                Check.that("cannot leave", barrier.leave(Worker.LONG_S, TimeUnit.SECONDS));
            } catch (KeeperException e) {
                redone.incrementAndGet();
                clear(curator, path);
            }
        }

        private static void clear(CuratorFramework curator, String path) throws Exception {
            for (String child : Worker.children(curator, path)) {
                Stat stat = curator.checkExists().forPath(path + "/" + child);
                if (stat != null && stat.getEphemeralOwner() == Crashes.session(curator)) {
                    curator.delete().quietly().forPath(path + "/" + child);
                }
            }
        }

        @Override
        public String check(CuratorFramework curator) {
            int breaks = Crashes.breaks(members.toArray(new CuratorFramework[0]));
            // Each of them breaks at most one enter and one leave, and those may fail once more on what is left of it.
            Check.that(redone + " failures, and only " + breaks + " breaks", redone.get() <= 2 * breaks);
            return redone + " redone and " + early + " early after a break";
        }
    }
}
