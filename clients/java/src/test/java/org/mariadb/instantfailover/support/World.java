package org.mariadb.instantfailover.support;

import java.sql.Connection;
import java.sql.Driver;
import java.sql.DriverManager;
import java.sql.DriverPropertyInfo;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Arrays;
import java.util.Properties;

/** Two servers that all tests share, and what is used to connect to them. */
public final class World {
  private static final class Certificates {
    private static final Authority.Certificate LOCAL =
        Authority.TRUSTED.sign("server", "dns:localhost,ip:127.0.0.1");
  }

  private static final class One {
    private static final Server SERVER = new Server(Certificates.LOCAL);
  }

  private static final class Two {
    private static final Server SERVER = new Server(Certificates.LOCAL);
  }

  private World() {}

  /** The server that programs name. */
  public static Server one() {
    return One.SERVER;
  }

  /** The server that they are sent to. */
  public static Server two() {
    return Two.SERVER;
  }

  /** Connector/J; as what it is in all versions, which have other methods than this one. */
  public static Driver connectorJ() {
    return new org.mariadb.jdbc.Driver();
  }

  /** Whether Connector/J is 2.7, which has other options for TLS. */
  public static boolean isOldDriver() {
    return connectorJ().getMajorVersion() < 3;
  }

  /** Whether Connector/J has an option. */
  public static boolean knows(String option) throws SQLException {
    DriverPropertyInfo[] all =
        connectorJ().getPropertyInfo("jdbc:mariadb://db1/", new Properties());
    return Arrays.stream(all).anyMatch(info -> info.name.equals(option));
  }

  /** Whether Connector/J accepts the value of an option. */
  public static boolean accepts(String option) {
    try {
      connectorJ().getPropertyInfo("jdbc:mariadb://db1/?" + option, new Properties());
      return true;
    } catch (SQLException error) {
      return false;
    }
  }

  /** How much of a server is verified. */
  public enum Tls {
    OFF("disable", "useSsl=false"),
    TRUST("trust", "useSsl=true&trustServerCertificate=true"),
    AUTHORITY("verify-ca", "useSsl=true&disableSslHostnameVerification=true"),
    FULL("verify-full", "useSsl=true");

    private final String mode;
    private final String old;

    Tls(String mode, String old) {
      this.mode = mode;
      this.old = old;
    }

    /** The option of the Connector/J in use. */
    public String option() {
      return isOldDriver() ? old : "sslMode=" + mode;
    }
  }

  /** A URL with the prefix. */
  public static String url(int port, Tls tls, String... options) {
    return "jdbc:instant-failover:" + plainUrl(port, tls, options).substring("jdbc:".length());
  }

  /** A URL of Connector/J. */
  public static String plainUrl(int port, Tls tls, String... options) {
    StringBuilder url = new StringBuilder("jdbc:mariadb://127.0.0.1:" + port + "/shop");
    url.append('?').append(tls.option());
    for (String option : options) {
      url.append('&').append(option);
    }
    return url.toString();
  }

  /** The authority's certificate as an option. */
  public static String authority() {
    return "serverSslCert=" + Authority.TRUSTED.certificate();
  }

  /** The account as properties. */
  public static Properties account() {
    Properties properties = new Properties();
    properties.setProperty("user", Server.USER);
    properties.setProperty("password", Server.PASSWORD);
    return properties;
  }

  /** Connects by DriverManager. */
  public static Connection connect(String url) throws SQLException {
    return DriverManager.getConnection(url, account());
  }

  /** The port of the server behind a connection. */
  public static int port(Connection connection) throws SQLException {
    return Integer.parseInt(query(connection, "SELECT @@port"));
  }

  /** The first column of the first row. */
  public static String query(Connection connection, String sql) throws SQLException {
    try (Statement statement = connection.createStatement();
        ResultSet rows = statement.executeQuery(sql)) {
      rows.next();
      return rows.getString(1);
    }
  }

  /** The port that a URL leads to. */
  public static int landing(String url) throws SQLException {
    try (Connection connection = connect(url)) {
      return port(connection);
    }
  }
}
