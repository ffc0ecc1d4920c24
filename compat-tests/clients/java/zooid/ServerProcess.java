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
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;

/**
 * A server in a process of its own, for tests which have a Java server in theirs. Which server, and where its program
 * is, scripts/compat says in the environment; files go below the directory of the system property zooid.work.
 */
public final class ServerProcess {
    private static final int DEADLINE_S = 60;
    private static final Set<Process> running = ConcurrentHashMap.newKeySet();

    static {
        Runtime.getRuntime().addShutdownHook(new Thread(() -> running.forEach(Process::destroyForcibly)));
    }

    private final Process process;
    private final int port;

    /** Gives it a free port when the configuration has none, and returns when it can be used. */
    public ServerProcess(Properties config) throws IOException {
        int wanted = Integer.parseInt(config.getProperty("clientPort", "0"));
        port = wanted == 0 ? freePort() : wanted;
        config.setProperty("clientPort", Integer.toString(port));
        config.putIfAbsent("admin.enableServer", "false");
        config.putIfAbsent("4lw.commands.whitelist", "*");
        File file = Files.createTempFile(work(), "server", ".cfg").toFile();
        try (Writer out = Files.newBufferedWriter(file.toPath())) {
            for (String name : config.stringPropertyNames()) {
                out.write(name + "=" + config.getProperty(name) + "\n");
            }
        }
        ProcessBuilder command = new ProcessBuilder(
                System.getenv("CLIENTS") + "/server", System.getenv("SERVER"), file.getPath());
        command.environment().put("SERVER_JVMFLAGS", flags());
        process = command.redirectErrorStream(true)
                .redirectOutput(ProcessBuilder.Redirect.appendTo(new File(file.getPath() + ".log")))
                .start();
        running.add(process);
        boolean isMember = config.stringPropertyNames().stream().anyMatch(name -> name.startsWith("server."));
        try {
            await(isMember);
        } catch (InterruptedException e) {
            kill();
            Thread.currentThread().interrupt();
            throw new IOException(e);
        }
    }

    public static Path work() {
        return Path.of(System.getProperty("zooid.work"));
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
    private void await(boolean isMember) throws IOException, InterruptedException {
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

    public int port() {
        return port;
    }

    public void kill() {
        process.destroyForcibly();
        awaitEnd();
    }

    /** As an init system does: the server may say good-bye, within limits. */
    public void stop() {
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
