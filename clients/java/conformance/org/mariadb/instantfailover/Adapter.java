package org.mariadb.instantfailover;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import java.util.stream.Collectors;
import java.util.stream.StreamSupport;

/**
 * The adapter for the conformance tests of all clients: {@code parse}, {@code land}, {@code load}.
 */
public final class Adapter {
  private static final Gson JSON = new GsonBuilder().serializeNulls().create();

  private Adapter() {}

  /** A step that answers one line with another. */
  private interface Step {
    String answer(String line) throws Exception;
  }

  /**
   * @param args the subcommand and, for {@code load}, its settings
   * @throws Exception if the input is not as agreed, which ends the program
   */
  public static void main(String[] args) throws Exception {
    PrintStream out = System.out;
    // Nothing but answers there.
    System.setOut(System.err);
    switch (args.length == 0 ? "" : args[0]) {
      case "parse":
        eachLine(out, Adapter::parse);
        break;
      case "land":
        Map<String, AutoCloseable> open = new HashMap<>();
        eachLine(out, line -> JSON.toJson(land(open, JsonParser.parseString(line))));
        for (AutoCloseable connection : open.values()) {
          connection.close();
        }
        break;
      case "load":
        JsonObject settings = JsonParser.parseString(args[1]).getAsJsonObject();
        int workers = settings.get("workers").getAsInt();
        try (HikariDataSource pool = pool(settings, workers)) {
          out.println(JSON.toJson(new Load(pool, settings).run()));
        }
        break;
      default:
        System.err.println("Usage: parse | land | load JSON");
        System.exit(2);
    }
  }

