package org.apache.curator.test;

import zooid.ServerProcess;

/**
 * Stands before the class of this name in curator-test and, where that one has a Java server inside the process, starts
 * and stops a process.
 */
public class ZooKeeperServerEmbeddedAdapter implements ZooKeeperMainFace {
    private volatile ServerProcess server;

    @Override
    public void start(QuorumPeerConfigBuilder builder) {
        try {
            server = ServerProcess.start(builder.buildProperties());
        } catch (Exception e) {
            throw new FailedServerStartException(e);
        }
    }

    @Override
    public int getClientPort() {
        return server == null ? 0 : server.port();
    }

    @Override
    public void kill() {
        if (server != null) {
            server.kill();
        }
    }

    @Override
    public void close() {
        if (server != null) {
            server.close();
        }
    }
}
