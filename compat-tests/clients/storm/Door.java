import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;

/**
 * The port of a nimbus, at an address of its own. All seeds of Storm have one port, which a nimbus takes on all
 * addresses: two on one machine have two ports, and so each is behind a door on the one that the seeds have.
 */
final class Door {
    private final ServerSocket listener;
    private final int behind;

    Door(String address, int port, int behind) throws IOException {
        listener = new ServerSocket(port, 50, InetAddress.getByName(address));
        this.behind = behind;
        start(this::accept);
    }

    private void accept() throws IOException {
        for (;;) {
            Socket client = listener.accept();
            start(() -> connect(client));
        }
    }

    /** Where nobody is behind it, the client finds its connection closed. */
    private void connect(Socket client) throws IOException {
        try (client; Socket nimbus = new Socket()) {
            nimbus.connect(new InetSocketAddress(InetAddress.getLoopbackAddress(), behind));
            start(() -> copy(nimbus, client));
            copy(client, nimbus);
        }
    }

    private static void copy(Socket from, Socket to) throws IOException {
        try (InputStream in = from.getInputStream(); OutputStream out = to.getOutputStream()) {
            in.transferTo(out);
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
