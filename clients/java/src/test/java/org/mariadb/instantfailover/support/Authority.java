package org.mariadb.instantfailover.support;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.List;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;

/** A certificate authority, made with keytool. */
public final class Authority {
  /** The password of all key stores. */
  public static final String PASSWORD = "changeit";

  /** What all tests use. */
  public static final Authority TRUSTED = new Authority("Trusted");

  private final Path directory = Tool.directory();

  private Authority(String name) {
    keytool(
        "ca.p12",
        "-genkeypair",
        "-alias",
        "ca",
        "-keyalg",
        "RSA",
        "-dname",
        "CN=" + name,
        "-ext",
        "bc:c");
    keytool("ca.p12", "-exportcert", "-rfc", "-alias", "ca", "-file", file("ca.pem").toString());
    keytool(
        "trust.p12",
        "-importcert",
        "-noprompt",
        "-alias",
        "ca",
        "-file",
        file("ca.pem").toString());
  }

  /** The authority's certificate, in PEM. */
  public Path certificate() {
    return file("ca.pem");
  }

  /** A key store that has the authority's certificate only. */
  public Path trustStore() {
    return file("trust.p12");
  }

  /** Signs a certificate for names such as {@code dns:localhost,ip:127.0.0.1}. */
  public Certificate sign(String name, String names) {
    String store = name + ".p12";
    String request = file(name + ".csr").toString();
    String signed = file(name + ".pem").toString();
    keytool(store, "-genkeypair", "-alias", "key", "-keyalg", "RSA", "-dname", "CN=" + name);
    keytool(store, "-certreq", "-alias", "key", "-file", request);
    keytool(
        "ca.p12",
        "-gencert",
        "-rfc",
        "-alias",
        "ca",
        "-infile",
        request,
        "-outfile",
        signed,
        "-ext",
        "san=" + names);
    keytool(store, "-importcert", "-noprompt", "-alias", "ca", "-file", file("ca.pem").toString());
    keytool(store, "-importcert", "-noprompt", "-alias", "key", "-file", signed);
    return new Certificate(file(store), file(signed));
  }

  /** A certificate that no authority signed. */
  public Certificate selfSigned(String name, String names) {
    String store = name + ".p12";
    Path pem = file(name + ".pem");
    keytool(
        store,
        "-genkeypair",
        "-alias",
        "key",
        "-keyalg",
        "RSA",
        "-dname",
        "CN=" + name,
        "-ext",
        "san=" + names);
    keytool(store, "-exportcert", "-rfc", "-alias", "key", "-file", pem.toString());
    return new Certificate(file(store), pem);
  }

  private Path file(String name) {
    return directory.resolve(name);
  }

  private void keytool(String store, String... arguments) {
    List<String> command = new ArrayList<>();
    command.add(Path.of(System.getProperty("java.home"), "bin", "keytool").toString());
    command.addAll(Arrays.asList(arguments));
    command.addAll(List.of("-keystore", file(store).toString(), "-storepass", PASSWORD));
    Tool.run(command);
  }

  /** A certificate and its key. */
  public record Certificate(Path store, Path pem) {
    /** The key in PEM, as MariaDB reads it. */
    public Path key() {
      try {
        byte[] key = load().getKey("key", PASSWORD.toCharArray()).getEncoded();
        String base64 = Base64.getMimeEncoder(64, new byte[] {'\n'}).encodeToString(key);
        Path file = Path.of(store + ".key");
        return Files.writeString(
            file, "-----BEGIN PRIVATE KEY-----\n" + base64 + "\n-----END PRIVATE KEY-----\n");
      } catch (IOException error) {
        throw new UncheckedIOException(error);
      } catch (GeneralSecurityException error) {
        throw new IllegalStateException(error);
      }
    }

    /** For a server of the tests. */
    SSLContext context() {
      try {
        KeyManagerFactory keys =
            KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        keys.init(load(), PASSWORD.toCharArray());
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(keys.getKeyManagers(), null, null);
        return context;
      } catch (IOException | GeneralSecurityException error) {
        throw new IllegalStateException(error);
      }
    }

    private KeyStore load() throws IOException, GeneralSecurityException {
      KeyStore keys = KeyStore.getInstance("PKCS12");
      try (InputStream in = Files.newInputStream(store)) {
        keys.load(in, PASSWORD.toCharArray());
      }
      return keys;
    }
  }
}
