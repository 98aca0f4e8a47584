//! Certificates and the TLS configuration.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{CipherSuite, RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};

use super::files::{self, When};

/// A certificate with its chain and its key.
#[derive(Debug)]
pub(super) struct Certified {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    /// Its origin, for messages.
    origin: String,
}

impl Certified {
    /// From PEM files.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub(super) fn read(certificate: &Path, key: &Path, when: When) -> Result<Self, String> {
        let origin = format!("--ssl-cert {} and --ssl-key {}", certificate.display(), key.display());
        Ok(Self { chain: certificates("--ssl-cert", certificate, when)?, key: private_key(key, when)?, origin })
    }

    /// Generates a self-signed certificate for this name, as MariaDB 11.4 does without files.
    ///
    /// # Errors
    /// If the name cannot be in a certificate.
    pub(super) fn self_signed(name: &str) -> Result<Self, String> {
        let names = vec![name.to_owned(), "localhost".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).map_err(|error| {
            format!("cannot generate a certificate for '{name}': {error}; give --ssl-cert and --ssl-key, or --skip-ssl")
        })?;
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(str::to_owned)?;
        Ok(Self { chain: vec![made.cert.der().clone()], key, origin: "the generated certificate".to_owned() })
    }
}

impl Clone for Certified {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key(), origin: self.origin.clone() }
    }
}

/// The enabled TLS versions and cipher suites.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Protocol {
    versions: Vec<&'static SupportedProtocolVersion>,
    suites: Vec<SupportedCipherSuite>,
}

impl Protocol {
    /// From mariadbd's `tls_version` and `ssl_cipher`.
    ///
    /// # Errors
    /// Which value of which option is not supported.
    pub(super) fn new(tls_version: &str, ssl_cipher: Option<&str>) -> Result<Self, String> {
        let mut versions: Vec<&'static SupportedProtocolVersion> = Vec::new();
        for name in tls_version.split(',').map(str::trim) {
            let known = VERSIONS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
            let (_, version) = known.ok_or_else(|| {
                format!("--tls-version: '{}' is not supported; give TLSv1.2, TLSv1.3, or both", name.escape_debug())
            })?;
            if !versions.contains(version) {
                versions.push(version);
            }
        }
        let mut suites = all_suites();
        if let Some(list) = ssl_cipher {
            let mut named = Vec::new();
            for name in list.split([':', ',', ' ']).filter(|name| !name.is_empty()) {
                let suite = suites.iter().find(|suite| cipher_name(suite.suite()) == name);
                named.push(*suite.ok_or_else(|| {
                    let known: Vec<_> = suites.iter().map(|suite| cipher_name(suite.suite())).collect();
                    let (name, known) = (name.escape_debug(), known.join(":"));
                    format!("--ssl-cipher: '{name}' is not supported; give names from {known}")
                })?);
            }
            // As in OpenSSL, a list without suites of one version does not restrict that version.
            let restricted = |version| named.iter().any(|suite| suite.version() == version);
            suites.retain(|suite| !restricted(suite.version()) || named.contains(suite));
        }
        Ok(Self { versions, suites })
    }

    /// `tls_version` as it is shown.
    pub(super) fn shown_versions(&self) -> String {
        let names = VERSIONS.iter().filter(|(_, version)| self.versions.contains(version)).map(|(name, _)| *name);
        names.collect::<Vec<_>>().join(",")
    }
}

const VERSIONS: [(&str, &SupportedProtocolVersion); 2] =
    [("TLSv1.2", &rustls::version::TLS12), ("TLSv1.3", &rustls::version::TLS13)];

fn all_suites() -> Vec<SupportedCipherSuite> {
    rustls::crypto::ring::default_provider().cipher_suites
}

