import java.io.IOException;
import java.io.InputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardWatchEventKinds;
import java.nio.file.WatchKey;
import java.security.KeyStore;
import java.security.cert.X509Certificate;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManagerFactory;

/** A TLS 1.3 server with the PKCS#12 stores of a volume, which it loads again when they are replaced. */
public class Server {
    private static final char[] PASSWORD = "changeit".toCharArray();
    private static volatile SSLContext current;

    public static void main(String[] arguments) throws Exception {
        Path folder = Path.of(arguments[0]);
        var watcher = folder.getFileSystem().newWatchService();
        folder.register(watcher, StandardWatchEventKinds.ENTRY_CREATE);
        current = load(folder);
        var reloading = new Thread(() -> {
            try {
                while (true) {
                    WatchKey key = watcher.take();
                    if (key.pollEvents().stream().anyMatch(event -> event.context().toString().equals("..data"))) {
                        current = load(folder);
                    }
                    key.reset();
                }
            } catch (Exception error) {
                error.printStackTrace();
                System.exit(1);
            }
        });
        reloading.setDaemon(true);
        reloading.start();
        int port = Integer.parseInt(arguments[1]);
        try (var listener = new ServerSocket(port, 50, InetAddress.getByName("127.0.0.1"))) {
            while (true) {
                Socket accepted = listener.accept();
                try {
                    serve(accepted);
                } catch (IOException refused) {
                    accepted.close();
                }
            }
        }
    }

    private static SSLContext load(Path folder) throws Exception {
        Path files = folder.resolve("..data").toRealPath();
        var keys = KeyManagerFactory.getInstance("PKIX");
        KeyStore own = store(files.resolve("key.p12"));
        if (!own.isKeyEntry("user")) {
            throw new IOException("no key has the alias user");
        }
        keys.init(own, PASSWORD);
        var trust = TrustManagerFactory.getInstance("PKIX");
        trust.init(store(files.resolve("trust.p12")));
        var context = SSLContext.getInstance("TLSv1.3");
        context.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
        return context;
    }

    private static KeyStore store(Path file) throws Exception {
        var store = KeyStore.getInstance("PKCS12");
        try (InputStream input = Files.newInputStream(file)) {
            store.load(input, PASSWORD);
        }
        return store;
    }

    private static void serve(Socket accepted) throws IOException {
        var socket = (SSLSocket) current.getSocketFactory().createSocket(accepted, null, true);
        socket.setEnabledProtocols(new String[] {"TLSv1.3"});
        socket.setNeedClientAuth(true);
        try (socket) {
            socket.startHandshake();
            var client = (X509Certificate) socket.getSession().getPeerCertificates()[0];
            String name = client.getSubjectAlternativeNames().iterator().next().get(1).toString();
            String response = "HTTP/1.0 200 OK\r\n\r\nhello " + name + "\n";
            socket.getOutputStream().write(response.getBytes(StandardCharsets.UTF_8));
        } catch (java.security.cert.CertificateParsingException error) {
            throw new IOException(error);
        }
    }
}
