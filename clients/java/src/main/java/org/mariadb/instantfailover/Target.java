package org.mariadb.instantfailover;

import java.util.Arrays;
import java.util.Locale;
import java.util.regex.Pattern;

/**
 * Where a redirected client is sent: {@code host}, {@code host:port} or {@code [IPv6]:port}.
 *
 * <p>The text is parsed here and not by {@link java.net.InetAddress}, which accepts much more than
 * the protocol allows and would ask a name service. An address has one form, however it was
 * written: that of RFC 5952; {@code ::ffff:192.0.2.1} becomes {@code 192.0.2.1}.
 */
final class Target {
  /** The port of a target without one: MariaDB's default. */
  static final int DEFAULT_PORT = 3306;

  private static final int MAX_NAME_LENGTH = 253;
  private static final int MAX_LENGTH = MAX_NAME_LENGTH + ":65535".length();
  private static final int GROUPS = 8;

  private static final Pattern LABEL =
      Pattern.compile("[0-9A-Za-z_](?:[0-9A-Za-z_-]{0,61}[0-9A-Za-z_])?");
  private static final Pattern NUMBER = Pattern.compile("[0-9]+|0[xX][0-9A-Fa-f]*");
  private static final Pattern PORT = Pattern.compile("[1-9][0-9]{0,4}");
  private static final Pattern OCTET = Pattern.compile("0|[1-9][0-9]{0,2}");
  private static final Pattern GROUP = Pattern.compile("[0-9A-Fa-f]{1,4}");

  private final String host;
  private final boolean isIpv6;
  private final int port;

  private Target(String host, boolean isIpv6, int port) {
    this.host = host;
    this.isIpv6 = isIpv6;
    this.port = port;
  }

  /**
   * Parses a target.
   *
   * @throws Malformed if it is not valid; no part of it may be used then
   */
  static Target parse(String text) throws Malformed {
    if (text.length() > MAX_LENGTH) {
      throw malformed(
          text, "it has " + text.length() + " bytes, but a target has at most " + MAX_LENGTH);
    }
    int scheme = text.indexOf("://");
    if (scheme >= 0) {
      throw malformed(text, "leave out " + Shown.quoted(text.substring(0, scheme + 3)));
    }
    if (text.startsWith("[")) {
      int end = text.indexOf(']');
      if (end < 0) {
        throw malformed(text, "the bracket is not closed");
      }
      String address = text.substring(1, end);
      int[] groups = parseIpv6(address);
      if (groups == null) {
        throw malformed(text, Shown.quoted(address) + " is not an IPv6 address");
      }
      String rest = text.substring(end + 1);
      if (!rest.isEmpty() && !rest.startsWith(":")) {
        throw malformed(text, "only ':' and a port can follow the bracket");
      }
      return ipv6(text, groups, rest.isEmpty() ? DEFAULT_PORT : port(text, rest.substring(1)));
    }
    if (parseIpv6(text) != null) {
      throw new Malformed(
          Shown.quoted(text)
              + " is not a target: write an IPv6 address in brackets, ["
              + text
              + "]");
    }
    int colon = text.indexOf(':');
    String name = colon < 0 ? text : text.substring(0, colon);
    checkName(text, name);
    return new Target(
        name, false, colon < 0 ? DEFAULT_PORT : port(text, text.substring(colon + 1)));
  }

  /** The host as a socket takes it: without brackets, an address in canonical form. */
  String host() {
    return host;
  }

  int port() {
    return port;
  }

  /** Whether both are the same server: names are compared without case. */
  boolean isSameServer(Target other) {
    return port == other.port && host.equalsIgnoreCase(other.host);
  }

  /** {@code host:port} or {@code [IPv6]:port}, always with the port. */
  @Override
  public String toString() {
    return (isIpv6 ? "[" + host + "]" : host) + ":" + port;
  }

  private static int port(String text, String digits) throws Malformed {
    if (PORT.matcher(digits).matches() && Integer.parseInt(digits) <= 65535) {
      return Integer.parseInt(digits);
    }
    throw malformed(text, "port " + Shown.quoted(digits) + " is not a number from 1 to 65535");
  }

  /**
   * A name whose last label is a number would be taken for an address by some resolvers and for a
   * name by others, so it must be a proper IPv4 address.
   */
  private static void checkName(String text, String name) throws Malformed {
    if (name.isEmpty()) {
      throw malformed(text, "the host is missing");
    }
    for (int character : name.codePoints().toArray()) {
      if (!isOfName(character)) {
        String shown = Shown.quoted(new String(Character.toChars(character)));
        throw malformed(text, "a host name cannot contain " + shown);
      }
    }
    if (name.length() > MAX_NAME_LENGTH) {
      throw malformed(
          text,
          "a host name has at most "
              + MAX_NAME_LENGTH
              + " characters, this one has "
              + name.length());
    }
    String[] labels = name.split("\\.", -1);
    if (NUMBER.matcher(labels[labels.length - 1]).matches()) {
      int[] octets = parseIpv4(name);
      if (octets == null) {
        throw malformed(text, Shown.quoted(name) + " is not an IPv4 address");
      }
      checkOneHost(text, name, octets);
      return;
    }
    for (String label : labels) {
      if (!LABEL.matcher(label).matches()) {
        throw malformed(
            text,
            Shown.quoted(label)
                + " is not a valid host name label (1 to 63 letters, digits, underscores and inner"
                + " hyphens)");
      }
    }
  }

