import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.apache.zookeeper.client.FourLetterWordMain;

/** One life of a server process, of either kind, on the one data directory. */
final class Server implements AutoCloseable {
    private static int lives;

    final String kind;
    private final int port;
    private final Path log;
    private final Process process;

    private Server(String kind, int port, Path work) throws IOException {
        this.kind = kind;
        this.port = port;
        log = work.resolve("server-" + ++lives + "-" + kind + ".log");
        process = new ProcessBuilder(System.getenv("CLIENTS") + "/server", kind, work.resolve("zoo.cfg").toString())
                .redirectErrorStream(true).redirectOutput(log.toFile()).start();
        Runtime.getRuntime().addShutdownHook(new Thread(process::destroyForcibly));
    }

    /** Returns when it serves. */
    static Server start(String kind, int port, Path work) throws Exception {
        Server server = new Server(kind, port, work);
        Check.until(server.log + " serves", () -> {
            Check.that(server.log + ": the server ended: " + server.tail(), server.process.isAlive());
            try {
                return server.word("srvr").contains("Mode: standalone");
            } catch (IOException e) {
                return false;
            }
        });
        return server;
    }

    String word(String word) throws Exception {
        return FourLetterWordMain.send4LetterWord("127.0.0.1", port, word, false, 500);
    }

    /** Of the last transaction that it has applied. */
    long zxid() throws Exception {
        String line = word("srvr").lines().filter(text -> text.startsWith("Zxid: 0x")).findFirst().orElseThrow();
        return Long.parseLong(line.substring("Zxid: 0x".length()), 16);
    }

    /** As a power cut, as far as one process can tell. */
    void kill() throws Exception {
        process.destroyForcibly();
        await();
    }

    void terminate() throws Exception {
        process.destroy();
        await();
    }

    @Override
    public void close() {
        process.destroyForcibly();
    }

    private void await() throws Exception {
        Check.that(log + ": the server does not end", process.waitFor(Check.DEADLINE_S, TimeUnit.SECONDS));
    }

    /** Neither its counter nor its log may know of a tree that differs from what the log says it is. */
    void checkDigests() throws Exception {
        String bad = Files.readAllLines(log).stream()
                .filter(line -> line.matches("(?i).*(digests? (are|is|does) not match|digest ?mismatch).*"))
                .collect(Collectors.joining("\n"));
        Check.equal(log + ": digest mismatches", "", bad);
        String counter = word("mntr").lines().filter(line -> line.startsWith("zk_digest_mismatches_count")).collect(Collectors.joining());
        Check.that(log + ": " + counter, counter.matches("zk_digest_mismatches_count\\s+0"));
    }

    private String tail() throws IOException {
        var lines = Files.readAllLines(log);
        return String.join("\n", lines.subList(Math.max(0, lines.size() - 10), lines.size()));
    }
}
