//! TLS to a server whose certificate is always verified.

use super::super::failure::Failure;
use super::super::protocol::url::Target;
use crate::source::disk;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Shakes hands and verifies the server against the system's authorities and those in `ca_file`.
pub(in super::super) async fn secure(
    tcp: TcpStream,
    target: &Target,
    ca_file: Option<&Path>,
) -> Result<TlsStream<TcpStream>, Failure> {
    let name = ServerName::try_from(target.host.clone())
        .map_err(|_| Failure::tls_setup(format!("{} cannot be the name in a certificate.", target.host)))?;
    let connector = connector(ca_file.map(Path::to_owned)).await?;
    connector.connect(name, tcp).await.map_err(|error| Failure::tls(target, &error))
}

/// Reads the authorities anew for each connection: a run lasts for months, and they change. The files are read
/// on a thread of their own, because the media's thread must not wait for a disk.
async fn connector(ca_file: Option<PathBuf>) -> Result<TlsConnector, Failure> {
    let about = ca_file.clone().unwrap_or_default();
    let config = disk::SYSTEM.soon(&about, move || config(ca_file.as_deref())).await;
    let config = config.unwrap_or_else(|_| Err("The TLS authorities could not be read.".to_owned()));
    config.map(|config| TlsConnector::from(Arc::new(config))).map_err(Failure::tls_setup)
}

fn config(ca_file: Option<&Path>) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up ({error})."))?
        .with_root_certificates(authorities(ca_file)?)
        .with_no_client_auth();
    config.resumption = Resumption::disabled(); // the next connection has a configuration of its own
    Ok(config)
}

/// A single unusable certificate of the system is passed over; an unusable `ca_file` is an error, because
/// somebody asked for it.
fn authorities(ca_file: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let found = rustls_native_certs::load_certs_from_paths(Some(path), None);
        let (added, _) = roots.add_parsable_certificates(found.certs);
        if added == 0 || !found.errors.is_empty() {
            return Err(format!("TLS_CA_FILE {} holds no usable certificate in PEM.", path.display()));
        }
    }
    if roots.is_empty() {
        return Err("This machine has no TLS authorities: install its ca-certificates package.".to_owned());
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_file_that_was_asked_for_must_be_usable() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        assert!(authorities(Some(&file)).unwrap_err().contains("TLS_CA_FILE"));
        std::fs::write(&file, "not a certificate").unwrap();
        assert!(authorities(Some(&file)).unwrap_err().contains("ca.pem"));
    }
}
