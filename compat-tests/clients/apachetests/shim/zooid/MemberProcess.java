package zooid;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.util.Map;
import java.util.Properties;
import org.apache.zookeeper.server.quorum.QuorumPeer;

/**
 * A member of an ensemble as the tests hold it. The Java server that it is stays unstarted and only knows its settings;
 * a process has them and serves.
 */
public class MemberProcess extends QuorumPeer {
    private static final int TICK_MS = 2000;

    private ServerProcess process;

    public MemberProcess(Map<Long, QuorumServer> members, File dir, int clientPort, long id, int syncLimit)
            throws IOException {
        super(members, dir, dir, clientPort, 3, id, TICK_MS, 3, syncLimit, 3);
    }

    @Override
    public synchronized void start() {
        Properties config = new Properties();
        File dir = getTxnFactory().getSnapDir().getParentFile();
        config.setProperty("dataDir", dir.getPath());
        config.setProperty("clientPort", Integer.toString(getClientPort()));
        config.setProperty("tickTime", Integer.toString(getTickTime()));
        config.setProperty("initLimit", Integer.toString(getInitLimit()));
        config.setProperty("syncLimit", Integer.toString(getSyncLimit()));
        config.setProperty("localSessionsEnabled", Boolean.toString(areLocalSessionsEnabled()));
        config.setProperty("localSessionsUpgradingEnabled", Boolean.toString(isLocalSessionsUpgradingEnabled()));
        if (getLearnerType() == LearnerType.OBSERVER) {
            config.setProperty("peerType", "observer");
        }
        getView().forEach((id, member) -> config.setProperty("server." + id, member.toString()));
        try {
            Files.writeString(dir.toPath().resolve("myid"), Long.toString(getMyId()));
            process = ServerProcess.start(config, ProcessFactory.flagsOfFields());
        } catch (IOException e) {
            throw new IllegalStateException(e);
        }
    }

    @Override
    public void shutdown() {
        if (process != null) {
            process.close();
        }
        process = null;
    }

    /** What the process says of itself. */
    @Override
    public ServerState getPeerState() {
        String answer = process == null ? "" : process.ask("srvr");
        for (String line : answer.split("\n")) {
            switch (line) {
                case "Mode: leader":
                    return ServerState.LEADING;
                case "Mode: follower":
                    return ServerState.FOLLOWING;
                case "Mode: observer":
                    return ServerState.OBSERVING;
                default:
            }
        }
        return ServerState.LOOKING;
    }

    @Override
    public String getServerState() {
        switch (getPeerState()) {
            case LEADING:
                return "leading";
            case FOLLOWING:
                return "following";
            case OBSERVING:
                return "observing";
            default:
                return "leaderelection";
        }
    }
}
