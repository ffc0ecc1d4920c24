import java.net.ServerSocket;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import org.apache.dubbo.common.config.configcenter.DynamicConfiguration;
import org.apache.dubbo.config.ReferenceConfig;
import org.apache.dubbo.config.bootstrap.DubboBootstrap;
import org.apache.dubbo.rpc.RpcException;
import org.apache.dubbo.rpc.model.ApplicationModel;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.Stat;
import zooid.Greeter;

/**
 * The consumer; the provider is a process beside it. A plain ZooKeeper client looks at what they register, and writes
 * what the config centre says.
 */
public final class Calls {
    private static final String SERVICE = "/dubbo/" + Greeter.class.getName();
    private static final String CONFIG = "/dubbo/config/dubbo";
    private static final String RULE = CONFIG + "/consumer.configurators";
    private static final int CALLS = 200;

    private final String servers;
    private final Path work;
    private ZooKeeper zk;
    private Greeter greeter;
    private Child provider;
    private int port;

    public static void main(String[] args) {
        Calls test = new Calls(args[0], Path.of(args[1]));
        Check.step("a config centre with something in it", test::configure);
        Check.step("provider and consumer", test::start);
        Check.step("what they register", test::registered);
        Check.step("calls", test::calls);
        Check.step("a listener of the config centre", test::listener);
        Check.step("a rule of the config centre", test::rule);
        Check.step("the provider is killed and comes back elsewhere", test::killed);
        Check.step("a second provider, and the first one goes", test::second);
        System.exit(0);
    }

