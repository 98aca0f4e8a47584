package org.mariadb.instantfailover;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

/**
 * A URL of Connector/J and the properties beside it; immutable.
 *
 * <p>{@code jdbc:mariadb:[mode:]//host[,host...]/[database][?option=value[&option=value...]]}, each
 * host as {@code name}, {@code name:port}, {@code [IPv6]:port} or {@code address=(key=value)...}.
 * What need not be changed is kept as the program wrote it.
 */
final class ConnectionString {
  private static final Pattern PART = Pattern.compile("\\(\\s*(\\w+)\\s*=\\s*([^()]*?)\\s*\\)");

  /** The options that lead past TCP. */
  private static final String[] LOCAL = {"localSocket", "pipe", "sharedMemory"};

  /** {@code jdbc:mariadb:}. */
  private final String scheme;

  /** How Connector/J uses several hosts, such as {@code sequential}; empty if it is not said. */
  private final String mode;

  private final List<String> hosts;

  /** From the slash before the database to the question mark; may be empty. */
  private final String path;

  private final List<String> query;
  private final Properties properties;

  private ConnectionString(
      String scheme,
      String mode,
      List<String> hosts,
      String path,
      List<String> query,
      Properties properties) {
    this.scheme = scheme;
    this.mode = mode;
    this.hosts = hosts;
    this.path = path;
    this.query = query;
    this.properties = properties;
  }

  /** {@code null} if this is no URL that Connector/J could use. */
  static ConnectionString parse(String url, Properties properties) {
    int slashes = url.indexOf("//");
    int colon = url.indexOf(':', "jdbc:".length());
    if (colon < 0 || slashes < 0 || slashes <= colon) {
      return null;
    }
    String mode = url.substring(colon + 1, slashes);
    String rest = url.substring(slashes + 2);
    int end = endOfHosts(rest);
    int mark = rest.indexOf('?', end);
    String options = mark < 0 ? "" : rest.substring(mark + 1);
    return new ConnectionString(
        url.substring(0, colon + 1),
        mode.endsWith(":") ? mode.substring(0, mode.length() - 1) : mode,
        hosts(rest.substring(0, end).trim()),
        rest.substring(end, mark < 0 ? rest.length() : mark),
        options.isEmpty() ? Collections.emptyList() : Arrays.asList(options.split("&")),
        properties == null ? new Properties() : (Properties) properties.clone());
  }

  /** At least one; that of {@code //} and {@code //,} is empty, and Connector/J says so. */
  private static List<String> hosts(String list) {
    String[] hosts = list.split(",");
    return hosts.length == 0 ? Collections.singletonList("") : Arrays.asList(hosts);
  }

  /** The path of a socket inside {@code address=(...)} has slashes, too. */
  private static int endOfHosts(String text) {
    boolean isInside = false;
    for (int i = 0; i < text.length(); i++) {
      char character = text.charAt(i);
      if (character == '(' || character == ')') {
        isInside = character == '(';
      } else if (!isInside && (character == '/' || character == '?')) {
        return i;
      }
    }
    return text.length();
  }

  String url() {
    return scheme
        + (mode.isEmpty() ? "" : mode + ":")
        + "//"
        + String.join(",", hosts)
        + path
        + (query.isEmpty() ? "" : "?" + String.join("&", query));
  }

  /** A copy: Connector/J adds the options of the URL to what it gets. */
  Properties properties() {
    return (Properties) properties.clone();
  }

  /** How Connector/J uses several hosts; empty if it is not said. */
  String mode() {
    return mode;
  }

  /** The value of an option; the URL has precedence, as in Connector/J. */
  String option(String name) {
    for (String option : query) {
      if (isNamed(option, name)) {
        int equals = option.indexOf('=');
        return equals < 0 ? "" : option.substring(equals + 1);
      }
    }
    // Connector/J takes a number or a boolean in the place of its text.
    for (Map.Entry<Object, Object> entry : properties.entrySet()) {
      if (entry.getKey().toString().equalsIgnoreCase(name)) {
        return entry.getValue().toString();
      }
    }
    for (String key : properties.stringPropertyNames()) {
      if (key.equalsIgnoreCase(name)) {
        return properties.getProperty(key);
      }
    }
    return null;
  }

