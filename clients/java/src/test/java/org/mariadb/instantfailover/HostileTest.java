package org.mariadb.instantfailover;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.mariadb.instantfailover.support.World.authority;
import static org.mariadb.instantfailover.support.World.connect;
import static org.mariadb.instantfailover.support.World.landing;
import static org.mariadb.instantfailover.support.World.one;
import static org.mariadb.instantfailover.support.World.two;
import static org.mariadb.instantfailover.support.World.url;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.mariadb.instantfailover.support.Impostor;
import org.mariadb.instantfailover.support.Server;
import org.mariadb.instantfailover.support.World;
import org.mariadb.instantfailover.support.World.Tls;

/** Servers, and others on the network, that mean harm. Nothing may reach the target. */
class HostileTest {
  private final Impostor target = Impostor.answering(1045, "got it");
  private final String always = Driver.FOLLOW + "=always";

  @AfterEach
  void close() throws SQLException {
    target.close();
    one().letIn();
  }

  private SQLException notFollowed(String url) {
    SQLException error = assertThrows(SQLException.class, () -> landing(url), url);
    assertEquals(0, target.connections(), error.getMessage());
    return error;
  }

  @Test
  void inThePlaceOfTheGreeting() {
    String redirect = "|Go there.|" + target.address();
    for (String message : new String[] {redirect, "(conn=7) " + redirect}) {
      try (Impostor impostor = new Impostor(client -> client.error(4196, message))) {
        for (Tls tls : Tls.values()) {
          SQLException error = notFollowed(url(impostor.port(), tls, authority(), always));
          assertTrue(error.getMessage().contains(redirect), error.getMessage());
        }
        assertFalse(impostor.received(Server.USER));
      }
    }
  }

  @Test
  void inPlaintextAfterTheRequestForTls() {
    try (Impostor impostor =
        new Impostor(
            client -> {
              client.greet(true);
              client.read();
              client.error(4196, "|Go there.|" + target.address());
            })) {
      for (Tls tls : new Tls[] {Tls.TRUST, Tls.AUTHORITY, Tls.FULL}) {
        notFollowed(url(impostor.port(), tls, authority(), always));
      }
      assertFalse(impostor.received(Server.USER));
    }
  }

  /** What Connector/J writes before a message does not make a redirect. */
  @Test
  void messagesThatLookLikeConnectorJs() throws SQLException {
    for (String prefix :
        new String[] {
          "(conn=7) ", "(conn=7) (conn=7) ", "Could not connect to address=(host=x)(port=1) : ", " "
        }) {
      try (Impostor impostor =
          Impostor.answering(4196, prefix + "|Go there.|" + target.address())) {
        SQLException error = notFollowed(url(impostor.port(), Tls.OFF, always));
        assertEquals(4196, error.getErrorCode());
        assertFalse(error.getMessage().contains("not followed"), error.getMessage());
      }
    }
  }

  @Test
  void targetsThatAreNone() {
    for (String bad :
        new String[] {
          "",
          "db2 ",
          "db2:0",
          "db2:65536",
          "db2/shop",
          "user@db2",
          "db2,db3",
          "db2?x=y",
          "address=(host=db2)",
          "0.0.0.0:3306",
          "[::]:3306",
          "[fe80::1%eth0]",
          "mariadb://db2",
          "127.1",
          "db2\n",
          "db\u00e9",
          "[" + "1".repeat(400),
        }) {
      try (Impostor impostor = Impostor.answering(4196, "|Go there.|" + bad)) {
        SQLException error = notFollowed(url(impostor.port(), Tls.OFF, always));
        assertEquals(4196, error.getErrorCode(), bad);
        assertTrue(
            error
                .getMessage()
                .startsWith(
                    "Server '" + impostor.address() + "' sent an invalid redirect target: '"),
            error.getMessage());
      }
    }
  }

  @Test
  void codesThatAreNone() {
    for (int code : new int[] {1045, 1040, 4195, 4197, 3000}) {
      try (Impostor impostor = Impostor.answering(code, "|Go there.|" + target.address())) {
        assertEquals(code, notFollowed(url(impostor.port(), Tls.OFF, always)).getErrorCode());
      }
    }
  }

  /** Each redirect names another server, and all are the same one. */
  @Test
  void aStorm() {
    int[] next = {2};
    Impostor[] storm = new Impostor[1];
    try (Impostor impostor =
        new Impostor(
            "0.0.0.0",
            client -> {
              client.greet(false);
              client.read();
              client.error(4196, "|Go there.|127.0.0." + next[0]++ + ":" + storm[0].port());
            })) {
      storm[0] = impostor;
      SQLException error = notFollowed(url(impostor.port(), Tls.OFF, always));
      assertEquals(4196, error.getErrorCode());
      assertTrue(
          error.getMessage().startsWith("Too many instant failovers (>= 8): "), error.getMessage());
      assertEquals(Route.MAX_HOPS + 1, impostor.connections());
    }
  }

