//! Certificates, and what TLS is spoken with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{CipherSuite, RootCertStore, ServerConfig};

/// Where certificate and key come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// From PEM files.
    Files { certificate: PathBuf, key: PathBuf },
    /// Made now, signed by nobody else, for this name: what MariaDB 11.4 does without files.
    SelfSigned(String),
}

/// TLS 1.2 and 1.3 with this certificate. With `authorities`, a client that has a certificate must have it from one of
/// those; a client without one is fine, as with mariadbd.
///
/// # Errors
/// What is wrong with which file.
pub(super) fn configure(identity: &Identity, authorities: Option<&Path>) -> Result<Arc<ServerConfig>, String> {
    let (chain, key) = match identity {
        Identity::Files { certificate, key } => (certificates("--ssl-cert", certificate)?, private_key(key)?),
        Identity::SelfSigned(name) => self_signed(name)?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| format!("TLS: {error}"))?;
    let builder = match authorities {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates("--ssl-ca", file)? {
                roots.add(certificate).map_err(|error| format!("--ssl-ca {}: {error}", file.display()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = verifier.allow_unauthenticated().build();
            builder
                .with_client_cert_verifier(verifier.map_err(|error| format!("--ssl-ca {}: {error}", file.display()))?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| match identity {
        Identity::Files { certificate, key } => {
            format!("--ssl-cert {} and --ssl-key {}: {error}", certificate.display(), key.display())
        }
        Identity::SelfSigned(_) => format!("the certificate made at start: {error}"),
    })?;
    // Nobody stays long enough to come back to the same session.
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

fn certificates(option: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if certificates.is_empty() => {
            Err(format!("{option} {}: there is no certificate in it; it should be PEM", file.display()))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(format!("{option} {}: {error}", file.display())),
    }
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| format!("--ssl-key {}: {error}", file.display()))
}

fn self_signed(name: &str) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let names = vec![name.to_owned(), "localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).map_err(|error| {
        format!("no certificate can be made for '{name}': {error}; give --ssl-cert and --ssl-key, or --skip-ssl")
    })?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(str::to_owned)?;
    Ok((vec![made.cert.der().clone()], key))
}

#[cfg(test)]
mod tests {
    use super::cipher_name;

    #[test]
    fn every_cipher_suite_has_a_name() {
        let suites = rustls::crypto::ring::default_provider().cipher_suites;
        let mut names: Vec<_> = suites.iter().map(|suite| cipher_name(suite.suite())).collect();
        // What SHOW STATUS tells the version of TLS by.
        assert!(
            suites.iter().all(|suite| { suite.tls13().is_some() == cipher_name(suite.suite()).starts_with("TLS_") })
        );
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), suites.len());
        assert!(!names.contains(&"unknown"));
    }
}
