import java.net.ServerSocket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.solr.client.solrj.SolrClient;
import org.apache.solr.client.solrj.SolrQuery;
import org.apache.solr.client.solrj.impl.CloudHttp2SolrClient;
import org.apache.solr.client.solrj.impl.CloudSolrClient;
import org.apache.solr.client.solrj.impl.Http2SolrClient;
import org.apache.solr.client.solrj.request.CollectionAdminRequest;
import org.apache.solr.common.SolrInputDocument;
import org.apache.solr.common.cloud.DocCollection;
import org.apache.solr.common.cloud.Replica;
import org.apache.solr.common.cloud.Slice;
import org.apache.solr.common.cloud.ZkStateReader;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.Stat;

/** Two nodes, each a process, and their client; a plain ZooKeeper client looks at what they keep. */
public final class Cloud {
    private static final String BOOKS = "books";
    private static final int FIRST = 400;
    private static final int MORE = 100;

    private final String servers;
    private final Path work;
    private final Path configset;
    private final int[] ports = new int[2];
    private final Child[] nodes = new Child[2];
    private ZooKeeper zk;
    private CloudSolrClient solr;
    private int written;
    private int dead;

    public static void main(String[] args) {
        Cloud test = new Cloud(args[0], Path.of(args[1]), Path.of(args[2]));
        Check.step("two nodes", test::start);
        Check.step("a configset", test::upload);
        Check.step("a collection", test::collection);
        Check.step("documents", test::documents);
        Check.step("a node is killed", test::killed);
        Check.step("it comes back", test::back);
        Check.step("the leader of the ensemble is killed", test::leader);
        Check.step("both nodes end and start again", test::again);
        System.exit(0);
    }

    private Cloud(String servers, Path work, Path configset) {
        this.servers = servers;
        this.work = work;
        this.configset = configset;
    }

    private void start() throws Exception {
        CountDownLatch connected = new CountDownLatch(1);
        zk = new ZooKeeper(servers, 30_000, event -> connected.countDown());
        Check.await("a connection", connected);
        for (int node = 0; node < 2; node++) {
            try (ServerSocket free = new ServerSocket(0)) {
                ports[node] = free.getLocalPort();
            }
            launch(node);
        }
        for (Child node : nodes) {
            node.ready();
        }
        solr = new CloudHttp2SolrClient.Builder(List.of(servers.split(",")), Optional.empty())
                .withZkConnectTimeout(Check.DEADLINE_S, TimeUnit.SECONDS)
                .build();
        Check.equal("live nodes", Set.of(name(0), name(1)), live());
        for (String name : live()) {
            Stat stat = synced().exists("/live_nodes/" + name, false);
            Check.that(name + " belongs to no session", stat.getEphemeralOwner() != 0);
        }
        Check.that("there is no overseer", isOverseer(0) || isOverseer(1));
    }

    private void launch(int node) throws Exception {
        nodes[node] = new Child("node-" + node, work, "Node", servers, work.resolve("home-" + node).toString(),
                Integer.toString(ports[node]));
    }

    private String name(int node) {
        return "127.0.0.1:" + ports[node] + "_solr";
    }

    private Set<String> live() throws KeeperException, InterruptedException {
        return new TreeSet<>(synced().getChildren("/live_nodes", false));
    }

    /** Its server may be behind those of the others: what is read next is not older than what they have seen. */
    private ZooKeeper synced() {
        zk.sync("/", (code, path, context) -> { }, null);
        return zk;
    }

    /** Whether this node has been elected to be the overseer. */
    private boolean isOverseer(int node) throws KeeperException, InterruptedException {
        try {
            return text("/overseer_elect/leader").contains("-" + name(node) + "-");
        } catch (KeeperException.NoNodeException e) {
            return false;
        }
    }

    private String text(String path) throws KeeperException, InterruptedException {
        return new String(synced().getData(path, false, new Stat()), StandardCharsets.UTF_8);
    }

    private void upload() throws Exception {
        reader().getZkClient().upConfig(configset, "case");
        Set<String> files = new TreeSet<>(synced().getChildren("/configs/case", false));
        Check.equal("files", Set.of("schema.xml", "solrconfig.xml"), files);
    }

    private ZkStateReader reader() {
        return ZkStateReader.from(solr);
    }

