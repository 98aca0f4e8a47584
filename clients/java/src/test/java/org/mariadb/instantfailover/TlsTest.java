package org.mariadb.instantfailover;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.mariadb.instantfailover.support.World.authority;
import static org.mariadb.instantfailover.support.World.connect;
import static org.mariadb.instantfailover.support.World.landing;
import static org.mariadb.instantfailover.support.World.one;
import static org.mariadb.instantfailover.support.World.port;
import static org.mariadb.instantfailover.support.World.query;
import static org.mariadb.instantfailover.support.World.two;
import static org.mariadb.instantfailover.support.World.url;

import java.sql.Connection;
import java.sql.SQLException;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.mariadb.instantfailover.support.Authority;
import org.mariadb.instantfailover.support.Impostor;
import org.mariadb.instantfailover.support.Server;
import org.mariadb.instantfailover.support.StandIn;
import org.mariadb.instantfailover.support.World;
import org.mariadb.instantfailover.support.World.Tls;

/** What is verified, and who may redirect then. */
class TlsTest {
  private static final Authority.Certificate WRONG_NAME =
      Authority.TRUSTED.sign("elsewhere", "dns:elsewhere.example");
  private static final Authority.Certificate SELF_SIGNED =
      Authority.TRUSTED.selfSigned("selfsigned", "dns:localhost,ip:127.0.0.1");

  @BeforeEach
  void redirect() throws SQLException {
    one().redirectTo(two().address());
  }

  @AfterEach
  void letIn() throws SQLException {
    one().letIn();
  }

  private static String follow(String value) {
    return Driver.FOLLOW + "=" + value;
  }

  private static void lands(String url) throws SQLException {
    try (Connection connection = connect(url)) {
      assertEquals(two().port(), port(connection), url);
      boolean hasTls = !query(connection, "SHOW STATUS LIKE 'Ssl_version'").isEmpty();
      assertTrue(hasTls, url);
      assertFalse(cipher(connection).isEmpty(), url);
    }
  }

  private static String cipher(Connection connection) throws SQLException {
    return query(
        connection,
        "SELECT variable_value FROM information_schema.session_status"
            + " WHERE variable_name = 'Ssl_cipher'");
  }

  private static SQLException notFollowed(String url, String reason) {
    SQLException error = assertThrows(SQLException.class, () -> landing(url), url);
    assertEquals(4196, error.getErrorCode(), error.getMessage());
    assertTrue(error.getMessage().contains("|" + two().address()), error.getMessage());
    assertTrue(error.getMessage().contains("(not followed: " + reason), error.getMessage());
    return error;
  }

  /** A server that redirects inside TLS. */
  private static Impostor redirectingWith(Authority.Certificate certificate) {
    return new Impostor(
        client -> {
          client.greet(true);
          client.read();
          client.startTls(certificate);
          client.read();
          client.error(4196, "|Go there.|" + two().address());
        });
  }

  @Test
  void verified() throws SQLException {
    for (String value : new String[] {"verified", "auto", "1", "ALWAYS"}) {
      lands(url(one().port(), Tls.FULL, authority(), follow(value)));
    }
    lands(url(one().port(), Tls.FULL, authority()));
  }

  @Test
  void theNameOfTheTargetIsChecked() throws SQLException {
    one().redirectTo("localhost:" + two().port());
    lands(url(one().port(), Tls.FULL, authority()));
    // This name leads to the same server, but its certificate does not have it.
    one().redirectTo("127.0.0.2:" + two().port());
    SQLException error =
        assertThrows(SQLException.class, () -> landing(url(one().port(), Tls.FULL, authority())));
    assertTrue(error.getMessage().contains("(redirected: "), error.getMessage());
  }

  @Test
  void verificationNotAsked() throws SQLException {
    lands(url(one().port(), Tls.TRUST));
    notFollowed(
        url(one().port(), Tls.TRUST, follow("verified")),
        "the server's certificate is not verified (instantFailoverFollow=verified); set "
            + (World.isOldDriver() ? "useSsl=true" : "sslMode=verify-full")
            + " and serverSslCert, or instantFailoverFollow=always)");
  }

  @Test
  void nameNotVerified() throws SQLException {
    String url = url(one().port(), Tls.AUTHORITY, authority());
    notFollowed(url, "the server's certificate is not verified (INSTANT_FAILOVER_FOLLOW=auto)");
    lands(url + "&" + follow("always"));
  }

