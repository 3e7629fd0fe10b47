//! A bucket behind TLS with a certificate of its own authority.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod server;

use server::{Server, settings};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use storage::{Storage, StorageError};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, version};

/// A certificate for 127.0.0.1 that nobody knows, and its key.
fn certificate(folder: &Path) -> (PathBuf, PathBuf) {
    let (certificate, key) = (folder.join("ca.pem"), folder.join("key.pem"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-out")
        .arg(&certificate)
        .arg("-keyout")
        .arg(&key)
        .output();
    assert!(made.unwrap().status.success());
    (certificate, key)
}

/// TLS before the server; gives the endpoint.
async fn front(server: &Server, certificate: &Path, key: &Path) -> String {
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_file(certificate).unwrap()],
            PrivateKeyDer::from_pem_file(key).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    let upstream = server.endpoint.trim_start_matches("http://").to_owned();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (acceptor, upstream) = (acceptor.clone(), upstream.clone());
            tokio::spawn(async move {
                let Ok(mut client) = acceptor.accept(client).await else { return };
                let mut server = TcpStream::connect(upstream).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    endpoint
}

#[tokio::test]
async fn a_private_authority_is_trusted_when_it_is_named_and_only_then() {
    let server = Server::start();
    std::fs::write(server.folder().join("a.mp4"), b"four").unwrap();
    let desk = tempfile::tempdir().unwrap();
    let (certificate, key) = certificate(desk.path());
    let endpoint = front(&server, &certificate, &key).await;

    let trusting = Storage::open(settings(&endpoint), Some(&certificate)).unwrap();
    assert_eq!(trusting.list_media().await.unwrap().len(), 1);
    let mut body = trusting.get("a.mp4", 0, None).await.unwrap();
    assert_eq!(body.chunk().await.unwrap().unwrap().as_ref(), b"four");

    let error = Storage::open(settings(&endpoint), None).unwrap().check().await.unwrap_err();
    assert!(matches!(error, StorageError::Other(_)) && !error.is_worth_retrying(), "{error:?}");
    assert!(error.to_string().contains("TLS_CA_FILE"), "{error}");
}
