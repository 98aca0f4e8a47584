package org.mariadb.instantfailover;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.mariadb.instantfailover.support.World.connect;
import static org.mariadb.instantfailover.support.World.landing;
import static org.mariadb.instantfailover.support.World.one;
import static org.mariadb.instantfailover.support.World.plainUrl;
import static org.mariadb.instantfailover.support.World.port;
import static org.mariadb.instantfailover.support.World.query;
import static org.mariadb.instantfailover.support.World.two;
import static org.mariadb.instantfailover.support.World.url;

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.mariadb.instantfailover.support.Impostor;
import org.mariadb.instantfailover.support.StandIn;
import org.mariadb.instantfailover.support.World;
import org.mariadb.instantfailover.support.World.Tls;

/** Connecting to real servers, one of which redirects. */
class FollowTest {
  private final List<AutoCloseable> open = new ArrayList<>();

  @AfterEach
  void letIn() throws Exception {
    for (AutoCloseable closeable : open) {
      closeable.close();
    }
    one().letIn();
    two().letIn();
  }

  private <T extends AutoCloseable> T keep(T closeable) {
    open.add(closeable);
    return closeable;
  }

  private static String text(SQLException error) {
    return error.getMessage();
  }

  private static SQLException refused(String url) {
    return assertThrows(SQLException.class, () -> landing(url));
  }

  @Test
  void theVersionUnderTest() {
    java.sql.Driver driver = World.connectorJ();
    String expected = System.getProperty("connectorj.version");
    String found = driver.getMajorVersion() + "." + driver.getMinorVersion() + ".";
    assertTrue(expected.startsWith(found), expected + " and " + found);
  }

  @Test
  void ownVersion() {
    Driver driver = new Driver();
    String found = driver.getMajorVersion() + "." + driver.getMinorVersion() + ".";
    assertTrue(Driver.VERSION.startsWith(found), found);
  }

  @Test
  void byUrl() throws SQLException {
    String url = url(one().port(), Tls.OFF);
    assertEquals(one().port(), landing(url));
    one().redirectTo(two().address());
    assertEquals(two().port(), landing(url));
    // Not remembered.
    one().letIn();
    assertEquals(one().port(), landing(url));
  }

  @Test
  void byTheClassOfTheDriver() throws SQLException {
    one().redirectTo(two().address());
    String url = plainUrl(one().port(), Tls.OFF);
    try (Connection connection = new Driver().connect(url, World.account())) {
      assertEquals(two().port(), port(connection));
      assertEquals("shop", query(connection, "SELECT DATABASE()"));
    }
    // DriverManager gives such URLs to Connector/J.
    assertEquals(4196, refused(url).getErrorCode());
    assertEquals(org.mariadb.jdbc.Driver.class, DriverManager.getDriver(url).getClass());
  }

  @Test
  void urlsOfOthers() throws SQLException {
    Driver driver = new Driver();
    for (String url :
        new String[] {"jdbc:postgresql://db1/demo", "jdbc:instant-failover:h2:mem", "", null}) {
      assertFalse(driver.acceptsURL(url), url);
      assertNull(driver.connect(url, new Properties()), url);
    }
    assertTrue(driver.acceptsURL("jdbc:mariadb://db1/demo"));
    assertTrue(driver.acceptsURL("jdbc:instant-failover:mariadb://db1/demo"));
  }

  @Test
  void optionsInTheUrlAndBesideIt() throws SQLException {
    one().redirectTo(two().address());
    Properties properties = World.account();
    properties.setProperty("sessionVariables", "max_statement_time=17");
    Properties before = (Properties) properties.clone();
    try (Connection connection =
        DriverManager.getConnection(
            url(one().port(), Tls.OFF, "connectionAttributes=a:b"), properties)) {
      assertEquals("17.000000", query(connection, "SELECT @@max_statement_time"));
    }
    assertEquals(before, properties);
    assertTrue(
        java.util.Arrays.stream(new Driver().getPropertyInfo(url(1, Tls.OFF), properties))
            .anyMatch(info -> info.name.equals(Driver.FOLLOW) && info.choices.length == 4));
  }

  @Test
  void ordinaryErrorsAreUnchanged() throws SQLException {
    String url = plainUrl(one().port(), Tls.OFF).replace("/shop", "/nowhere");
    SQLException own =
        assertThrows(SQLException.class, () -> World.connectorJ().connect(url, World.account()));
    SQLException found =
        assertThrows(SQLException.class, () -> new Driver().connect(url, World.account()));
    String id = "conn=\\d+";
    assertEquals(own.getMessage().replaceAll(id, ""), found.getMessage().replaceAll(id, ""));
    assertEquals(1049, found.getErrorCode());
    assertEquals(own.getSQLState(), found.getSQLState());
    assertEquals(own.getClass(), found.getClass());
  }

