package org.mariadb.instantfailover;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Properties;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;

/** URLs, and what becomes of them. */
class ConnectionStringTest {
  private static ConnectionString parse(String url) {
    return ConnectionString.parse(url, new Properties());
  }

  @Test
  void kept() {
    for (String url :
        new String[] {
          "jdbc:mariadb://db1",
          "jdbc:mariadb://db1/",
          "jdbc:mariadb://db1:3307/demo",
          "jdbc:mariadb://db1?user=a",
          "jdbc:mariadb://db1/demo?user=a&password=b?c=d&useCompression",
          "jdbc:mysql://db1/demo?permitMysqlScheme",
          "jdbc:mariadb:sequential://db1,db2:3307/demo?a=/b",
          "jdbc:mariadb://address=(host=db1)(port=3307)(localSocket=/run/s),db2/demo",
          "jdbc:mariadb:///demo?localSocket=/run/s"
        }) {
      assertEquals(url, parse(url).url());
    }
    for (String url : new String[] {"jdbc:mariadb:db1", "jdbc:mariadb", "jdbc://db1:1", "x"}) {
      assertNull(parse(url), url);
    }
  }

  @Test
  void origins() {
    for (String[] pair :
        new String[][] {
          {"jdbc:mariadb://db1/demo", "db1:3306"},
          {"jdbc:mariadb://db1:3307", "db1:3307"},
          {"jdbc:mariadb://[::1]:3307/", "[::1]:3307"},
          {"jdbc:mariadb://[::1]?user=a", "[::1]:3306"},
          {"jdbc:mariadb://address=(type=master)( Host = db1 )(port=1)/", "db1:1"},
          {"jdbc:mariadb://address=(host=[::1])/", "[::1]:3306"},
          {"jdbc:mariadb://address=(localSocket=/run/s)/", "/run/s"},
          {"jdbc:mariadb:///demo?localsocket=/run/s", "/run/s"},
          {"jdbc:mariadb:sequential://db1,db2:1/demo", "db1,db2:1"},
        }) {
      assertEquals(pair[1], parse(pair[0]).origin(), pair[0]);
    }
  }

  @Test
  void targets() throws Target.Malformed {
    Target target = Target.parse("[2001:DB8::1]:3307");
    for (String[] pair :
        new String[][] {
          {"jdbc:mariadb://db1", "jdbc:mariadb://[2001:db8::1]:3307"},
          {"jdbc:mysql://db1/demo?a", "jdbc:mysql://[2001:db8::1]:3307/demo?a"},
          {
            "jdbc:mariadb:sequential://db1,db2/demo?LocalSocket=/run/s&a=b&pipe=x",
            "jdbc:mariadb://[2001:db8::1]:3307/demo?a=b"
          },
          {
            "jdbc:mariadb://db1/demo?localSocketAddress=10.0.0.1",
            "jdbc:mariadb://[2001:db8::1]:3307/demo?localSocketAddress=10.0.0.1"
          },
        }) {
      assertEquals(pair[1], parse(pair[0]).to(target).url());
    }
    Properties properties = new Properties();
    properties.setProperty("localSocket", "/run/s");
    properties.setProperty("user", "a");
    ConnectionString to = ConnectionString.parse("jdbc:mariadb://db1", properties).to(target);
    assertEquals("[user]", to.properties().keySet().toString());
  }

  @Test
  void options() {
    Properties properties = new Properties();
    properties.setProperty("ConnectTimeout", "1");
    properties.setProperty("pool", "false");
    ConnectionString string =
        ConnectionString.parse("jdbc:mariadb://db1/demo?Pool&connecttimeoutX=2", properties);
    assertEquals("", string.option("pool"));
    assertEquals("1", string.option("connectTimeout"));
    assertNull(string.option("connect"));
    ConnectionString changed = string.with("connectTimeout", "3").without("pool");
    assertEquals("jdbc:mariadb://db1/demo?connecttimeoutX=2", changed.url());
    assertEquals("{connectTimeout=3}", changed.properties().toString());
    assertEquals("1", properties.getProperty("ConnectTimeout"));
    properties.put("InstantFailoverFollow", 0);
    properties.put("pool", true);
    string = ConnectionString.parse("jdbc:mariadb://db1/demo", properties);
    assertEquals("0", string.option("instantFailoverFollow"));
    assertEquals("true", string.option("pool"));
    Properties withDefaults = new Properties(properties);
    withDefaults.setProperty("user", "a");
    string = ConnectionString.parse("jdbc:mariadb://db1/demo", withDefaults);
    assertEquals("1", string.option("connectTimeout"));
  }

  @Test
  void hosts() {
    ConnectionString list =
        parse("jdbc:mariadb://db1,address=(host=db2)(sslMode=trust),[::1]:1/demo?a=b");
    assertEquals(
        "jdbc:mariadb://db1/demo?a=b jdbc:mariadb://address=(host=db2)(sslMode=trust)/demo?a=b"
            + " jdbc:mariadb://[::1]:1/demo?a=b",
        list.each().stream().map(ConnectionString::url).collect(Collectors.joining(" ")));
    assertTrue(list.mixesSslModes());
    ConnectionString second = list.each().get(1);
    assertFalse(second.mixesSslModes());
    assertEquals("trust", second.withSslModeOfHost().option("sslMode"));
    assertNull(list.each().get(0).withSslModeOfHost().option("sslMode"));
    assertEquals(1, parse("jdbc:mariadb:loadbalance://db1,db2").each().size());
    // As in Connector/J, a comma at the end says nothing.
    assertEquals(1, parse("jdbc:mariadb://db1,,/demo").each().size());
    for (String url : new String[] {"jdbc:mariadb:///demo", "jdbc:mariadb://,,/demo"}) {
      ConnectionString none = parse(url);
      assertEquals("jdbc:mariadb:///demo", none.each().get(0).withSslModeOfHost().url());
      assertEquals(1, none.each().size());
      assertEquals(":3306", none.origin());
      assertFalse(none.hasHost());
    }
    assertTrue(list.hasHost());
    assertFalse(parse("jdbc:mariadb:///demo?localSocket=/run/s").hasHost());
  }
}
