import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.Arrays;
import java.util.Deque;
import java.util.HashSet;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.zookeeper.ZooKeeperMain;

/**
 * Feeds a script to the command line client and writes down what it says. The client asks for its next line
 * only when it has done with the one before; that is when what it printed belongs to that line.
 *
 * <p>Watch events are printed by another thread, before or after the reply as it happens. They are kept apart
 * and put behind the output of their command, which says how many it expects: {@code @2 delete /a}.
 *
 * <p>{@code $ZK} is the server, {@code $VERSION} the version of the configuration that was printed last.
 */
public final class Script extends InputStream {
    private static final int DEADLINE_MS = 10_000;
    private static final Pattern VERSION = Pattern.compile("^version=(.*)", Pattern.MULTILINE);

    private final Deque<String> lines;
    private final PrintStream out;
    private final ByteArrayOutputStream said = new ByteArrayOutputStream();
    private final ByteArrayOutputStream events = new ByteArrayOutputStream();
    private final Set<String> ran = new HashSet<>();
    private String version = "";
    private int expected = 1; // of connecting
    private int seen;
    private byte[] line = new byte[0];
    private int at;

    private Script(Deque<String> lines, PrintStream out) {
        this.lines = lines;
        this.out = out;
    }

    public static void main(String[] args) throws Exception {
        String server = args[0];
        Deque<String> lines = new ArrayDeque<>();
        for (String line : Files.readAllLines(Path.of(args[1]))) {
            if (!line.isBlank() && !line.startsWith("#")) {
                lines.add(line.replace("$ZK", server));
            }
        }
        try (PrintStream out = new PrintStream(Files.newOutputStream(Path.of(args[2])), true)) {
            Script script = new Script(lines, out);
            PrintStream split = new PrintStream(script.new Split(), true);
            System.setOut(split);
            System.setErr(split);
            System.setIn(script);
            // `quit` ends the process.
            Runtime.getRuntime().addShutdownHook(new Thread(script::end));
            ZooKeeperMain.main(new String[] {"-server", server, "-timeout", "60000", "-waitforconnection"});
        }
    }

    @Override
    public int available() {
        return line.length - at; // never more than the current line
    }

    @Override
    public int read() {
        throw new UnsupportedOperationException("the client reads by blocks");
    }

    @Override
    public synchronized int read(byte[] into, int from, int length) throws IOException {
        if (at == line.length && !next()) {
            return -1;
        }
        int n = Math.min(length, line.length - at);
        System.arraycopy(line, at, into, from, n);
        at += n;
        return n;
    }

    private boolean next() {
        awaitEvents();
        flush();
        if (lines.isEmpty()) {
            return false;
        }
        String command = lines.remove();
        expected = 0;
        seen = 0;
        if (command.startsWith("@")) {
            int space = command.indexOf(' ');
            expected = Integer.parseInt(command.substring(1, space));
            command = command.substring(space + 1);
        }
        out.println("> " + command);
        command = command.replace("$VERSION", version);
        ran.add(command.split(" ", 2)[0]);
        line = (command + "\n").getBytes(StandardCharsets.UTF_8);
        at = 0;
        return true;
    }

    private void awaitEvents() {
        long end = System.currentTimeMillis() + DEADLINE_MS;
        try {
            for (long left; seen < expected && (left = end - System.currentTimeMillis()) > 0; ) {
                wait(left);
            }
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
        if (seen < expected) {
            out.println("expected " + expected + " events, got " + seen);
        }
    }

    private synchronized void end() {
        awaitEvents();
        flush();
        // Not asked before: the commands keep the System.out that they find when they are loaded.
        Set<String> never = new TreeSet<>(ZooKeeperMain.getCommands());
        int all = never.size();
        never.removeAll(ran);
        out.println((all - never.size()) + " of " + all + " commands, without " + never);
    }

    private void flush() {
        for (ByteArrayOutputStream part : Arrays.asList(said, events)) {
            String text = part.toString(StandardCharsets.UTF_8);
            Matcher found = VERSION.matcher(text);
            while (found.find()) {
                version = found.group(1);
            }
            out.print(text);
            part.reset();
        }
        out.flush();
    }

    /** Sends what the event thread prints one way, all else the other. */
    private final class Split extends OutputStream {
        @Override
        public void write(int b) {
            write(new byte[] {(byte) b}, 0, 1);
        }

        @Override
        public void write(byte[] bytes, int from, int length) {
            synchronized (Script.this) {
                boolean event = Thread.currentThread().getName().endsWith("-EventThread");
                (event ? events : said).write(bytes, from, length);
                if (event && new String(bytes, from, length, StandardCharsets.UTF_8).contains("WatchedEvent")) {
                    seen++;
                    Script.this.notifyAll();
                }
            }
        }
    }
}
