package org.mariadb.instantfailover;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import com.zaxxer.hikari.HikariDataSource;
import java.io.IOException;
import java.io.Writer;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.nio.file.StandardOpenOption;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;

/**
 * Writes and reads through a pool for some seconds, and counts what was acknowledged and what
 * failed.
 */
final class Load {
  private static final int MOST_ERRORS_SHOWN = 10;
  private static final long IDS_OF_A_WORKER = 1_000_000_000L;

  private final HikariDataSource pool;
  private final JsonObject settings;
  private final long end;
  private Writer file;

  private long acknowledged;
  private long inTransaction;
  private long outside;
  private long unknown;
  private long longestPause;
  private final JsonArray firstErrors = new JsonArray();

  Load(HikariDataSource pool, JsonObject settings) {
    this.pool = pool;
    this.settings = settings;
    long milliseconds = Math.round(settings.get("seconds").getAsDouble() * 1000);
    this.end = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(milliseconds);
  }

  JsonObject run() throws IOException, InterruptedException {
    try (Writer writer =
        Files.newBufferedWriter(
            Paths.get(settings.get("file").getAsString()),
            StandardOpenOption.CREATE,
            StandardOpenOption.APPEND)) {
      file = writer;
      List<Thread> workers = new ArrayList<>();
      for (int i = 0; i < settings.get("workers").getAsInt(); i++) {
        long first = i * IDS_OF_A_WORKER;
        Thread worker = new Thread(() -> work(first));
        worker.start();
        workers.add(worker);
      }
      for (Thread worker : workers) {
        worker.join();
      }
    }
    JsonObject result = new JsonObject();
    result.addProperty("acknowledged", acknowledged);
    result.addProperty("errors_in_transaction", inTransaction);
    result.addProperty("errors_outside", outside);
    result.addProperty("unknown", unknown);
    result.addProperty("longest_pause_ms", TimeUnit.NANOSECONDS.toMillis(longestPause));
    result.add("first_errors", firstErrors);
    return result;
  }

  private void work(long first) {
    long last = System.nanoTime();
    long id = first;
    while (System.nanoTime() < end) {
      id++;
      Stage stage = Stage.OUTSIDE;
      try (Connection connection = pool.getConnection()) {
        try (Statement statement = connection.createStatement()) {
          statement.execute("BEGIN");
          stage = Stage.INSIDE;
          statement.execute("INSERT INTO orders(id) VALUES(" + id + ")");
          statement.execute("INSERT INTO `lines`(id) VALUES(" + id + ")");
          stage = Stage.COMMIT;
          statement.execute("COMMIT");
          stage = Stage.OUTSIDE;
          long now = System.nanoTime();
          acknowledge(id, now - last);
          last = now;
          try (ResultSet rows = statement.executeQuery("SELECT id FROM orders LIMIT 1")) {
            rows.next();
          }
        } catch (SQLException error) {
          // The next transaction must not continue this one.
          pool.evictConnection(connection);
          throw error;
        }
      } catch (SQLException error) {
        fail(error, stage);
      } catch (IOException error) {
        throw new IllegalStateException(error);
      }
    }
  }

  private synchronized void acknowledge(long id, long pause) throws IOException {
    acknowledged++;
    longestPause = Math.max(longestPause, pause);
    file.write(id + "\n");
    file.flush();
  }

  private synchronized void fail(SQLException error, Stage stage) {
    if (stage == Stage.OUTSIDE) {
      outside++;
    } else {
      inTransaction++;
    }
    // Without a code it is not the server's answer.
    if (stage == Stage.COMMIT && error.getErrorCode() <= 0) {
      unknown++;
    }
    if (firstErrors.size() < MOST_ERRORS_SHOWN) {
      firstErrors.add(error.toString());
    }
  }

  private enum Stage {
    OUTSIDE,
    INSIDE,
    COMMIT
  }
}
