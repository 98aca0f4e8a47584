package org.mariadb.instantfailover;

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.DriverPropertyInfo;
import java.sql.SQLException;
import java.sql.SQLFeatureNotSupportedException;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;
import java.util.logging.Logger;

/**
 * A JDBC driver around MariaDB Connector/J that follows redirects: where a server answers a login
 * with error 4196 and names another server, the program is connected to that one.
 *
 * <p>There are two ways to use it. Name this class as the driver class and leave the URL as it is,
 * {@code jdbc:mariadb://...}; or write {@code jdbc:instant-failover:mariadb://...} where only a URL
 * can be given. Only the latter is known to {@link DriverManager}, so that other URLs stay with
 * their driver.
 *
 * <p>The URL and the properties are those of Connector/J, which must be on the class path. All of
 * them apply to each server on the way. The connections are Connector/J's own. Redirects are not
 * remembered: each new connection begins at the server of the URL.
 *
 * <p>The property {@value #FOLLOW} says which servers may redirect the program; without it, the
 * environment variable {@code INSTANT_FAILOVER_FOLLOW} does.
 *
 * <ul>
 *   <li>{@code never} (or {@code 0}): none;
 *   <li>{@code verified}: servers whose certificate was verified, by an authority and the name;
 *   <li>{@code auto} (or {@code 1}), the default: as {@code verified} if the program asks for
 *       verification, otherwise all;
 *   <li>{@code always}: all.
 * </ul>
 */
public class Driver implements java.sql.Driver {
  /** The property that says which servers may redirect the program. */
  public static final String FOLLOW = Trust.OPTION;

  static final String PREFIX = "jdbc:instant-failover:";

  /** That of the project. */
  static final String VERSION = "0.2.0";

  /** What {@link DriverManager} knows. */
  private static final class ForPrefix extends Driver {
    @Override
    public boolean acceptsURL(String url) throws SQLException {
      return url != null && url.startsWith(PREFIX) && super.acceptsURL(url);
    }
  }

  static {
    try {
      DriverManager.registerDriver(new ForPrefix());
    } catch (SQLException error) {
      throw new ExceptionInInitializerError(error);
    }
  }

  /** For pools and tools, which make an instance by the name of the class. */
  public Driver() {}

  /**
   * Connects to the server of the URL, or to where it redirects.
   *
   * @return a connection of Connector/J; {@code null} if the URL is not for this driver
   * @throws SQLException the error of Connector/J, unchanged if there was no redirect; error 4196
   *     if a redirect cannot or must not be followed
   */
  @Override
  public Connection connect(String url, Properties info) throws SQLException {
    if (!acceptsURL(url)) {
      return null;
    }
    java.sql.Driver real = connectorJ();
    ConnectionString asked = ConnectionString.parse(plain(url), info);
    if (asked == null) {
      return real.connect(plain(url), info);
    }
    if (isTrue(asked.option("pool"))) {
      throw new SQLException(
          "The pool of Connector/J (option pool) opens connections itself and would not follow"
              + " redirects; use another pool, such as HikariCP, and remove the option",
          "08001");
    }
    Trust trust = Trust.of(asked.option(FOLLOW), System.getenv(Trust.ENVIRONMENT));
    List<ConnectionString> hosts = asked.without(FOLLOW).each();
    if (hosts.size() > 1) {
      // Connector/J would refuse a list if it cannot read one of the hosts, even one that is not
      // needed.
      real.getPropertyInfo(plain(url), asked.properties());
    }
    SQLException failed = null;
    for (ConnectionString host : hosts) {
      try {
        return new Attempt(real, host.withSslModeOfHost(), trust).connect();
      } catch (SQLException error) {
        if (failed != null) {
          error.addSuppressed(failed);
        }
        failed = error;
      }
    }
    throw failed;
  }

  /** Whether the URL is one of Connector/J, with or without the prefix. */
  @Override
  public boolean acceptsURL(String url) throws SQLException {
    return url != null && connectorJ().acceptsURL(plain(url));
  }

  /** The properties of Connector/J, and {@value #FOLLOW}. */
  @Override
  public DriverPropertyInfo[] getPropertyInfo(String url, Properties info) throws SQLException {
    Properties copy = info == null ? new Properties() : (Properties) info.clone();
    DriverPropertyInfo[] all = connectorJ().getPropertyInfo(plain(url), copy);
    DriverPropertyInfo follow = new DriverPropertyInfo(FOLLOW, copy.getProperty(FOLLOW));
    follow.description = "Which servers may redirect the program. Default: auto";
    follow.choices = Trust.VALUES.clone();
    all = Arrays.copyOf(all, all.length + 1);
    all[all.length - 1] = follow;
    return all;
  }

  @Override
  public int getMajorVersion() {
    return versionPart(0);
  }

  @Override
  public int getMinorVersion() {
    return versionPart(1);
  }

  @Override
  public boolean jdbcCompliant() {
    return true;
  }

  @Override
  public Logger getParentLogger() throws SQLFeatureNotSupportedException {
    throw new SQLFeatureNotSupportedException("This driver does not log");
  }

  private static int versionPart(int index) {
    return Integer.parseInt(VERSION.split("\\.")[index]);
  }

  private static String plain(String url) {
    return url.startsWith(PREFIX) ? "jdbc:" + url.substring(PREFIX.length()) : url;
  }

  private static boolean isTrue(String value) {
    return value != null && (value.isEmpty() || value.equals("1") || Boolean.parseBoolean(value));
  }

  private static java.sql.Driver connectorJ() throws SQLException {
    try {
      return new org.mariadb.jdbc.Driver();
    } catch (NoClassDefFoundError missing) {
      throw new SQLException(
          "MariaDB Connector/J is not on the class path; add org.mariadb.jdbc:mariadb-java-client",
          "08001",
          missing);
    }
  }
}
