import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.List;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.ha.HAServiceProtocol;
import org.apache.hadoop.ha.HAServiceStatus;
import org.apache.hadoop.ha.HAServiceTarget;
import org.apache.hadoop.ha.ZKFailoverController;
import org.apache.hadoop.ha.proto.HAServiceProtocolProtos.HAServiceProtocolService;
import org.apache.hadoop.ha.protocolPB.HAServiceProtocolPB;
import org.apache.hadoop.ha.protocolPB.HAServiceProtocolServerSideTranslatorPB;
import org.apache.hadoop.ipc.ProtobufRpcEngine2;
import org.apache.hadoop.ipc.RPC;
import org.apache.hadoop.security.authorize.PolicyProvider;

/** A service that is active or stands by, behind Hadoop's RPC, and its fail-over controller. Says what it is told. */
final class Service implements HAServiceProtocol {
    private HAServiceState state = HAServiceState.STANDBY;

    /** Service SERVERS TARGET TARGET-OF-THE-OTHER [OPTION-OF-THE-CONTROLLER] */
    public static void main(String[] args) throws Exception {
        Child.endWithParent();
        Configuration conf = Target.configuration(args[0]);
        Target mine = Target.of(conf, args[1]);
        Target other = Target.of(conf, args[2]);
        RPC.setProtocolEngine(conf, HAServiceProtocolPB.class, ProtobufRpcEngine2.class);
        new RPC.Builder(conf)
                .setProtocol(HAServiceProtocolPB.class)
                .setInstance(HAServiceProtocolService.newReflectiveBlockingService(
                        new HAServiceProtocolServerSideTranslatorPB(new Service())))
                .setBindAddress("127.0.0.1")
                .setPort(mine.servicePort)
                .setNumHandlers(2)
                .build()
                .start();
        Controller controller = new Controller(conf, mine, other);
        if (args.length > 3) {
            System.exit(controller.run(new String[] {args[3], "-nonInteractive"}));
        }
        // Returns only when it has failed.
        System.exit(controller.run(new String[0]));
    }

    /** With the time: all processes of a machine read the same clock. */
    static void say(String what) {
        System.out.println(System.nanoTime() + " " + what);
    }

    @Override
    public void monitorHealth() {
        // It is well.
    }

    @Override
    public synchronized void transitionToActive(StateChangeRequestInfo request) {
        say("active");
        state = HAServiceState.ACTIVE;
    }

    @Override
    public synchronized void transitionToStandby(StateChangeRequestInfo request) {
        state = HAServiceState.STANDBY;
        say("standby");
    }

    @Override
    public void transitionToObserver(StateChangeRequestInfo request) {
        throw new IllegalStateException("there are no observers");
    }

    @Override
    public synchronized HAServiceStatus getServiceStatus() {
        return new HAServiceStatus(state).setReadyToBecomeActive();
    }

    private static final class Controller extends ZKFailoverController {
        private final Target other;

        Controller(Configuration conf, Target mine, Target other) {
            super(conf, mine);
            this.other = other;
        }

        @Override
        protected byte[] targetToData(HAServiceTarget target) {
            return target.toString().getBytes(StandardCharsets.UTF_8);
        }

        @Override
        protected HAServiceTarget dataToTarget(byte[] data) {
            return Target.of(conf, new String(data, StandardCharsets.UTF_8));
        }

        @Override
        protected void loginAsFCUser() {
            // As whoever runs it.
        }

        @Override
        protected void checkRpcAdminAccess() {
            // Whoever asks may.
        }

        @Override
        protected InetSocketAddress getRpcAddressToBindTo() {
            return localTarget.getZKFCAddress();
        }

        @Override
        protected PolicyProvider getPolicyProvider() {
            return null;
        }

        @Override
        protected List<HAServiceTarget> getAllOtherNodes() {
            return List.of(other);
        }

        @Override
        protected boolean isSSLEnabled() {
            return false;
        }

        @Override
        protected String getScopeInsideParentNode() {
            return "pair";
        }
    }
}
