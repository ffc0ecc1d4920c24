import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.queue.DistributedQueue;
import org.apache.curator.framework.recipes.queue.QueueBuilder;
import org.apache.curator.framework.recipes.queue.QueueConsumer;
import org.apache.curator.framework.recipes.queue.QueueSerializer;
import org.apache.curator.framework.recipes.queue.SimpleDistributedQueue;
import org.apache.curator.framework.state.ConnectionState;

final class Queues {
    /** So far a producer may be ahead of the consumers. */
    private static final int AHEAD = 50;

    private Queues() {}

    /** How often each item was taken. */
    private static final class Taken {
        final Map<String, AtomicInteger> items = new ConcurrentHashMap<>();

        void add(String item) {
            items.computeIfAbsent(item, unused -> new AtomicInteger()).incrementAndGet();
        }

        int twice() {
            return items.values().stream().mapToInt(times -> times.get() - 1).sum();
        }
    }

    /** Its delete and its create are made again when they are in doubt: each break may cost an item, or double one. */
    static final class Simple implements Worker.Recipe {
        private final Set<String> offered = ConcurrentHashMap.newKeySet();
        private final Taken taken = new Taken();
        private CuratorFramework producer;
        private CuratorFramework[] consumers;
        private volatile boolean isFull;

        @Override
        public List<Worker> workers(List<CuratorFramework> clients) {
            producer = clients.get(0);
            consumers = clients.subList(1, 3).toArray(new CuratorFramework[0]);
            List<Worker> workers = new ArrayList<>();
            SimpleDistributedQueue in = new SimpleDistributedQueue(producer, "/simple");
            workers.add(new Worker("producer") {
                @Override
                void section() throws Exception {
                    String item = "item " + offered.size();
                    Check.that("not offered", in.offer(bytes(item)));
                    offered.add(item);
                    until("it is taken", () -> offered.size() - taken.items.size() < AHEAD);
                }

                @Override
                void end() {
                    isFull = true;
                }
            });
            for (CuratorFramework curator : consumers) {
                SimpleDistributedQueue out = new SimpleDistributedQueue(curator, "/simple");
                workers.add(new Worker("consumer " + workers.size()) {
                    @Override
                    void section() throws Exception {
                        byte[][] item = new byte[1][];
                        until("something is to be had", () -> {
                            item[0] = out.poll(200, TimeUnit.MILLISECONDS);
                            return item[0] != null || isOver;
                        });
                        if (item[0] != null) {
                            taken.add(text(item[0]));
                        }
                    }

                    @Override
                    void end() throws Exception {
                        until("the producer has ended", () -> isFull);
                        for (byte[] item = out.poll(); item != null; item = out.poll()) {
                            taken.add(text(item));
                        }
                    }
                });
            }
            return workers;
        }

        @Override
        public String check(CuratorFramework curator) throws Exception {
            SimpleDistributedQueue rest = new SimpleDistributedQueue(curator, "/simple");
            for (byte[] item = rest.poll(); item != null; item = rest.poll()) {
                taken.add(Worker.text(item));
            }
            Check.that("taken, never offered", offered.containsAll(taken.items.keySet()));
            int lost = offered.size() - taken.items.size();
            int breaks = Crashes.breaks(consumers);
            Check.that(lost + " items lost, and only " + breaks + " breaks", lost <= breaks);
            breaks = Crashes.breaks(producer);
            Check.that(taken.twice() + " items given twice, and only " + breaks + " breaks", taken.twice() <= breaks);
            return offered.size() + " items, " + lost + " lost and " + taken.twice() + " doubled by breaks";
        }
    }

    /** With a lock for each item: none is lost, and none is given twice but by a put in doubt. */
    static final class Locked implements Worker.Recipe {
        private final Set<String> put = ConcurrentHashMap.newKeySet();
        private final Taken taken = new Taken();
        private final List<CuratorFramework> consumers = new ArrayList<>();
        private CuratorFramework producer;
        private DistributedQueue<String> in;

        @Override
        public List<Worker> workers(List<CuratorFramework> clients) throws Exception {
            producer = clients.get(3);
            in = QueueBuilder.builder(producer, null, new Text(), "/queue").lockPath("/queue-locks").buildQueue();
            in.start();
            while (consumers.size() < 2) {
                CuratorFramework own = Crashes.client();
                consumers.add(own);
                consume(own);
            }
            return List.of(new Worker("producer of locked items") {
                @Override
                void section() throws Exception {
                    String item = "item " + put.size();
                    put.add(item);
                    in.put(item);
                    until("items are taken", () -> put.size() - taken.items.size() < AHEAD);
                }

                @Override
                void end() throws Exception {
                    Check.that("puts are still under way", in.flushPuts(LONG_S, TimeUnit.SECONDS));
                    in.close();
                }
            });
        }

        private void consume(CuratorFramework curator) throws Exception {
            QueueConsumer<String> consumer = new QueueConsumer<>() {
                @Override
                public void consumeMessage(String item) {
                    taken.add(item);
                }

                @Override
                public void stateChanged(CuratorFramework client, ConnectionState state) {}
            };
            QueueBuilder.builder(curator, consumer, new Text(), "/queue").lockPath("/queue-locks").buildQueue().start();
        }

        @Override
        public String check(CuratorFramework curator) throws Exception {
            int breaks = Crashes.breaks(producer) + Crashes.breaks(consumers.toArray(new CuratorFramework[0]));
            // A lock in doubt keeps its item from everyone for as long as the session of the consumer.
            consumers.forEach(CuratorFramework::close);
            consume(curator);
            Worker.until("the queue is empty", () -> Worker.children(curator, "/queue").isEmpty());
            Worker.until("all items are taken", () -> taken.items.keySet().equals(put));
            Check.that(taken.twice() + " items given twice, and only " + breaks + " breaks", taken.twice() <= breaks);
            return put.size() + " items, " + taken.twice() + " doubled by breaks";
        }
    }

    private static final class Text implements QueueSerializer<String> {
        @Override
        public byte[] serialize(String item) {
            return Worker.bytes(item);
        }

        @Override
        public String deserialize(byte[] bytes) {
            return Worker.text(bytes);
        }
    }
}