  private static boolean isOfName(int character) {
    return character >= '0' && character <= '9'
        || character >= 'a' && character <= 'z'
        || character >= 'A' && character <= 'Z'
        || character == '-'
        || character == '_'
        || character == '.';
  }

  /** No address of a single host: 0.0.0.0/8, 224.0.0.0/4 and 255.255.255.255. */
  private static void checkOneHost(String text, String address, int[] octets) throws Malformed {
    boolean isMulticast = octets[0] >= 224 && octets[0] < 240;
    boolean isBroadcast = Arrays.stream(octets).allMatch(octet -> octet == 255);
    if (octets[0] == 0 || isMulticast || isBroadcast) {
      throw malformed(text, address + " is not the address of a single host");
    }
  }

  /** The target with an address of IPv6, or with the address of IPv4 that is mapped into it. */
  private static Target ipv6(String text, int[] groups, int port) throws Malformed {
    if (Arrays.stream(groups, 0, 5).allMatch(group -> group == 0) && groups[5] == 0xffff) {
      int[] octets = {groups[6] >> 8, groups[6] & 0xff, groups[7] >> 8, groups[7] & 0xff};
      String address = octets[0] + "." + octets[1] + "." + octets[2] + "." + octets[3];
      checkOneHost(text, address, octets);
      return new Target(address, false, port);
    }
    String address = canonical(groups);
    boolean isUnspecified = Arrays.stream(groups).allMatch(group -> group == 0);
    boolean isMulticast = groups[0] >> 8 == 0xff;
    if (isUnspecified || isMulticast) {
      throw malformed(text, address + " is not the address of a single host");
    }
    return new Target(address, true, port);
  }

  /** Four decimal numbers without leading zeros; {@code null} if the text is anything else. */
  private static int[] parseIpv4(String text) {
    String[] parts = text.split("\\.", -1);
    if (parts.length != 4) {
      return null;
    }
    int[] octets = new int[4];
    for (int i = 0; i < 4; i++) {
      if (!OCTET.matcher(parts[i]).matches()) {
        return null;
      }
      octets[i] = Integer.parseInt(parts[i]);
      if (octets[i] > 255) {
        return null;
      }
    }
    return octets;
  }

  /** The eight groups of an address; {@code null} if the text is anything else. */
  private static int[] parseIpv6(String text) {
    int gap = text.indexOf("::");
    if (gap < 0) {
      int[] groups = parseGroups(text, true);
      return groups != null && groups.length == GROUPS ? groups : null;
    }
    int[] left = parseGroups(text.substring(0, gap), false);
    int[] right = parseGroups(text.substring(gap + 2), true);
    if (left == null || right == null || left.length + right.length >= GROUPS) {
      return null;
    }
    int[] groups = Arrays.copyOf(left, GROUPS);
    System.arraycopy(right, 0, groups, GROUPS - right.length, right.length);
    return groups;
  }

  /** Groups between colons; the last one may be an IPv4 address, which makes two. */
  private static int[] parseGroups(String text, boolean isEnd) {
    if (text.isEmpty()) {
      return new int[0];
    }
    String[] parts = text.split(":", -1);
    int[] octets = isEnd ? parseIpv4(parts[parts.length - 1]) : null;
    int plain = octets == null ? parts.length : parts.length - 1;
    int[] groups = new int[octets == null ? plain : plain + 2];
    for (int i = 0; i < plain; i++) {
      if (!GROUP.matcher(parts[i]).matches()) {
        return null;
      }
      groups[i] = Integer.parseInt(parts[i], 16);
    }
    if (octets != null) {
      groups[plain] = octets[0] << 8 | octets[1];
      groups[plain + 1] = octets[2] << 8 | octets[3];
    }
    return groups;
  }

  /** RFC 5952: lower case, {@code ::} for the first of the longest runs of two or more zeros. */
  private static String canonical(int[] groups) {
    int start = -1;
    int length = 1;
    for (int i = 0; i < GROUPS; i++) {
      int end = i;
      while (end < GROUPS && groups[end] == 0) {
        end++;
      }
      if (end - i > length) {
        start = i;
        length = end - i;
      }
    }
    StringBuilder text = new StringBuilder();
    for (int i = 0; i < GROUPS; i++) {
      if (i == start) {
        text.append("::");
        i += length - 1;
      } else {
        boolean isFirst = text.length() == 0 || text.charAt(text.length() - 1) == ':';
        text.append(isFirst ? "" : ":").append(Integer.toHexString(groups[i]));
      }
    }
    return text.toString().toLowerCase(Locale.ROOT);
  }

  private static Malformed malformed(String text, String problem) {
    return new Malformed(
        Shown.quoted(text)
            + " is not a target: "
            + problem
            + "; give host, host:port or [IPv6]:port");
  }

  /** A text that is not a target, and why. */
  static final class Malformed extends Exception {
    private static final long serialVersionUID = 1;

    private Malformed(String message) {
      super(message);
    }
  }
}
