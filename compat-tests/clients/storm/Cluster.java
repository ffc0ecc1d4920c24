import java.io.InputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.storm.StormSubmitter;
import org.apache.storm.blobstore.AtomicOutputStream;
import org.apache.storm.blobstore.BlobStoreAclHandler;
import org.apache.storm.blobstore.ClientBlobStore;
import org.apache.storm.generated.Assignment;
import org.apache.storm.generated.ClusterSummary;
import org.apache.storm.generated.ErrorInfo;
import org.apache.storm.generated.KillOptions;
import org.apache.storm.generated.Nimbus;
import org.apache.storm.generated.NimbusSummary;
import org.apache.storm.generated.RebalanceOptions;
import org.apache.storm.generated.SettableBlobMeta;
import org.apache.storm.generated.SupervisorInfo;
import org.apache.storm.generated.TopologySummary;
import org.apache.storm.shade.org.apache.zookeeper.KeeperException;
import org.apache.storm.shade.org.apache.zookeeper.ZooKeeper;
import org.apache.storm.shade.org.apache.zookeeper.data.Stat;
import org.apache.storm.thrift.TException;
import org.apache.storm.utils.NimbusClient;
import org.apache.storm.utils.SupervisorClient;
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
    private final List<Daemon> daemons = new CopyOnWriteArrayList<>();
    private int supervisorPort;
    private String supervisorId;
    private final List<Integer> slots = new ArrayList<>();
    private Stream first;
    private Stream second;

    public static void main(String[] args) throws Exception {
        Cluster test = new Cluster(args[0], Path.of(args[1]));
        Runtime.getRuntime().addShutdownHook(new Thread(test::killAll));
        Check.step("two nimbuses and a supervisor", test::start);
        Check.step("a topology", test::topology);
        Check.step("errors of the workers", test.steadily(test::errors));
        Check.step("deactivated and activated", test.steadily(test::pause));
        Check.step("the leader of the ensemble is killed", test.steadily(test::leader));
        Check.step("the nimbus that leads is killed", test.steadily(test::nimbus));
        Check.step("the other one rebalances", test::rebalance);
        Check.step("the other one takes a second topology", test.steadily(test::another));
        Check.step("the one that was killed comes back", test.steadily(test::back));
        Check.step("a blob is copied, changed and deleted", test.steadily(test::blob));
        Check.step("the nimbus that leads is stopped, and goes on", test.steadily(test::stopped));
        Check.step("the leader and the nimbus that leads are killed at once", test.steadily(test::both));
        Check.step("a worker is killed", test::worker);
        Check.step("the supervisor is killed", test.steadily(test::supervisor));
        Check.step("two of three servers are killed", test.steadily(test::majority));
        Check.step("topologies are killed", test::ends);
        System.exit(0);
    }

    private Cluster(String servers, Path work) {
        this.servers = servers;
        this.work = work;
    }

    /** Daemons and workers. The latter are nobody's children once their supervisor has been killed. */
    private void killAll() {
        for (Daemon daemon : daemons) {
            daemon.leave();
        }
        String mark = "-Dstorm.home=" + work.resolve("storm");
        ProcessHandle.allProcesses()
                .filter(process -> process.info().commandLine().orElse("").contains(mark))
                .forEach(ProcessHandle::destroyForcibly);
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
            new Relay(InetAddress.getByName(host), (int) shared.get("nimbus.thrift.port"), "127.0.0.1", port);
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
        supervisorPort = freePort();
        supervisor = new Daemon("supervisor", work, "org.apache.storm.daemon.supervisor.Supervisor", shared,
                Map.of("supervisor.slots.ports", slots, "supervisor.thrift.port", supervisorPort));
        daemons.addAll(List.of(a.daemon, b.daemon, supervisor));
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
        shared.put("nimbus.code.sync.freq.secs", 5);
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
            // With what it belongs to in one look: one that has left meanwhile is a KeeperException, as anywhere.
            Stat stat = new Stat();
            byte[] data = synced().getData(ROOT + "/leader-lock/" + node, false, stat);
            Check.that(node + " belongs to no session", stat.getEphemeralOwner() != 0);
            queue.add(new String(data, StandardCharsets.UTF_8));
        }
        return queue;
    }

    private static List<String> sorted(List<String> names) {
        return names.stream().sorted().toList();
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

    /** The supervisor has these topologies. */
    private boolean knows(List<String> ids) throws Exception {
        try (SupervisorClient connection =
                SupervisorClient.Builder.withConf(client).withHostName("127.0.0.1").withPort(supervisorPort).build()) {
            for (String id : ids) {
                Check.equal("assignment", assignment(id), connection.getIface().getLocalAssignmentForStorm(id));
            }
        }
        return true;
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
            } catch (KeeperException | TException | RuntimeException e) {
                // A node that is not there yet, a server that was killed, a nimbus that does not know yet; what cannot
                // be reached is a RuntimeException of Storm's.
                last = e;
            }
            if (System.nanoTime() > end) {
                throw new AssertionError("timed out waiting until " + what, last);
            }
            Thread.sleep(50);
        }
    }

    // ---- the story ----

    /** Whatever happens, what runs already is not started anew. */
    private Check.Body steadily(Check.Body body) {
        return () -> {
            List<Stream> running = second == null ? List.of(first) : List.of(first, second);
            List<Integer> before = starts(running);
            body.run();
            Check.equal("starts of " + running, before, starts(running));
        };
    }

    private static List<Integer> starts(List<Stream> streams) throws Exception {
        List<Integer> starts = new ArrayList<>();
        for (Stream stream : streams) {
            starts.add(stream.starts());
        }
        return starts;
    }

    private void submit(Stream stream, int copies) throws Exception {
        Map<String, Object> conf = new HashMap<>();
        conf.put("topology.workers", 1);
        conf.put("topology.max.spout.pending", 100);
        conf.put("topology.message.timeout.secs", 15);
        conf.put("topology.max.error.report.per.interval", 100);
        // By its watch alone does a worker learn of a change soon enough.
        conf.put("task.refresh.poll.secs", 3600);
        // The submission ends when so many nimbuses have some of the code.
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
            Set<String> expected = new TreeSet<>();
            for (Master master : masters) {
                expected.add(master.host);
            }
            if (!holders(id + "-" + blob).keySet().equals(expected)) {
                return false;
            }
        }
        return true;
    }

    /** The nimbuses that have a blob, and in which version. */
    private Map<String, Integer> holders(String key) throws Exception {
        Map<String, Integer> holders = new TreeMap<>();
        for (String child : children("/blobstore/" + key)) {
            holders.put(child.split(":")[0], Integer.parseInt(child.substring(child.lastIndexOf('-') + 1)));
        }
        return holders;
    }

    /** Both have a blob, in the same version. */
    private boolean copied(String key) throws Exception {
        Map<String, Integer> holders = holders(key);
        return holders.size() == 2 && holders.get(a.host).equals(holders.get(b.host));
    }

    private void topology() throws Exception {
        first = new Stream("first", work);
        submit(first, 2);
        String id = id(first);
        Check.equal("topologies", List.of(id), children("/storms"));
        until("both have the code", () -> code(id, a, b));
        flows(first);
        Check.equal("assignments", List.of(id), children("/assignments"));
        Check.equal("slots of the topology", 1, ports(id).size());
        Check.equal("processes", 1, first.processes(0).size());
        for (Master master : List.of(a, b)) {
            Check.equal("topologies of " + master, Set.of("first ACTIVE"), topologies(master));
        }
    }

    private void errors() throws Exception {
        String id = id(first);
        first.feedNegative(15);
        allSeen(first);
        List<String> expected = new ArrayList<>();
        // Storm keeps the last ten.
        for (int i = 5; i < 15; i++) {
            expected.add("e%010d".formatted(i));
        }
        until("the last errors are there", () -> sorted(children("/errors/" + id + "/square")).equals(expected));
        Map<String, List<ErrorInfo>> errors = ask(b, nimbus -> nimbus.getTopologyInfo(id)).get_errors();
        Check.equal("errors", expected.size(), errors.get("square").size());
        for (ErrorInfo error : errors.get("square")) {
            Check.that(error.toString(), error.get_error().contains("is negative"));
        }
    }

    private void pause() throws Exception {
        ask(leading(), nimbus -> {
            nimbus.deactivate("first");
            return null;
        });
        until("the source is told", () -> first.state().equals("inactive"));
        Check.that("it is active", topologies(leading()).contains("first INACTIVE"));
        first.feed(500);
        Check.equal("numbers that have not come out", 500L, first.missing());
        ask(leading(), nimbus -> {
            nimbus.activate("first");
            return null;
        });
        allSeen(first);
        Check.equal("state of the source", "active", first.state());
        Check.that("it is not active", topologies(leading()).contains("first ACTIVE"));
    }

    private void leader() throws Exception {
        Set<Long> before = owners();
        first.feed(200);
        String member = Ensemble.killLeader();
        flows(first);
        Ensemble.lever("await_members 2");
        until("one leads", () -> leads(a, b) || leads(b, a));
        Check.equal("sessions of the daemons", before, owners());
        flows(first);
        // The watch of the worker is with another server now.
        pause();
        Ensemble.restart(member);
        until("one leads", () -> leads(a, b) || leads(b, a));
        Check.equal("sessions of the daemons", before, owners());
        flows(first);
    }

    private void nimbus() throws Exception {
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

    private void blob() throws Exception {
        String key = "blob-of-the-case";
        try (ClientBlobStore store = Utils.getClientBlobStore(client)) {
            try (AtomicOutputStream out =
                    store.createBlob(key, new SettableBlobMeta(BlobStoreAclHandler.WORLD_EVERYTHING))) {
                out.write("one".getBytes(StandardCharsets.UTF_8));
            }
            until("both have the blob", () -> copied(key));
            int version = holders(key).get(a.host);
            try (AtomicOutputStream out = store.updateBlob(key)) {
                out.write("two".getBytes(StandardCharsets.UTF_8));
            }
            until("both have the change", () -> copied(key) && holders(key).get(a.host) > version);
            try (InputStream in = store.getBlob(key)) {
                Check.equal("blob", "two", new String(in.readAllBytes(), StandardCharsets.UTF_8));
            }
            store.deleteBlob(key);
        }
        until("it is gone", () -> nodes(key).isEmpty());
    }

    /** A new session does what the old one did. */
    private void stopped() throws Exception {
        Master frozen = leading();
        Master other = frozen == a ? b : a;
        long before = owner("/nimbuses/" + frozen.host);
        frozen.daemon.signal("STOP");
        until("the other one leads", () -> leads(other));
        flows(first);
        flows(second);
        frozen.daemon.signal("CONT");
        until("it follows", () -> leads(other, frozen));
        Check.that("the session that was over goes on", owner("/nimbuses/" + frozen.host) != before);
        until("it has the topologies", () -> topologies(frozen).equals(Set.of("first ACTIVE", "second ACTIVE")));
        flows(first);
    }

    private void both() throws Exception {
        Master dead = leading();
        Master other = dead == a ? b : a;
        String member = Ensemble.killLeader();
        dead.daemon.kill();
        flows(first);
        flows(second);
        until("the other one leads", () -> leads(other));
        Ensemble.restart(member);
        dead.daemon.start();
        until("it follows", () -> leads(other, dead));
        until("it has the topologies", () -> topologies(dead).equals(Set.of("first ACTIVE", "second ACTIVE")));
        flows(first);
        flows(second);
    }

    /** Workers go on without it, and are its own again when it is back. */
    private void supervisor() throws Exception {
        long before = owner("/supervisors/" + supervisorId);
        supervisor.kill();
        until("its session is over", () -> children("/supervisors").isEmpty());
        flows(first);
        flows(second);
        supervisor.start();
        until("it is back", () -> children("/supervisors").equals(List.of(supervisorId)));
        Check.that("the old session goes on", owner("/supervisors/" + supervisorId) != before);
        // If it finds no nimbus that leads before it knows what to do, it ends all workers.
        List<String> ids = List.of(id(first), id(second));
        until("it knows its workers", () -> knows(ids));
        flows(first);
        flows(second);
        Check.equal("slots", 2, ports(id(first)).size());
    }

    /** Without a quorum nothing can be changed, but what runs goes on. */
    private void majority() throws Exception {
        String member = Ensemble.killLeader();
        String other = member.equals("1") ? "2" : "1";
        String left = Integer.toString(6 - Integer.parseInt(member) - Integer.parseInt(other));
        Ensemble.lever("kill_member " + other + "; while [[ -n $(mode_of " + left + ") ]]; do sleep 0.1; done");
        flows(first);
        flows(second);
        Ensemble.lever("start_member " + member);
        Ensemble.restart(other);
        until("one leads", () -> leads(a, b) || leads(b, a));
        until("there is a supervisor", () -> children("/supervisors").equals(List.of(supervisorId)));
        pause();
        flows(second);
    }

    /** What it had not finished is done again. */
    private void worker() throws Exception {
        int starts = first.starts();
        ProcessHandle worker = first.processes(0).stream().flatMap(pid -> ProcessHandle.of(pid).stream()).findFirst()
                .orElseThrow();
        first.feed(500);
        worker.destroyForcibly();
        flows(first);
        until("its part has been started anew", () -> first.starts() > starts);
        flows(first);
        flows(second);
        Check.equal("slots", 2, ports(id(first)).size());
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
        String other = id(second);
        Set<Long> processes = first.processes(0);
        List<String> known = nodes(id);
        for (String path : List.of("/storms/" + id, "/assignments/" + id, "/errors/" + id,
                "/blobstore/" + id + "-stormcode.ser", "/blobstoremaxkeysequencenumber/" + id + "-stormcode.ser")) {
            Check.that(path + " is missing in " + known, known.contains(ROOT + path));
        }
        kill(first);
        until("no node of it is left", () -> nodes(id).isEmpty());
        until("its workers have ended",
                () -> processes.stream().noneMatch(pid -> ProcessHandle.of(pid).isPresent()));
        Check.equal("topologies", Set.of("second ACTIVE"), topologies(a));
        flows(second);
        kill(second);
        until("no node of it is left", () -> nodes(other).isEmpty());
        for (String parent : List.of("/storms", "/assignments", "/blobstore", "/errors")) {
            Check.equal("children of " + parent, List.of(), children(parent));
        }
        Check.that("a daemon has ended", a.daemon.runs() && b.daemon.runs() && supervisor.runs());
        System.out.printf("numbers: %d and %d repeated%n", first.repeated(), second.repeated());
    }
}
