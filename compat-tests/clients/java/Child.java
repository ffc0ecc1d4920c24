import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/**
 * A JVM with the options and the class path of this one, that can be killed and stopped. The lines of its standard
 * output are read here; what it says on stderr goes into a file.
 */
final class Child implements AutoCloseable {
    /** A JVM takes long to start, and to be missed, where many processes share little. */
    private static final int PATIENCE_S = 60;

    final String name;
    final BlockingQueue<String> lines = new LinkedBlockingQueue<>();
    private final Process process;

    Child(String name, Path directory, String main, String... args) throws IOException {
        this.name = name;
        List<String> command = new ArrayList<>(List.of(System.getProperty("java.home") + "/bin/java"));
        command.addAll(ManagementFactory.getRuntimeMXBean().getInputArguments());
        command.addAll(List.of("-cp", System.getProperty("java.class.path"), main));
        command.addAll(List.of(args));
        process = new ProcessBuilder(command)
                .redirectError(ProcessBuilder.Redirect.appendTo(directory.resolve(name + ".log").toFile()))
                .start();
        Thread reader = new Thread(this::read, "lines of " + name);
        reader.setDaemon(true);
        reader.start();
    }

    private void read() {
        try (BufferedReader in = new BufferedReader(
                new InputStreamReader(process.getInputStream(), StandardCharsets.UTF_8))) {
            for (String line = in.readLine(); line != null; line = in.readLine()) {
                lines.add(line);
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** To be called in the child: it ends when its parent does, however that ends. */
    static void endWithParent() {
        Thread watch = new Thread(() -> {
            try {
                while (System.in.read() >= 0) {
                    // Nothing is said to it.
                }
            } catch (IOException e) {
                // The same as the end of it.
            }
            Runtime.getRuntime().halt(3);
        }, "end with parent");
        watch.setDaemon(true);
        watch.start();
    }

    /** Its first line must be `ready`. */
    void ready() throws InterruptedException {
        Check.equal("what " + name + " says", "ready", next("ready"));
    }

    String next(String what) throws InterruptedException {
        String line = lines.poll(PATIENCE_S, TimeUnit.SECONDS);
        Check.that("timed out waiting for " + what + " from " + name, line != null);
        return line;
    }

    void kill() throws Exception {
        process.destroyForcibly();
        exitCode();
    }

    /** Waits for its end. */
    int exitCode() throws Exception {
        Check.that(name + " does not end", process.waitFor(Check.DEADLINE_S, TimeUnit.SECONDS));
        return process.exitValue();
    }

    /** STOP or CONT. */
    void signal(String signal) throws Exception {
        Process kill = new ProcessBuilder("kill", "-" + signal, Long.toString(process.pid())).inheritIO().start();
        Check.equal("kill -" + signal + " of " + name, 0, kill.waitFor());
    }

    @Override
    public void close() {
        process.destroyForcibly();
    }
}
