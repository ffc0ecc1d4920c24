import java.util.ArrayList;
import java.util.Base64;
import java.util.Collections;
import java.util.List;
import java.util.TreeMap;
import java.util.zip.CRC32;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.Stat;

/** Everything a client can see of a tree, path by path. */
final class Tree {
    private final TreeMap<String, String> nodes = new TreeMap<>();

    private Tree() {}

    /** Reads all but one branch. */
    static Tree read(ZooKeeper zk, String except) throws Exception {
        Tree tree = new Tree();
        tree.read(zk, "/", except);
        return tree;
    }

    private void read(ZooKeeper zk, String path, String except) throws Exception {
        Stat stat = new Stat();
        byte[] data = zk.getData(path, false, stat);
        nodes.put(path, show(data) + " " + show(stat) + " " + zk.getACL(path, new Stat()).toString().trim());
        List<String> children = new ArrayList<>(zk.getChildren(path, false));
        Collections.sort(children);
        Check.equal("numChildren of " + path, children.size(), stat.getNumChildren());
        for (String child : children) {
            String full = (path.equals("/") ? "/" : path + "/") + child;
            if (!full.equals(except)) {
                read(zk, full, except);
            }
        }
    }

    private static String show(byte[] data) {
        if (data == null) {
            return "null";
        }
        if (data.length <= 60) {
            return "[" + Base64.getEncoder().encodeToString(data) + "]";
        }
        CRC32 crc = new CRC32();
        crc.update(data);
        return data.length + " bytes of crc " + Long.toHexString(crc.getValue());
    }

    private static String show(Stat stat) {
        return String.format("czxid=%x mzxid=%x pzxid=%x ctime=%d mtime=%d version=%d cversion=%d aversion=%d owner=%x length=%d",
                stat.getCzxid(), stat.getMzxid(), stat.getPzxid(), stat.getCtime(), stat.getMtime(), stat.getVersion(),
                stat.getCversion(), stat.getAversion(), stat.getEphemeralOwner(), stat.getDataLength());
    }

    int size() {
        return nodes.size();
    }

    void mustEqual(Tree before) {
        List<String> differences = new ArrayList<>();
        TreeMap<String, String> all = new TreeMap<>(before.nodes);
        all.putAll(nodes);
        for (String path : all.keySet()) {
            String was = before.nodes.get(path);
            String is = nodes.get(path);
            if (was == null || !was.equals(is)) {
                differences.add(path + "\n  was " + was + "\n  is  " + is);
            }
        }
        int shown = Math.min(10, differences.size());
        Check.that(differences.size() + " of " + all.size() + " nodes differ:\n" + String.join("\n", differences.subList(0, shown)),
                differences.isEmpty());
    }
}