  @Test
  void aTargetThatNeverAnswers() throws SQLException {
    try (Impostor silent = new Impostor(client -> {})) {
      one().redirectTo(silent.address());
      long start = System.nanoTime();
      SQLException error = notFollowed(url(one().port(), Tls.OFF, "connectTimeout=2000"));
      long seconds = TimeUnit.NANOSECONDS.toSeconds(System.nanoTime() - start);
      assertTrue(error.getMessage().contains(" -> " + silent.address()), error.getMessage());
      assertEquals(1, silent.connections());
      assertTrue(seconds < 20, seconds + " s");
    }
  }

  /** Servers that are slow, each for less than the limit. */
  @Test
  void theLimitCountsForAllServers() {
    Impostor[] all = new Impostor[6];
    for (int i = 0; i < all.length; i++) {
      String next = i == 0 ? target.address() : all[i - 1].address();
      all[i] =
          new Impostor(
              client -> {
                client.greet(false);
                client.read();
                pause(1500);
                client.error(4196, "|Go there.|" + next);
              });
    }
    SQLException error = notFollowed(url(all[5].port(), Tls.OFF, always, "connectTimeout=4000"));
    assertTrue(error.getMessage().contains("(redirected: "), error.getMessage());
    assertEquals(0, all[0].connections());
    for (Impostor impostor : all) {
      impostor.close();
    }
  }

  private static void pause(long milliseconds) {
    try {
      Thread.sleep(milliseconds);
    } catch (InterruptedException error) {
      Thread.currentThread().interrupt();
    }
  }

  /** Java's TLS refuses a name with an underscore by an exception that is no SQLException. */
  @Test
  void aNameThatJavaDoesNotTake() throws SQLException {
    one().redirectTo("db_1:" + two().port());
    assertEquals(two().port(), landing(url(one().port(), Tls.OFF)));
    // The certificate does not have that name.
    SQLException error = notFollowed(url(one().port(), Tls.FULL, authority()));
    String chain = "(redirected: " + one().address() + " -> db_1:" + two().port() + ")";
    assertTrue(error.getMessage().endsWith(chain), error.getMessage());
    try {
      assertEquals(two().port(), landing(url(one().port(), Tls.TRUST)));
    } catch (SQLException refused) {
      assertTrue(refused.getMessage().endsWith(chain), refused.getMessage());
    }
  }

  @Test
  void garbage() {
    byte[][] all = {
      {},
      {(byte) 0xff},
      {(byte) 0xff, 0x64, 0x10},
      {(byte) 0xff, 0x64, 0x10, '#'},
      "\0\0\0\0".getBytes(StandardCharsets.US_ASCII)
    };
    for (byte[] packet : all) {
      try (Impostor impostor =
          new Impostor(
              client -> {
                client.greet(false);
                client.read();
                client.send(packet);
              })) {
        assertThrows(
            Exception.class,
            () -> landing(url(impostor.port(), Tls.OFF, always, "connectTimeout=2000")));
        assertEquals(0, target.connections());
      }
    }
  }

  /** Connector/J counts its limit anew for each read; a slow server uses up more. */
  @Test
  void whenTheTimeIsOver() {
    try (Impostor slow =
        new Impostor(
            client -> {
              pause();
              client.greet(false);
              client.read();
              pause();
              client.error(4196, "|Go there.|" + target.address());
            })) {
      SQLException error = notFollowed(url(slow.port(), Tls.OFF, "connectTimeout=5000"));
      assertTrue(error.getMessage().contains("the time is over"), error.getMessage());
      // It was not tried, so the error does not name it among the servers on the way.
      assertFalse(error.getMessage().contains("redirected:"), error.getMessage());
    }
  }

  private static void pause() throws IOException {
    try {
      TimeUnit.SECONDS.sleep(3);
    } catch (InterruptedException error) {
      throw new IOException(error);
    }
  }

  /** Later the same error is that of a statement. */
  @Test
  void afterTheLogin() throws SQLException {
    String signal =
        "SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 4196, MESSAGE_TEXT = '|Go there.|"
            + target.address()
            + "'";
    try (Connection connection = connect(url(one().port(), Tls.OFF));
        Statement statement = connection.createStatement()) {
      SQLException error = assertThrows(SQLException.class, () -> statement.execute(signal));
      assertEquals(4196, error.getErrorCode());
    }
    if (!World.isOldDriver()) {
      SQLException error =
          notFollowed(url(one().port(), Tls.OFF, always, "initSql=" + signal.replace("%", "%25")));
      assertFalse(error.getMessage().contains("not followed"), error.getMessage());
    }
    assertEquals(two().port(), landing(url(two().port(), Tls.OFF)));
  }
}
