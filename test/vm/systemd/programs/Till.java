import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.Executors;

/** A small service of the JVM: answers, collects its garbage, stores orders, loads what it is told to. */
public class Till {
    interface Answer {
        String to(HttpExchange exchange) throws Exception;
    }

    public static void main(String[] args) throws IOException {
        Path orders = Path.of(args[0]);
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", 8080), 0);
        on(server, "/price", exchange -> "42");
        on(server, "/collect", exchange -> {
            System.gc();
            return "collected";
        });
        on(server, "/order", exchange -> {
            Path temporary = Files.createTempFile(orders, "order", ".new");
            Files.write(temporary, exchange.getRequestBody().readAllBytes());
            Files.move(temporary, orders.resolve("order-" + System.nanoTime()));
            return "stored";
        });
        on(server, "/load", exchange -> {
            try {
                System.load(exchange.getRequestURI().getQuery());
                return "loaded";
            } catch (UnsatisfiedLinkError e) {
                return "failed";
            }
        });
        server.setExecutor(Executors.newFixedThreadPool(4));
        server.start();
    }

    static void on(HttpServer server, String path, Answer answer) {
        server.createContext(path, exchange -> {
            byte[] text;
            int code = 200;
            try {
                text = answer.to(exchange).getBytes(StandardCharsets.UTF_8);
            } catch (Exception e) {
                text = e.toString().getBytes(StandardCharsets.UTF_8);
                code = 500;
            }
            exchange.sendResponseHeaders(code, text.length);
            exchange.getResponseBody().write(text);
            exchange.close();
        });
    }
}
