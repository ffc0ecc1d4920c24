import java.net.ServerSocket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.storm.StormSubmitter;
import org.apache.storm.generated.Assignment;
import org.apache.storm.generated.ClusterSummary;
import org.apache.storm.generated.KillOptions;
import org.apache.storm.generated.Nimbus;
import org.apache.storm.generated.NimbusSummary;
import org.apache.storm.generated.RebalanceOptions;
import org.apache.storm.generated.SupervisorInfo;
import org.apache.storm.generated.TopologySummary;
import org.apache.storm.shade.org.apache.zookeeper.KeeperException;
import org.apache.storm.shade.org.apache.zookeeper.ZooKeeper;
import org.apache.storm.shade.org.apache.zookeeper.data.Stat;
import org.apache.storm.thrift.TException;
import org.apache.storm.utils.NimbusClient;
import org.apache.storm.utils.Utils;

/**
 * Two nimbuses and a supervisor, each a process, and what becomes of the topologies that they run. A plain ZooKeeper
 * client looks at what they keep.
 */
public final class Cluster {
    private static final String ROOT = "/storm";
    /** A worker is two JVMs that start one after the other, when the supervisor has looked for something to do. */
    private static final int PATIENCE_S = 90;
    private static final int SLOTS = 3;

    private final String servers;
    private final Path work;
    private final Map<String, Object> client = new HashMap<>();
    private ZooKeeper zk;
    private Master a;
    private Master b;
    private Daemon supervisor;
    private String supervisorId;
    private final List<Integer> slots = new ArrayList<>();
    private Stream first;
    private Stream second;

    public static void main(String[] args) throws Exception {
        Runtime.getRuntime().addShutdownHook(new Thread(
                () -> ProcessHandle.current().descendants().forEach(ProcessHandle::destroyForcibly)));
        Cluster test = new Cluster(args[0], Path.of(args[1]));
        Check.step("two nimbuses and a supervisor", test::start);
        Check.step("a topology", test::topology);
        Check.step("the leader of the ensemble is killed", test::leader);
        Check.step("the nimbus that leads is killed", test::nimbus);
        Check.step("the other one rebalances", test::rebalance);
        Check.step("the other one takes a second topology", test::another);
        Check.step("the one that was killed comes back", test::back);
        Check.step("topologies are killed", test::ends);
        System.exit(0);
    }

    private Cluster(String servers, Path work) {
        this.servers = servers;
        this.work = work;
    }

    /** A nimbus. In ZooKeeper it has the name of its host, so each has a host of its own. */
    private static final class Master {
        final String host;
        final int port;
        final Daemon daemon;

        Master(String name, String host, Path work, Map<String, Object> shared) throws Exception {
            this.host = host;
            port = freePort();
            daemon = new Daemon(name, work, "org.apache.storm.daemon.nimbus.Nimbus", shared,
                    Map.of("storm.local.hostname", host, "nimbus.thrift.port", port));
            new Door(host, (int) shared.get("nimbus.thrift.port"), port);
        }

        @Override
        public String toString() {
            return host + ":" + port;
        }
    }

    private static int freePort() throws Exception {
        try (ServerSocket free = new ServerSocket(0)) {
            return free.getLocalPort();
        }
    }

    private void start() throws Exception {
        Map<String, Object> shared = configuration();
        Daemon.write(work.resolve("client.yaml"), shared);
        System.setProperty("storm.conf.file", work.resolve("client.yaml").toString());
        client.putAll(Utils.readStormConfig());
        CountDownLatch connected = new CountDownLatch(1);
        zk = new ZooKeeper(servers, 30_000, event -> connected.countDown());
        Check.await("a connection", connected);

        a = new Master("nimbus-a", "127.0.0.2", work, shared);
        b = new Master("nimbus-b", "127.0.0.3", work, shared);
        for (int i = 0; i < SLOTS; i++) {
            slots.add(freePort());
        }
        supervisor = new Daemon("supervisor", work, "org.apache.storm.daemon.supervisor.Supervisor", shared,
                Map.of("supervisor.slots.ports", slots, "supervisor.thrift.port", freePort()));
        a.daemon.start();
        until("a leads", () -> leads(a));
        b.daemon.start();
        supervisor.start();
        until("b follows", () -> leads(a, b));
        until("there is a supervisor", () -> children("/supervisors").size() == 1);
        supervisorId = children("/supervisors").get(0);
        SupervisorInfo info = Utils.deserialize(data("/supervisors/" + supervisorId), SupervisorInfo.class);
        Check.equal("slots", new TreeSet<>(slots.stream().map(Integer::longValue).toList()),
                new TreeSet<>(info.get_meta()));
        Check.equal("sessions of three daemons", 3, owners().size());
    }

