package zooid;

import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.io.Writer;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;

/**
 * A server in a process of its own, for tests that were written for a Java server in theirs. Which server, and where
 * its program is, scripts/compat says in the environment; its files go where temporary files go.
 */
public final class ServerProcess {
    private static final int DEADLINE_S = 60;
    private static final String OF_THE_RUNNER = "zookeeper\\.(serverCnxnFactory|junit\\..*)";
    private static final Set<Process> running = ConcurrentHashMap.newKeySet();

    static {
        Runtime.getRuntime().addShutdownHook(new Thread(() -> running.forEach(Process::destroyForcibly)));
    }

    private final Process process;
    private String host = "127.0.0.1";
    private int port;

    private ServerProcess(Process process) {
        this.process = process;
    }

    /** For tests that leave the port to the server, and ask it what they like. */
    public static ServerProcess start(Properties config) throws IOException {
        if (config.getProperty("clientPort", "0").equals("0")) {
            config.setProperty("clientPort", Integer.toString(freePort()));
        }
        config.putIfAbsent("admin.enableServer", "false");
        config.putIfAbsent("4lw.commands.whitelist", "*");
        return start(config, Map.of());
    }

    /** Returns when the server serves; a member cannot do so before there are more, so that it listens must do. */
    public static ServerProcess start(Properties config, Map<String, String> flags) throws IOException {
        ServerProcess server = launch(write(config), flags);
        server.host = config.getProperty("clientPortAddress", server.host);
        server.port = Integer.parseInt(config.getProperty("clientPort"));
        boolean isMember = config.stringPropertyNames().stream().anyMatch(name -> name.startsWith("server."));
        try {
            server.await(isMember);
        } catch (InterruptedException e) {
            server.kill();
            Thread.currentThread().interrupt();
            throw new IOException("interrupted", e);
        }
        return server;
    }

    /** Returns at once. */
    public static ServerProcess launch(Path config, Map<String, String> flags) throws IOException {
        List<String> command = new ArrayList<>(List.of(System.getenv("CLIENTS") + "/server", System.getenv("SERVER")));
        flags(flags).forEach((name, value) -> command.add("-D" + name + "=" + value));
        command.add(config.toString());
        File log = Files.createTempFile("server", ".log").toFile();
        Process process = new ProcessBuilder(command).redirectErrorStream(true)
                .redirectOutput(ProcessBuilder.Redirect.appendTo(log))
                .start();
        running.add(process);
        return new ServerProcess(process);
    }

    private static Path write(Properties config) throws IOException {
        Path file = Files.createTempFile("server", ".cfg");
        try (Writer out = Files.newBufferedWriter(file, StandardCharsets.UTF_8)) {
            for (String name : config.stringPropertyNames()) {
                out.write(name + "=" + config.getProperty(name) + "\n");
            }
        }
        return file;
    }

    /** What a test sets for the server in its process is told to a process as it would be to a Java server. */
    private static Map<String, String> flags(Map<String, String> more) {
        Map<String, String> flags = new TreeMap<>(more);
        Properties set = System.getProperties();
        for (String name : set.stringPropertyNames()) {
            if (name.matches("(zookeeper|znode|readonlymode|jute)\\..*") && !name.matches(OF_THE_RUNNER)) {
                flags.put(name, set.getProperty(name));
            }
        }
        // A Java server passes over a provider that exists nowhere; zooid does not start without one that it lacks.
        flags.entrySet().removeIf(flag -> flag.getKey().startsWith("zookeeper.authProvider.")
                && !exists(flag.getValue()));
        return flags;
    }

    private static boolean exists(String name) {
        try {
            Class.forName(name);
            return true;
        } catch (ClassNotFoundException e) {
            return false;
        }
    }

    private void await(boolean isMember) throws IOException, InterruptedException {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(DEADLINE_S);
        while (!(isMember ? listens() : serves())) {
            if (!process.isAlive()) {
                running.remove(process);
                throw new IOException("the server has ended with " + process.exitValue());
            }
            if (System.nanoTime() > end) {
                kill();
                throw new IOException("the server does not come up on port " + port);
            }
            Thread.sleep(5);
        }
    }

    private boolean listens() {
        try (Socket socket = new Socket()) {
            socket.connect(new InetSocketAddress(host, port), 1000);
            return true;
        } catch (IOException e) {
            return false;
        }
    }

    private boolean serves() {
        return ask("srvr").contains("Mode:");
    }

    /** The answer to a four letter word; nothing when there is none. */
    public String ask(String word) {
        try (Socket socket = new Socket()) {
            socket.connect(new InetSocketAddress(host, port), 1000);
            socket.setSoTimeout(1000);
            socket.getOutputStream().write(word.getBytes(StandardCharsets.UTF_8));
            try (InputStream in = socket.getInputStream()) {
                return new String(in.readAllBytes(), StandardCharsets.UTF_8);
            }
        } catch (IOException e) {
            return "";
        }
    }

    public static int freePort() throws IOException {
        try (ServerSocket socket = new ServerSocket(0)) {
            return socket.getLocalPort();
        }
    }

    public int port() {
        return port;
    }

    public boolean isAlive() {
        return process.isAlive();
    }

    /** Until the process has ended. */
    public void join() throws InterruptedException {
        process.waitFor();
    }

    public void kill() {
        process.destroyForcibly();
        awaitEnd();
    }

    /** As an init system does: the server may say good-bye, within limits. */
    public void close() {
        process.destroy();
        awaitEnd();
    }

    private void awaitEnd() {
        try {
            if (!process.waitFor(DEADLINE_S, TimeUnit.SECONDS)) {
                process.destroyForcibly().waitFor();
            }
        } catch (InterruptedException e) {
            process.destroyForcibly();
            Thread.currentThread().interrupt();
        }
        running.remove(process);
    }
}
