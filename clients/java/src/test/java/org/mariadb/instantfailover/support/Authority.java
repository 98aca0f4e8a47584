package org.mariadb.instantfailover.support;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.Key;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
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
  private final java.security.cert.Certificate certificate;

  private Authority(String name) {
    generate("ca", name, "bc:c");
    try {
      certificate = load(file("ca.p12")).getCertificate("key");
      write(certificate(), "CERTIFICATE", certificate.getEncoded());
      KeyStore trusted = KeyStore.getInstance("PKCS12");
      trusted.load(null, null);
      trusted.setCertificateEntry("ca", certificate);
      try (OutputStream out = Files.newOutputStream(trustStore())) {
        trusted.store(out, PASSWORD.toCharArray());
      }
    } catch (IOException | GeneralSecurityException error) {
      throw new IllegalStateException(error);
    }
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
    Path request = file(name + ".csr");
    Path signed = file(name + ".crt");
    generate(name, name, "san=" + names);
    keytool(name, "-certreq", "-file", request.toString());
    keytool(
        "ca",
        "-gencert",
        "-infile",
        request.toString(),
        "-outfile",
        signed.toString(),
        "-ext",
        "san=" + names);
    try (InputStream in = Files.newInputStream(signed)) {
      return new Certificate(
          file(name),
          load(file(name + ".p12")).getKey("key", PASSWORD.toCharArray()),
          CertificateFactory.getInstance("X.509").generateCertificate(in),
          certificate);
    } catch (IOException | GeneralSecurityException error) {
      throw new IllegalStateException(error);
    }
  }

  /** A certificate that no authority signed. */
  public Certificate selfSigned(String name, String names) {
    generate(name, name, "san=" + names);
    try {
      KeyStore keys = load(file(name + ".p12"));
      return new Certificate(
          file(name), keys.getKey("key", PASSWORD.toCharArray()), keys.getCertificate("key"));
    } catch (IOException | GeneralSecurityException error) {
      throw new IllegalStateException(error);
    }
  }

  private Path file(String name) {
    return directory.resolve(name);
  }

  private void generate(String store, String name, String extension) {
    keytool(store, "-genkeypair", "-keyalg", "EC", "-dname", "CN=" + name, "-ext", extension);
  }

  private void keytool(String store, String... arguments) {
    List<String> command = new ArrayList<>();
    command.add(Path.of(System.getProperty("java.home"), "bin", "keytool").toString());
    command.addAll(Arrays.asList(arguments));
    command.addAll(List.of("-alias", "key", "-storepass", PASSWORD));
    command.addAll(List.of("-keystore", file(store + ".p12").toString()));
    Tool.run(command);
  }

  private static KeyStore load(Path store) throws IOException, GeneralSecurityException {
    KeyStore keys = KeyStore.getInstance("PKCS12");
    try (InputStream in = Files.newInputStream(store)) {
      keys.load(in, PASSWORD.toCharArray());
    }
    return keys;
  }

  private static void write(Path file, String kind, byte[] content) throws IOException {
    String base64 = Base64.getMimeEncoder(64, new byte[] {'\n'}).encodeToString(content);
    Files.writeString(
        file, "-----BEGIN " + kind + "-----\n" + base64 + "\n-----END " + kind + "-----\n");
  }

  /** A certificate and its key. */
  public static final class Certificate {
    private final Path pem;
    private final Path keyPem;
    private final KeyStore store;

    private Certificate(Path base, Key key, java.security.cert.Certificate... chain)
        throws IOException, GeneralSecurityException {
      pem = Path.of(base + ".pem");
      keyPem = Path.of(base + ".key");
      write(pem, "CERTIFICATE", chain[0].getEncoded());
      write(keyPem, "PRIVATE KEY", key.getEncoded());
      store = KeyStore.getInstance("PKCS12");
      store.load(null, null);
      store.setKeyEntry("key", key, PASSWORD.toCharArray(), chain);
    }

    /** In PEM, as MariaDB reads it. */
    public Path pem() {
      return pem;
    }

    /** The key in PEM. */
    public Path key() {
      return keyPem;
    }

    /** For a server of the tests. */
    SSLContext context() {
      try {
        KeyManagerFactory keys =
            KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        keys.init(store, PASSWORD.toCharArray());
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(keys.getKeyManagers(), null, null);
        return context;
      } catch (GeneralSecurityException error) {
        throw new IllegalStateException(error);
      }
    }
  }
}
