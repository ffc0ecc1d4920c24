import java.util.List;
import org.apache.zookeeper.data.ClientInfo;

/** Who am I. */
final class Since37 {
    private Since37() {}

    static void run(Since34 test) throws Exception {
        List<ClientInfo> before = test.b.whoAmI();
        Check.equal("identities", 1, before.size());
        Check.equal("address", "ip 127.0.0.1", before.get(0).getAuthScheme() + " " + before.get(0).getUser());
        test.b.addAuthInfo("digest", "user:secret".getBytes());
        Check.that("digest user", test.b.whoAmI().stream()
                .anyMatch(info -> info.getAuthScheme().equals("digest") && info.getUser().equals("user")));
    }
}