    private Map<String, Object> configuration() throws Exception {
        Map<String, Object> shared = new HashMap<>();
        // Storm puts its one port behind each server, so all but the last bring their own.
        int colon = servers.lastIndexOf(':');
        shared.put("storm.zookeeper.servers", "[\"" + servers.substring(0, colon) + "\"]");
        shared.put("storm.zookeeper.port", servers.substring(colon + 1));
        shared.put("storm.zookeeper.session.timeout", 8000);
        shared.put("storm.zookeeper.connection.timeout", 5000);
        shared.put("storm.local.hostname", "127.0.0.1");
        shared.put("nimbus.seeds", "[127.0.0.2, 127.0.0.3]");
        shared.put("nimbus.thrift.port", freePort());
        shared.put("nimbus.monitor.freq.secs", 2);
        shared.put("nimbus.code.sync.freq.secs", 2);
        shared.put("nimbus.topology.blobstore.deletion.delay.ms", 1000);
        shared.put("storm.blobstore.replication.factor", 2);
        String small = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto";
        shared.put("worker.childopts", "\"-Xmx96m " + small + "\"");
        shared.put("topology.worker.logwriter.childopts", "\"-Xmx16m " + small + "\"");
        return shared;
    }

    // ---- what there is in ZooKeeper ----

    /** Its server may be behind those of the others: what is read next is not older than what they have seen. */
    private ZooKeeper synced() {
        zk.sync("/", (code, path, context) -> { }, null);
        return zk;
    }

    private List<String> children(String path) throws Exception {
        return synced().getChildren(ROOT + path, false);
    }

    private byte[] data(String path) throws Exception {
        return synced().getData(ROOT + path, false, null);
    }

    private long owner(String path) throws Exception {
        Stat stat = synced().exists(ROOT + path, false);
        Check.that(path + " is missing", stat != null);
        Check.that(path + " belongs to no session", stat.getEphemeralOwner() != 0);
        return stat.getEphemeralOwner();
    }

    /** The sessions that have registered a nimbus or a supervisor. */
    private Set<Long> owners() throws Exception {
        Set<Long> owners = new HashSet<>();
        for (String parent : List.of("/nimbuses", "/supervisors")) {
            for (String child : children(parent)) {
                owners.add(owner(parent + "/" + child));
            }
        }
        return owners;
    }

    /** Who has queued for the lock, the one that holds it first. */
    private List<String> queue() throws Exception {
        List<String> nodes = new ArrayList<>(children("/leader-lock"));
        nodes.sort((x, y) -> x.substring(x.length() - 10).compareTo(y.substring(y.length() - 10)));
        List<String> queue = new ArrayList<>();
        for (String node : nodes) {
            owner("/leader-lock/" + node);
            queue.add(new String(data("/leader-lock/" + node), StandardCharsets.UTF_8));
        }
        return queue;
    }

    private Assignment assignment(String id) throws Exception {
        return Utils.deserialize(data("/assignments/" + id), Assignment.class);
    }

    /** The slots that a topology has, all of which are our supervisor's. */
    private Set<Long> ports(String id) throws Exception {
        Set<Long> ports = new TreeSet<>();
        for (var place : assignment(id).get_executor_node_port().values()) {
            Check.equal("supervisor", supervisorId, place.get_node());
            ports.addAll(place.get_port());
        }
        return ports;
    }

    private void walk(String path, List<String> found) throws Exception {
        found.add(path);
        for (String child : zk.getChildren(path, false)) {
            walk(path + "/" + child, found);
        }
    }

    /** Every node with that in its name. */
    private List<String> nodes(String part) throws Exception {
        synced();
        List<String> found = new ArrayList<>();
        walk(ROOT, found);
        return found.stream().filter(path -> path.contains(part)).toList();
    }

    // ---- what the nimbuses say ----

