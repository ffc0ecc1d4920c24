import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.io.InputStreamReader;
import java.lang.management.ManagementFactory;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.zip.CRC32C;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.ScramCredentialInfo;
import org.apache.kafka.clients.admin.ScramMechanism;
import org.apache.kafka.clients.admin.UserScramCredentialUpsertion;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.quota.ClientQuotaAlteration;
import org.apache.kafka.common.quota.ClientQuotaEntity;
import org.apache.kafka.common.quota.ClientQuotaFilter;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.ZKUtil;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.ZooKeeper;

/**
 * Two brokers that keep their metadata below a chroot.
 *
 * <p>`one`: everything that Kafka has znodes for, and the end of a broker that is the controller. `three`: the leader
 * of the ensemble goes and comes back under the brokers, twice; case.sh does that when this asks for it on stdout, and
 * says so on stdin.
 */
public final class KafkaCase {
    private static final int RECORDS = 100_000;
    /** What a broker may take to start, and a cluster to get over a fault. */
    private static final int LONG_S = 60;

    private static final String CHROOT = "/kafka";
    private static final String INTERNAL = "__consumer_offsets";
    private static final ObjectMapper JSON = new ObjectMapper();

    private final List<Broker> brokers;
    private final ZooKeeper zk;
    private final Admin admin;
    /** Whoever works beside the steps fails them. */
    private static volatile Throwable failure;

    public static void main(String[] args) throws Exception {
        KafkaCase test = new KafkaCase(args[1], Path.of(args[2]), args[0].equals("one") ? 6_000 : 15_000);
        Check.step("two brokers start", test::start);
        if (args[0].equals("one")) {
            test.one();
        } else {
            test.three();
        }
        System.exit(0);
    }

    /** The session must be short where a broker is killed, and not where it has to outlive an election. */
    private KafkaCase(String servers, Path work, int sessionMs) throws Exception {
        brokers = List.of(new Broker(1, servers, work, sessionMs), new Broker(2, servers, work, sessionMs));
        zk = new ZooKeeper(servers + CHROOT, 30_000, event -> {});
        admin = Admin.create(Map.of(
                "bootstrap.servers", brokers.get(0).address() + "," + brokers.get(1).address(),
                "reconnect.backoff.max.ms", "200"));
    }

    private void one() {
        Check.step("topics", this::topics);
        Check.step("100,000 records", this::records);
        Check.step("dynamic configurations", this::configs);
        Check.step("users and ACLs", this::acls);
        Check.step("reassignment", this::reassign);
        Check.step("the controller is killed", this::killController);
        Check.step("it comes back", this::restart);
        Check.step("topics are deleted", this::deleteAll);
        Check.step("what is left", () -> left(Set.of(
                "/config/brokers/<default>", "/config/brokers/1", "/config/clients/limited", "/config/users/alice",
                "/kafka-acl-changes/acl_changes_N", "/kafka-acl-extended-changes/acl_changes_N")));
        Check.step("the brokers stop", this::stop);
    }

    // ---- the steps of `one` ----

    private void start() throws Exception {
        for (Broker broker : brokers) {
            broker.start();
        }
        within(LONG_S, "both brokers are there", this::areBothThere);
        Check.equal("brokers", 2, get(admin.describeCluster().nodes()).size());
        JsonNode id = json("/cluster/id");
        Check.equal("cluster id", get(admin.describeCluster().clusterId()), id.get("id").asText());
        for (Broker broker : brokers) {
            Check.equal("port", broker.port, json("/brokers/ids/" + broker.id).get("port").asInt());
        }
    }

    private boolean areBothThere() throws Exception {
        for (Broker broker : brokers) {
            broker.check();
        }
        return exists("/brokers/ids") && children("/brokers/ids").equals(Set.of("1", "2")) && exists("/controller");
    }

    private void topics() throws Exception {
        create(new NewTopic("records", 4, (short) 2), new NewTopic("grown", 1, (short) 2));
        Check.fails("TopicExists", () -> create(new NewTopic("records", 1, (short) 1)));
        Check.fails("InvalidReplicationFactor", () -> create(new NewTopic("wide", 1, (short) 3)));
        get(admin.createPartitions(Map.of("grown", NewPartitions.increaseTo(3))).all());
        Check.until("all partitions have leaders", () -> leaders("grown").size() == 3 && leaders("records").size() == 4);
        Check.equal("topics", Set.of("grown", "records"), children("/brokers/topics"));
        Check.equal("partitions of records", Set.of("0", "1", "2", "3"), children("/brokers/topics/records/partitions"));
        Check.equal("replicas of grown", 3, json("/brokers/topics/grown").get("partitions").size());
        for (Map.Entry<Integer, Integer> leader : leaders("records").entrySet()) {
            JsonNode state = json("/brokers/topics/records/partitions/" + leader.getKey() + "/state");
            Check.equal("leader", leader.getValue(), state.get("leader").asInt());
            Check.equal("in sync", 2, state.get("isr").size());
        }
    }

