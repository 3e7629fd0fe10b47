//! TLS to a server whose certificate is always verified: against the system's authorities and those of `TLS_CA_FILE`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Shakes hands with `host`.
///
/// # Errors
/// Why it cannot be trusted, in words.
pub(super) async fn secure(
    tcp: TcpStream,
    host: &str,
    ca_file: Option<PathBuf>,
) -> Result<TlsStream<TcpStream>, String> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| format!("{host} cannot be the name in a certificate"))?;
    let config = crate::off_thread(move || config(ca_file.as_deref())).await?;
    let shaken = TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
    shaken.map_err(|error| format!("TLS with {host} failed: {error}"))
}

fn config(ca_file: Option<&Path>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let found = rustls_native_certs::load_certs_from_paths(Some(path), None);
        roots.add_parsable_certificates(found.certs);
    }
    if roots.is_empty() {
        return Err("this machine has no TLS authorities: install its ca-certificates package".to_owned());
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