  /** Connector/J 3.5 and later accept this certificate until the end of the login. */
  @Test
  void withoutAnAuthority() {
    try (Impostor impostor = redirectingWith(SELF_SIGNED)) {
      String url = url(impostor.port(), Tls.FULL);
      if (World.isOldDriver()) {
        SQLException error = assertThrows(SQLException.class, () -> landing(url));
        assertEquals("08000", error.getSQLState(), error.getMessage());
      } else {
        notFollowed(url, "the server's certificate is not verified (INSTANT_FAILOVER_FOLLOW=auto)");
        notFollowed(url + "&" + follow("verified"), "the server's certificate is not verified");
      }
    }
  }

  /** The authority is one that the JVM trusts. */
  @Test
  void withTheAuthoritiesOfTheJvm() throws SQLException {
    String store = "javax.net.ssl.trustStore";
    System.setProperty(store, Authority.TRUSTED.trustStore().toString());
    System.setProperty(store + "Password", Authority.PASSWORD);
    try {
      // 2.7 uses what the JVM had when it first used TLS; 3.0 to 3.4 have no such option.
      if (!World.isOldDriver() && World.knows("trustStore")) {
        lands(url(one().port(), Tls.FULL));
        lands(url(one().port(), Tls.FULL, follow("verified")));
      }
      try (Impostor impostor = redirectingWith(WRONG_NAME)) {
        assertThrows(SQLException.class, () -> landing(url(impostor.port(), Tls.FULL)));
      }
    } finally {
      System.clearProperty(store);
      System.clearProperty(store + "Password");
    }
  }

  @Test
  void aCertificateThatTheProgramDoesNotTrust() {
    try (Impostor impostor = redirectingWith(SELF_SIGNED)) {
      for (String value : new String[] {"auto", "always"}) {
        String url = url(impostor.port(), Tls.FULL, authority(), follow(value));
        SQLException error = assertThrows(SQLException.class, () -> landing(url));
        assertEquals("08000", error.getSQLState(), error.getMessage());
        assertFalse(error.getMessage().contains("redirected"), error.getMessage());
      }
      assertFalse(impostor.received(Server.USER));
    }
  }

  @Test
  void theTargetHasAWrongCertificate() throws SQLException {
    for (Authority.Certificate certificate :
        new Authority.Certificate[] {WRONG_NAME, SELF_SIGNED}) {
      try (Impostor impostor = redirectingWith(certificate)) {
        one().redirectTo(impostor.address());
        SQLException error =
            assertThrows(
                SQLException.class, () -> landing(url(one().port(), Tls.FULL, authority())));
        String chain = "(redirected: " + one().address() + " -> " + impostor.address() + ")";
        assertTrue(error.getMessage().endsWith(chain), error.getMessage());
        assertEquals(1, impostor.connections());
      }
    }
  }

  @Test
  void theTargetHasNoTls() throws SQLException {
    try (Impostor impostor =
        new Impostor(
            client -> {
              client.greet(false);
              client.read();
              client.error(1045, "got it");
            })) {
      one().redirectTo(impostor.address());
      for (Tls tls : new Tls[] {Tls.TRUST, Tls.AUTHORITY, Tls.FULL}) {
        SQLException error =
            assertThrows(
                SQLException.class,
                () -> landing(url(one().port(), tls, authority(), follow("always"))));
        assertTrue(error.getMessage().contains("ssl not enabled"), error.getMessage());
        assertTrue(error.getMessage().contains("(redirected: "), error.getMessage());
      }
      assertEquals(3, impostor.connections());
      assertFalse(impostor.received(Server.USER));
    }
  }

  /** The stand-in's own certificate is signed by no authority. */
  @Test
  void theStandIn() throws SQLException {
    try (StandIn standIn = StandIn.to(two().address())) {
      lands(url(standIn.port(), Tls.TRUST));
      assertThrows(SQLException.class, () -> landing(url(standIn.port(), Tls.FULL, authority())));
    }
  }

  /** A mode that Connector/J has since 3.5.11. */
  @Test
  void aModeThatTellsNothing() {
    String option = "sslMode=allow";
    if (World.isOldDriver() || !World.accepts(option)) {
      return;
    }
    String allow = url(one().port(), Tls.FULL, authority()).replace("sslMode=verify-full", option);
    notFollowed(allow + "&" + follow("always"), "sslMode does not tell whether");
  }

  /** The mode that one address has, instead of the option. */
  @Test
  void theModeOfAnAddress() throws SQLException {
    if (World.isOldDriver()) {
      return;
    }
    String address = "address=(host=127.0.0.1)(port=" + one().port() + ")(sslMode=verify-full)";
    lands(url(1, Tls.OFF, authority()).replace("127.0.0.1:1", address));
  }
}
