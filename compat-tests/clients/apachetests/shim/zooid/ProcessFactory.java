package zooid;

import java.io.IOException;
import java.net.InetSocketAddress;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.zookeeper.server.ServerCnxn;
import org.apache.zookeeper.server.ServerCnxnFactory;
import org.apache.zookeeper.server.SyncRequestProcessor;
import org.apache.zookeeper.server.ZooKeeperServer;

/**
 * What the system property zookeeper.serverCnxnFactory names. A Java server that is given to it never starts: a process
 * does, on the directories and with the settings of that server. So the tests' own launchers start processes, as do
 * those tests that make a server and a factory for themselves.
 */
public class ProcessFactory extends ServerCnxnFactory {
    private InetSocketAddress address;
    private int maxPerHost;
    private ServerProcess process;

    @Override
    public void configure(InetSocketAddress addr, int maxcc, int backlog, boolean secure) throws IOException {
        if (secure) {
            throw new IOException("no TLS here");
        }
        address = addr.getPort() == 0 ? new InetSocketAddress(addr.getAddress(), ServerProcess.freePort()) : addr;
        maxPerHost = maxcc;
    }

    @Override
    public void startup(ZooKeeperServer server, boolean startServer) throws IOException {
        setZooKeeperServer(server);
        Properties config = new Properties();
        // The log of a server knows its directories with the version's below them.
        config.setProperty("dataDir", server.getTxnLogFactory().getSnapDir().getParent());
        config.setProperty("dataLogDir", server.getTxnLogFactory().getDataLogDir().getParent());
        config.setProperty("clientPort", Integer.toString(address.getPort()));
        if (!address.getAddress().isAnyLocalAddress()) {
            config.setProperty("clientPortAddress", address.getAddress().getHostAddress());
        }
        config.setProperty("tickTime", Integer.toString(server.getTickTime()));
        config.setProperty("minSessionTimeout", Integer.toString(server.getMinSessionTimeout()));
        config.setProperty("maxSessionTimeout", Integer.toString(server.getMaxSessionTimeout()));
        config.setProperty("maxClientCnxns", Integer.toString(Math.max(maxPerHost, 0)));
        process = ServerProcess.start(config, flagsOfFields());
    }

    /** What tests set in fields of the server's classes, as the flags that set them in a process. */
    public static Map<String, String> flagsOfFields() {
        return Map.of("zookeeper.snapCount", Integer.toString(SyncRequestProcessor.getSnapCount()),
                "zookeeper.digest.enabled", Boolean.toString(ZooKeeperServer.isDigestEnabled()),
                "zookeeper.serializeLastProcessedZxid.enabled",
                Boolean.toString(ZooKeeperServer.isSerializeLastProcessedZxidEnabled()));
    }

    @Override
    public void shutdown() {
        if (process != null) {
            process.close();
        }
        process = null;
    }

    @Override
    public void join() throws InterruptedException {
        if (process != null) {
            process.join();
        }
    }

    @Override
    public int getLocalPort() {
        return address.getPort();
    }

    @Override
    public InetSocketAddress getLocalAddress() {
        return address;
    }

    @Override
    public int getMaxClientCnxnsPerHost() {
        return maxPerHost;
    }

    @Override
    public int getSocketListenBacklog() {
        return -1;
    }

    @Override
    public void start() {
        throw inside();
    }

    @Override
    public void setMaxClientCnxnsPerHost(int max) {
        throw inside();
    }

    @Override
    public void reconfigure(InetSocketAddress addr) {
        throw inside();
    }

    @Override
    public Iterable<ServerCnxn> getConnections() {
        throw inside();
    }

    @Override
    public void closeAll(ServerCnxn.DisconnectReason reason) {
        throw inside();
    }

    @Override
    public void resetAllConnectionStats() {
        throw inside();
    }

    @Override
    public List<Map<String, Object>> getAllConnectionInfo(boolean brief) {
        throw inside();
    }

    private static UnsupportedOperationException inside() {
        return new UnsupportedOperationException("the server is a process: there is no reaching into it");
    }
}
