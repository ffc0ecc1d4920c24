import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;

/**
 * A nimbus or a supervisor: its configuration, and its process as the launcher of a distribution starts it. Storm's
 * daemons fail fast and count on being started again. Two threads of a nimbus that copy the same blob are enough: the
 * node that the other one has created ends the process.
 */
final class Daemon {
    final String name;
    private final Path work;
    private final String main;
    private volatile Process process;
    private volatile boolean wanted;

    Daemon(String name, Path work, String main, Map<String, Object> shared, Map<String, Object> own)
            throws IOException {
        this.name = name;
        this.work = work;
        this.main = main;
        Map<String, Object> all = new TreeMap<>(shared);
        all.putAll(own);
        all.put("storm.local.dir", work.resolve(name + "-data"));
        all.put("storm.metricstore.rocksdb.location", work.resolve(name + "-metrics"));
        write(conf().resolve("storm.yaml"), all);
    }

    /** Lists are in brackets in YAML, as they are in Java. */
    static void write(Path file, Map<String, Object> configuration) throws IOException {
        List<String> lines = new ArrayList<>();
        configuration.forEach((key, value) -> lines.add(key + ": " + value));
        Files.createDirectories(file.getParent());
        Files.write(file, lines);
    }

    private Path conf() {
        return work.resolve(name + "-conf");
    }

    void start() throws IOException {
        wanted = true;
        Path home = work.resolve("storm");
        ProcessBuilder builder = new ProcessBuilder(System.getProperty("java.home") + "/bin/java", "-Xmx160m",
                "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Ddaemon.name=" + name, "-Dstorm.home=" + home,
                "-Dstorm.log.dir=" + work.resolve(name + "-logs"),
                "-Dlog4j.configurationFile=" + home.resolve("log4j2/cluster.xml"),
                "-cp", home + "/lib/*:" + home + "/extlib/*:" + conf(), main)
                .redirectErrorStream(true)
                .redirectOutput(ProcessBuilder.Redirect.appendTo(work.resolve(name + ".log").toFile()));
        // Where workers find it too.
        builder.environment().put("STORM_CONF_DIR", conf().toString());
        process = builder.start();
        process.onExit().thenAccept(this::again);
    }

    private void again(Process ended) {
        if (wanted) {
            System.out.println(name + " has ended with " + ended.exitValue() + ", and is started again");
            try {
                start();
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }
    }

    void kill() throws InterruptedException {
        wanted = false;
        process.destroyForcibly();
        Check.that(name + " does not end", process.waitFor(Check.DEADLINE_S, TimeUnit.SECONDS));
    }

    /** STOP or CONT. */
    void signal(String signal) throws Exception {
        Process kill = new ProcessBuilder("kill", "-" + signal, Long.toString(process.pid())).inheritIO().start();
        Check.equal("kill -" + signal + " of " + name, 0, kill.waitFor());
    }

    /** At the end of the run. */
    void leave() {
        wanted = false;
    }

    boolean runs() {
        return process.isAlive();
    }
}