    private void collection() throws Exception {
        CollectionAdminRequest.createCollection(BOOKS, "case", 2, 2).process(solr);
        healthy(BOOKS);
        Check.that(text("/collections/books/state.json"), text("/collections/books/state.json").contains("\"shard2\""));
        Check.equal("leaders of the shards", Set.of("shard1", "shard2"),
                new TreeSet<>(synced().getChildren("/collections/books/leaders", false)));
    }

    /** Every replica is active, and every shard has a leader. */
    private void healthy(String name) throws Exception {
        reader().waitForState(name, 60, TimeUnit.SECONDS, (live, collection) -> collection != null
                && collection.getSlices().stream().allMatch(slice -> slice.getLeader() != null
                        && slice.getReplicas().stream().allMatch(replica -> replica.isActive(live))));
    }

    private void write(int documents) throws Exception {
        List<SolrInputDocument> batch = new ArrayList<>();
        for (int end = written + documents; written < end; written++) {
            batch.add(new SolrInputDocument("id", Integer.toString(written), "title", "Volume " + written % 10));
        }
        solr.add(BOOKS, batch);
        solr.commit(BOOKS);
    }

    private void documents() throws Exception {
        write(FIRST);
        found();
    }

    /** The collection has what was written. */
    private void found() throws Exception {
        Check.equal("documents", (long) written, count("*:*"));
        Check.equal("of one title", (long) written / 10, count("title:\"Volume 7\""));
    }

    private long count(String query) throws Exception {
        return solr.query(BOOKS, new SolrQuery(query)).getResults().getNumFound();
    }

    /** The overseer goes, and with it the leaders of some shards. */
    private void killed() throws Exception {
        dead = isOverseer(0) ? 0 : 1;
        int other = 1 - dead;
        nodes[dead].kill();
        Check.until("the dead node is gone", () -> live().equals(Set.of(name(other))));
        Check.until("the other one is the overseer", () -> isOverseer(other));
        reader().waitForState(BOOKS, 60, TimeUnit.SECONDS, (live, collection) -> collection.getSlices().stream()
                .allMatch(slice -> slice.getLeader() != null && slice.getLeader().getNodeName().equals(name(other))
                        && slice.getLeader().isActive(live)));
        found();
        write(MORE);
        found();
    }

    private void back() throws Exception {
        launch(dead);
        nodes[dead].ready();
        healthy(BOOKS);
        Check.equal("live nodes", Set.of(name(0), name(1)), live());
        replicas();
    }

    /** Each replica by itself has all of its shard. */
    private void replicas() throws Exception {
        DocCollection collection = reader().getCollection(BOOKS);
        long all = 0;
        for (Slice slice : collection.getSlices()) {
            Set<Long> counts = new TreeSet<>();
            for (Replica replica : slice.getReplicas()) {
                try (SolrClient one = new Http2SolrClient.Builder(replica.getCoreUrl()).build()) {
                    counts.add(one.query(new SolrQuery("q", "*:*", "distrib", "false")).getResults().getNumFound());
                }
            }
            Check.equal("counts of documents in the replicas of " + slice.getName(), 1, counts.size());
            all += counts.iterator().next();
        }
        Check.equal("documents in all shards", (long) written, all);
    }

    /** Sessions outlive it, and the overseer works on. */
    private void leader() throws Exception {
        String leader = Ensemble.killLeader();
        Ensemble.lever("await_members 2");
        write(MORE);
        found();
        CollectionAdminRequest.createCollection("pamphlets", "case", 1, 2).process(solr);
        healthy("pamphlets");
        Ensemble.restart(leader);
        CollectionAdminRequest.deleteCollection("pamphlets").process(solr);
        Check.until("the collection is gone", () -> {
            try {
                return synced().exists("/collections/pamphlets", false) == null;
            } catch (KeeperException.ConnectionLossException e) {
                return false;
            }
        });
        healthy(BOOKS);
        replicas();
    }

    private void again() throws Exception {
        for (Child node : nodes) {
            node.kill();
        }
        Check.until("both are gone", () -> live().isEmpty());
        for (int node = 0; node < 2; node++) {
            launch(node);
        }
        for (Child node : nodes) {
            node.ready();
        }
        healthy(BOOKS);
        found();
        replicas();
        for (Child node : nodes) {
            node.close();
        }
    }
}
