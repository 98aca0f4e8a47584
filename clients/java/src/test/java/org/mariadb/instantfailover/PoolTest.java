package org.mariadb.instantfailover;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.mariadb.instantfailover.support.World.one;
import static org.mariadb.instantfailover.support.World.plainUrl;
import static org.mariadb.instantfailover.support.World.port;
import static org.mariadb.instantfailover.support.World.two;
import static org.mariadb.instantfailover.support.World.url;

import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.sql.Connection;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.List;
import javax.sql.DataSource;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.mariadb.instantfailover.support.Server;
import org.mariadb.instantfailover.support.World.Tls;
import org.springframework.boot.WebApplicationType;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.boot.builder.SpringApplicationBuilder;
import org.springframework.context.ConfigurableApplicationContext;
import org.springframework.jdbc.core.JdbcTemplate;
import org.springframework.jdbc.datasource.DriverManagerDataSource;
import org.springframework.jdbc.datasource.SimpleDriverDataSource;
import org.springframework.jdbc.support.JdbcUtils;

/** HikariCP and Spring Boot, with the class of the driver and with the URL. */
class PoolTest {
  private static final int SIZE = 4;

  @AfterEach
  void letIn() throws SQLException {
    one().letIn();
  }

  private static HikariDataSource hikari(String driver, String url) {
    HikariConfig config = new HikariConfig();
    if (driver != null) {
      config.setDriverClassName(driver);
    }
    config.setJdbcUrl(url);
    config.setUsername(Server.USER);
    config.setPassword(Server.PASSWORD);
    config.setMaximumPoolSize(SIZE);
    config.setConnectionTimeout(20_000);
    return new HikariDataSource(config);
  }

  /** Takes all connections at once, and counts those of a server. */
  private static int at(Server server, DataSource pool) throws SQLException {
    List<Connection> all = new ArrayList<>();
    try {
      int count = 0;
      for (int i = 0; i < SIZE; i++) {
        Connection connection = pool.getConnection();
        all.add(connection);
        count += port(connection) == server.port() ? 1 : 0;
      }
      return count;
    } finally {
      for (Connection connection : all) {
        connection.close();
      }
    }
  }

  /** The pool goes to the other server and back, without a restart. */
  private static void switches(HikariDataSource pool) throws SQLException {
    assertEquals(SIZE, at(one(), pool));
    one().redirectTo(two().address());
    // Open connections stay until they are closed.
    assertEquals(SIZE, at(one(), pool));
    pool.getHikariPoolMXBean().softEvictConnections();
    assertEquals(SIZE, at(two(), pool));
    one().letIn();
    pool.getHikariPoolMXBean().softEvictConnections();
    assertEquals(SIZE, at(one(), pool));
  }

  @Test
  void hikariByTheClassOfTheDriver() throws SQLException {
    try (HikariDataSource pool = hikari(Driver.class.getName(), plainUrl(one().port(), Tls.OFF))) {
      switches(pool);
    }
  }

  @Test
  void hikariByUrl() throws SQLException {
    try (HikariDataSource pool = hikari(null, url(one().port(), Tls.OFF))) {
      switches(pool);
    }
  }

  /** Connections that the server closes, as it does when it drains. */
  @Test
  void hikariWhenTheServerClosesConnections() throws SQLException {
    try (HikariDataSource pool = hikari(Driver.class.getName(), plainUrl(one().port(), Tls.OFF))) {
      assertEquals(SIZE, at(one(), pool));
      one().redirectTo(two().address());
      one().execute("KILL USER " + Server.USER + "@localhost");
      int failures = 0;
      for (int i = 0; i < SIZE + 1; i++) {
        try {
          assertEquals(SIZE, at(two(), pool));
        } catch (SQLException error) {
          failures++;
        }
      }
      // Hikari hands out a connection without a test within half a second of its last use.
      assertTrue(failures <= SIZE, failures + " failures");
    }
  }

  @EnableAutoConfiguration
  static class Application {}

  private static ConfigurableApplicationContext boot(String... properties) {
    return new SpringApplicationBuilder(Application.class)
        .web(WebApplicationType.NONE)
        .logStartupInfo(false)
        .properties("spring.main.banner-mode=off", "logging.level.root=off")
        .properties("spring.datasource.username=" + Server.USER)
        .properties("spring.datasource.password=" + Server.PASSWORD)
        .properties(properties)
        .run();
  }

  private static void answers(ConfigurableApplicationContext context) throws SQLException {
    JdbcTemplate template = context.getBean(JdbcTemplate.class);
    assertEquals(two().port(), template.queryForObject("SELECT @@port", Integer.class));
    DataSource source = context.getBean(DataSource.class);
    assertTrue(source instanceof HikariDataSource, source.toString());
    // How Spring, Flyway and others tell which database it is.
    try (Connection connection = source.getConnection()) {
      String product = connection.getMetaData().getDatabaseProductName();
      assertEquals("MariaDB", JdbcUtils.commonDatabaseName(product));
    }
  }

  @Test
  void springBootByTheClassOfTheDriver() throws SQLException {
    one().redirectTo(two().address());
    try (ConfigurableApplicationContext context =
        boot(
            "spring.datasource.driver-class-name=org.mariadb.instantfailover.Driver",
            "spring.datasource.url=" + plainUrl(one().port(), Tls.OFF))) {
      answers(context);
    }
  }

  /** Spring Boot does not know the prefix, and wants the class even then. */
  @Test
  void springBootByUrl() throws SQLException {
    one().redirectTo(two().address());
    String url = "spring.datasource.url=" + url(one().port(), Tls.OFF);
    try (ConfigurableApplicationContext context =
        boot(url, "spring.datasource.driver-class-name=org.mariadb.instantfailover.Driver")) {
      answers(context);
    }
    assertThrows(RuntimeException.class, () -> boot(url).getBean(JdbcTemplate.class));
  }

  @Test
  void dataSourcesOfSpring() throws SQLException {
    one().redirectTo(two().address());
    String plain = plainUrl(one().port(), Tls.OFF);
    assertEquals(
        SIZE,
        at(two(), new SimpleDriverDataSource(new Driver(), plain, Server.USER, Server.PASSWORD)));
    // This one asks DriverManager, whatever class it is given.
    String url = url(one().port(), Tls.OFF);
    DriverManagerDataSource byUrl = new DriverManagerDataSource(url, Server.USER, Server.PASSWORD);
    byUrl.setDriverClassName(Driver.class.getName());
    assertEquals(SIZE, at(two(), byUrl));
    byUrl.setUrl(plain);
    assertThrows(SQLException.class, byUrl::getConnection);
  }
}
