import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** What goes into a topology of numbers, what comes out of it, and where it runs, from its files. */
final class Stream {
    final String name;
    final Path directory;
    private long fed;
    private long negative;

    Stream(String name, Path work) throws IOException {
        this.name = name;
        directory = Files.createDirectories(work.resolve(name));
        Files.createFile(directory.resolve("source"));
    }

    void feed(int count) throws IOException {
        StringBuilder lines = new StringBuilder();
        for (int i = 0; i < count; i++) {
            lines.append(fed++).append('\n');
        }
        Files.writeString(directory.resolve("source"), lines, StandardOpenOption.APPEND);
    }

    /** Each of them is an error. */
    void feedNegative(int count) throws IOException {
        StringBuilder lines = new StringBuilder();
        for (int i = 0; i < count; i++) {
            lines.append(-++negative).append('\n');
        }
        Files.writeString(directory.resolve("source"), lines, StandardOpenOption.APPEND);
    }

    /** How often each number came out. A line that is being written does not count. */
    private Map<Long, Integer> seen() throws IOException {
        Map<Long, Integer> seen = new HashMap<>();
        for (String line : lines("sink")) {
            String[] words = line.split(" ");
            long number = Long.parseLong(words[0]);
            Check.equal("the square of " + number, number * number, Long.parseLong(words[1]));
            Check.that(number + " was never fed", number >= -negative && number < fed);
            seen.merge(number, 1, Integer::sum);
        }
        return seen;
    }

    private List<String> lines(String file) throws IOException {
        Path path = directory.resolve(file);
        String text = Files.exists(path) ? Files.readString(path) : "";
        return text.substring(0, text.lastIndexOf('\n') + 1).lines().toList();
    }

    long missing() throws IOException {
        return fed + negative - seen().size();
    }

    long repeated() throws IOException {
        return seen().values().stream().mapToLong(times -> times - 1).sum();
    }

    /** What its source has been told last. */
    String state() throws IOException {
        List<String> changes = lines("changes");
        return changes.isEmpty() ? "" : changes.get(changes.size() - 1);
    }

    /** In how many places of the topology has it been started, since the beginning? */
    int starts() throws IOException {
        return lines("starts").size();
    }

    /** The processes that it has been in since then. */
    Set<Long> processes(int since) throws IOException {
        Set<Long> processes = new HashSet<>();
        for (String line : lines("starts").subList(since, starts())) {
            processes.add(Long.valueOf(line.split(" ")[1]));
        }
        return processes;
    }

    @Override
    public String toString() {
        return name;
    }
}