  private static void eachLine(PrintStream out, Step step) throws Exception {
    BufferedReader in =
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = in.readLine(); line != null; line = in.readLine()) {
      out.write((step.answer(line) + "\n").getBytes(StandardCharsets.UTF_8));
      out.flush();
    }
  }

  /** {@code origin TAB code:hexmessage TAB ...}: the outcome after all errors. */
  private static String parse(String line) throws IOException {
    String[] fields = line.split("\t");
    Route route = new Route(fields[0]);
    String outcome = "ordinary";
    for (int i = 1; i < fields.length; i++) {
      int colon = fields[i].indexOf(':');
      int code = Integer.parseInt(fields[i].substring(0, colon));
      // Connector/J decodes the message of a server like this.
      byte[] bytes = new BigInteger("01" + fields[i].substring(colon + 1), 16).toByteArray();
      String message = new String(bytes, 1, bytes.length - 1, StandardCharsets.UTF_8);
      if (!Route.isRedirect(code, message)) {
        return "ordinary";
      }
      try {
        outcome = route.follow(message).toString();
      } catch (Route.Stop stop) {
        switch (stop.reason()) {
          case CIRCLE:
            return "circle";
          case TOO_MANY:
            return "too many";
          default:
            return "malformed";
        }
      }
    }
    return outcome;
  }

  private static JsonElement land(Map<String, AutoCloseable> open, JsonElement line) {
    JsonObject request = line.getAsJsonObject();
    String id = request.get("id").getAsString();
    try {
      switch (request.get("op").getAsString()) {
        case "connect":
          open.put(
              id, DriverManager.getConnection(Driver.PREFIX + url(request), properties(request)));
          return ok(null);
        case "pool":
          open.put(id, pool(request, request.get("size").getAsInt()));
          return ok(null);
        case "query":
          return ok(query((Connection) open.get(id), request));
        case "pool_query":
          try (Connection connection = ((HikariDataSource) open.get(id)).getConnection()) {
            return ok(query(connection, request));
          }
        case "close":
          AutoCloseable connection = open.remove(id);
          if (connection != null) {
            connection.close();
          }
          return ok(null);
        default:
          throw new IllegalArgumentException("unknown op: " + line);
      }
    } catch (Exception error) {
      return error(error);
    }
  }

  private static String query(Connection connection, JsonObject request) throws SQLException {
    try (Statement statement = connection.createStatement()) {
      if (!statement.execute(request.get("sql").getAsString())) {
        return null;
      }
      try (ResultSet rows = statement.getResultSet()) {
        return rows.next() ? rows.getString(1) : null;
      }
    }
  }

  private static JsonObject ok(String value) {
    JsonObject answer = new JsonObject();
    answer.addProperty("ok", value);
    return answer;
  }

  /** The server's error is below the pool's own. */
  private static JsonObject error(Throwable error) {
    int code = 0;
    String message = error.toString();
    for (Throwable inner = error; inner != null; inner = inner.getCause()) {
      if (inner instanceof SQLException && ((SQLException) inner).getErrorCode() > 0) {
        code = ((SQLException) inner).getErrorCode();
        message = inner.getMessage();
        break;
      }
    }
    JsonObject said = new JsonObject();
    said.addProperty("code", code);
    said.addProperty("message", message);
    JsonObject answer = new JsonObject();
    answer.add("error", said);
    return answer;
  }

  /** The rest of the URL, behind {@code jdbc:} or the prefix. */
  private static String url(JsonObject request) {
    String host = request.get("host").getAsString();
    String database = string(request, "database");
    JsonElement list = request.get("hosts");
    String hosts =
        String.format(
            "%s:%s",
            host.indexOf(':') < 0 ? host : "[" + host + "]", request.get("port").getAsString());
    if (list != null && !list.isJsonNull()) {
      hosts =
          StreamSupport.stream(list.getAsJsonArray().spliterator(), false)
              .map(JsonElement::getAsString)
              .collect(Collectors.joining(","));
    }
    return String.format("mariadb://%s/%s", hosts, database == null ? "" : database);
  }

  private static Properties properties(JsonObject request) {
    Properties properties = new Properties();
    properties.setProperty("user", request.get("user").getAsString());
    set(properties, "password", string(request, "password"));
    set(properties, "serverSslCert", string(request, "ca"));
    set(properties, Driver.FOLLOW, string(request, "follow"));
    if (request.has("timeout")) {
      long milliseconds = Math.round(request.get("timeout").getAsDouble() * 1000);
      properties.setProperty("connectTimeout", String.valueOf(milliseconds));
    }
    boolean isOld = new org.mariadb.jdbc.Driver().getMajorVersion() < 3;
    switch (request.get("tls").getAsString()) {
      case "off":
        properties.setProperty(isOld ? "useSsl" : "sslMode", isOld ? "false" : "disable");
        break;
      case "require":
        properties.setProperty(isOld ? "useSsl" : "sslMode", isOld ? "true" : "trust");
        set(properties, "trustServerCertificate", isOld ? "true" : null);
        break;
      case "verify":
        properties.setProperty(isOld ? "useSsl" : "sslMode", isOld ? "true" : "verify-full");
        break;
      default:
        throw new IllegalArgumentException("unknown tls: " + request);
    }
    return properties;
  }

  /** Here the class of the driver is given, and a URL of MariaDB. */
  private static HikariDataSource pool(JsonObject request, int size) {
    HikariConfig config = new HikariConfig();
    config.setDriverClassName(Driver.class.getName());
    config.setJdbcUrl("jdbc:" + url(request));
    config.setDataSourceProperties(properties(request));
    config.setMaximumPoolSize(size);
    if (request.has("timeout")) {
      config.setConnectionTimeout(Math.round(request.get("timeout").getAsDouble() * 1000));
    }
    return new HikariDataSource(config);
  }

  private static String string(JsonObject request, String name) {
    JsonElement value = request.get(name);
    return value == null || value instanceof JsonNull ? null : value.getAsString();
  }

  private static void set(Properties properties, String name, String value) {
    if (value != null) {
      properties.setProperty(name, value);
    }
  }
}
