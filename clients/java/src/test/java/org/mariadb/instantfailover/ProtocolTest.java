package org.mariadb.instantfailover;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.mariadb.instantfailover.support.World;

/** The published test vectors, and the parser of the server. */
class ProtocolTest {
  private static final Path VECTORS = Path.of("../../docs/protocol-vectors.json");

  private static JsonArray vectors(String name) throws IOException {
    return JsonParser.parseString(Files.readString(VECTORS)).getAsJsonObject().getAsJsonArray(name);
  }

  private static String outcome(Route route, int code, String message) {
    if (!Route.isRedirect(code, message)) {
      return "ordinary";
    }
    try {
      return route.follow(message).toString();
    } catch (Route.Stop stop) {
      return stop.reason().name().toLowerCase().replace('_', ' ');
    }
  }

  @Test
  void messages() throws IOException {
    JsonArray vectors = vectors("messages");
    assertTrue(vectors.size() > 100);
    for (JsonElement element : vectors) {
      JsonObject vector = element.getAsJsonObject();
      String message =
          vector.has("hex")
              ? new String(
                  new BigInteger(vector.get("hex").getAsString(), 16).toByteArray(),
                  StandardCharsets.UTF_8)
              : vector.get("message").getAsString();
      JsonElement target = vector.get("target");
      String expected;
      if (target.isJsonNull()) {
        expected = "ordinary";
      } else if (target.isJsonObject()) {
        String host = target.getAsJsonObject().get("host").getAsString();
        String bracketed = host.contains(":") ? "[" + host + "]" : host;
        expected = bracketed + ":" + target.getAsJsonObject().get("port").getAsString();
      } else {
        expected = target.getAsString();
      }
      assertEquals(expected, outcome(new Route("nowhere:1"), 4196, message), vector.toString());
    }
  }

  @Test
  void attempts() throws IOException {
    JsonArray vectors = vectors("attempts");
    assertTrue(vectors.size() > 10);
    for (JsonElement element : vectors) {
      JsonObject vector = element.getAsJsonObject();
      Route route = new Route(vector.get("origin").getAsString());
      String outcome = null;
      for (JsonElement error : vector.getAsJsonArray("errors")) {
        JsonArray pair = error.getAsJsonArray();
        outcome = outcome(route, pair.get(0).getAsInt(), pair.get(1).getAsString());
      }
      assertEquals(vector.get("outcome").getAsString(), outcome, vector.toString());
    }
  }

  /** Whatever the server takes as its target is one here, too, and nothing else. */
  @Test
  void targetsOfTheServer() throws SQLException {
    // A fixed seed: the same in every run.
    Random random = new Random(4196);
    int valid = 0;
    try (Connection connection = World.one().admin();
        Statement statement = connection.createStatement()) {
      for (int i = 0; i < 3000; i++) {
        String text = anyTarget(random);
        String expected;
        try {
          statement.execute("SET GLOBAL instant_failover_target = '" + text + "'");
          try (ResultSet row = statement.executeQuery("SELECT @@instant_failover_target")) {
            row.next();
            expected = row.getString(1);
          }
          valid++;
        } catch (SQLException refused) {
          expected = null;
        }
        if (text.isEmpty()) {
          continue;
        }
        String found;
        try {
          found = Target.parse(text).toString();
        } catch (Target.Malformed malformed) {
          found = null;
        }
        if (expected != null && !expected.matches(".*[^:\\]]:\\d+|.*\\]:\\d+")) {
          expected += ":3306";
        }
        assertEquals(expected, found, text);
      }
    }
    assertTrue(valid > 500, valid + " valid targets");
  }

  private static String anyTarget(Random random) {
    String[] seeds = {
      "db2",
      "db-2.example.com:3307",
      "192.0.2.1:1",
      "1.2.3",
      "0x7f.1",
      "db_1",
      "10.0.0.1.a",
      "[2001:db8::1]:3307",
      "[::ffff:192.0.2.1]",
      "[1:2:3:4:5:6:7:8]",
      "[::1.2.3.4]:5",
      "[fe80::1]",
      "[1:0:0:2:0:0:0:3]",
      "240.0.0.1",
      "[::ffff:224.0.0.1]",
      "[::ffff:7f00:1]:65535"
    };
    String alphabet = "[]:.-_/%0123456789abcdefgxXzZ";
    StringBuilder text = new StringBuilder(seeds[random.nextInt(seeds.length)]);
    for (int changes = random.nextInt(3); changes > 0; changes--) {
      int at = random.nextInt(text.length() + 1);
      char character = alphabet.charAt(random.nextInt(alphabet.length()));
      switch (random.nextInt(3)) {
        case 0:
          text.insert(at, character);
          break;
        case 1:
          text.replace(at, Math.min(at + 1, text.length()), String.valueOf(character));
          break;
        default:
          text.delete(at, Math.min(at + 1, text.length()));
      }
    }
    return text.toString();
  }
}
