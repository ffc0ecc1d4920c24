import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.cache.ChildData;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.CuratorCacheListener;
import org.apache.curator.framework.recipes.nodes.GroupMember;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.curator.x.discovery.ServiceCache;
import org.apache.curator.x.discovery.ServiceDiscovery;
import org.apache.curator.x.discovery.ServiceDiscoveryBuilder;
import org.apache.curator.x.discovery.ServiceInstance;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.data.Stat;

/** What is there, and what others see of it. */
final class Nodes {
    private Nodes() {}

    private static void belongs(String path, CuratorFramework owner, Stat stat) {
        Check.that(path + " is gone", stat != null);
        Check.equal("owner of " + path, Crashes.session(owner), stat.getEphemeralOwner());
    }

    static final class Persistent implements Worker.Recipe {
        private CuratorFramework owner;
        private PersistentNode node;

        @Override
        public List<Worker> workers(List<CuratorFramework> clients) throws Exception {
            owner = clients.get(0);
            CuratorFramework other = clients.get(1);
            node = new PersistentNode(owner, CreateMode.EPHEMERAL, false, "/persistent/node", Worker.bytes("here"));
            node.start();
            Check.that("not created", node.waitForInitialCreate(Worker.LONG_S, TimeUnit.SECONDS));
            return List.of(new Worker("persistent node") {
                @Override
                void section() throws Exception {
                    Stat[] stat = new Stat[2];
                    until("it is there", () -> (stat[0] = other.checkExists().forPath("/persistent/node")) != null);
                    other.delete().quietly().forPath("/persistent/node");
                    until("it is back", () -> {
                        stat[1] = other.checkExists().forPath("/persistent/node");
                        return stat[1] != null && stat[1].getCzxid() > stat[0].getCzxid();
                    });
                    belongs("the node", owner, stat[1]);
                }
            });
        }

        @Override
        public String check(CuratorFramework curator) throws Exception {
            belongs("the node", owner, curator.checkExists().forPath("/persistent/node"));
            Check.equal("data", "here", Worker.text(curator.getData().forPath("/persistent/node")));
            node.close();
            // The owner's server may know of it before this one does.
            Worker.until("it goes with its end", () -> curator.checkExists().forPath("/persistent/node") == null);
            return "";
        }
    }

    static final class Cache implements Worker.Recipe {
        private static final int CHILDREN = 30;
        private final List<CuratorCache> caches = new ArrayList<>();

        @Override
        public List<Worker> workers(List<CuratorFramework> clients) throws Exception {
            clients.get(0).create().forPath("/cache");
            for (CuratorFramework curator : clients.subList(2, 5)) {
                CountDownLatch filled = new CountDownLatch(1);
                CuratorCache cache = CuratorCache.build(curator, "/cache");
                cache.listenable().addListener(CuratorCacheListener.builder().forInitialized(filled::countDown).build());
                cache.start();
                Check.await("a cache to fill", filled);
                caches.add(cache);
            }
            List<Worker> workers = new ArrayList<>();
            for (CuratorFramework curator : clients.subList(0, 2)) {
                String top = "/cache/" + workers.size();
                Random random = new Random(workers.size());
                curator.create().forPath(top);
                workers.add(new Worker("writer for caches " + workers.size()) {
                    @Override
                    void section() throws Exception {
                        String path = top + "/" + random.nextInt(CHILDREN);
                        byte[] data = bytes(random.nextInt(1000));
                        if (random.nextInt(3) == 0) {
                            curator.delete().quietly().forPath(path);
                        } else {
                            curator.create().orSetData().forPath(path, data);
                        }
                        // Nobody else writes there, so the caches must come to what is there now.
                        Stat stat = curator.checkExists().forPath(path);
                        for (CuratorCache cache : caches) {
                            until("a cache sees " + path, () -> {
                                ChildData seen = cache.get(path).orElse(null);
                                return stat == null ? seen == null : seen != null && stat.equals(seen.getStat());
                            });
                        }
                    }
                });
            }
            return workers;
        }

        @Override
        public String check(CuratorFramework curator) throws Exception {
            Map<String, String> there = new TreeMap<>();
            read(curator, "/cache", there);
            for (CuratorCache cache : caches) {
                Map<String, String> cached = new TreeMap<>();
                Worker.until("a cache has as many nodes as there are", () -> cache.size() == there.size());
                cache.stream().forEach(node -> cached.put(node.getPath(), line(node.getData(), node.getStat())));
                Check.equal("cache", there, cached);
            }
            return there.size() + " nodes in " + caches.size() + " caches";
        }