    private void records() throws Exception {
        new Flow("records", 4, 5_000, 5).finish(RECORDS);
    }

    private void configs() throws Exception {
        create(new NewTopic("narrow", 1, (short) 2));
        ConfigResource topic = new ConfigResource(ConfigResource.Type.TOPIC, "narrow");
        alter(topic, "max.message.bytes", "2000");
        Check.equal("topic", "2000", config("/config/topics/narrow", "max.message.bytes"));
        Check.equal("topic", "2000", describe(topic, "max.message.bytes").value());
        try (KafkaProducer<byte[], byte[]> producer = producer(0)) {
            ProducerRecord<byte[], byte[]> large = new ProducerRecord<>("narrow", 0, null, new byte[5_000]);
            Check.until("the leader knows the limit", () -> send(producer, large).equals("RecordTooLargeException"));
            alter(topic, "max.message.bytes", null);
            Check.until("the leader forgets the limit", () -> send(producer, large).equals("ok"));
        }
        Check.equal("topic", null, config("/config/topics/narrow", "max.message.bytes"));

        ConfigResource first = new ConfigResource(ConfigResource.Type.BROKER, "1");
        ConfigResource all = new ConfigResource(ConfigResource.Type.BROKER, "");
        alter(all, "log.cleaner.backoff.ms", "14000");
        alter(first, "log.cleaner.backoff.ms", "13000");
        Check.equal("default", "14000", config("/config/brokers/<default>", "log.cleaner.backoff.ms"));
        Check.equal("broker", "13000", config("/config/brokers/1", "log.cleaner.backoff.ms"));
        // These are answered from what the brokers have taken over.
        ConfigResource second = new ConfigResource(ConfigResource.Type.BROKER, "2");
        Check.until("broker 1 has its own", () -> describe(first, "log.cleaner.backoff.ms").value().equals("13000"));
        Check.until("broker 2 has the default", () -> describe(second, "log.cleaner.backoff.ms").value().equals("14000"));
        Check.equal("source", ConfigEntry.ConfigSource.DYNAMIC_BROKER_CONFIG,
                describe(first, "log.cleaner.backoff.ms").source());
        Check.equal("source", ConfigEntry.ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG,
                describe(second, "log.cleaner.backoff.ms").source());

        ClientQuotaEntity limited = new ClientQuotaEntity(Map.of(ClientQuotaEntity.CLIENT_ID, "limited"));
        get(admin.alterClientQuotas(List.of(new ClientQuotaAlteration(
                limited, List.of(new ClientQuotaAlteration.Op("producer_byte_rate", 1_000_000.0))))).all());
        Check.equal("quotas", Map.of(limited, Map.of("producer_byte_rate", 1_000_000.0)),
                get(admin.describeClientQuotas(ClientQuotaFilter.all()).entities()));
        Check.equal("quota", "1000000", config("/config/clients/limited", "producer_byte_rate"));
        Check.that("no notice of a change", !children("/config/changes").isEmpty());
    }

