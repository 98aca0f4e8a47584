package org.mariadb.instantfailover.support;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

/** Programs, ports and directories. */
final class Tool {
  private static final long LIMIT_SECONDS = 120;

  private Tool() {}

  /** The file that an environment variable names. */
  static Path named(String variable, String what) {
    String path = System.getenv(variable);
    if (path == null || !Files.exists(Path.of(path))) {
      throw new IllegalStateException(
          String.format("%s is '%s'; set it to the path of %s", variable, path, what));
    }
    return Path.of(path);
  }

  /** Runs a program to its end. */
  static void run(List<String> command) {
    run(command, Path.of(System.getProperty("java.io.tmpdir")));
  }

  /** The same, with a directory for temporary files. */
  static void run(List<String> command, Path temporary) {
    try {
      ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true);
      builder.environment().put("TMPDIR", temporary.toString());
      Process process = builder.start();
      process.getOutputStream().close();
      String output = new String(process.getInputStream().readAllBytes());
      if (!process.waitFor(LIMIT_SECONDS, TimeUnit.SECONDS) || process.exitValue() != 0) {
        process.destroyForcibly();
        throw new IllegalStateException(command + " failed: " + output);
      }
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    } catch (InterruptedException error) {
      throw new IllegalStateException(error);
    }
  }

  static int freePort() {
    try (ServerSocket socket = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
      return socket.getLocalPort();
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }

  /** A directory that is removed when the JVM ends. */
  static Path directory() {
    try {
      Path directory = Files.createTempDirectory("instant-failover-jdbc");
      Runtime.getRuntime().addShutdownHook(new Thread(() -> remove(directory)));
      return directory;
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }

  private static void remove(Path directory) {
    try (Stream<Path> all = Files.walk(directory)) {
      all.sorted(Comparator.reverseOrder()).forEach(path -> path.toFile().delete());
    } catch (IOException | UncheckedIOException error) {
      // A server may still be removing files of its own.
    }
  }
}
