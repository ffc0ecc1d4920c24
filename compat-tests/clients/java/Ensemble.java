import java.nio.charset.StandardCharsets;
import java.util.concurrent.TimeUnit;

/** The servers of a case with SERVERS=3: what lib.sh can do with them. */
final class Ensemble {
    private Ensemble() {}

    /** Runs words of lib.sh, and returns what they print. */
    static String lever(String script) throws Exception {
        Process bash = new ProcessBuilder("bash", "-euo", "pipefail", "-c", "source \"$CLIENTS/lib.sh\"; " + script)
                .redirectError(ProcessBuilder.Redirect.INHERIT)
                .start();
        bash.getOutputStream().close();
        String printed = new String(bash.getInputStream().readAllBytes(), StandardCharsets.UTF_8).trim();
        Check.that(script + ": does not end", bash.waitFor(Check.DEADLINE_S, TimeUnit.SECONDS));
        Check.equal("exit code of " + script, 0, bash.exitValue());
        return printed;
    }

    /** Kills the one that leads and says which it was. */
    static String killLeader() throws Exception {
        String leader = lever("leader");
        lever("kill_member " + leader);
        return leader;
    }

    static void restart(String member) throws Exception {
        lever("start_member " + member + "; await_members 3");
    }
}