    private Calls(String servers, Path work) {
        this.servers = servers;
        this.work = work;
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private void configure() throws Exception {
        CountDownLatch connected = new CountDownLatch(1);
        zk = new ZooKeeper(servers, 30_000, event -> connected.countDown());
        Check.await("a connection", connected);
        write(CONFIG + "/dubbo.properties", "greeting=Good morning\n");
    }

    private void write(String path, String text) throws Exception {
        for (int slash = path.indexOf('/', 1); slash > 0; slash = path.indexOf('/', slash + 1)) {
            if (zk.exists(path.substring(0, slash), false) == null) {
                create(path.substring(0, slash), "");
            }
        }
        create(path, text);
    }

    private void create(String path, String text) throws Exception {
        zk.create(path, bytes(text), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
    }

    private Child startProvider() throws Exception {
        try (ServerSocket free = new ServerSocket(0)) {
            port = free.getLocalPort();
        }
        Child child = new Child("provider-" + port, work, "Provider", servers, Integer.toString(port));
        child.ready();
        return child;
    }

    private void start() throws Exception {
        provider = startProvider();
        ReferenceConfig<Greeter> reference = new ReferenceConfig<>();
        reference.setInterface(Greeter.class);
        reference.setTimeout(5_000);
        reference.setRetries(0);
        DubboBootstrap.getInstance()
                .application(Provider.application("consumer"))
                .registry(Provider.registry(servers))
                .reference(reference)
                .start();
        greeter = reference.get();
    }

    /** The ports of the providers that the registry has for the interface, each the name of an ephemeral node. */
    private List<Integer> providers() throws Exception {
        List<Integer> ports = new ArrayList<>();
        for (String child : zk.getChildren(SERVICE + "/providers", false)) {
            String url = URLDecoder.decode(child, StandardCharsets.UTF_8);
            Check.that(url, url.startsWith("dubbo://127.0.0.1:") && url.contains("application=provider"));
            ports.add(Integer.parseInt(url.replaceFirst("dubbo://127.0.0.1:(\\d+)/.*", "$1")));
            ephemeral(SERVICE + "/providers/" + child);
        }
        ports.sort(null);
        return ports;
    }

    private void ephemeral(String path) throws Exception {
        Stat stat = zk.exists(path, false);
        // The children were read before: a node may have gone with its session since.
        Check.that(path + " belongs to no session", stat == null || stat.getEphemeralOwner() != 0);
    }

    private List<Integer> instances() throws Exception {
        List<Integer> ports = new ArrayList<>();
        for (String child : zk.getChildren("/services/provider", false)) {
            ports.add(Integer.parseInt(child.substring(child.indexOf(':') + 1)));
            ephemeral("/services/provider/" + child);
        }
        ports.sort(null);
        return ports;
    }

    private String text(String path) throws KeeperException, InterruptedException {
        return new String(zk.getData(path, false, new Stat()), StandardCharsets.UTF_8);
    }

    private void registered() throws Exception {
        Check.equal("providers", List.of(port), providers());
        String mapping = "/dubbo/mapping/" + Greeter.class.getName();
        Check.until("the instance is registered", () -> zk.exists("/services/provider", false) != null
                && instances().equals(List.of(port)));
        Check.until("the service has its application", () -> zk.exists(mapping, false) != null
                && text(mapping).equals("provider"));
        Check.until("the consumer is registered", () -> zk.exists(SERVICE + "/consumers", false) != null
                && zk.getChildren(SERVICE + "/consumers", false).size() == 1);
        String consumer = SERVICE + "/consumers/" + zk.getChildren(SERVICE + "/consumers", false).get(0);
        ephemeral(consumer);
        Check.that(consumer, consumer.contains("application%3Dconsumer"));
    }

    private void calls() throws Exception {
        for (int call = 0; call < CALLS; call++) {
            Check.equal("answer", "Good morning, " + call + " (" + port + ")", greeter.greet(Integer.toString(call)));
        }
    }

    private void listener() throws Exception {
        DynamicConfiguration centre = ApplicationModel.defaultModel().modelEnvironment()
                .getDynamicConfiguration().orElseThrow();
        BlockingQueue<String> changes = new LinkedBlockingQueue<>();
        centre.addListener("colour", "dubbo",
                event -> changes.add(event.getChangeType() + " " + event.getKey() + " " + event.getContent()));
        write(CONFIG + "/colour", "red");
        Check.equal("change", "ADDED colour red", Check.next("the first value", changes));
        zk.setData(CONFIG + "/colour", bytes("green"), 0);
        Check.equal("change", "MODIFIED colour green", Check.next("the second value", changes));
        Check.equal("value", "green", centre.getConfig("colour", "dubbo"));
        zk.delete(CONFIG + "/colour", 1);
        String last = Check.next("the end of the value", changes);
        Check.that(last, last.startsWith("DELETED colour"));
        Check.that("published", centre.publishConfig("shape", "dubbo", "round"));
        Check.equal("what was published", "round", text(CONFIG + "/shape"));
    }

    /** A rule gives calls less time than they take, and time again when it goes. */
    private void rule() throws Exception {
        Check.equal("answer", "after 300 ms", greeter.slowly(300));
        write(RULE, String.join("\n", "configVersion: v3.0", "scope: application", "key: consumer", "enabled: true",
                "configs:", "- side: consumer", "  parameters:", "    timeout: 100", ""));
        Check.until("the rule is followed", () -> timesOut(300));
        zk.delete(RULE, -1);
        Check.until("the rule is forgotten", () -> !timesOut(300));
    }

    private boolean timesOut(int milliseconds) {
        try {
            greeter.slowly(milliseconds);
            return false;
        } catch (RpcException e) {
            Check.that("another failure: " + e, e.isTimeout());
            return true;
        }
    }

    private void killed() throws Exception {
        int before = port;
        provider.kill();
        Check.equal("providers right after the kill", List.of(before), providers());
        Check.fails("RpcException", () -> greeter.greet("nobody"));
        provider = startProvider();
        Check.until("the new one answers", () -> answers().equals(Integer.toString(port)));
        List<Integer> alone = List.of(port);
        Check.until("the dead one is gone", () -> providers().equals(alone) && instances().equals(alone));
        calls();
    }

    /** The port that answers, or nothing. */
    private String answers() {
        try {
            return greeter.greet("you").replaceFirst(".*\\((\\d+)\\)", "$1");
        } catch (RpcException e) {
            return "";
        }
    }

    private void second() throws Exception {
        int first = port;
        try (Child another = startProvider()) {
            Check.equal("providers", List.of(Math.min(first, port), Math.max(first, port)), providers());
            Check.until("the second one answers too", () -> answers().equals(Integer.toString(port)));
            Check.until("the first one still answers", () -> answers().equals(Integer.toString(first)));
            provider.kill();
            Check.until("only the second one is left", () -> providers().equals(List.of(port)));
            Check.until("the consumer knows", () -> answers().equals(Integer.toString(port)));
            calls();
            another.kill();
        }
    }
}
