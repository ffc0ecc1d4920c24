import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Properties;
import org.apache.solr.embedded.JettyConfig;
import org.apache.solr.embedded.JettySolrRunner;

/** A process that is one node of the cloud. */
final class Node {
    private Node() {}

    public static void main(String[] args) throws Exception {
        Child.endWithParent();
        Path home = Path.of(args[1]);
        if (Files.notExists(home)) {
            Files.createDirectory(home);
            Files.writeString(home.resolve("solr.xml"), String.join("\n",
                    "<solr>",
                    "  <solrcloud>",
                    "    <str name=\"host\">127.0.0.1</str>",
                    "    <int name=\"hostPort\">" + args[2] + "</int>",
                    "    <str name=\"hostContext\">solr</str>",
                    "    <int name=\"zkClientTimeout\">5000</int>",
                    "  </solrcloud>",
                    "</solr>"));
        }
        System.setProperty("zkHost", args[0]);
        Properties properties = new Properties();
        properties.setProperty("zkHost", args[0]);
        JettyConfig config = JettyConfig.builder().setPort(Integer.parseInt(args[2])).build();
        new JettySolrRunner(home.toString(), properties, config).start();
        System.out.println("ready");
    }
}
