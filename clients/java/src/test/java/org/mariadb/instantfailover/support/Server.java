package org.mariadb.instantfailover.support;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.TimeUnit;

/**
 * A real MariaDB server with the plugin and TLS. {@code mariadbd} and {@code mariadb-install-db}
 * must be on the path, and {@code INSTANT_FAILOVER_SO} name the plugin's library.
 */
public final class Server {
  /** The account of the tests, with this password. */
  public static final String USER = "app";

  /** The password of {@link #USER}. */
  public static final String PASSWORD = "s3cret";

  private static final long START_SECONDS = 120;

  private final Path directory = Tool.directory();
  private final int port = Tool.freePort();
  private final int extraPort = Tool.freePort();

  /** Starts the server; it ends with the JVM. */
  public Server(Authority.Certificate certificate) {
    try {
      start(certificate);
    } catch (IOException | InterruptedException error) {
      throw new IllegalStateException(error);
    }
  }

  private void start(Authority.Certificate certificate) throws IOException, InterruptedException {
    Path data = directory.resolve("data");
    Path plugins = Files.createDirectory(directory.resolve("plugin"));
    Path init = directory.resolve("init.sql");
    Path log = directory.resolve("log");
    Files.copy(
        Tool.named("INSTANT_FAILOVER_SO", "the plugin, libinstant_failover.so"),
        plugins.resolve("instant_failover.so"));
    Files.writeString(
        init,
        String.format(
            "CREATE USER %s IDENTIFIED BY '%s';\nGRANT ALL ON *.* TO %1$s;\nCREATE DATABASE shop;\n",
            USER, PASSWORD));
    List<String> install =
        new ArrayList<>(
            List.of(
                "mariadb-install-db",
                "--no-defaults",
                "--datadir=" + data,
                "--auth-root-authentication-method=normal",
                "--skip-test-db"));
    List<String> command =
        new ArrayList<>(
            List.of(
                "mariadbd",
                "--no-defaults",
                "--datadir=" + data,
                "--socket=" + directory.resolve("s"),
                "--pid-file=" + directory.resolve("pid"),
                "--log-error=" + log,
                "--plugin-dir=" + plugins,
                "--plugin-load-add=instant_failover",
                "--init-file=" + init,
                "--bind-address=127.0.0.1",
                "--port=" + port,
                "--extra-port=" + extraPort,
                "--innodb-buffer-pool-size=32M",
                "--ssl-cert=" + certificate.pem(),
                "--ssl-key=" + certificate.key()));
    if (System.getProperty("user.name").equals("root")) {
      install.add("--user=root");
      command.add("--user=root");
    }
    // A server that starts removes the temporary files of others in the same directory.
    Tool.run(install, directory);
    command.add("--tmpdir=" + directory);
    Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
    Runtime.getRuntime().addShutdownHook(new Thread(process::destroyForcibly));
    long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(START_SECONDS);
    while (true) {
      try {
        admin().close();
        return;
      } catch (SQLException error) {
        if (!process.isAlive() || System.nanoTime() > end) {
          throw new IllegalStateException("mariadbd: " + Files.readString(log), error);
        }
        Thread.sleep(50);
      }
    }
  }

  /** Where clients connect. */
  public int port() {
    return port;
  }

  /** As a target. */
  public String address() {
    return "127.0.0.1:" + port;
  }

  /** A connection that is never redirected, by Connector/J alone. */
  public Connection admin() throws SQLException {
    Properties properties = new Properties();
    properties.setProperty("user", USER);
    properties.setProperty("password", PASSWORD);
    return World.connectorJ()
        .connect("jdbc:mariadb://127.0.0.1:" + extraPort + "/?sslMode=disable", properties);
  }

  /** Runs statements as the administrator. */
  public void execute(String... statements) throws SQLException {
    try (Connection connection = admin();
        Statement statement = connection.createStatement()) {
      for (String sql : statements) {
        statement.execute(sql);
      }
    }
  }

  /** Sends clients to a target. */
  public void redirectTo(String target) throws SQLException {
    execute("SET GLOBAL instant_failover_target = '" + target + "', instant_failover_mode = 'ON'");
  }

  /** Lets clients in. */
  public void letIn() throws SQLException {
    execute("SET GLOBAL instant_failover_mode = 'OFF'");
  }
}