    private <T> T ask(Master master, Question<T> question) throws Exception {
        try (NimbusClient connection =
                NimbusClient.Builder.withConf(client).withTimeout(10_000).buildWithNimbusHostPort(master.host,
                        master.port)) {
            return question.put(connection.getClient());
        }
    }

    private interface Question<T> {
        T put(Nimbus.Iface nimbus) throws TException;
    }

    /** These nimbuses are there, say all of them and ZooKeeper, and the first of them leads. */
    private boolean leads(Master... masters) throws Exception {
        Set<String> hosts = new TreeSet<>();
        List<String> queue = queue();
        if (queue.size() != masters.length || !queue.get(0).startsWith(masters[0] + ":")) {
            return false;
        }
        for (Master master : masters) {
            hosts.add(master.host);
        }
        if (!hosts.equals(new TreeSet<>(children("/nimbuses")))) {
            return false;
        }
        for (Master master : masters) {
            ClusterSummary summary = ask(master, Nimbus.Iface::getClusterInfo);
            Set<String> named = new TreeSet<>();
            Set<String> leading = new TreeSet<>();
            for (NimbusSummary nimbus : summary.get_nimbuses()) {
                named.add(nimbus.get_host());
                if (nimbus.is_isLeader()) {
                    leading.add(nimbus.get_host());
                }
            }
            if (!named.equals(hosts) || !leading.equals(Set.of(masters[0].host))) {
                return false;
            }
        }
        return true;
    }

    /** Name and status of the topologies. The assignments are with the one that leads. */
    private Set<String> topologies(Master master) throws Exception {
        Set<String> topologies = new TreeSet<>();
        for (TopologySummary topology : ask(master, Nimbus.Iface::getTopologySummaries)) {
            topologies.add(topology.get_name() + " " + topology.get_status());
        }
        return topologies;
    }

    private String id(Stream stream) throws Exception {
        return ask(leading(), nimbus -> nimbus.getTopologySummaryByName(stream.name)).get_id();
    }

    private Master leading() throws Exception {
        String holder = queue().get(0);
        return holder.startsWith(a + ":") ? a : b;
    }

