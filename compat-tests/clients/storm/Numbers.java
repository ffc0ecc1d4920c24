import java.io.BufferedReader;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayDeque;
import java.util.HashSet;
import java.util.Map;
import java.util.Queue;
import java.util.Set;
import org.apache.storm.generated.StormTopology;
import org.apache.storm.spout.SpoutOutputCollector;
import org.apache.storm.task.TopologyContext;
import org.apache.storm.topology.BasicOutputCollector;
import org.apache.storm.topology.OutputFieldsDeclarer;
import org.apache.storm.topology.TopologyBuilder;
import org.apache.storm.topology.base.BaseBasicBolt;
import org.apache.storm.topology.base.BaseRichSpout;
import org.apache.storm.tuple.Fields;
import org.apache.storm.tuple.Tuple;
import org.apache.storm.tuple.Values;

/**
 * A topology: numbers come out of a file that grows, are squared, and go into another file. What has been acknowledged
 * is in a third one, so that a spout that starts anew repeats only the rest. Negative numbers are reported as errors.
 */
final class Numbers {
    private Numbers() {}

    static StormTopology topology(Path directory) {
        String place = directory.toString();
        TopologyBuilder builder = new TopologyBuilder();
        builder.setSpout("source", new Source(place), 1);
        builder.setBolt("square", new Square(place), 2).shuffleGrouping("source");
        builder.setBolt("sink", new Sink(place), 1).fieldsGrouping("square", new Fields("number"));
        return builder.createTopology();
    }

    /** One write for a line: several processes may append to a file. */
    static void append(String directory, String file, String line) {
        try {
            Files.writeString(Path.of(directory, file), line + "\n", StandardOpenOption.CREATE,
                    StandardOpenOption.APPEND);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** Who works, and in which process. */
    private static void sign(String directory, TopologyContext context) {
        append(directory, "starts", context.getThisComponentId() + " " + ProcessHandle.current().pid());
    }

    static final class Source extends BaseRichSpout {
        private static final long serialVersionUID = 1;

        private final String directory;
        private transient SpoutOutputCollector out;
        private transient BufferedReader in;
        private transient StringBuilder line;
        private transient Set<Long> acknowledged;
        private transient Queue<Long> failed;

        Source(String directory) {
            this.directory = directory;
        }

        @Override
        public void open(Map<String, Object> conf, TopologyContext context, SpoutOutputCollector collector) {
            out = collector;
            acknowledged = new HashSet<>();
            failed = new ArrayDeque<>();
            line = new StringBuilder();
            try {
                Path before = Path.of(directory, "acknowledged");
                if (Files.exists(before)) {
                    Files.readAllLines(before).forEach(line -> acknowledged.add(Long.valueOf(line)));
                }
                in = Files.newBufferedReader(Path.of(directory, "source"));
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
            sign(directory, context);
        }

        @Override
        public void nextTuple() {
            Long number = failed.poll();
            if (number == null) {
                number = read();
            }
            if (number != null && !acknowledged.contains(number)) {
                out.emit(new Values(number), number);
            }
        }

        /** The next line, if the end of it is there. */
        private Long read() {
            try {
                for (int c = in.read(); c >= 0; c = in.read()) {
                    if (c == '\n') {
                        Long number = Long.valueOf(line.toString());
                        line.setLength(0);
                        return number;
                    }
                    line.append((char) c);
                }
                return null;
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }

        @Override
        public void ack(Object number) {
            append(directory, "acknowledged", number.toString());
        }

        @Override
        public void activate() {
            append(directory, "changes", "active");
        }

        @Override
        public void deactivate() {
            append(directory, "changes", "inactive");
        }

        @Override
        public void fail(Object number) {
            failed.add((Long) number);
        }

        @Override
        public void declareOutputFields(OutputFieldsDeclarer declarer) {
            declarer.declare(new Fields("number"));
        }
    }

    /** Leaves a word that it was started, as everything of the topology does. */
    abstract static class SignedBolt extends BaseBasicBolt {
        private static final long serialVersionUID = 1;

        final String directory;

        SignedBolt(String directory) {
            this.directory = directory;
        }

        @Override
        public void prepare(Map<String, Object> conf, TopologyContext context) {
            sign(directory, context);
        }
    }

    static final class Square extends SignedBolt {
        private static final long serialVersionUID = 1;

        Square(String directory) {
            super(directory);
        }

        @Override
        public void execute(Tuple tuple, BasicOutputCollector collector) {
            long number = tuple.getLong(0);
            if (number < 0) {
                collector.reportError(new ArithmeticException(number + " is negative"));
            }
            collector.emit(new Values(number, number * number));
        }

        @Override
        public void declareOutputFields(OutputFieldsDeclarer declarer) {
            declarer.declare(new Fields("number", "square"));
        }
    }

    static final class Sink extends SignedBolt {
        private static final long serialVersionUID = 1;

        Sink(String directory) {
            super(directory);
        }

        @Override
        public void execute(Tuple tuple, BasicOutputCollector collector) {
            append(directory, "sink", tuple.getLong(0) + " " + tuple.getLong(1));
        }

        @Override
        public void declareOutputFields(OutputFieldsDeclarer declarer) {}
    }
}
