import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.api.transaction.CuratorOp;
import org.apache.curator.framework.api.transaction.CuratorTransactionResult;
import org.apache.curator.framework.recipes.atomic.AtomicValue;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.barriers.DistributedBarrier;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.CuratorCacheListener;
import org.apache.curator.framework.recipes.cache.NodeCache;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.leader.LeaderLatchListener;
import org.apache.curator.framework.recipes.leader.LeaderSelector;
import org.apache.curator.framework.recipes.leader.LeaderSelectorListenerAdapter;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.locks.Lease;
import org.apache.curator.framework.recipes.nodes.GroupMember;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.curator.framework.recipes.nodes.PersistentTtlNode;
import org.apache.curator.framework.recipes.queue.SimpleDistributedQueue;
import org.apache.curator.framework.recipes.shared.SharedCount;
import org.apache.curator.framework.recipes.watch.PersistentWatcher;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.RetryNTimes;
import org.apache.curator.retry.RetryOneTime;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.Watcher.Event.EventType;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.Stat;

/** Curator's recipes, each with at least two clients. */
public final class Recipes {
    private final String server;
    private final CuratorFramework a;
    private final CuratorFramework b;
    private final ExecutorService threads = Executors.newCachedThreadPool();

    public static void main(String[] args) throws Exception {
        Recipes test = new Recipes(args[0]);
        Check.step("builders", test::builders);
        Check.step("transactions", test::transactions);
        Check.step("InterProcessMutex", test::mutex);
        Check.step("InterProcessReadWriteLock", test::readWriteLock);
        Check.step("InterProcessSemaphoreV2", test::semaphore);
        Check.step("LeaderLatch", test::leaderLatch);
        Check.step("LeaderSelector", test::leaderSelector);
        Check.step("CuratorCache", test::cache);
        Check.step("NodeCache", test::nodeCache);
        Check.step("PersistentWatcher, recursive", test::persistentWatcher);
        Check.step("PersistentNode and an expired session", test::persistentNode);
        Check.step("PersistentTtlNode", test::ttlNode);
        Check.step("GroupMember", test::groupMember);
        Check.step("DistributedBarrier", test::barrier);
        Check.step("DistributedDoubleBarrier", test::doubleBarrier);
        Check.step("SharedCount", test::sharedCount);
        Check.step("DistributedAtomicLong", test::atomicLong);
        Check.step("SimpleDistributedQueue", test::queue);
        System.exit(0);
    }

    private Recipes(String server) throws Exception {
        this.server = server;
        a = client();
        b = client();
    }