  @Test
  void malformedUrls() throws SQLException {
    int port = one().port();
    for (String hosts :
        new String[] {
          "//",
          "//,",
          "//,,",
          "sequential://,",
          "replication://,",
          "//:1",
          "//127.0.0.1:x",
          "//127.0.0.1:",
          "//127.0.0.1:1:2",
          "//[::1",
          "//[",
          "//127.0.0.1:99999",
          "//address=",
          "//address=(host=)",
          "//address=(port=x)",
          "//127.0.0.1:" + port + ",127.0.0.1:x",
          "//127.0.0.1:" + port + ",[::1",
          "//,127.0.0.1:" + port,
          "//127.0.0.1:1,",
        }) {
      String url = "jdbc:mariadb:" + hosts + "/demo";
      Exception own =
          assertThrows(Exception.class, () -> World.connectorJ().connect(url, World.account()));
      Exception found =
          assertThrows(Exception.class, () -> new Driver().connect(url, World.account()), url);
      assertEquals(own.toString(), found.toString(), url);
    }
    String url = plainUrl(port, Tls.OFF).replace("/shop", ",/shop");
    try (Connection connection = new Driver().connect(url, World.account())) {
      assertEquals(port, port(connection));
    }
  }

  @Test
  void errorsOfTheTarget() throws SQLException {
    one().redirectTo(two().address());
    Properties wrong = World.account();
    wrong.setProperty("password", "wrong");
    SQLException error =
        assertThrows(
            SQLException.class,
            () -> DriverManager.getConnection(url(one().port(), Tls.OFF), wrong));
    assertEquals(1045, error.getErrorCode());
    assertEquals("28000", error.getSQLState());
    String chain = "(redirected: " + one().address() + " -> " + two().address() + ")";
    assertTrue(text(error).endsWith(chain), text(error));

    one().redirectTo("127.0.0.1:1");
    error = refused(url(one().port(), Tls.OFF));
    assertTrue(text(error).endsWith(" -> 127.0.0.1:1)"), text(error));
    assertEquals("08000", error.getSQLState());
  }

  @Test
  void off() throws SQLException {
    one().redirectTo(two().address());
    for (String value : new String[] {"never", "NEVER", "0"}) {
      SQLException error = refused(url(one().port(), Tls.OFF, "instantFailoverFollow=" + value));
      assertEquals(4196, error.getErrorCode());
      assertTrue(text(error).endsWith("|" + two().address()), text(error));
    }
    SQLException error = refused(url(one().port(), Tls.OFF, "instantFailoverFollow=perhaps"));
    assertEquals(4196, error.getErrorCode());
    assertTrue(
        text(error)
            .endsWith(
                " (not followed: instantFailoverFollow is 'perhaps'; give never, verified, auto or"
                    + " always)"),
        text(error));
  }

  @Test
  void verifiedOnly() throws SQLException {
    one().redirectTo(two().address());
    SQLException error = refused(url(one().port(), Tls.OFF, "instantFailoverFollow=verified"));
    assertEquals(4196, error.getErrorCode());
    assertTrue(
        text(error).contains(" (not followed: the connection has no TLS (instantFailoverFollow="),
        text(error));
  }

  /** Each is a stand-in that sends clients to the one before. */
  private String chain(String target, int length) {
    String next = target;
    for (int i = 0; i < length; i++) {
      next = keep(StandIn.to(next)).address();
    }
    return next;
  }

  @Test
  void eightRedirectsAndNine() throws SQLException {
    String eight = chain(two().address(), 8);
    int port = Integer.parseInt(eight.substring(eight.indexOf(':') + 1));
    assertEquals(two().port(), landing(url(port, Tls.OFF)));
    int nine = keep(StandIn.to(eight)).port();
    SQLException error = refused(url(nine, Tls.OFF));
    assertEquals(4196, error.getErrorCode());
    assertTrue(
        text(error).startsWith("Too many instant failovers (>= 8): 127.0.0.1:" + nine + " -> "),
        text(error));
  }

  @Test
  void loops() throws SQLException {
    one().redirectTo(two().address());
    two().redirectTo(one().address());
    SQLException error = refused(url(one().port(), Tls.OFF));
    assertEquals(4196, error.getErrorCode());
    assertEquals(
        String.format("Redirect loop: %s -> %s -> %1$s", one().address(), two().address()),
        text(error));
    StandIn itself = keep(StandIn.circle());
    error = refused(url(itself.port(), Tls.OFF));
    assertEquals("Redirect loop: " + itself.address() + " -> " + itself.address(), text(error));
  }

  @Test
  void connectionsOnTheWayAreClosed() throws Exception {
    Impostor impostor = keep(Impostor.answering(4196, "|Go there.|" + two().address()));
    assertEquals(two().port(), landing(url(impostor.port(), Tls.OFF)));
    long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(20);
    while (impostor.closedByClient() == 0 && System.nanoTime() < end) {
      Thread.sleep(10);
    }
    assertEquals(1, impostor.closedByClient());
    assertEquals(1, impostor.connections());
  }

  private static String list(String mode, Object... ports) {
    StringBuilder hosts = new StringBuilder();
    for (Object port : ports) {
      hosts.append(hosts.length() == 0 ? "" : ",").append("127.0.0.1:").append(port);
    }
    return url(1, Tls.OFF).replace("//127.0.0.1:1", mode + "//" + hosts);
  }

