package org.mariadb.instantfailover;

import java.util.Locale;

/** Which servers may redirect the program, and who said so. */
final class Trust {
  /** The option, in the URL or among the properties. It takes precedence over the environment. */
  static final String OPTION = "instantFailoverFollow";

  /** The environment variable. Empty is as not set. */
  static final String ENVIRONMENT = "INSTANT_FAILOVER_FOLLOW";

  /** The values of the option, as a list for people and programs. */
  static final String[] VALUES = {"never", "verified", "auto", "always"};

  private enum Level {
    NEVER,
    VERIFIED,
    AUTO,
    ALWAYS
  }

  private final String name;
  private final Level level;
  private final String error;

  private Trust(String name, Level level, String error) {
    this.name = name;
    this.level = level;
    this.error = error;
  }

  /**
   * @param option the option's value, or {@code null}
   * @param environment the environment variable's value, or {@code null}
   */
  static Trust of(String option, String environment) {
    if (option != null) {
      return parse(OPTION, option);
    }
    boolean isSet = environment != null && !environment.isEmpty();
    return parse(ENVIRONMENT, isSet ? environment : "auto");
  }

  /** An unknown value is treated as {@code never}, and explained where a redirect comes. */
  private static Trust parse(String name, String value) {
    switch (value.toLowerCase(Locale.ROOT)) {
      case "0":
      case "never":
        return new Trust(name, Level.NEVER, null);
      case "verified":
        return new Trust(name, Level.VERIFIED, null);
      case "1":
      case "auto":
        return new Trust(name, Level.AUTO, null);
      case "always":
        return new Trust(name, Level.ALWAYS, null);
      default:
        String give = "; give never, verified, auto or always";
        return new Trust(name, Level.NEVER, name + " is " + Shown.quoted(value) + give);
    }
  }

  /** Whether the program turned following off, and means it. */
  boolean isOff() {
    return level == Level.NEVER && error == null;
  }

  /** Why a redirect from this server is not followed; {@code null} if it is. */
  String objection(Peer peer) {
    if (error != null) {
      return error;
    }
    boolean isTrusted =
        level == Level.ALWAYS
            || level != Level.NEVER && peer.isVerified()
            || level == Level.AUTO && !peer.isVerificationAsked();
    if (isTrusted) {
      return null;
    }
    String reason =
        peer.hasTls() ? "the server's certificate is not verified" : "the connection has no TLS";
    return String.format(
        "%s (%s=%s); %s, or %s=always",
        reason, name, level.name().toLowerCase(Locale.ROOT), peer.cure(), name);
  }
}
