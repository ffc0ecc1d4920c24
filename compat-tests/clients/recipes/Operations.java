import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.x.async.AsyncCuratorFramework;
import org.apache.curator.x.async.AsyncStage;
import org.apache.curator.x.async.WatchMode;
import org.apache.curator.x.async.api.CreateOption;
import org.apache.curator.x.async.api.DeleteOption;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher.Event.EventType;
import org.apache.zookeeper.data.Stat;

final class Operations {
    private Operations() {}

    /** Each moves one from here to there and leaves a slip, all of it or nothing; the slip tells when in doubt. */
    static final class Transactions implements Worker.Recipe {
        private final AtomicInteger moved = new AtomicInteger();
        private final AtomicInteger looked = new AtomicInteger();

        @Override
        public List<Worker> workers(List<CuratorFramework> clients) throws Exception {
            for (String path : List.of("/here", "/there")) {
                clients.get(0).create().forPath(path, Worker.bytes(0));
            }
            clients.get(0).create().forPath("/slips");
            List<Worker> workers = new ArrayList<>();
            for (CuratorFramework curator : clients.subList(3, 6)) {
                String slip = "/slips/" + workers.size() + "-";
                workers.add(new Worker("transactions " + workers.size()) {
                    private int times;

                    @Override
                    void section() throws Exception {
                        String mine = slip + times++;
                        until("moved", () -> move(curator, mine));
                        moved.incrementAndGet();
                    }
                });
            }
            return workers;
        }

        private boolean move(CuratorFramework curator, String slip) throws Exception {
            Stat here = new Stat();
            Stat there = new Stat();
            int left = Integer.parseInt(Worker.text(curator.getData().storingStatIn(here).forPath("/here")));
            int come = Integer.parseInt(Worker.text(curator.getData().storingStatIn(there).forPath("/there")));
            try {
                curator.transaction().forOperations(
                        curator.transactionOp().create().forPath(slip),
                        curator.transactionOp().setData().withVersion(here.getVersion()).forPath("/here", Worker.bytes(left - 1)),
                        curator.transactionOp().setData().withVersion(there.getVersion()).forPath("/there", Worker.bytes(come + 1)),
                        curator.transactionOp().check().forPath(slip));
                return true;
            } catch (KeeperException.NodeExistsException e) {
                // It went through, and only the answer was lost.
                looked.incrementAndGet();
                return true;
            } catch (KeeperException.BadVersionException e) {
                return false;
            }
        }

        @Override
        public String check(CuratorFramework curator) throws Exception {
            Check.equal("slips", moved.get(), curator.getChildren().forPath("/slips").size());
            Check.equal("there", moved.get(), Worker.number(curator, "/there"));
            Check.equal("here", -moved.get(), Worker.number(curator, "/here"));
            return moved + " moved, " + looked + " of them looked up after a break";
        }
    }

    /** Chains of operations with watches; what is in doubt after a break can be told from the node. */
    static final class Async implements Worker.Recipe {
        private final AtomicInteger watched = new AtomicInteger();

        @Override
        public List<Worker> workers(List<CuratorFramework> clients) throws Exception {
            clients.get(0).create().forPath("/async");
            List<Worker> workers = new ArrayList<>();
            for (CuratorFramework curator : clients.subList(0, 3)) {
                AsyncCuratorFramework async = AsyncCuratorFramework.wrap(curator);
                workers.add(new Worker("async " + workers.size()) {
                    @Override
                    void section() throws Exception {
                        // A protected one is found again by its name when the answer is lost.
                        String path = get(async.create()
                                .withOptions(EnumSet.of(CreateOption.doProtected), CreateMode.EPHEMERAL_SEQUENTIAL)
                                .forPath("/async/x-", bytes("new")));
                        Check.equal("data", "new", text(get(async.getData().forPath(path))));
                        AsyncStage<Stat> seen = async.with(WatchMode.successOnly).watched().checkExists().forPath(path);
                        Check.equal("owner", Crashes.session(curator), get(seen).getEphemeralOwner());
                        CompletionStage<WatchedEvent> event = seen.event();
                        CompletionStage<byte[]> chain = async.setData().forPath(path, bytes("changed"))
                                .thenCompose(unused -> event)
                                .thenCompose(unused -> async.getData().forPath(path));
                        Check.equal("data after the event", "changed", text(get(chain)));
                        Check.equal("event", EventType.NodeDataChanged, get(event).getType());
                        watched.incrementAndGet();
                        get(async.delete().withOptions(EnumSet.of(DeleteOption.quietly, DeleteOption.guaranteed)).forPath(path));
                        Check.equal("deleted", null, get(async.checkExists().forPath(path)));
                    }
                });
            }
            return workers;
        }

        private static <T> T get(CompletionStage<T> stage) throws Exception {
            try {
                return stage.toCompletableFuture().get(Worker.LONG_S, TimeUnit.SECONDS);
            } catch (ExecutionException e) {
                throw e.getCause() instanceof KeeperException ? (KeeperException) e.getCause() : e;
            }
        }

        @Override
        public String check(CuratorFramework curator) throws Exception {
            Check.equal("left over", List.of(), curator.getChildren().forPath("/async"));
            return watched + " events";
        }
    }
}