  @Test
  void lists() throws SQLException {
    int down = 1;
    assertEquals(one().port(), landing(list("", one().port(), two().port())));
    assertEquals(two().port(), landing(list("", down, two().port())));
    StandIn third = keep(StandIn.to(two().address()));
    // The first redirects: its target, not the second.
    assertEquals(two().port(), landing(list("", third.port(), one().port())));
    // The first is down, the second redirects.
    assertEquals(two().port(), landing(list("", down, third.port())));
    // The target is down: the second.
    StandIn lost = keep(StandIn.to("127.0.0.1:1"));
    assertEquals(one().port(), landing(list("", lost.port(), one().port())));
    SQLException error = refused(list("", down, lost.port()));
    assertTrue(text(error).contains("(redirected: " + lost.address()), text(error));
    assertEquals(1, error.getSuppressed().length);
  }

  @Test
  void listsWithParts() throws SQLException {
    one().redirectTo(two().address());
    String part = String.format("address=(host=127.0.0.1)(port=%d)(type=master)", one().port());
    String url = url(1, Tls.OFF).replace("127.0.0.1:1", part);
    assertEquals(two().port(), landing(url));
    two().redirectTo(one().address());
    assertEquals(
        String.format("Redirect loop: %s -> %s -> %1$s", one().address(), two().address()),
        text(refused(url)));
  }

  @Test
  void sequential() throws SQLException {
    assertEquals(one().port(), landing(list("sequential:", one().port(), two().port())));
    assertEquals(two().port(), landing(list("sequential:", 1, two().port())));
    one().redirectTo(two().address());
    // By the redirect or, with Connector/J 2.7, by the list.
    assertEquals(two().port(), landing(list("sequential:", one().port(), two().port())));
  }

  @Test
  void replication() throws SQLException {
    String url = list("replication:", one().port(), two().port());
    assertEquals(one().port(), landing(url));
    // Connector/J 2.7 tries for 30 seconds, and then does not tell why.
    if (!World.isOldDriver()) {
      one().redirectTo(two().address());
      SQLException error = refused(url);
      assertEquals(4196, error.getErrorCode(), text(error));
      assertTrue(text(error).contains("(not followed: jdbc:mariadb:replication: "), text(error));
    }
  }

  @Test
  void thePoolOfConnectorJ() {
    for (String pool : new String[] {"pool", "pool=true", "Pool=1"}) {
      SQLException error = refused(url(one().port(), Tls.OFF, pool));
      assertTrue(text(error).contains("would not follow redirects; use another pool"), pool);
    }
  }

  @Test
  void aConnectionIsConnectorJsOwn() throws Exception {
    one().redirectTo(two().address());
    try (Connection connection = connect(url(one().port(), Tls.OFF))) {
      assertTrue(connection.getClass().getName().startsWith("org.mariadb.jdbc."));
      assertTrue(connection.isValid(5));
      connection.setNetworkTimeout(Runnable::run, 500);
      assertEquals(500, connection.getNetworkTimeout());
      assertThrows(SQLException.class, () -> query(connection, "SELECT SLEEP(60)"));
      assertFalse(connection.isValid(5));
    }
    try (Connection connection = connect(url(one().port(), Tls.OFF))) {
      String id = query(connection, "SELECT CONNECTION_ID()");
      two().execute("KILL " + id);
      assertFalse(connection.isValid(5));
    }
  }

  @Test
  void abort() throws Exception {
    one().redirectTo(two().address());
    Connection connection = keep(connect(url(one().port(), Tls.OFF)));
    String id = query(connection, "SELECT CONNECTION_ID()");
    CompletableFuture<String> running =
        CompletableFuture.supplyAsync(
            () -> {
              try {
                return query(connection, "SELECT SLEEP(600)");
              } catch (SQLException error) {
                throw new IllegalStateException(error);
              }
            });
    String find = "SELECT COUNT(*) FROM information_schema.processlist WHERE id = " + id;
    try (Connection admin = two().admin()) {
      while (!query(admin, find + " AND state = 'User sleep'").equals("1")) {
        Thread.sleep(10);
      }
      connection.abort(Executors.newSingleThreadExecutor());
      assertThrows(ExecutionException.class, () -> running.get(60, TimeUnit.SECONDS));
      assertTrue(connection.isClosed());
      // The session on the target ends, too.
      long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
      while (!query(admin, find).equals("0") && System.nanoTime() < end) {
        Thread.sleep(10);
      }
      assertEquals("0", query(admin, find));
    }
  }

  @Test
  void cancel() throws Exception {
    one().redirectTo(two().address());
    try (Connection connection = connect(url(one().port(), Tls.OFF));
        java.sql.Statement statement = connection.createStatement()) {
      statement.setQueryTimeout(1);
      assertThrows(SQLException.class, () -> statement.executeQuery("SELECT SLEEP(60)"));
      assertEquals(two().port(), port(connection));
    }
  }
}
