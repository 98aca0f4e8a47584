package org.mariadb.instantfailover;

import java.sql.Driver;
import java.sql.DriverPropertyInfo;
import java.sql.SQLException;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;

/**
 * What is known about a server whose error came during the login, from the options that Connector/J
 * says are in effect.
 *
 * <p>That is enough, because Connector/J has no TLS "if possible": with one of its modes for TLS it
 * does not log in without, and it checks a certificate in the handshake, before it logs in. There
 * are two exceptions. {@code sslMode=allow} (3.5.11) takes what it gets; nothing is known then. And
 * since 3.4, {@code verify-full} without a certificate of the authority accepts any certificate,
 * and checks it at the end of the login by the password; that is not verified when a redirect
 * comes.
 */
final class Peer {
  private enum Tls {
    OFF,
    UNVERIFIED,
    AUTHORITY,
    AUTHORITY_AND_NAME,
    UNKNOWN
  }

  private final Tls tls;

  /** There is a name to check, and it is Connector/J's own code that checks it. */
  private final boolean canBeSeen;

  /** The program named the authorities that it trusts. */
  private final boolean hasAuthority;

  private final boolean isOldDriver;
  private final int connectTimeout;

  private Peer(
      Tls tls, boolean canBeSeen, boolean hasAuthority, boolean isOldDriver, int connectTimeout) {
    this.tls = tls;
    this.canBeSeen = canBeSeen;
    this.hasAuthority = hasAuthority;
    this.isOldDriver = isOldDriver;
    this.connectTimeout = connectTimeout;
  }

  /** Reads the options that are in effect for a connection. */
  static Peer of(Driver driver, ConnectionString to) throws SQLException {
    Map<String, String> options = new TreeMap<>(String.CASE_INSENSITIVE_ORDER);
    for (DriverPropertyInfo option : driver.getPropertyInfo(to.url(), to.properties())) {
      options.put(option.name, option.value);
    }
    String timeout = options.get("connectTimeout");
    return new Peer(
        tls(options),
        to.hasHost() && options.get("tlsSocketType") == null,
        options.get("serverSslCert") != null || options.get("trustStore") != null,
        !options.containsKey("sslMode"),
        timeout == null ? 0 : Integer.parseInt(timeout));
  }

  private static Tls tls(Map<String, String> options) {
    if (options.get("sslMode") != null) {
      switch (options.get("sslMode").toUpperCase(Locale.ROOT)) {
        case "DISABLE":
          return Tls.OFF;
        case "TRUST":
          return Tls.UNVERIFIED;
        case "VERIFY_CA":
          return Tls.AUTHORITY;
        case "VERIFY_FULL":
          return Tls.AUTHORITY_AND_NAME;
        default:
          return Tls.UNKNOWN;
      }
    }
    // Connector/J 2.7
    if (!options.containsKey("useSsl")) {
      return Tls.UNKNOWN;
    }
    if (!Boolean.parseBoolean(options.get("useSsl"))) {
      return Tls.OFF;
    }
    if (Boolean.parseBoolean(options.get("trustServerCertificate"))) {
      return Tls.UNVERIFIED;
    }
    return Boolean.parseBoolean(options.get("disableSslHostnameVerification"))
        ? Tls.AUTHORITY
        : Tls.AUTHORITY_AND_NAME;
  }

  /** Whether these options do not tell if there is TLS. */
  boolean isUnknown() {
    return tls == Tls.UNKNOWN;
  }

  boolean hasTls() {
    return tls != Tls.OFF;
  }

  boolean isVerificationAsked() {
    return tls != Tls.OFF && tls != Tls.UNVERIFIED;
  }

  /** Whether the certificate was verified before the login, by an authority and the name. */
  boolean isVerified() {
    return isVerifiedIfByAuthority() && hasAuthority;
  }

  /** Whether nothing is missing but the certainty that the certificate has an authority. */
  boolean isVerifiedIfByAuthority() {
    return tls == Tls.AUTHORITY_AND_NAME && canBeSeen;
  }

  /** The same server, with that certainty. */
  Peer byAuthority() {
    return new Peer(tls, canBeSeen, true, isOldDriver, connectTimeout);
  }

  /** What to set so that a certificate is verified. */
  String cure() {
    return isOldDriver
        ? "set useSsl=true and serverSslCert"
        : "set sslMode=verify-full and serverSslCert";
  }

  /** In milliseconds; 0 is no limit. */
  int connectTimeout() {
    return connectTimeout;
  }
}
