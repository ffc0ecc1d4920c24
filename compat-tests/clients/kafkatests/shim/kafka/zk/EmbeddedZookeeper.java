package kafka.zk;

import java.io.Closeable;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.util.Properties;
import zooid.ServerProcess;

/**
 * Stands before the class of this name in Kafka's test jar, with what Kafka's tests call of it: where that one has a
 * Java server inside the process, this one is a process.
 */
public class EmbeddedZookeeper implements Closeable {
    /** That of Kafka's class: tests ask for sessions that it allows. */
    private static final int TICK_MS = 800;

    private final ServerProcess server;

    public EmbeddedZookeeper() {
        System.setProperty("zookeeper.forceSync", "no");
        Properties config = new Properties();
        config.setProperty("tickTime", Integer.toString(TICK_MS));
        config.setProperty("maxClientCnxns", "0");
        config.setProperty("clientPortAddress", "127.0.0.1");
        try {
            config.setProperty("dataDir", Files.createTempDirectory("data").toString());
            server = ServerProcess.start(config);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    public int tickTime() {
        return TICK_MS;
    }

    public int port() {
        return server.port();
    }

    public void shutdown() {
        server.close();
    }

    @Override
    public void close() {
        shutdown();
    }
}
