import java.io.IOException;
import java.net.InetSocketAddress;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.ha.BadFencingConfigurationException;
import org.apache.hadoop.ha.FenceMethod;
import org.apache.hadoop.ha.HAServiceProtocol.HAServiceState;
import org.apache.hadoop.ha.HAServiceTarget;
import org.apache.hadoop.ha.NodeFencer;

/** Where a service and its controller listen. Its text is what the controllers keep in ZooKeeper. */
final class Target extends HAServiceTarget {
    final int servicePort;
    final int controllerPort;
    private final NodeFencer fencer;

    Target(Configuration conf, int servicePort, int controllerPort) {
        this.servicePort = servicePort;
        this.controllerPort = controllerPort;
        try {
            fencer = NodeFencer.create(conf, "fencing");
        } catch (BadFencingConfigurationException e) {
            throw new IllegalStateException(e);
        }
    }

    static Target of(Configuration conf, String text) {
        String[] ports = text.split(" ");
        return new Target(conf, Integer.parseInt(ports[0]), Integer.parseInt(ports[1]));
    }

    static Configuration configuration(String servers) {
        Configuration conf = new Configuration();
        conf.set("ha.zookeeper.quorum", servers);
        conf.setInt("ha.zookeeper.session-timeout.ms", 4000);
        conf.setInt("ha.health-monitor.check-interval.ms", 200);
        // One that is stopped takes connections and does not answer.
        conf.setInt("ha.failover-controller.graceful-fence.rpc-timeout.ms", 1000);
        conf.set("fencing", Fencer.class.getName());
        return conf;
    }

    /** The last resort, for who does not answer when told to stand by. It only says that it was called. */
    public static final class Fencer implements FenceMethod {
        @Override
        public void checkArgs(String args) {
            // None are needed.
        }

        @Override
        public boolean tryFence(HAServiceTarget target, String args) {
            Service.say("fence " + ((Target) target).servicePort);
            return true;
        }
    }

    HAServiceState state(Configuration conf) throws IOException {
        return getProxy(conf, 5_000).getServiceStatus().getState();
    }

    @Override
    public InetSocketAddress getAddress() {
        return new InetSocketAddress("127.0.0.1", servicePort);
    }

    @Override
    public InetSocketAddress getZKFCAddress() {
        return new InetSocketAddress("127.0.0.1", controllerPort);
    }

    @Override
    public NodeFencer getFencer() {
        return fencer;
    }

    @Override
    public void checkFencingConfigured() {
        // It is, or there would be no target.
    }

    @Override
    public boolean isAutoFailoverEnabled() {
        return true;
    }

    @Override
    public String toString() {
        return servicePort + " " + controllerPort;
    }
}