        private static void read(CuratorFramework curator, String path, Map<String, String> into) throws Exception {
            Stat stat = new Stat();
            byte[] data = curator.getData().storingStatIn(stat).forPath(path);
            into.put(path, line(data, stat));
            for (String child : curator.getChildren().forPath(path)) {
                read(curator, path + "/" + child, into);
            }
        }

        /** A cache knows of a parent what its data says, not which children it has by now. */
        private static String line(byte[] data, Stat stat) {
            return Worker.text(data) + " version " + stat.getVersion() + " from " + stat.getCzxid() + " to " + stat.getMzxid();
        }
    }

    static final class Group implements Worker.Recipe {
        private final List<GroupMember> members = new ArrayList<>();

        @Override
        public List<Worker> workers(List<CuratorFramework> clients) {
            for (CuratorFramework curator : clients.subList(0, 3)) {
                String id = "member " + members.size();
                GroupMember member = new GroupMember(curator, "/group", id, Worker.bytes("I am " + id));
                member.start();
                members.add(member);
            }
            return List.of(new Worker("guest of the group") {
                private int times;

                @Override
                void section() throws Exception {
                    // Another name each time: the one before may still be on its way out.
                    String id = "guest " + times++;
                    GroupMember guest = new GroupMember(clients.get(3), "/group", id, bytes(id));
                    guest.start();
                    until("all see " + id, () -> members.stream().allMatch(it -> it.getCurrentMembers().containsKey(id)));
                    guest.close();
                    until("nobody sees " + id, () -> members.stream().noneMatch(it -> it.getCurrentMembers().containsKey(id)));
                }
            });
        }

        @Override
        public String check(CuratorFramework curator) throws Exception {
            Set<String> want = Set.of("member 0", "member 1", "member 2");
            Check.equal("group", want, new TreeSet<>(Worker.children(curator, "/group")));
            for (GroupMember member : members) {
                Worker.until("all see each other", () -> member.getCurrentMembers().keySet().equals(want));
                Check.equal("data", "I am member 1", Worker.text(member.getCurrentMembers().get("member 1")));
            }
            return "";
        }
    }

    static final class Services implements Worker.Recipe {
        private final Map<String, CuratorFramework> owners = new TreeMap<>();
        private final List<ServiceCache<Void>> caches = new ArrayList<>();

        private static ServiceInstance<Void> instance(String id) throws Exception {
            return ServiceInstance.<Void>builder().name("service").id(id).address("127.0.0.1").port(1).build();
        }

        private static ServiceDiscovery<Void> discovery(CuratorFramework curator) throws Exception {
            ServiceDiscovery<Void> discovery =
                    ServiceDiscoveryBuilder.builder(Void.class).client(curator).basePath("/services").build();
            discovery.start();
            return discovery;
        }

        @Override
        public List<Worker> workers(List<CuratorFramework> clients) throws Exception {
            for (CuratorFramework curator : clients.subList(0, 3)) {
                String id = "instance-" + owners.size();
                owners.put(id, curator);
                ServiceDiscovery<Void> discovery = discovery(curator);
                discovery.registerService(instance(id));
                ServiceCache<Void> cache = discovery.serviceCacheBuilder().name("service").build();
                cache.start();
                caches.add(cache);
            }
            ServiceDiscovery<Void> guests = discovery(clients.get(4));
            return List.of(new Worker("guest service") {
                private int times;

                @Override
                void section() throws Exception {
                    ServiceInstance<Void> guest = instance("guest-" + times++);
                    guests.registerService(guest);
                    until("all see the guest", () -> caches.stream().allMatch(it -> ids(it).contains(guest.getId())));
                    guests.unregisterService(guest);
                    until("nobody sees the guest", () -> caches.stream().noneMatch(it -> ids(it).contains(guest.getId())));
                }
            });
        }

        private static Set<String> ids(ServiceCache<Void> cache) {
            return cache.getInstances().stream().map(ServiceInstance::getId).collect(Collectors.toSet());
        }

        @Override
        public String check(CuratorFramework curator) throws Exception {
            Set<String> found = new TreeSet<>();
            try (ServiceDiscovery<Void> discovery = discovery(curator)) {
                discovery.queryForInstances("service").forEach(it -> found.add(it.getId()));
            }
            Check.equal("instances", owners.keySet(), found);
            for (String id : owners.keySet()) {
                belongs(id, owners.get(id), curator.checkExists().forPath("/services/service/" + id));
            }
            for (ServiceCache<Void> cache : caches) {
                Worker.until("all see each other", () -> ids(cache).equals(owners.keySet()));
            }
            return "";
        }
    }
}
