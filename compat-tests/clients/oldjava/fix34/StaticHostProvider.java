package org.apache.zookeeper.client;

import java.net.InetSocketAddress;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;

/**
 * Stands in for the class of this name in the 3.4 client, which cuts the host name out of
 * InetSocketAddress.toString() and so finds no host since Java 14 writes unresolved addresses differently.
 * The rest of that client is what it was.
 */
public final class StaticHostProvider implements HostProvider {
    private final List<InetSocketAddress> servers;
    private int last = -1;

    public StaticHostProvider(Collection<InetSocketAddress> servers) {
        this.servers = new ArrayList<>(servers);
    }

    @Override
    public int size() {
        return servers.size();
    }

    @Override
    public InetSocketAddress next(long spinDelay) {
        int before = last;
        last = (last + 1) % servers.size();
        if (last == before && spinDelay > 0) { // the same one again
            try {
                Thread.sleep(spinDelay);
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
            }
        }
        return new InetSocketAddress(servers.get(last).getHostString(), servers.get(last).getPort());
    }

    @Override
    public void onConnected() {}
}
