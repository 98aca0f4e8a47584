package org.mariadb.instantfailover.support;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.TimeUnit;

/** The stand-in, which {@code INSTANT_FAILOVER_STANDIN} names, in mode ON or OFF. */
public final class StandIn implements AutoCloseable {
  private final int port;
  private final Process process;

  private StandIn(int port, Process process) {
    this.port = port;
    this.process = process;
  }

  /** One that sends its clients to a target. */
  public static StandIn to(String target, String... options) {
    List<String> all = new ArrayList<>(Arrays.asList(options));
    all.add("--instant-failover-target=" + target);
    all.add("--instant-failover-mode=ON");
    return on(Tool.freePort(), all);
  }

  /** One that sends its clients to a target that listens on a port that is not used yet. */
  public static StandIn circle() {
    int port = Tool.freePort();
    return on(
        port, List.of("--instant-failover-target=127.0.0.1:" + port, "--instant-failover-mode=ON"));
  }

  private static StandIn on(int port, List<String> options) {
    Path program = Tool.named("INSTANT_FAILOVER_STANDIN", "the stand-in");
    List<String> command = new ArrayList<>();
    command.add(program.toString());
    command.add("--bind-address=127.0.0.1");
    command.add("--port=" + port);
    command.addAll(options);
    try {
      Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
      BufferedReader output = new BufferedReader(new InputStreamReader(process.getInputStream()));
      // One line says that it is ready, or what is wrong.
      String line = output.readLine();
      if (line == null || !line.contains(String.valueOf(port))) {
        process.destroyForcibly();
        throw new IllegalStateException(command + ": " + line);
      }
      Thread reader = new Thread(() -> output.lines().forEach(ignored -> {}));
      reader.setDaemon(true);
      reader.start();
      Runtime.getRuntime().addShutdownHook(new Thread(process::destroyForcibly));
      return new StandIn(port, process);
    } catch (IOException error) {
      throw new IllegalStateException(error);
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

  @Override
  public void close() {
    process.destroyForcibly();
    try {
      process.waitFor(10, TimeUnit.SECONDS);
    } catch (InterruptedException error) {
      Thread.currentThread().interrupt();
    }
  }
}