/// The TLS configuration for this certificate. With `authorities`, a client's certificate must be signed by one of them; as in
/// mariadbd, a client without a certificate is accepted.
///
/// # Errors
/// What is wrong with which file.
pub(super) fn configure(
    Certified { chain, key, origin }: Certified,
    protocol: &Protocol,
    authorities: Option<&Path>,
    when: When,
) -> Result<Arc<ServerConfig>, String> {
    let suites = protocol.suites.clone();
    let provider = Arc::new(CryptoProvider { cipher_suites: suites, ..rustls::crypto::ring::default_provider() });
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_protocol_versions(&protocol.versions).map_err(|error| format!("TLS: {error}"))?;
    let builder = match authorities {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates("--ssl-ca", file, when)? {
                roots.add(certificate).map_err(|error| format!("--ssl-ca {}: {error}", file.display()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = verifier.allow_unauthenticated().build();
            builder
                .with_client_cert_verifier(verifier.map_err(|error| format!("--ssl-ca {}: {error}", file.display()))?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| format!("{origin}: {error}"))?;
    // Clients do not stay long enough to resume a session.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// A cipher suite as MariaDB and OpenSSL call it.
pub(super) const fn cipher_name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-ECDSA-CHACHA20-POLY1305",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305",
        _ => "unknown",
    }
}

fn certificates(option: &str, file: &Path, when: When) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |why: &dyn fmt::Display| format!("{option} {}: {why}", file.display());
    let pem = files::read(file, when).map_err(|error| wrong(&error))?;
    let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    match certificates {
        Ok(certificates) if certificates.is_empty() => {
            Err(wrong(&"no certificate found; the file must be in PEM format"))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(wrong(&error)),
    }
}

fn private_key(file: &Path, when: When) -> Result<PrivateKeyDer<'static>, String> {
    let wrong = |why: &dyn fmt::Display| format!("--ssl-key {}: {why}", file.display());
    let pem = files::read(file, when).map_err(|error| wrong(&error))?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| wrong(&error))
}

#[cfg(test)]
mod tests {
    use super::{Protocol, cipher_name};

    #[test]
    fn every_cipher_suite_has_a_name() {
        let suites = rustls::crypto::ring::default_provider().cipher_suites;
        let mut names: Vec<_> = suites.iter().map(|suite| cipher_name(suite.suite())).collect();
        // SHOW STATUS derives the TLS version from the name.
        assert!(
            suites.iter().all(|suite| { suite.tls13().is_some() == cipher_name(suite.suite()).starts_with("TLS_") })
        );
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), suites.len());
        assert!(!names.contains(&"unknown"));
    }

    #[test]
    fn versions_and_suites_are_named_as_mariadb_names_them() {
        let suites = |list: &str| {
            let protocol = Protocol::new("TLSv1.2,TLSv1.3", Some(list)).unwrap();
            protocol.suites.iter().map(|suite| cipher_name(suite.suite())).collect::<Vec<_>>().join(":")
        };
        let (tls12, tls13) = ("ECDHE-RSA-AES256-GCM-SHA384", "TLS_AES_256_GCM_SHA384");
        assert_eq!(suites(&format!("{tls12}:{tls13}")), format!("{tls13}:{tls12}"));
        let one = suites(tls13);
        assert!(one.starts_with(&format!("{tls13}:ECDHE-")) && one.matches("TLS_").count() == 1, "{one}");
        assert_eq!(suites(""), Protocol::new("tlsv1.3", None).map(|_| suites(":")).unwrap());
        for (versions, shown) in
            [("TLSv1.3", "TLSv1.3"), ("tlsv1.3, TLSv1.2", "TLSv1.2,TLSv1.3"), ("TLSv1.2,TLSv1.2", "TLSv1.2")]
        {
            assert_eq!(Protocol::new(versions, None).unwrap().shown_versions(), shown);
        }
        for versions in ["TLSv1.1,TLSv1.2", "ALL", "", "TLSv1.2,"] {
            let error = Protocol::new(versions, None).unwrap_err();
            assert!(error.contains("give TLSv1.2, TLSv1.3, or both"), "{error}");
        }
        let error = Protocol::new("TLSv1.2", Some("HIGH:!aNULL")).unwrap_err();
        assert!(error.contains("'HIGH' is not supported; give names from TLS_AES_"), "{error}");
    }
}