    private void acls() throws Exception {
        // One partition on each broker, so that both must hear of a change.
        create(new NewTopic("guarded", Map.of(0, List.of(1), 1, List.of(2))));
        try (KafkaProducer<byte[], byte[]> alice = alice()) {
            Check.equal("a user that nobody knows", "SaslAuthenticationException", write(alice, 0));
            get(admin.alterUserScramCredentials(List.of(new UserScramCredentialUpsertion(
                    "alice", new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096), "secret"))).all());
            Check.that("no credential", config("/config/users/alice", "SCRAM-SHA-256").contains("stored_key="));
            untilAlice(alice, "TopicAuthorizationException");

            AclBinding exact = acl("guarded", PatternType.LITERAL, AclPermissionType.ALLOW);
            AclBinding prefixed = acl("gua", PatternType.PREFIXED, AclPermissionType.ALLOW);
            AclBinding denied = acl("guarded", PatternType.LITERAL, AclPermissionType.DENY);
            get(admin.createAcls(List.of(exact)).all());
            untilAlice(alice, "ok");
            Check.equal("literal", "User:alice", principal("/kafka-acl/Topic/guarded"));
            get(admin.createAcls(List.of(prefixed)).all());
            get(admin.createAcls(List.of(denied)).all());
            untilAlice(alice, "TopicAuthorizationException");
            Check.equal("prefixed", "User:alice", principal("/kafka-acl-extended/prefixed/Topic/gua"));
            Check.until("all ACLs are told", () -> Set.of(exact, prefixed, denied)
                    .equals(Set.copyOf(get(admin.describeAcls(AclBindingFilter.ANY).values()))));
            get(admin.deleteAcls(List.of(exact.toFilter(), denied.toFilter())).all());
            untilAlice(alice, "ok");
            Check.that("ACLs that nobody has", !exists("/kafka-acl/Topic/guarded"));
            get(admin.deleteAcls(List.of(prefixed.toFilter())).all());
            untilAlice(alice, "TopicAuthorizationException");
            Check.that("ACLs that nobody has", !exists("/kafka-acl-extended/prefixed/Topic/gua"));
        }
    }

    private void reassign() throws Exception {
        create(new NewTopic("moved", Map.of(0, List.of(1), 1, List.of(1))));
        Flow flow = new Flow("moved", 2, 200, 20);
        flow.untilMore(1_000);
        get(admin.alterPartitionReassignments(Map.of(
                new TopicPartition("moved", 0), Optional.of(new NewPartitionReassignment(List.of(2))),
                new TopicPartition("moved", 1), Optional.of(new NewPartitionReassignment(List.of(1, 2))))).all());
        untilMoved(0, List.of(2));
        untilMoved(1, List.of(1, 2));
        flow.untilMore(1_000);
        // The old way: a znode that the controller watches, and deletes when all is done.
        zk.create("/admin/reassign_partitions",
                "{\"version\":1,\"partitions\":[{\"topic\":\"moved\",\"partition\":1,\"replicas\":[2,1]}]}"
                        .getBytes(StandardCharsets.UTF_8), ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        Check.until("the request is done", () -> !exists("/admin/reassign_partitions"));
        untilMoved(1, List.of(2, 1));
        flow.untilMore(1_000);
        flow.finish(5_000);
    }

    private void untilMoved(int partition, List<Integer> replicas) throws Exception {
        TopicPartition moved = new TopicPartition("moved", partition);
        Check.until("nothing moves", () -> get(admin.listPartitionReassignments(Set.of(moved)).reassignments()).isEmpty());
        JsonNode assignment = json("/brokers/topics/moved").get("partitions").get(Integer.toString(partition));
        Check.equal("assignment in the tree", JSON.valueToTree(replicas), assignment);
        Check.until("replicas are as assigned", () -> {
            TopicPartitionInfo info = partitions("moved").get(partition);
            return ids(info.replicas()).equals(replicas) && Set.copyOf(ids(info.isr())).equals(Set.copyOf(replicas));
        });
    }

    private void killController() throws Exception {
        create(new NewTopic("surviving", 4, (short) 2));
        Flow flow = new Flow("surviving", 4, 200, 20);
        flow.untilMore(1_000);
        Broker killed = controller();
        Broker other = brokers.get(2 - killed.id);
        int epoch = epoch();
        killed.kill();
        within(LONG_S, "the other takes over", () -> controls(other));
        Check.equal("epoch", epoch + 1, epoch());
        Check.equal("brokers", Set.of(Integer.toString(other.id)), children("/brokers/ids"));
        Map<Integer, Integer> ledByOther = Map.of(0, other.id, 1, other.id, 2, other.id, 3, other.id);
        within(LONG_S, "the other leads all", () -> leaders("surviving").equals(ledByOther));
        flow.untilMore(5_000);
        // The new controller acts.
        create(new NewTopic("later", 2, (short) 1));
        new Flow("later", 2, 1_000, 5).finish(5_000);
        get(admin.deleteTopics(List.of("later")).all());
        Check.until("a topic without replicas elsewhere is gone", () -> !exists("/brokers/topics/later"));
        flow.finish(10_000);
    }

    private void restart() throws Exception {
        Broker dead = brokers.stream().filter(broker -> !broker.process.isAlive()).findFirst().orElseThrow();
        Flow flow = new Flow("surviving", 4, 200, 20, 10_000_000);
        flow.untilMore(1_000);
        int epoch = epoch();
        dead.start();
        within(LONG_S, "both brokers are there", this::areBothThere);
        Check.that("the one that came back controls", controller() != dead);
        Check.equal("epoch", epoch, epoch());
        within(LONG_S, "all are in sync", () -> {
            for (String topic : List.of("records", "grown", "surviving", "narrow", INTERNAL)) {
                if (partitions(topic).stream().anyMatch(info -> info.isr().size() < 2)) {
                    return false;
                }
            }
            return true;
        });
        Set<TopicPartition> usurped = partitions("surviving").stream()
                .filter(info -> info.leader().id() != info.replicas().get(0).id())
                .map(info -> new TopicPartition("surviving", info.partition()))
                .collect(Collectors.toSet());
        Check.equal("partitions led by the second choice", 2, usurped.size());
        get(admin.electLeaders(ElectionType.PREFERRED, usurped).all());
        Check.until("both lead again", () -> Set.copyOf(leaders("surviving").values()).equals(Set.of(1, 2)));
        flow.finish(5_000);
    }

    private void deleteAll() throws Exception {
        Set<String> all = Set.of("grown", "guarded", "moved", "narrow", "records", "surviving");
        Check.until("the list of topics is right", () -> get(admin.listTopics().names()).equals(all));
        delete(all);
        Check.fails("UnknownTopicOrPartition", () -> get(admin.deleteTopics(List.of("records")).all()));
    }

    // ---- `three` ----

    private void three() throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        Flow[] flow = new Flow[1];
        Churn[] churn = new Churn[1];
        Map<String, Long> owners = new TreeMap<>();
        int[] epoch = new int[1];
        Check.step("records and topics come and go", () -> {
            create(new NewTopic("records", 4, (short) 2));
            flow[0] = new Flow("records", 4, 200, 20);
            churn[0] = new Churn();
            flow[0].untilMore(10_000);
            churn[0].untilMore(3);
            owners.putAll(owners());
            epoch[0] = epoch();
        });
        // In the second round, who came back in the first has to lead or to follow a new leader.
        for (int round = 1; round <= 2; round++) {
            String suffix = "-" + round;
            System.out.println("at work");
            Check.step("a leader is killed", () -> {
                Check.equal("word from the case", "leader killed", in.readLine());
                flow[0].untilMore(10_000);
                churn[0].untilMore(3);
                change("with-two" + suffix);
            });
            System.out.println("at work with two");
            Check.step("it is a member again", () -> {
                Check.equal("word from the case", "member back", in.readLine());
                flow[0].untilMore(10_000);
                churn[0].untilMore(3);
                change("with-three" + suffix);
            });
        }
        Check.step("everything arrives", () -> {
            flow[0].finish(RECORDS);
            churn[0].finish();
            Check.equal("sessions of the brokers", owners, owners());
            Check.equal("epoch of the controller", epoch[0], epoch());
            Set<String> all = new TreeSet<>(children("/brokers/topics"));
            Check.that("no topic of committed offsets", all.remove(INTERNAL));
            Check.equal("topics", Set.of("records", "with-two-1", "with-three-1", "with-two-2", "with-three-2"), all);
            delete(all);
        });
        Check.step("what is left", () -> left(Set.of()));
        Check.step("the brokers stop", this::stop);
    }

    private void change(String topic) throws Exception {
        create(new NewTopic(topic, 2, (short) 2));
        alter(new ConfigResource(ConfigResource.Type.TOPIC, topic), "retention.ms", "3600000");
        Check.equal("configuration", "3600000", config("/config/topics/" + topic, "retention.ms"));
        new Flow(topic, 2, 1_000, 5).finish(2_000);
    }

    private Map<String, Long> owners() throws Exception {
        Map<String, Long> owners = new TreeMap<>();
        for (String path : List.of("/brokers/ids/1", "/brokers/ids/2", "/controller")) {
            owners.put(path, read(() -> zk.exists(path, false)).getEphemeralOwner());
        }
        return owners;
    }

    /** Creates and deletes topics, one after the other: each is a few requests of the controller. */
    private final class Churn extends Thread {
        private volatile boolean isOver;
        private volatile int done;

        Churn() {
            setDaemon(true);
            start();
        }

        @Override
        public void run() {
            try {
                while (!isOver) {
                    String topic = "churn-" + done;
                    try {
                        create(new NewTopic(topic, 2, (short) 2));
                    } catch (ExecutionException e) {
                        // The controller has lost the connection after its request, and said it again.
                        if (!(e.getCause() instanceof TopicExistsException)) {
                            throw e;
                        }
                    }
                    try {
                        get(admin.deleteTopics(List.of(topic)).all());
                    } catch (ExecutionException e) {
                        if (!(e.getCause() instanceof UnknownTopicOrPartitionException)) {
                            throw e;
                        }
                    }
                    within(LONG_S, topic + " is gone", () -> !exists("/brokers/topics/" + topic));
                    done++;
                }
            } catch (Throwable e) {
                failure = e;
            }
        }

        void untilMore(int topics) throws Exception {
            int goal = done + topics;
            within(LONG_S, "topics come and go", () -> done >= goal);
        }

        void finish() throws Exception {
            isOver = true;
            within(LONG_S, "the last topic is gone", () -> !isAlive());
            System.out.println(done + " topics came and went");
        }
    }

    // ---- the end of both ----

    private void delete(Collection<String> topics) throws Exception {
        get(admin.deleteTopics(topics).all());
        Check.until("topics are gone", () -> children("/brokers/topics").equals(Set.of(INTERNAL)));
        Check.until("no deletion is left", () -> children("/admin/delete_topics").isEmpty());
        Check.equal("configurations", Set.of(INTERNAL), children("/config/topics"));
    }

    /** The whole tree, with the numbers of sequential znodes masked. */
    private void left(Set<String> ofThisCase) throws Exception {
        Set<String> want = new TreeSet<>(ofThisCase);
        want.addAll(List.of("/admin", "/admin/delete_topics", "/brokers", "/brokers/ids", "/brokers/ids/1",
                "/brokers/ids/2", "/brokers/seqid", "/brokers/topics", "/brokers/topics/" + INTERNAL, "/cluster",
                "/cluster/id", "/config", "/config/brokers", "/config/changes", "/config/changes/config_change_N",
                "/config/clients", "/config/ips", "/config/topics", "/config/topics/" + INTERNAL, "/config/users",
                "/consumers", "/controller", "/controller_epoch", "/feature", "/isr_change_notification",
                "/kafka-acl", "/kafka-acl-changes", "/kafka-acl-extended", "/kafka-acl-extended-changes",
                "/kafka-acl-extended/prefixed", "/latest_producer_id_block", "/log_dir_event_notification"));
        for (String type : List.of("Cluster", "DelegationToken", "Group", "Topic", "TransactionalId", "User")) {
            want.add("/kafka-acl/" + type);
            want.add("/kafka-acl-extended/prefixed/" + type);
        }
        Check.equal("znodes", want, new TreeSet<>(tree()));
        for (String path : ZKUtil.listSubTreeBFS(zk, "/")) {
            boolean isEphemeral = read(() -> zk.exists(path, false)).getEphemeralOwner() != 0;
            Check.equal("ephemeral: " + path, path.matches("/controller|/brokers/ids/."), isEphemeral);
        }
    }

    private Set<String> tree() throws Exception {
        return read(() -> ZKUtil.listSubTreeBFS(zk, "/")).stream()
                .filter(path -> !path.equals("/") && !path.startsWith("/brokers/topics/" + INTERNAL + "/"))
                .map(path -> path.replaceAll("\\d{10}$", "N"))
                .collect(Collectors.toSet());
    }

    /** In order, the controller first: its work is handed over. */
    private void stop() throws Exception {
        Broker first = controller();
        Broker second = brokers.get(2 - first.id);
        int epoch = epoch();
        first.stop();
        Check.until("the other takes over", () -> controls(second));
        Check.equal("epoch", epoch + 1, epoch());
        Check.equal("brokers", Set.of(Integer.toString(second.id)), children("/brokers/ids"));
        second.stop();
        Check.equal("brokers", Set.of(), children("/brokers/ids"));
        Check.that("a controller", !exists("/controller"));
    }

    // ---- records ----

    /** What was sent, or read. */
    private static final class Tally {
        private final CRC32C crc = new CRC32C();
        volatile long count;
        private long sum;

        /** In any order, the same records come to the same sum. */
        void add(byte[] key, byte[] value) {
            crc.reset();
            crc.update(key);
            crc.update(value);
            sum += crc.getValue();
            count++;
        }

        @Override
        public String toString() {
            return count + " records, checksum " + Long.toHexString(sum);
        }
    }

    /** A producer and a consumer at work on a topic: the record N goes to the partition N % partitions. */
    private final class Flow {
        private final String topic;
        private final int partitions;
        private final int lingerMs;
        private final long first;
        /** How far the producer may be ahead. Together with the linger this is what sets the pace. */
        private final Semaphore window;
        private final Tally sent = new Tally();
        private final Tally got = new Tally();
        private final Thread writer = new Thread(() -> guard(this::write));
        private final Thread reader = new Thread(() -> guard(this::read));
        private volatile long goal = Long.MAX_VALUE;

        Flow(String topic, int partitions, int window, int lingerMs) {
            this(topic, partitions, window, lingerMs, 0);
        }

        /** What is older than `first` in the topic is passed over. */
        Flow(String topic, int partitions, int window, int lingerMs, long first) {
            this.topic = topic;
            this.partitions = partitions;
            this.window = new Semaphore(window);
            this.lingerMs = lingerMs;
            this.first = first;
            for (Thread thread : List.of(writer, reader)) {
                thread.setDaemon(true);
                thread.start();
            }
        }

        private void guard(Check.Body body) {
            try {
                body.run();
            } catch (Throwable e) {
                failure = e;
            }
        }

        private void write() throws Exception {
            try (KafkaProducer<byte[], byte[]> producer = producer(lingerMs)) {
                for (long n = 0; n < goal; n++) {
                    Check.that("nobody reads", window.tryAcquire(LONG_S, TimeUnit.SECONDS));
                    byte[] key = ByteBuffer.allocate(8).putLong(first + n).array();
                    byte[] value = new byte[20 + (int) (n % 180)];
                    new SplittableRandom(first + n).nextBytes(value);
                    producer.send(new ProducerRecord<>(topic, (int) (n % partitions), key, value), (where, e) -> {
                        if (e != null) {
                            failure = e;
                        }
                    });
                    sent.add(key, value);
                }
            }
        }

        private void read() throws Exception {
            List<TopicPartition> all =
                    IntStream.range(0, partitions).mapToObj(n -> new TopicPartition(topic, n)).collect(Collectors.toList());
            try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(clientConfig(Map.of(
                    "group.id", "readers-of-" + topic, "enable.auto.commit", "false", "auto.offset.reset", "earliest",
                    "fetch.max.wait.ms", "100")), new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
                consumer.assign(all);
                consumer.seekToBeginning(all);
                long[] next = new long[partitions];
                for (int n = 0; n < partitions; n++) {
                    next[n] = first + n;
                }
                while (writer.isAlive() || got.count < sent.count) {
                    for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
                        long n = ByteBuffer.wrap(record.key()).getLong();
                        if (n < first) {
                            continue;
                        }
                        Check.equal("record of partition " + record.partition(), next[record.partition()], n);
                        next[record.partition()] += partitions;
                        got.add(record.key(), record.value());
                        window.release();
                    }
                }
                consumer.commitSync(Duration.ofSeconds(LONG_S));
            }
        }

        void untilMore(int records) throws Exception {
            long goal = got.count + records;
            within(LONG_S, "records of " + topic + " arrive", () -> got.count >= goal);
        }

        /** Ends the flow when at least so many records are sent, which must all come. */
        void finish(int least) throws Exception {
            goal = least;
            within(LONG_S, "enough records of " + topic, () -> !writer.isAlive());
            within(LONG_S, "the last record of " + topic, () -> !reader.isAlive());
            Check.equal(topic, sent.toString(), got.toString());
            System.out.println(topic + ": " + got);
            if (first == 0) {
                Map<TopicPartition, OffsetAndMetadata> offsets =
                        get(admin.listConsumerGroupOffsets("readers-of-" + topic).partitionsToOffsetAndMetadata());
                Check.equal("committed", got.count, offsets.values().stream().mapToLong(OffsetAndMetadata::offset).sum());
            }
        }
    }

    private String bootstrap() {
        return brokers.stream().map(Broker::address).collect(Collectors.joining(","));
    }

    private Map<String, Object> clientConfig(Map<String, Object> more) {
        Map<String, Object> config = new HashMap<>(more);
        config.putIfAbsent("bootstrap.servers", bootstrap());
        config.put("reconnect.backoff.max.ms", "200");
        return config;
    }

    private KafkaProducer<byte[], byte[]> producer(int lingerMs) {
        return new KafkaProducer<>(
                clientConfig(Map.of("acks", "all", "linger.ms", Integer.toString(lingerMs), "buffer.memory", "4000000")),
                new ByteArraySerializer(), new ByteArraySerializer());
    }

    /** `ok`, or the name of what it failed with. */
    private static String send(KafkaProducer<byte[], byte[]> producer, ProducerRecord<byte[], byte[]> record)
            throws Exception {
        try {
            producer.send(record).get(LONG_S, TimeUnit.SECONDS);
            return "ok";
        } catch (ExecutionException e) {
            return e.getCause().getClass().getSimpleName();
        }
    }

    // ---- alice ----

    private KafkaProducer<byte[], byte[]> alice() {
        String servers = brokers.stream().map(broker -> "127.0.0.1:" + broker.saslPort).collect(Collectors.joining(","));
        return new KafkaProducer<>(clientConfig(Map.of(
                "bootstrap.servers", servers, "security.protocol", "SASL_PLAINTEXT", "sasl.mechanism", "SCRAM-SHA-256",
                // An idempotent producer asks for a right of its own first, and a refusal is final to it.
                "enable.idempotence", "false",
                "sasl.jaas.config", "org.apache.kafka.common.security.scram.ScramLoginModule required "
                        + "username=\"alice\" password=\"secret\";")),
                new ByteArraySerializer(), new ByteArraySerializer());
    }

    private static String write(KafkaProducer<byte[], byte[]> producer, int partition) throws Exception {
        return send(producer, new ProducerRecord<>("guarded", partition, null, new byte[10]));
    }

    private static void untilAlice(KafkaProducer<byte[], byte[]> alice, String outcome) throws Exception {
        for (int partition = 0; partition < 2; partition++) {
            int where = partition;
            Check.until("alice gets " + outcome, () -> write(alice, where).equals(outcome));
        }
    }

    private static AclBinding acl(String topic, PatternType type, AclPermissionType permission) {
        return new AclBinding(
                new ResourcePattern(ResourceType.TOPIC, topic, type),
                new AccessControlEntry("User:alice", "*", AclOperation.WRITE, permission));
    }

    private String principal(String path) throws Exception {
        return json(path).get("acls").get(0).get("principal").asText();
    }

    // ---- administration ----

    private static <T> T get(KafkaFuture<T> future) throws Exception {
        return future.get(LONG_S, TimeUnit.SECONDS);
    }

    /** Any broker may be asked, also one to which the controller has not told the topic yet. */
    private static <T> T known(Callable<KafkaFuture<T>> request) throws Exception {
        List<T> answer = new ArrayList<>();
        Check.until("the brokers know the topic", () -> {
            try {
                return answer.add(get(request.call()));
            } catch (ExecutionException e) {
                if (e.getCause() instanceof UnknownTopicOrPartitionException) {
                    return false;
                }
                throw e;
            }
        });
        return answer.get(0);
    }

    private void create(NewTopic... topics) throws Exception {
        get(admin.createTopics(Arrays.asList(topics)).all());
    }

    /** Null deletes. */
    private void alter(ConfigResource resource, String name, String value) throws Exception {
        AlterConfigOp.OpType type = value == null ? AlterConfigOp.OpType.DELETE : AlterConfigOp.OpType.SET;
        AlterConfigOp op = new AlterConfigOp(new ConfigEntry(name, value), type);
        known(() -> admin.incrementalAlterConfigs(Map.of(resource, List.of(op))).all());
    }

    private ConfigEntry describe(ConfigResource resource, String name) throws Exception {
        return known(() -> admin.describeConfigs(List.of(resource)).all()).get(resource).get(name);
    }

    private List<TopicPartitionInfo> partitions(String topic) throws Exception {
        return known(() -> admin.describeTopics(List.of(topic)).allTopicNames()).get(topic).partitions();
    }

    /** Only of the partitions that have one. */
    private Map<Integer, Integer> leaders(String topic) throws Exception {
        return partitions(topic).stream()
                .filter(info -> info.leader() != null && !info.leader().isEmpty())
                .collect(Collectors.toMap(TopicPartitionInfo::partition, info -> info.leader().id()));
    }

    private static List<Integer> ids(List<org.apache.kafka.common.Node> nodes) {
        return nodes.stream().map(org.apache.kafka.common.Node::id).collect(Collectors.toList());
    }

    // ---- the tree ----

    /** As of now, also while servers go: with a `sync` before it, and again after a lost connection. */
    private <T> T read(Callable<T> body) throws Exception {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(LONG_S);
        for (;;) {
            try {
                zk.sync("/", (code, path, context) -> {}, null);
                return body.call();
            } catch (KeeperException.ConnectionLossException e) {
                if (System.nanoTime() > end) {
                    throw e;
                }
            }
        }
    }

    private boolean exists(String path) throws Exception {
        return read(() -> zk.exists(path, false)) != null;
    }

    private Set<String> children(String path) throws Exception {
        return Set.copyOf(read(() -> zk.getChildren(path, false)));
    }

    private JsonNode json(String path) throws Exception {
        return JSON.readTree(read(() -> zk.getData(path, false, null)));
    }

    private String config(String path, String name) throws Exception {
        JsonNode value = json(path).get("config").get(name);
        return value == null ? null : value.asText();
    }

    private int epoch() throws Exception {
        return Integer.parseInt(
                new String(read(() -> zk.getData("/controller_epoch", false, null)), StandardCharsets.UTF_8));
    }

    private Broker controller() throws Exception {
        return brokers.get(json("/controller").get("brokerid").asInt() - 1);
    }

    /** Also while there is none: the znode may go at any moment. */
    private boolean controls(Broker broker) throws Exception {
        try {
            return controller() == broker;
        } catch (KeeperException.NoNodeException e) {
            return false;
        }
    }

    /** Check.until for what may take longer, and for as long as nothing has failed meanwhile. */
    private static void within(int seconds, String what, Callable<Boolean> holds) throws Exception {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(seconds);
        while (!holds.call()) {
            if (failure != null) {
                throw new AssertionError("beside the steps something has failed", failure);
            }
            Check.that("timed out waiting until " + what, System.nanoTime() < end);
            Thread.sleep(20);
        }
        if (failure != null) {
            throw new AssertionError("beside the steps something has failed", failure);
        }
    }

    // ---- brokers ----

    private static final class Broker {
        final int id;
        final int port;
        final int saslPort;
        private final Path config;
        private final File log;
        Process process;

        Broker(int id, String servers, Path work, int sessionMs) throws IOException {
            this.id = id;
            port = freePort();
            saslPort = freePort();
            config = work.resolve("broker-" + id + ".properties");
            log = work.resolve("broker-" + id + ".log").toFile();
            Files.write(config, List.of(
                    "broker.id=" + id,
                    "zookeeper.connect=" + servers + CHROOT,
                    "zookeeper.session.timeout.ms=" + sessionMs,
                    "log.dirs=" + work.resolve("broker-" + id),
                    "listeners=PLAINTEXT://127.0.0.1:" + port + ",SASL_PLAINTEXT://127.0.0.1:" + saslPort,
                    "sasl.enabled.mechanisms=SCRAM-SHA-256",
                    "listener.name.sasl_plaintext.scram-sha-256.sasl.jaas.config="
                            + "org.apache.kafka.common.security.scram.ScramLoginModule required;",
                    "authorizer.class.name=kafka.security.authorizer.AclAuthorizer",
                    "super.users=User:ANONYMOUS",
                    "auto.create.topics.enable=false",
                    "auto.leader.rebalance.enable=false",
                    "offsets.topic.num.partitions=2",
                    "offsets.topic.replication.factor=2",
                    "log.cleaner.dedupe.buffer.size=2000000",
                    "num.network.threads=2",
                    "num.io.threads=2",
                    "controlled.shutdown.retry.backoff.ms=200"));
            Runtime.getRuntime().addShutdownHook(new Thread(() -> {
                if (process != null) {
                    process.destroyForcibly();
                }
            }));
        }

        private static int freePort() throws IOException {
            try (ServerSocket socket = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
                return socket.getLocalPort();
            }
        }

        String address() {
            return "127.0.0.1:" + port;
        }

        void start() throws IOException {
            List<String> command = new ArrayList<>();
            command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
            command.addAll(ManagementFactory.getRuntimeMXBean().getInputArguments());
            command.addAll(List.of("-Dlog.level=INFO", "-cp", System.getProperty("java.class.path"), "kafka.Kafka",
                    config.toString()));
            process = new ProcessBuilder(command)
                    .redirectErrorStream(true)
                    .redirectOutput(ProcessBuilder.Redirect.appendTo(log))
                    .start();
        }

        void check() {
            Check.that("broker " + id + " has ended, see " + log, process.isAlive());
        }

        /** Not a word to anybody: SIGKILL. */
        void kill() throws InterruptedException {
            process.destroyForcibly();
            awaitEnd();
        }

        void stop() throws InterruptedException {
            process.destroy();
            awaitEnd();
        }

        private void awaitEnd() throws InterruptedException {
            Check.that("broker " + id + " does not end", process.waitFor(LONG_S, TimeUnit.SECONDS));
        }
    }
}
