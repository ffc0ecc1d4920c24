package org.apache.zookeeper.server.quorum;

import java.io.IOException;
import java.nio.file.Path;
import zooid.ProcessFactory;
import zooid.ServerProcess;

/**
 * Stands before the nested class of this name, which its neighbour MainThread runs with the configuration file that it
 * has written. A name with a dollar is the only way to replace that one and leave the others.
 */
public class QuorumPeerTestBase$TestQPMain extends QuorumPeerMain {
    private volatile ServerProcess process;

    @Override
    protected void initializeAndRun(String[] args) throws IOException {
        process = ServerProcess.launch(Path.of(args[0]), ProcessFactory.flagsOfFields());
        try {
            process.join();
        } catch (InterruptedException e) {
            process.kill();
        }
    }

    public void shutdown() {
        if (process != null) {
            process.close();
        }
    }
}
