import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.ArrayList;
import java.util.List;

/**
 * Stands between a client and the server, so that a test can cut the line without a word to either, or so that a server
 * has an address that it does not know of.
 */
final class Relay implements AutoCloseable {
    private final ServerSocket listener;
    private final String host;
    private final int port;
    private final List<Socket> open = new ArrayList<>();

    Relay(String server) throws IOException {
        this(InetAddress.getLoopbackAddress(), 0, server.substring(0, server.lastIndexOf(':')),
                Integer.parseInt(server.substring(server.lastIndexOf(':') + 1)));
    }

    /** At this address and port; 0 for any. */
    Relay(InetAddress address, int at, String host, int port) throws IOException {
        listener = new ServerSocket(at, 50, address);
        this.host = host;
        this.port = port;
        start(this::accept);
    }

    String address() {
        return "127.0.0.1:" + listener.getLocalPort();
    }

    /** Cuts what is connected; who comes back is let through. */
    synchronized void cut() throws IOException {
        for (Socket socket : open) {
            socket.close();
        }
        open.clear();
    }

    @Override
    public void close() throws IOException {
        listener.close();
        cut();
    }

    private void accept() throws IOException {
        for (;;) {
            Socket client = listener.accept();
            start(() -> connect(client));
        }
    }

    /** Where there is no server, the client finds its connection closed. */
    private void connect(Socket client) throws IOException {
        try (client; Socket server = new Socket(host, port)) {
            synchronized (this) {
                open.add(client);
                open.add(server);
            }
            start(() -> copy(server, client));
            copy(client, server);
        }
    }

    private static void copy(Socket from, Socket to) throws IOException {
        try (InputStream in = from.getInputStream(); OutputStream out = to.getOutputStream()) {
            byte[] bytes = new byte[8192];
            for (int n; (n = in.read(bytes)) > 0; ) {
                out.write(bytes, 0, n);
            }
        }
    }

    private interface Loop {
        void run() throws IOException;
    }

    private static void start(Loop loop) {
        Thread thread = new Thread(() -> {
            try {
                loop.run();
            } catch (IOException e) {
                // One side is gone, and closing took the other with it.
            }
        });
        thread.setDaemon(true);
        thread.start();
    }
}