    private CuratorFramework client() throws Exception {
        CuratorFramework client = CuratorFrameworkFactory.newClient(server, 8_000, 8_000, new RetryOneTime(100));
        client.start();
        Check.that("cannot connect", client.blockUntilConnected(Check.DEADLINE_S, TimeUnit.SECONDS));
        return client;
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static String text(byte[] bytes) {
        return new String(bytes, StandardCharsets.UTF_8);
    }

    private static <T> T get(Future<T> future) throws Exception {
        return future.get(Check.DEADLINE_S, TimeUnit.SECONDS);
    }

    private void builders() throws Exception {
        Check.equal("path", "/b/c/d", a.create().creatingParentsIfNeeded().forPath("/b/c/d", bytes("1")));
        a.create().creatingParentContainersIfNeeded().forPath("/containers/x");
        String kept = a.create().withProtection().withMode(CreateMode.EPHEMERAL_SEQUENTIAL).forPath("/b/p-");
        Check.that("protected name: " + kept, kept.startsWith("/b/_c_"));
        Check.equal("children", Set.of("c", kept.substring(3)), new TreeSet<>(b.getChildren().forPath("/b")));
        Stat stat = new Stat();
        Check.equal("data", "1", text(b.getData().storingStatIn(stat).forPath("/b/c/d")));
        b.setData().withVersion(stat.getVersion()).forPath("/b/c/d", bytes("2"));
        Check.fails("BadVersion", () -> a.setData().withVersion(0).forPath("/b/c/d", bytes("3")));
        Check.equal("version", 1, a.checkExists().forPath("/b/c/d").getVersion());
        BlockingQueue<String> answers = new LinkedBlockingQueue<>();
        a.getData().inBackground((client, event) -> answers.add(event.getPath() + "=" + text(event.getData())))
                .forPath("/b/c/d");
        Check.equal("background", "/b/c/d=2", Check.next("an answer in the background", answers));
        a.create().orSetData().forPath("/b/c/d", bytes("4"));
        a.delete().deletingChildrenIfNeeded().forPath("/b");
        a.delete().quietly().forPath("/b");
        Check.equal("deleted", null, b.checkExists().forPath("/b"));
    }

    private void transactions() throws Exception {
        a.create().forPath("/t");
        CuratorOp create = a.transactionOp().create().forPath("/t/x", bytes("1"));
        CuratorOp sequential =
                a.transactionOp().create().withMode(CreateMode.PERSISTENT_SEQUENTIAL).forPath("/t/s-", bytes(""));
        CuratorOp set = a.transactionOp().setData().withVersion(0).forPath("/t/x", bytes("2"));
        CuratorOp check = a.transactionOp().check().withVersion(1).forPath("/t/x");
        List<CuratorTransactionResult> results = a.transaction().forOperations(create, sequential, set, check);
        Check.equal("created", "/t/x", results.get(0).getResultPath());
        Check.equal("sequential", "/t/s-0000000001", results.get(1).getResultPath());
        Check.equal("version", 1, results.get(2).getResultStat().getVersion());
        CuratorOp delete = a.transactionOp().delete().forPath("/t/x");
        CuratorOp stale = a.transactionOp().check().withVersion(7).forPath("/t");
        Check.fails("BadVersion", () -> a.transaction().forOperations(delete, stale));
        Check.equal("untouched", "2", text(b.getData().forPath("/t/x")));
    }

    private void mutex() throws Exception {
        AtomicInteger inside = new AtomicInteger();
        List<Future<?>> workers = new ArrayList<>();
        for (CuratorFramework client : List.of(a, b)) {
            InterProcessMutex mutex = new InterProcessMutex(client, "/mutex");
            for (int worker = 0; worker < 4; worker++) {
                workers.add(threads.submit(() -> {
                    for (int round = 0; round < 5; round++) {
                        mutex.acquire();
                        mutex.acquire(); // reentrant
                        Check.equal("holders", 1, inside.incrementAndGet());
                        inside.decrementAndGet();
                        mutex.release();
                        mutex.release();
                    }
                    return null;
                }));
            }
        }
        for (Future<?> worker : workers) {
            get(worker);
        }
        InterProcessMutex held = new InterProcessMutex(a, "/mutex");
        held.acquire();
        InterProcessMutex wanted = new InterProcessMutex(b, "/mutex");
        Check.that("two holders", !wanted.acquire(200, TimeUnit.MILLISECONDS));
        held.release();
        Check.that("not released", wanted.acquire(Check.DEADLINE_S, TimeUnit.SECONDS));
        // The lock is cut from its holder by the holder's end.
        CuratorFramework doomed = client();
        wanted.release();
        new InterProcessMutex(doomed, "/mutex").acquire();
        doomed.close();
        Check.that("held by a closed session", held.acquire(Check.DEADLINE_S, TimeUnit.SECONDS));
        held.release();
    }

    private void readWriteLock() throws Exception {
        InterProcessReadWriteLock one = new InterProcessReadWriteLock(a, "/rw");
        InterProcessReadWriteLock two = new InterProcessReadWriteLock(b, "/rw");
        one.readLock().acquire();
        Check.that("second reader", two.readLock().acquire(Check.DEADLINE_S, TimeUnit.SECONDS));
        Check.that("a writer among readers", !get(threads.submit(() -> two.writeLock().acquire(200, TimeUnit.MILLISECONDS))));
        one.readLock().release();
        two.readLock().release();
        Check.that("writer", two.writeLock().acquire(Check.DEADLINE_S, TimeUnit.SECONDS));
        Check.that("a reader beside a writer", !one.readLock().acquire(200, TimeUnit.MILLISECONDS));
        two.writeLock().release();
    }

    private void semaphore() throws Exception {
        InterProcessSemaphoreV2 one = new InterProcessSemaphoreV2(a, "/semaphore", 2);
        InterProcessSemaphoreV2 two = new InterProcessSemaphoreV2(b, "/semaphore", 2);
        Lease first = one.acquire();
        Lease second = two.acquire();
        Check.equal("third lease", null, two.acquire(200, TimeUnit.MILLISECONDS));
        one.returnLease(first);
        Lease third = two.acquire(Check.DEADLINE_S, TimeUnit.SECONDS);
        Check.that("a returned lease is not to be had", third != null);
        two.returnAll(List.of(second, third));
    }

    private void leaderLatch() throws Exception {
        LeaderLatch first = new LeaderLatch(a, "/latch", "first");
        LeaderLatch second = new LeaderLatch(b, "/latch", "second");
        CountDownLatch leads = new CountDownLatch(1);
        second.addListener(new LeaderLatchListener() {
            @Override
            public void isLeader() {
                leads.countDown();
            }

            @Override
            public void notLeader() {}
        });
        first.start();
        Check.that("no leader", first.await(Check.DEADLINE_S, TimeUnit.SECONDS));
        second.start();
        Check.until("both take part", () -> first.getParticipants().size() == 2);
        Check.equal("leader", "first", second.getLeader().getId());
        first.close();
        Check.await("the second to lead", leads);
        Check.equal("leader", "second", second.getLeader().getId());
        second.close();
    }

    private void leaderSelector() throws Exception {
        BlockingQueue<String> led = new LinkedBlockingQueue<>();
        AtomicInteger leaders = new AtomicInteger();
        List<LeaderSelector> selectors = new ArrayList<>();
        for (CuratorFramework client : List.of(a, b)) {
            String id = client == a ? "a" : "b";
            LeaderSelector selector = new LeaderSelector(client, "/selector", new LeaderSelectorListenerAdapter() {
                @Override
                public void takeLeadership(CuratorFramework unused) {
                    led.add(leaders.incrementAndGet() == 1 ? id : "two leaders");
                    leaders.decrementAndGet();
                }
            });
            selector.setId(id);
            selector.autoRequeue();
            selector.start();
            selectors.add(selector);
        }
        // Both requeue at the end of the queue, so leadership alternates.
        Set<String> seen = new TreeSet<>();
        for (int i = 0; i < 8; i++) {
            seen.add(Check.next("a leader", led));
        }
        Check.equal("leaders", Set.of("a", "b"), seen);
        selectors.forEach(LeaderSelector::close);
    }

    private void cache() throws Exception {
        a.create().creatingParentsIfNeeded().forPath("/cache/old/deep", bytes("0"));
        BlockingQueue<String> events = new LinkedBlockingQueue<>();
        CountDownLatch initialized = new CountDownLatch(1);
        CuratorCache cache = CuratorCache.build(b, "/cache");
        cache.listenable().addListener(CuratorCacheListener.builder()
                .forInitialized(initialized::countDown)
                .forCreates(node -> events.add("+" + node.getPath()))
                .forChanges((old, node) -> events.add("=" + node.getPath() + "=" + text(node.getData())))
                .forDeletes(node -> events.add("-" + node.getPath()))
                .build());
        cache.start();
        Check.await("the cache to fill", initialized);
        Set<String> start = new TreeSet<>();
        for (int i = 0; i < 3; i++) {
            start.add(Check.next("a cached node", events));
        }
        Check.equal("first fill", Set.of("+/cache", "+/cache/old", "+/cache/old/deep"), start);
        a.create().forPath("/cache/new", bytes("1"));
        Check.equal("create", "+/cache/new", Check.next("create", events));
        a.setData().forPath("/cache/old/deep", bytes("2"));
        Check.equal("change", "=/cache/old/deep=2", Check.next("change", events));
        a.delete().forPath("/cache/new");
        Check.equal("delete", "-/cache/new", Check.next("delete", events));
        for (int i = 0; i < 100; i++) {
            a.create().inBackground().forPath("/cache/n" + i, bytes("" + i));
        }
        Set<String> paths = new TreeSet<>();
        for (int i = 0; i < 100; i++) {
            paths.add(Check.next("one of many creates", events));
        }
        Check.equal("created nodes", 100, paths.size());
        Check.equal("cached", "42", text(cache.get("/cache/n42").orElseThrow().getData()));
        Check.equal("cached nodes", 103L, cache.stream().count());
        cache.close();
    }

    @SuppressWarnings("deprecation")
    private void nodeCache() throws Exception {
        NodeCache cache = new NodeCache(b, "/node");
        BlockingQueue<String> seen = new LinkedBlockingQueue<>();
        cache.getListenable().addListener(
                () -> seen.add(cache.getCurrentData() == null ? "gone" : text(cache.getCurrentData().getData())));
        cache.start(true);
        a.create().forPath("/node", bytes("1"));
        Check.equal("created", "1", Check.next("create", seen));
        a.setData().forPath("/node", bytes("2"));
        Check.equal("changed", "2", Check.next("change", seen));
        a.delete().forPath("/node");
        Check.equal("deleted", "gone", Check.next("delete", seen));
        cache.close();
    }

    private void persistentWatcher() throws Exception {
        BlockingQueue<WatchedEvent> events = new LinkedBlockingQueue<>();
        a.create().forPath("/watched");
        // A watch of the same client on the same node, so that both kinds live side by side.
        CountDownLatch once = new CountDownLatch(1);
        PersistentWatcher watcher = new PersistentWatcher(b, "/watched", true);
        watcher.getListenable().addListener(event -> {
            if (event.getType() != EventType.None) {
                events.add(event);
            }
        });
        CountDownLatch set = new CountDownLatch(1);
        watcher.getResetListenable().addListener(set::countDown);
        watcher.start();
        Check.await("the watch to be set", set);
        b.getData().usingWatcher((Watcher) event -> once.countDown()).forPath("/watched");
        a.create().creatingParentsIfNeeded().forPath("/watched/x/y", bytes("1"));
        a.setData().forPath("/watched/x/y", bytes("2"));
        a.setData().forPath("/watched", bytes("3"));
        a.delete().forPath("/watched/x/y");
        a.delete().forPath("/watched/x");
        Map<Integer, String> got = new TreeMap<>();
        for (int i = 0; i < 6; i++) {
            WatchedEvent event = Check.next("event", events);
            got.put(i, event.getType() + " " + event.getPath());
        }
        Check.equal("events", List.of("NodeCreated /watched/x", "NodeCreated /watched/x/y", "NodeDataChanged /watched/x/y",
                "NodeDataChanged /watched", "NodeDeleted /watched/x/y", "NodeDeleted /watched/x"), new ArrayList<>(got.values()));
        Check.await("the watch that fires once", once);
        watcher.close();
        a.setData().forPath("/watched", bytes("4"));
        b.sync().forPath("/watched");
        Check.equal("events after the end", 0, events.size());
    }

    /** The server ends a session when another handle of it closes it; then everything ephemeral must come back. */
    private void persistentNode() throws Exception {
        CuratorFramework owner = client();
        CountDownLatch lost = new CountDownLatch(1);
        CountDownLatch reconnected = new CountDownLatch(1);
        owner.getConnectionStateListenable().addListener((client, state) -> {
            if (state == ConnectionState.LOST) {
                lost.countDown();
            }
            if (state == ConnectionState.RECONNECTED) {
                reconnected.countDown();
            }
        });
        PersistentNode node = new PersistentNode(owner, CreateMode.EPHEMERAL, false, "/persistent/node", bytes("here"));
        node.start();
        Check.that("not created", node.waitForInitialCreate(Check.DEADLINE_S, TimeUnit.SECONDS));
        long session = owner.getZookeeperClient().getZooKeeper().getSessionId();
        Check.equal("owner", session, a.checkExists().forPath("/persistent/node").getEphemeralOwner());
        a.delete().forPath("/persistent/node");
        Check.until("the deleted node is back", () -> a.checkExists().forPath("/persistent/node") != null);

        CountDownLatch connected = new CountDownLatch(1);
        ZooKeeper twin = new ZooKeeper(server, 8_000, event -> connected.countDown(), session,
                owner.getZookeeperClient().getZooKeeper().getSessionPasswd());
        Check.await("the second handle of the session", connected);
        twin.close();
        Check.await("the loss of the session", lost);
        Check.await("a new session", reconnected);
        long next = owner.getZookeeperClient().getZooKeeper().getSessionId();
        Check.that("the same session", next != session);
        Check.until("the new session owns the node", () -> {
            Stat stat = a.checkExists().forPath("/persistent/node");
            return stat != null && stat.getEphemeralOwner() == next;
        });
        node.close();
        // Curator knows all members by now, and its new session may be with another one than ours.
        a.sync().forPath("/persistent/node");
        Check.equal("closed", null, a.checkExists().forPath("/persistent/node"));
        owner.close();
    }

    private void ttlNode() throws Exception {
        PersistentTtlNode node = new PersistentTtlNode(a, "/ttl", 60_000, bytes("touched"));
        node.start();
        Check.that("not created", node.waitForInitialCreate(Check.DEADLINE_S, TimeUnit.SECONDS));
        Check.equal("data", "touched", text(b.getData().forPath("/ttl")));
        node.close();
    }

    private void groupMember() throws Exception {
        GroupMember one = new GroupMember(a, "/group", "one", bytes("1"));
        GroupMember two = new GroupMember(b, "/group", "two", bytes("2"));
        one.start();
        two.start();
        Check.until("both are members", () -> one.getCurrentMembers().size() == 2 && two.getCurrentMembers().size() == 2);
        Check.equal("the other's data", "2", text(one.getCurrentMembers().get("two")));
        two.close();
        Check.until("one is left", () -> one.getCurrentMembers().keySet().equals(Set.of("one")));
        one.close();
    }

    private void barrier() throws Exception {
        DistributedBarrier mine = new DistributedBarrier(a, "/barrier");
        DistributedBarrier yours = new DistributedBarrier(b, "/barrier");
        mine.setBarrier();
        Check.that("no barrier", !yours.waitOnBarrier(200, TimeUnit.MILLISECONDS));
        Future<Boolean> waits = threads.submit(() -> yours.waitOnBarrier(Check.DEADLINE_S, TimeUnit.SECONDS));
        mine.removeBarrier();
        Check.that("barrier stays", get(waits));
    }

    private void doubleBarrier() throws Exception {
        AtomicInteger entered = new AtomicInteger();
        AtomicInteger left = new AtomicInteger();
        List<Future<?>> members = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            DistributedDoubleBarrier barrier = new DistributedDoubleBarrier(i == 0 ? a : b, "/double", 3);
            members.add(threads.submit(() -> {
                entered.incrementAndGet();
                Check.that("enter", barrier.enter(Check.DEADLINE_S, TimeUnit.SECONDS));
                Check.equal("entered", 3, entered.get());
                left.incrementAndGet();
                Check.that("leave", barrier.leave(Check.DEADLINE_S, TimeUnit.SECONDS));
                Check.equal("left", 3, left.get());
                return null;
            }));
        }
        for (Future<?> member : members) {
            get(member);
        }
    }

