package org.apache.zookeeper.test;

import java.io.File;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.apache.zookeeper.PortAssignment;
import org.apache.zookeeper.TestableZooKeeper;
import org.apache.zookeeper.server.quorum.QuorumPeer;
import org.apache.zookeeper.server.quorum.QuorumPeer.LearnerType;
import org.apache.zookeeper.server.quorum.QuorumPeer.QuorumServer;
import org.apache.zookeeper.server.quorum.QuorumPeer.ServerState;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import zooid.MemberProcess;

/**
 * Stands before the class of this name: an ensemble of five, of which two may observe, each a process. It has what the
 * tests link to. The oracle, which breaks ties between two members, has nothing to say among five and is left out.
 */
public class QuorumBase extends ClientBase {
    private static final int MEMBERS = 5;

    QuorumPeer s1, s2, s3, s4, s5;
    File s1dir, s2dir, s3dir, s4dir, s5dir;
    protected boolean localSessionsEnabled;
    protected boolean localSessionsUpgradingEnabled;

    private final int[] clientPorts = new int[MEMBERS];
    private final Map<Long, QuorumServer> view = new HashMap<>();

    @BeforeEach
    @Override
    public void setUp() throws Exception {
        setUp(false, true);
    }

    protected void setUp(boolean withObservers, boolean withOracle) throws Exception {
        setupTestEnv();
        setUpAll();
        for (int i = 0; i < MEMBERS; i++) {
            clientPorts[i] = PortAssignment.unique();
        }
        layOut(withObservers);
        hostPort = Arrays.stream(clientPorts).mapToObj(port -> "127.0.0.1:" + port).collect(Collectors.joining(","));
        s1dir = createTmpDir();
        s2dir = createTmpDir();
        s3dir = createTmpDir();
        s4dir = createTmpDir();
        s5dir = createTmpDir();
        startAll();
    }

    private void layOut(boolean withObservers) {
        for (int i = 0; i < MEMBERS; i++) {
            LearnerType type = withObservers && i >= 3 ? LearnerType.OBSERVER : LearnerType.PARTICIPANT;
            view.put(i + 1L, new QuorumServer(i + 1, local(PortAssignment.unique()), local(PortAssignment.unique()),
                    local(clientPorts[i]), type));
        }
    }

    private static InetSocketAddress local(int port) {
        return new InetSocketAddress("127.0.0.1", port);
    }

    void startServers() throws Exception {
        startServers(false, true);
    }

    void startServers(boolean withObservers, boolean withOracle) throws Exception {
        layOut(withObservers);
        startAll();
    }

    private void startAll() throws IOException {
        setupServers();
        for (QuorumPeer member : getPeerList()) {
            member.enableLocalSessions(localSessionsEnabled);
            member.enableLocalSessionsUpgrading(localSessionsUpgradingEnabled);
            member.start();
        }
        for (String server : hostPort.split(",")) {
            if (!waitForServerUp(server, CONNECTION_TIMEOUT)) {
                throw new IOException(server + " does not serve");
            }
        }
    }

    public void setupServers() throws IOException {
        for (int i = 1; i <= MEMBERS; i++) {
            setupServer(i);
        }
    }

    public void setupServer(int id) throws IOException {
        File dir = List.of(s1dir, s2dir, s3dir, s4dir, s5dir).get(id - 1);
        QuorumPeer member = new MemberProcess(view, dir, clientPorts[id - 1], id, 3);
        member.setLearnerType(view.get((long) id).type);
        switch (id) {
            case 1: s1 = member; break;
            case 2: s2 = member; break;
            case 3: s3 = member; break;
            case 4: s4 = member; break;
            default: s5 = member;
        }
    }

    @AfterEach
    @Override
    public void tearDown() throws Exception {
        shutdownServers();
    }

    public void shutdownServers() {
        getPeerList().forEach(QuorumBase::shutdown);
    }

    public static void shutdown(QuorumPeer member) {
        if (member != null) {
            member.shutdown();
        }
    }

    public ArrayList<QuorumPeer> getPeerList() {
        return new ArrayList<>(Arrays.asList(s1, s2, s3, s4, s5));
    }

    public int getLeaderIndex() {
        return getPeerList().indexOf(getLeaderQuorumPeer());
    }

    public QuorumPeer getLeaderQuorumPeer() {
        return getPeerList().stream()
                .filter(member -> member.getPeerState() == ServerState.LEADING).findFirst().orElse(null);
    }

    public File getLeaderDataDir() {
        QuorumPeer leader = getLeaderQuorumPeer();
        return leader == null ? null : leader.getTxnFactory().getSnapDir().getParentFile();
    }

    public int getLeaderClientPort() {
        QuorumPeer leader = getLeaderQuorumPeer();
        return leader == null ? -1 : leader.getClientPort();
    }

    @Override
    protected TestableZooKeeper createClient() throws IOException, InterruptedException {
        return createClient(hostPort);
    }

    @Override
    protected TestableZooKeeper createClient(String servers) throws IOException, InterruptedException {
        return createClient(new CountdownWatcher(), servers);
    }

    protected TestableZooKeeper createClient(CountdownWatcher watcher, ServerState state)
            throws IOException, InterruptedException {
        return createClient(watcher, getPeersMatching(state));
    }

    public String getPeersMatching(ServerState state) {
        return getPeerList().stream().filter(member -> member.getPeerState() == state)
                .map(member -> "127.0.0.1:" + member.getClientPort()).collect(Collectors.joining(","));
    }
}
