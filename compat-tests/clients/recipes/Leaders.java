import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.leader.LeaderLatchListener;
import org.apache.curator.framework.recipes.leader.LeaderSelector;
import org.apache.curator.framework.recipes.leader.LeaderSelectorListenerAdapter;

final class Leaders {
    private Leaders() {}

    static final class Latch implements Worker.Recipe {
        private final Set<LeaderLatch> open = ConcurrentHashMap.newKeySet();

        @Override
        public List<Worker> workers(List<CuratorFramework> clients) {
            List<Worker> workers = new ArrayList<>();
            for (CuratorFramework curator : clients.subList(0, 3)) {
                String id = "latch " + workers.size();
                workers.add(new Worker(id) {
                    @Override
                    void section() throws Exception {
                        AtomicInteger losses = new AtomicInteger();
                        LeaderLatch latch = new LeaderLatch(curator, "/latch", id);
                        latch.addListener(new LeaderLatchListener() {
                            @Override
                            public void isLeader() {}

                            @Override
                            public void notLeader() {
                                losses.incrementAndGet();
                            }
                        });
                        latch.start();
                        open.add(latch);
                        // A break of the connection ends the leadership, and may do so before it is seen here.
                        until(id + " leads", () -> latch.await(10, TimeUnit.MILLISECONDS) && leadsAlone(latch, losses));
                        open.remove(latch);
                        latch.close();
                    }
                });
            }
            return workers;
        }

        /** Whether it leads; and if it does without a gap, no other one may. */
        private boolean leadsAlone(LeaderLatch mine, AtomicInteger losses) {
            int before = losses.get();
            if (!mine.hasLeadership()) {
                return false;
            }
            int leaders = 0;
            for (LeaderLatch latch : open) {
                leaders += latch.hasLeadership() ? 1 : 0;
            }
            if (!mine.hasLeadership() || losses.get() != before) {
                return false;
            }
            Check.equal("leaders", 1, leaders);
            return true;
        }

        @Override
        public String check(CuratorFramework curator) throws Exception {
            Worker.until("no latch is left", () -> Worker.children(curator, "/latch").isEmpty());
            return "";
        }
    }

    static final class Selector implements Worker.Recipe {
        private final AtomicInteger leaders = new AtomicInteger();

        @Override
        public List<Worker> workers(List<CuratorFramework> clients) {
            List<Worker> workers = new ArrayList<>();
            for (CuratorFramework curator : clients.subList(3, 6)) {
                String id = "selector " + workers.size();
                AtomicInteger led = new AtomicInteger();
                LeaderSelector selector = new LeaderSelector(curator, "/selector", new LeaderSelectorListenerAdapter() {
                    @Override
                    public void takeLeadership(CuratorFramework client) throws Exception {
                        int now = leaders.incrementAndGet();
                        try {
                            if (now != 1) {
                                Worker.failure = new AssertionError(now + " leaders");
                            }
                            client.checkExists().forPath("/selector");
                        } finally {
                            // The lock is given back after this, also when a break of the connection ends it.
                            leaders.decrementAndGet();
                        }
                        led.incrementAndGet();
                    }
                });
                selector.setId(id);
                selector.autoRequeue();
                selector.start();
                workers.add(new Worker(id) {
                    private int seen;

                    @Override
                    void section() throws Exception {
                        until(id + " leads", () -> led.get() > seen);
                        seen = led.get();
                    }

                    @Override
                    void end() {
                        selector.close();
                    }
                });
            }
            return workers;
        }

        @Override
        public String check(CuratorFramework curator) throws Exception {
            Worker.until("no selector is left", () -> Worker.children(curator, "/selector").isEmpty());
            return "";
        }
    }
}
