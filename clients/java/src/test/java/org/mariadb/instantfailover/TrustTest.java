package org.mariadb.instantfailover;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.sql.SQLException;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.mariadb.instantfailover.support.Server;
import org.mariadb.instantfailover.support.World;
import org.mariadb.instantfailover.support.World.Tls;

/** Who says which servers may redirect, and what is made of it. */
class TrustTest {
  @AfterEach
  void letIn() throws SQLException {
    World.one().letIn();
  }

  private static Peer peer(Tls tls, String... options) throws SQLException {
    String url = World.plainUrl(1, tls, options);
    return Peer.of(World.connectorJ(), ConnectionString.parse(url, null));
  }

  @Test
  void theTable() throws SQLException {
    String authority = World.authority();
    Peer[] peers = {
      peer(Tls.OFF),
      peer(Tls.TRUST),
      peer(Tls.AUTHORITY, authority),
      peer(Tls.FULL),
      peer(Tls.FULL, authority, "tlsSocketType=own"),
      peer(Tls.FULL, authority),
    };
    for (String[] row :
        new String[][] {
          {"never", "------"},
          {"verified", "-----+"},
          {"auto", "++---+"},
          {"always", "++++++"},
          {"perhaps", "------"},
        }) {
      StringBuilder found = new StringBuilder();
      for (Peer peer : peers) {
        found.append(Trust.of(row[0], null).objection(peer) == null ? '+' : '-');
      }
      assertEquals(row[1], found.toString(), row[0]);
    }
  }

  @Test
  void theOptionHasPrecedence() throws SQLException {
    Peer peer = peer(Tls.OFF);
    assertTrue(Trust.of("never", "always").isOff());
    assertFalse(Trust.of(null, "always").isOff());
    assertTrue(Trust.of(null, "Never").isOff());
    assertEquals(null, Trust.of(null, "").objection(peer));
    assertEquals(
        "INSTANT_FAILOVER_FOLLOW is 'no\\u{1b}'; give never, verified, auto or always",
        Trust.of(null, "no\u001b").objection(peer));
    assertFalse(Trust.of("", null).isOff());
    assertTrue(Trust.of("", null).objection(peer).startsWith("instantFailoverFollow is ''; "));
  }

  /** The environment of a program of its own. */
  @Test
  void theEnvironment() throws Exception {
    World.one().redirectTo(World.two().address());
    assertEquals("{\"ok\":null}", landed(null));
    assertEquals("{\"ok\":null}", landed("auto"));
    String refused = landed("verified");
    assertTrue(refused.contains("\"code\":4196"), refused);
    assertTrue(refused.contains("not followed: the connection has no TLS"), refused);
    assertTrue(landed("never").contains("\"code\":4196"));
  }

  private static String landed(String follow) throws IOException {
    ProcessBuilder builder =
        new ProcessBuilder(
            Path.of(System.getProperty("java.home"), "bin", "java").toString(),
            "-cp",
            System.getProperty("java.class.path"),
            Adapter.class.getName(),
            "land");
    builder.redirectError(ProcessBuilder.Redirect.INHERIT);
    builder.environment().remove(Trust.ENVIRONMENT);
    if (follow != null) {
      builder.environment().put(Trust.ENVIRONMENT, follow);
    }
    Process process = builder.start();
    String request =
        String.format(
            "{\"op\":\"connect\",\"id\":\"a\",\"host\":\"127.0.0.1\",\"port\":%d,"
                + "\"user\":\"%s\",\"password\":\"%s\",\"database\":null,\"tls\":\"off\","
                + "\"ca\":null,\"follow\":null,\"timeout\":20}\n",
            World.one().port(), Server.USER, Server.PASSWORD);
    process.getOutputStream().write(request.getBytes(StandardCharsets.UTF_8));
    process.getOutputStream().close();
    try (BufferedReader output =
        new BufferedReader(new InputStreamReader(process.getInputStream()))) {
      return output.readLine();
    } finally {
      process.destroyForcibly();
    }
  }
}
