package org.mariadb.instantfailover.support;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.UncheckedIOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.atomic.AtomicInteger;
import javax.net.ssl.SSLSocket;

/** A server that does not behave, and keeps all that it receives. */
public final class Impostor implements AutoCloseable {
  private static final int TIMEOUT = 20_000;
  private static final int CAPABILITIES =
      0x1 | 0x2 | 0x8 | 0x200 | 0x2000 | 0x8000 | 0x10000 | 0x20000 | 0x80000;
  private static final int SSL = 0x800;

  private final ServerSocket listener;
  private final Behaviour behaviour;
  private final ByteArrayOutputStream received = new ByteArrayOutputStream();
  private final AtomicInteger connections = new AtomicInteger();
  private final AtomicInteger closed = new AtomicInteger();

  /** What the server does with a client. */
  public interface Behaviour {
    void serve(Client client) throws IOException;
  }

  /** Begins to listen on a port of 127.0.0.1. */
  public Impostor(Behaviour behaviour) {
    this("127.0.0.1", behaviour);
  }

  /** Begins to listen on a port of an address. */
  public Impostor(String address, Behaviour behaviour) {
    this.behaviour = behaviour;
    try {
      listener = new ServerSocket(0, 50, InetAddress.getByName(address));
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
    Thread thread = new Thread(this::accept, "impostor");
    thread.setDaemon(true);
    thread.start();
  }

  /** One that answers the login, without TLS, with an error. */
  public static Impostor answering(int code, String message) {
    return new Impostor(
        client -> {
          client.greet(false);
          client.read();
          client.error(code, message);
        });
  }

  /** Where clients connect. */
  public int port() {
    return listener.getLocalPort();
  }

  /** As a target. */
  public String address() {
    return "127.0.0.1:" + port();
  }

  /** The connections so far. */
  public int connections() {
    return connections.get();
  }

  /** The connections that the client closed. */
  public int closedByClient() {
    return closed.get();
  }

  /** Whether a text was received in clear. */
  public boolean received(String text) {
    synchronized (received) {
      return received.toString(StandardCharsets.ISO_8859_1).contains(text);
    }
  }

  @Override
  public void close() {
    try {
      listener.close();
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }

  private void accept() {
    while (!listener.isClosed()) {
      try {
        Socket socket = listener.accept();
        connections.incrementAndGet();
        Thread thread = new Thread(() -> serve(socket), "impostor's client");
        thread.setDaemon(true);
        thread.start();
      } catch (IOException error) {
        return;
      }
    }
  }

  private void serve(Socket socket) {
    try (socket) {
      socket.setSoTimeout(TIMEOUT);
      Client client = new Client(socket);
      behaviour.serve(client);
      // Until the client hangs up.
      while (client.in.read() >= 0) {
        continue;
      }
      closed.incrementAndGet();
    } catch (IOException error) {
      // The client may do what it likes.
    }
  }

  /** A client of the impostor. */
  public final class Client {
    private final Socket socket;
    private InputStream in;
    private OutputStream out;
    private int sequence;

    private Client(Socket socket) throws IOException {
      this.socket = socket;
      this.in = socket.getInputStream();
      this.out = socket.getOutputStream();
    }

    /** Sends the greeting. */
    public void greet(boolean hasTls) throws IOException {
      int capabilities = CAPABILITIES | (hasTls ? SSL : 0);
      ByteArrayOutputStream packet = new ByteArrayOutputStream();
      packet.write(10);
      packet.write("11.4.5-MariaDB-impostor\0".getBytes(StandardCharsets.US_ASCII));
      packet.write(new byte[] {7, 0, 0, 0});
      packet.write("abcdefgh\0".getBytes(StandardCharsets.US_ASCII));
      packet.write(capabilities);
      packet.write(capabilities >> 8);
      packet.write(new byte[] {45, 2, 0});
      packet.write(capabilities >> 16);
      packet.write(capabilities >> 24);
      packet.write(21);
      packet.write(new byte[10]);
      packet.write("ijklmnopqrst\0mysql_native_password\0".getBytes(StandardCharsets.US_ASCII));
      send(packet.toByteArray());
    }

    /** Reads a packet. */
    public byte[] read() throws IOException {
      byte[] header = in.readNBytes(4);
      if (header.length < 4) {
        throw new IOException("the client has gone");
      }
      sequence = header[3] + 1;
      byte[] packet = in.readNBytes(header[0] & 0xff | (header[1] & 0xff) << 8);
      synchronized (received) {
        received.write(packet);
      }
      return packet;
    }

    /** Sends an error packet. */
    public void error(int code, String message) throws IOException {
      ByteArrayOutputStream packet = new ByteArrayOutputStream();
      packet.write(0xff);
      packet.write(code);
      packet.write(code >> 8);
      packet.write("#HY000".getBytes(StandardCharsets.US_ASCII));
      packet.write(message.getBytes(StandardCharsets.UTF_8));
      send(packet.toByteArray());
    }

    /** Does the handshake of TLS. */
    public void startTls(Authority.Certificate certificate) throws IOException {
      SSLSocket tls =
          (SSLSocket)
              certificate
                  .context()
                  .getSocketFactory()
                  .createSocket(socket, "127.0.0.1", socket.getPort(), false);
      tls.setUseClientMode(false);
      tls.startHandshake();
      in = tls.getInputStream();
      out = tls.getOutputStream();
    }

    /** Sends a packet. */
    public void send(byte[] body) throws IOException {
      byte[] packet = new byte[4 + body.length];
      packet[0] = (byte) body.length;
      packet[1] = (byte) (body.length >> 8);
      packet[3] = (byte) sequence++;
      System.arraycopy(body, 0, packet, 4, body.length);
      out.write(packet);
      out.flush();
    }
  }
}