    private void sharedCount() throws Exception {
        SharedCount one = new SharedCount(a, "/count", 5);
        SharedCount two = new SharedCount(b, "/count", 5);
        one.start();
        two.start();
        one.setCount(6);
        Check.until("the other sees it", () -> two.getCount() == 6);
        Check.that("write of the current version refused", two.trySetCount(two.getVersionedValue(), 7));
        Check.until("seen", () -> one.getCount() == 7);
        one.close();
        two.close();
    }

    private void atomicLong() throws Exception {
        List<Future<?>> workers = new ArrayList<>();
        for (CuratorFramework client : List.of(a, b)) {
            DistributedAtomicLong number = new DistributedAtomicLong(client, "/long", new RetryNTimes(200, 1));
            workers.add(threads.submit(() -> {
                for (int i = 0; i < 20; i++) {
                    AtomicValue<Long> value = number.increment();
                    Check.that("increment failed", value.succeeded());
                }
                return null;
            }));
        }
        for (Future<?> worker : workers) {
            get(worker);
        }
        AtomicValue<Long> value = new DistributedAtomicLong(a, "/long", new RetryNTimes(1, 1)).get();
        Check.equal("sum", 40L, value.postValue());
    }

    private void queue() throws Exception {
        SimpleDistributedQueue in = new SimpleDistributedQueue(a, "/queue");
        SimpleDistributedQueue out = new SimpleDistributedQueue(b, "/queue");
        Future<byte[]> first = threads.submit(() -> out.poll(Check.DEADLINE_S, TimeUnit.SECONDS));
        for (int i = 0; i < 10; i++) {
            in.offer(bytes("" + i));
        }
        Check.equal("first", "0", text(get(first)));
        for (int i = 1; i < 10; i++) {
            Check.equal("next", "" + i, text(out.take()));
        }
        Check.equal("empty", null, out.poll());
    }
}
