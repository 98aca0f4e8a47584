package org.mariadb.instantfailover;

import java.io.File;
import java.sql.Connection;
import java.sql.Driver;
import java.sql.SQLException;
import java.util.concurrent.TimeUnit;

/** One attempt to connect: to the server that the program named, and to where it is sent. */
final class Attempt {
  /**
   * The time left is rounded up to this, in milliseconds. Connector/J keeps it for the connections
   * by which it cancels statements later, so it must not become too short.
   */
  private static final long STEP = 1000;

  private final Driver driver;
  private final ConnectionString origin;
  private final Trust trust;
  private final Route route;
  private final long start = System.nanoTime();

  /** What the program allows for connecting, in milliseconds; 0 is no limit. */
  private Integer limit;

  Attempt(Driver driver, ConnectionString origin, Trust trust) {
    this.driver = driver;
    this.origin = origin;
    this.trust = trust;
    this.route = new Route(origin.origin());
  }

  /** The connection; {@code null} if Connector/J does not accept the URL. */
  Connection connect() throws SQLException {
    ConnectionString here = origin;
    while (true) {
      Refusal refusal;
      try {
        return open(here);
      } catch (SQLException error) {
        refusal = new Refusal(error);
      }
      if (trust.isOff() || !refusal.isRedirect()) {
        throw withRoute(refusal, "");
      }
      Peer peer = Peer.of(driver, here);
      refuse(refusal, objection(refusal, peer));
      String distrust = trust.objection(peer);
      if (distrust != null
          && peer.isVerifiedIfByAuthority()
          && trust.objection(peer.byAuthority()) == null) {
        ConnectionString strict = withAuthoritiesOfTheJvm(here, peer);
        if (strict != null) {
          try {
            return open(strict);
          } catch (SQLException error) {
            Refusal again = new Refusal(error);
            if (again.isRedirect() && again.answersLogin()) {
              refusal = again;
              distrust = null;
            }
          }
        }
      }
      refuse(refusal, distrust);
      here = next(here, refusal, peer);
    }
  }

  private Connection open(ConnectionString to) throws SQLException {
    try {
      return driver.connect(to.url(), to.properties());
    } catch (RuntimeException error) {
      // The target may be one that Java's TLS does not take, such as a name with an underscore.
      if (!route.wasRedirected()) {
        throw error;
      }
      throw new SQLException("Could not connect to " + to.origin() + ": " + error, "08000", error);
    }
  }

  /** Why a redirect is not followed, whoever sends it; {@code null} if it may be. */
  private String objection(Refusal refusal, Peer peer) {
    String mode = origin.mode();
    if (!refusal.answersLogin()) {
      return String.format(
          "it came before the login, or Connector/J %d.%d is not known to this driver",
          driver.getMajorVersion(), driver.getMinorVersion());
    }
    if (!mode.isEmpty() && !mode.matches("(?i)sequential|loadbalance|failover")) {
      return "jdbc:mariadb:" + mode + ": does not tell which server it is from; give one host";
    }
    if (peer.isUnknown() || origin.mixesSslModes()) {
      return "sslMode does not tell whether the connection has TLS; set verify-full or disable";
    }
    return null;
  }

  private void refuse(Refusal refusal, String objection) throws SQLException {
    if (objection != null) {
      throw withRoute(refusal, " (not followed: " + objection + ")");
    }
  }

  /** The error, with a note and the servers on the way; if there are none, as it is. */
  private SQLException withRoute(Refusal refusal, String note) {
    String text = note + (route.wasRedirected() ? " (redirected: " + route + ")" : "");
    return text.isEmpty() ? refusal.error() : refusal.with(text);
  }

  /**
   * The same server, so that only a certificate that an authority of the JVM signed is accepted:
   * without this, Connector/J 3.4 and later accept any, until the end of the login. {@code null} if
   * that cannot be had.
   */
  private ConnectionString withAuthoritiesOfTheJvm(ConnectionString to, Peer peer)
      throws SQLException {
    String store = System.getProperty("javax.net.ssl.trustStore");
    if (store == null) {
      File security = new File(System.getProperty("java.home"), "lib/security");
      File own = new File(security, "jssecacerts");
      store = (own.exists() ? own : new File(security, "cacerts")).getPath();
    }
    ConnectionString strict = withTimeLeft(to, peer);
    if (strict == null || !new File(store).exists()) {
      return null;
    }
    strict = strict.with("trustStore", store);
    for (String name : new String[] {"trustStorePassword", "trustStoreType"}) {
      String value = System.getProperty("javax.net.ssl." + name);
      strict = value == null ? strict.without(name) : strict.with(name, value);
    }
    // A version that does not know the option would accept any certificate.
    return Peer.of(driver, strict).isVerified() ? strict : null;
  }

  private ConnectionString next(ConnectionString here, Refusal refusal, Peer peer)
      throws SQLException {
    // Made before the route has the target: what is not tried is not on it.
    SQLException tooLate =
        withRoute(refusal, " (not followed: the time is over; set a longer connectTimeout)");
    ConnectionString next;
    try {
      next = withTimeLeft(here.to(route.follow(refusal.message())), peer);
    } catch (Route.Stop stop) {
      throw new SQLException(
          stop.getMessage(), "HY000", Route.ER_INSTANT_FAILOVER, refusal.error());
    }
    if (next == null) {
      throw tooLate;
    }
    return next;
  }

  /** The limit of the program counts for all servers together; {@code null} if it has passed. */
  private ConnectionString withTimeLeft(ConnectionString to, Peer peer) {
    if (limit == null) {
      limit = peer.connectTimeout();
    }
    if (limit == 0) {
      return to;
    }
    long left = limit - TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - start);
    if (left <= 0) {
      return null;
    }
    long rounded = Math.min(limit, (left + STEP - 1) / STEP * STEP);
    return rounded == limit ? to : to.with("connectTimeout", String.valueOf(rounded));
  }
}
