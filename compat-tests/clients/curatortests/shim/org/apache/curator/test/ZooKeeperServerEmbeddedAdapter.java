package org.apache.curator.test;

import java.io.File;
import java.io.FileWriter;
import java.io.IOException;
import java.io.InputStream;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;

/**
 * Stands before the class of this name in curator-test and, where that one has a Java server inside the process, starts
 * and stops a process: the program of the system property zooid.bin, its files below that of zooid.work.
 */
public class ZooKeeperServerEmbeddedAdapter implements ZooKeeperMainFace {
    private static final int DEADLINE_S = 60;
    private static final Set<Process> running = ConcurrentHashMap.newKeySet();

    static {
        Runtime.getRuntime().addShutdownHook(new Thread(() -> running.forEach(Process::destroyForcibly)));
    }

    private volatile Process process;
    private volatile int port;

    @Override
    public void start(QuorumPeerConfigBuilder builder) {
        try {
            Properties properties = builder.buildProperties();
            port = Integer.parseInt(properties.getProperty("clientPort"));
            if (port == 0) {
                port = freePort();
                properties.setProperty("clientPort", Integer.toString(port));
            }
            properties.putIfAbsent("admin.enableServer", "false");
            properties.putIfAbsent("4lw.commands.whitelist", "*");
            Path work = Path.of(System.getProperty("zooid.work"));
            File config = Files.createTempFile(work, "server", ".cfg").toFile();
            try (FileWriter out = new FileWriter(config, StandardCharsets.UTF_8)) {
                for (String name : properties.stringPropertyNames()) {
                    out.write(name + "=" + properties.getProperty(name) + "\n");
                }
            }
            ProcessBuilder command = new ProcessBuilder(System.getProperty("zooid.bin"), "server", config.getPath());
            command.environment().put("SERVER_JVMFLAGS", flags());
            process = command.redirectErrorStream(true)
                    .redirectOutput(ProcessBuilder.Redirect.appendTo(new File(config.getPath() + ".log")))
                    .start();
            running.add(process);
            boolean isMember = properties.stringPropertyNames().stream().anyMatch(name -> name.startsWith("server."));
            await(isMember);
        } catch (Exception e) {
            throw new FailedServerStartException(e);
        }
    }

    /** What a test sets for the server in its process is told to a process as it would be to a Java server. */
    private static String flags() {
        Properties set = System.getProperties();
        return set.stringPropertyNames().stream()
                .filter(name -> name.matches("(zookeeper|znode|readonlymode)\\..*"))
                .map(name -> "-D" + name + "=" + set.getProperty(name))
                .collect(Collectors.joining(" "));
    }

    /** A server alone must serve. A member cannot do so before there are more of them: that it runs must do. */
    private void await(boolean isMember) throws Exception {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(DEADLINE_S);
        while (!(isMember ? listens() : serves())) {
            if (!process.isAlive()) {
                throw new IOException("the server has ended with " + process.exitValue());
            }
            if (System.nanoTime() > end) {
                throw new IOException("the server does not come up on port " + port);
            }
            Thread.sleep(5);
        }
    }

    private boolean listens() {
        try (Socket socket = new Socket()) {
            socket.connect(new InetSocketAddress("127.0.0.1", port), 1000);
            return true;
        } catch (IOException e) {
            return false;
        }
    }

    private boolean serves() {
        try (Socket socket = new Socket()) {
            socket.connect(new InetSocketAddress("127.0.0.1", port), 1000);
            socket.setSoTimeout(1000);
            socket.getOutputStream().write("srvr".getBytes(StandardCharsets.UTF_8));
            try (InputStream in = socket.getInputStream()) {
                return new String(in.readAllBytes(), StandardCharsets.UTF_8).contains("Mode:");
            }
        } catch (IOException e) {
            return false;
        }
    }

    private static int freePort() throws IOException {
        try (ServerSocket socket = new ServerSocket(0)) {
            return socket.getLocalPort();
        }
    }

    @Override
    public int getClientPort() {
        return port;
    }

    @Override
    public void kill() {
        end(true);
    }

    @Override
    public void close() {
        end(false);
    }

    private void end(boolean isKilled) {
        if (process == null) {
            return;
        }
        if (!isKilled) {
            process.destroy();
        }
        try {
            if (isKilled || !process.waitFor(DEADLINE_S, TimeUnit.SECONDS)) {
                process.destroyForcibly().waitFor();
            }
        } catch (InterruptedException e) {
            process.destroyForcibly();
            Thread.currentThread().interrupt();
        }
        running.remove(process);
    }
}