    private void until(String what, Callable<Boolean> holds) throws Exception {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_S);
        Exception last = null;
        for (;;) {
            try {
                if (holds.call()) {
                    return;
                }
            } catch (KeeperException | TException e) {
                // A node that is not there yet, a server that was killed, a nimbus that does not know yet.
                last = e;
            }
            if (System.nanoTime() > end) {
                throw new AssertionError("timed out waiting until " + what, last);
            }
            Thread.sleep(50);
        }
    }

    // ---- the story ----

    private void submit(Stream stream, int copies) throws Exception {
        Map<String, Object> conf = new HashMap<>();
        conf.put("topology.workers", 1);
        conf.put("topology.max.spout.pending", 100);
        conf.put("topology.message.timeout.secs", 15);
        // The submission ends when so many nimbuses have the code.
        conf.put("topology.min.replication.count", copies);
        // What a nimbus has in its own configuration would go to the workers otherwise.
        conf.put("nimbus.thrift.port", client.get("nimbus.thrift.port"));
        StormSubmitter.submitTopology(stream.name, conf, Numbers.topology(stream.directory));
    }

    private void flows(Stream stream) throws Exception {
        stream.feed(500);
        allSeen(stream);
    }

    private void allSeen(Stream stream) throws Exception {
        until("all numbers have come out of " + stream, () -> stream.missing() == 0);
    }

    /** The code of a topology is at these nimbuses, say its nodes. */
    private boolean code(String id, Master... masters) throws Exception {
        for (String blob : List.of("stormjar.jar", "stormcode.ser", "stormconf.ser")) {
            Set<String> holders = new TreeSet<>();
            for (String child : children("/blobstore/" + id + "-" + blob)) {
                holders.add(child.split(":")[0]);
            }
            Set<String> expected = new TreeSet<>();
            for (Master master : masters) {
                expected.add(master.host);
            }
            if (!holders.equals(expected)) {
                return false;
            }
        }
        return true;
    }

    private void topology() throws Exception {
        first = new Stream("first", work);
        submit(first, 2);
        String id = id(first);
        Check.equal("topologies", List.of(id), children("/storms"));
        Check.that("the code is not at both", code(id, a, b));
        flows(first);
        Check.equal("assignments", List.of(id), children("/assignments"));
        Check.equal("slots of the topology", 1, ports(id).size());
        Check.equal("processes", 1, first.processes(0).size());
        for (Master master : List.of(a, b)) {
            Check.equal("topologies of " + master, Set.of("first ACTIVE"), topologies(master));
        }
    }

    private void leader() throws Exception {
        int starts = first.starts();
        Set<Long> before = owners();
        first.feed(200);
        String member = Ensemble.killLeader();
        flows(first);
        Ensemble.lever("await_members 2");
        until("one leads", () -> leads(a, b) || leads(b, a));
        Check.equal("sessions of the daemons", before, owners());
        flows(first);
        Ensemble.restart(member);
        until("one leads", () -> leads(a, b) || leads(b, a));
        Check.equal("sessions of the daemons", before, owners());
        flows(first);
        Check.equal("starts", starts, first.starts());
    }

    private void nimbus() throws Exception {
        int starts = first.starts();
        String id = id(first);
        byte[] assigned = data("/assignments/" + id);
        Master dead = leading();
        Master other = dead == a ? b : a;
        dead.daemon.kill();
        flows(first);
        until("the other one leads", () -> leads(other));
        flows(first);
        until("it has the topology", () -> topologies(other).equals(Set.of("first ACTIVE")));
        Check.equal("id", id, id(first));
        Check.equal("assignment", Utils.deserialize(assigned, Assignment.class), assignment(id));
        Check.equal("starts", starts, first.starts());
        // From here on, a is the one that is down.
        a = dead;
        b = other;
    }

    private void rebalance() throws Exception {
        int starts = first.starts();
        String id = id(first);
        RebalanceOptions options = new RebalanceOptions();
        options.set_wait_secs(0);
        options.set_num_workers(2);
        ask(b, nimbus -> {
            nimbus.rebalance("first", options);
            return null;
        });
        first.feed(500);
        until("it has two workers", () -> ports(id).size() == 2);
        until("it has started in two", () -> first.processes(starts).size() == 2);
        flows(first);
        until("it is active", () -> topologies(b).equals(Set.of("first ACTIVE")));
    }

    private void another() throws Exception {
        second = new Stream("second", work);
        submit(second, 1);
        flows(second);
        flows(first);
        Check.equal("topologies", Set.of("first ACTIVE", "second ACTIVE"), topologies(b));
        Check.equal("slots of the second", 1, ports(id(second)).size());
        Set<Long> used = new TreeSet<>(ports(id(first)));
        used.addAll(ports(id(second)));
        Check.equal("slots", SLOTS, used.size());
        Check.that("the code is elsewhere", code(id(second), b));
    }

    private void back() throws Exception {
        a.daemon.start();
        until("it follows", () -> leads(b, a));
        until("it has the code of the second", () -> code(id(second), b, a));
        Check.equal("topologies", Set.of("first ACTIVE", "second ACTIVE"), topologies(a));
        flows(first);
        flows(second);
    }

    private void kill(Stream stream) throws Exception {
        KillOptions options = new KillOptions();
        options.set_wait_secs(0);
        ask(leading(), nimbus -> {
            nimbus.killTopologyWithOpts(stream.name, options);
            return null;
        });
    }

    private void ends() throws Exception {
        String id = id(first);
        Set<Long> processes = first.processes(0);
        Check.that("nodes of the topology", nodes(id).size() >= 5);
        kill(first);
        until("no node of it is left: " + nodes(id), () -> nodes(id).isEmpty());
        until("its workers have ended",
                () -> processes.stream().noneMatch(pid -> ProcessHandle.of(pid).isPresent()));
        Check.equal("topologies", Set.of("second ACTIVE"), topologies(a));
        flows(second);
        kill(second);
        String other = children("/storms").isEmpty() ? "second" : children("/storms").get(0);
        until("no node of it is left", () -> nodes(other).isEmpty());
        for (String parent : List.of("/storms", "/assignments", "/blobstore", "/errors")) {
            Check.equal("children of " + parent, List.of(), children(parent));
        }
        Check.that("a daemon has ended", a.daemon.runs() && b.daemon.runs() && supervisor.runs());
        System.out.printf("numbers: %d and %d repeated%n", first.repeated(), second.repeated());
    }
}
