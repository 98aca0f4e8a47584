package org.mariadb.instantfailover;

import java.util.ArrayList;
import java.util.List;

/**
 * One attempt to connect: from the server that the program named to the one that accepts the login.
 *
 * <p>Knows the protocol and nothing of JDBC. Its owner connects and reports each refusal; it says
 * where to go next, or why to stop.
 */
final class Route {
  /** The error code of a redirect. */
  static final int ER_INSTANT_FAILOVER = 4196;

  /** The code of a patch that was published for the same proposal. */
  private static final int ALSO_ACCEPTED = 4200;

  /** The most redirects that one attempt follows. */
  static final int MAX_HOPS = 8;

  private final String origin;
  private final List<Target> hops = new ArrayList<>();

  /**
   * @param origin {@code host:port} as a target would be written, or anything else, such as the
   *     path of a Unix socket
   */
  Route(String origin) {
    this.origin = origin;
  }

  /**
   * Whether an error has the form of a redirect, {@code |text|target}, valid or not. Only an error
   * during the login can be one: later the same code means something else.
   */
  static boolean isRedirect(int code, String message) {
    return (code == ER_INSTANT_FAILOVER || code == ALSO_ACCEPTED)
        && message.startsWith("|")
        && message.lastIndexOf('|') > 0;
  }

  /**
   * Says where to go after a server refused the login with a redirect.
   *
   * @param message the error's message as the server sent it; see {@link #isRedirect}
   * @throws Stop if there is nowhere to go; the program should see this instead of the error
   */
  Target follow(String message) throws Stop {
    Target target;
    try {
      target = Target.parse(message.substring(message.lastIndexOf('|') + 1));
    } catch (Target.Malformed malformed) {
      String server = hops.isEmpty() ? origin : hops.get(hops.size() - 1).toString();
      throw new Stop(
          Reason.MALFORMED,
          "Server '" + server + "' sent an invalid redirect target: " + malformed.getMessage());
    }
    if (hasSeen(target)) {
      throw new Stop(Reason.CIRCLE, "Redirect loop: " + this + " -> " + target);
    }
    if (hops.size() >= MAX_HOPS) {
      throw new Stop(Reason.TOO_MANY, "Too many instant failovers (>= " + MAX_HOPS + "): " + this);
    }
    hops.add(target);
    return target;
  }

  /** Whether any redirect was followed. */
  boolean wasRedirected() {
    return !hops.isEmpty();
  }

  /** The servers in order: {@code db1:3306 -> db2:3307}. */
  @Override
  public String toString() {
    StringBuilder chain = new StringBuilder(origin);
    hops.forEach(hop -> chain.append(" -> ").append(hop));
    return chain.toString();
  }

  /** An origin that is not a valid target cannot be the destination of a redirect. */
  private boolean hasSeen(Target target) {
    if (hops.stream().anyMatch(target::isSameServer)) {
      return true;
    }
    try {
      return target.isSameServer(Target.parse(origin));
    } catch (Target.Malformed notATarget) {
      return false;
    }
  }

  /** Why an attempt ends. */
  enum Reason {
    CIRCLE,
    TOO_MANY,
    MALFORMED
  }

  /** A redirect that cannot be followed. Its message is for the program. */
  static final class Stop extends Exception {
    private static final long serialVersionUID = 1;

    private final Reason reason;

    private Stop(Reason reason, String message) {
      super(message);
      this.reason = reason;
    }

    Reason reason() {
      return reason;
    }
  }
}
