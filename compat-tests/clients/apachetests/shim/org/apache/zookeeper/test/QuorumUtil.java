package org.apache.zookeeper.test;

import java.io.File;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.Predicate;
import java.util.stream.Collectors;
import org.apache.zookeeper.PortAssignment;
import org.apache.zookeeper.server.quorum.QuorumPeer;
import org.apache.zookeeper.server.quorum.QuorumPeer.LearnerType;
import org.apache.zookeeper.server.quorum.QuorumPeer.QuorumServer;
import org.apache.zookeeper.server.quorum.QuorumPeer.ServerState;
import zooid.MemberProcess;

/** Stands before the class of this name: an ensemble of 2n + 1 processes, with what the tests link to. */
public class QuorumUtil {
    public static class PeerStruct {
        public int id;
        public QuorumPeer peer;
        public File dataDir;
        public int clientPort;
    }

    public final int N;
    public final int ALL;
    public boolean disableJMXTest;

    private final int syncLimit;
    private final Map<Long, QuorumServer> view = new HashMap<>();
    private final Map<Integer, PeerStruct> members = new TreeMap<>();
    private boolean isLocalSessionEnabled;

    public QuorumUtil(int n) {
        this(n, 3);
    }

    public QuorumUtil(int n, int syncLimit) {
        ClientBase.setupTestEnv();
        N = n;
        ALL = 2 * n + 1;
        this.syncLimit = syncLimit;
        try {
            for (int id = 1; id <= ALL; id++) {
                PeerStruct member = new PeerStruct();
                member.id = id;
                member.dataDir = ClientBase.createTmpDir();
                member.clientPort = PortAssignment.unique();
                members.put(id, member);
                view.put((long) id, new QuorumServer(id, local(PortAssignment.unique()),
                        local(PortAssignment.unique()), local(member.clientPort), LearnerType.PARTICIPANT));
            }
            for (PeerStruct member : members.values()) {
                make(member);
            }
        } catch (IOException e) {
            throw new IllegalStateException(e);
        }
    }

    private static InetSocketAddress local(int port) {
        return new InetSocketAddress("127.0.0.1", port);
    }

    private void make(PeerStruct member) throws IOException {
        member.peer = new MemberProcess(view, member.dataDir, member.clientPort, member.id, syncLimit);
        member.peer.enableLocalSessions(isLocalSessionEnabled);
    }

    public void enableLocalSession(boolean isEnabled) {
        isLocalSessionEnabled = isEnabled;
    }

    public PeerStruct getPeer(int id) {
        return members.get(id);
    }

    public void startAll() throws IOException {
        startFirst(ALL);
    }

    public void startQuorum() throws IOException {
        startFirst(N + 1);
    }

    private void startFirst(int count) throws IOException {
        shutdownAll();
        for (int id = 1; id <= count; id++) {
            start(id);
        }
        for (int id = 1; id <= count; id++) {
            awaitServing(id);
        }
    }

    public void start(int id) throws IOException {
        PeerStruct member = getPeer(id);
        make(member);
        member.peer.start();
    }

    public void restart(int id) throws IOException {
        start(id);
        awaitServing(id);
    }

    public void startThenShutdown(int id) throws IOException {
        restart(id);
        shutdown(id);
    }

    private void awaitServing(int id) throws IOException {
        if (!ClientBase.waitForServerUp(getConnectionStringForServer(id), ClientBase.CONNECTION_TIMEOUT)) {
            throw new IOException("member " + id + " does not serve");
        }
    }

    public void shutdownAll() {
        members.keySet().forEach(this::shutdown);
    }

    public void shutdown(int id) {
        getPeer(id).peer.shutdown();
    }

    public void tearDown() throws Exception {
        shutdownAll();
    }

    public String getConnString() {
        return members.keySet().stream().map(this::getConnectionStringForServer).collect(Collectors.joining(","));
    }

    public String getConnectString(QuorumPeer member) {
        return "127.0.0.1:" + member.getClientPort();
    }

    public String getConnectionStringForServer(int id) {
        return "127.0.0.1:" + getPeer(id).clientPort;
    }

    private Collection<PeerStruct> those(Predicate<ServerState> wanted) {
        return members.values().stream()
                .filter(member -> wanted.test(member.peer.getPeerState())).collect(Collectors.toList());
    }

    private Collection<PeerStruct> leaders() {
        return those(state -> state == ServerState.LEADING);
    }

    public boolean allPeersAreConnected() {
        return those(state -> state != ServerState.LOOKING).size() == ALL;
    }

    public boolean leaderExists() {
        return !leaders().isEmpty();
    }

    public int getLeaderServer() {
        return leaders().iterator().next().id;
    }

    public QuorumPeer getLeaderQuorumPeer() {
        return leaders().iterator().next().peer;
    }

    public List<QuorumPeer> getFollowerQuorumPeers() {
        return those(state -> state != ServerState.LEADING).stream()
                .map(member -> member.peer).collect(Collectors.toList());
    }
}