  /** The same without some options. */
  ConnectionString without(String... names) {
    List<String> kept =
        query.stream()
            .filter(option -> Arrays.stream(names).noneMatch(name -> isNamed(option, name)))
            .collect(Collectors.toList());
    Properties rest = properties();
    for (String name : names) {
      rest.keySet().removeIf(key -> name.equalsIgnoreCase(key.toString()));
    }
    return new ConnectionString(scheme, mode, hosts, path, kept, rest);
  }

  /** The same with another value for an option. */
  ConnectionString with(String name, String value) {
    ConnectionString changed = without(name);
    changed.properties.setProperty(name, value);
    return changed;
  }

  /**
   * The same for another server, over TCP. It has no mode: a connection that Connector/J would
   * renew by itself would not begin at the origin again.
   */
  ConnectionString to(Target target) {
    ConnectionString rest = without(LOCAL);
    return new ConnectionString(
        scheme,
        "",
        Collections.singletonList(target.toString()),
        rest.path,
        rest.query,
        rest.properties);
  }

  /**
   * One for each host of a list that Connector/J would try in order. A list with a mode stays
   * whole: there Connector/J chooses.
   */
  List<ConnectionString> each() {
    if (!mode.isEmpty()) {
      return Collections.singletonList(this);
    }
    List<ConnectionString> all = new ArrayList<>();
    for (String host : hosts) {
      List<String> one = Collections.singletonList(host);
      all.add(new ConnectionString(scheme, mode, one, path, query, properties()));
    }
    return all;
  }

  /** Whether there is a name that a certificate is checked against. */
  boolean hasHost() {
    return hosts.stream().noneMatch(host -> host(host).isEmpty());
  }

  /**
   * The same with {@code sslMode} of {@code address=(...)(sslMode=...)} as an option, so that it
   * applies to all servers on the way.
   */
  ConnectionString withSslModeOfHost() {
    String sslMode = part(hosts.get(0), "sslMode");
    return hosts.size() > 1 || sslMode == null ? this : with("sslMode", sslMode);
  }

  /** Whether the hosts of a list have an {@code sslMode} of their own. */
  boolean mixesSslModes() {
    return hosts.size() > 1 && hosts.stream().anyMatch(host -> part(host, "sslMode") != null);
  }

  /** As the target of a redirect back to it would be written; a list is kept as it is. */
  String origin() {
    if (hosts.size() > 1) {
      return String.join(",", hosts);
    }
    String description = hosts.get(0);
    for (String local : LOCAL) {
      String path = part(description, local) == null ? option(local) : part(description, local);
      if (path != null && !path.isEmpty()) {
        return path;
      }
    }
    String host = host(description);
    String port = port(description);
    return (host.indexOf(':') < 0 ? host : "[" + host + "]") + ":" + port;
  }

  /** The host of a description, without brackets. */
  private static String host(String description) {
    if (description.startsWith("address=")) {
      String host = part(description, "host");
      return host == null ? "" : host.replace("[", "").replace("]", "");
    }
    if (description.startsWith("[")) {
      int end = description.indexOf(']');
      return description.substring(1, end < 0 ? description.length() : end);
    }
    int colon = description.indexOf(':');
    return colon < 0 ? description : description.substring(0, colon);
  }

  private static String port(String description) {
    String fallback = String.valueOf(Target.DEFAULT_PORT);
    if (description.startsWith("address=")) {
      String port = part(description, "port");
      return port == null ? fallback : port;
    }
    int colon = description.indexOf(':', Math.max(0, description.indexOf(']')));
    return colon < 0 ? fallback : description.substring(colon + 1);
  }

  private static String part(String description, String name) {
    Matcher part = PART.matcher(description);
    while (part.find()) {
      if (part.group(1).equalsIgnoreCase(name)) {
        return part.group(2);
      }
    }
    return null;
  }

  private static boolean isNamed(String option, String name) {
    return option.equalsIgnoreCase(name)
        || option.length() > name.length()
            && option.charAt(name.length()) == '='
            && option.regionMatches(true, 0, name, 0, name.length());
  }
}
