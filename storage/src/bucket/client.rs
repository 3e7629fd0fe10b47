//! The S3 client: where it connects to, what it trusts, how long it waits and how often it tries.

use crate::StorageError;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Builder, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_smithy_http_client::tls::{self, TlsContext, TrustStore, rustls_provider::CryptoMode};
use state::storage::StorageSettings;
use std::path::Path;
use std::time::Duration;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject};

/// Until a connection must stand, TLS included.
const CONNECT: Duration = Duration::from_secs(5);

/// Until the first byte of the answer, from the start of the request.
const FIRST_BYTE: Duration = Duration::from_secs(10);

/// One attempt of a request whose answer is short.
const ATTEMPT: Duration = Duration::from_secs(30);

/// AWS puts the parts of a large upload together for minutes (CompleteMultipartUpload).
const COMPLETION: Duration = Duration::from_secs(600);

/// Attempts of a request, the first included, and the longest pause between two.
const ATTEMPTS: u32 = 3;
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

pub(super) fn build(settings: &StorageSettings, tls_ca_file: Option<&Path>) -> Result<Client, StorageError> {
    let credentials = Credentials::new(
        settings.access_key_id.expose(),
        settings.secret_access_key.expose(),
        None,
        None,
        "environment",
    );
    let mut config = Builder::new()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http_client(tls_ca_file)?)
        .credentials_provider(credentials)
        .region(Region::new(settings.region.clone()))
        .force_path_style(true)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS).with_max_backoff(LONGEST_PAUSE))
        .timeout_config(answers_soon())
        // Bodies have deadlines of their own, in `Body` and `sending`.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    let endpoint = Some(settings.endpoint.clone()).filter(|endpoint| !endpoint.is_empty());
    config.set_endpoint_url(endpoint);
    Ok(Client::from_conf(config.build()))
}

fn answers_soon() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .read_timeout(FIRST_BYTE)
        .operation_attempt_timeout(ATTEMPT)
        .build()
}

/// For requests with a long body: the SDK counts its sending into the time to the first byte.
pub(super) fn while_sending() -> Builder {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .disable_read_timeout()
        .disable_operation_attempt_timeout()
        .build();
    aws_sdk_s3::config::Config::builder().timeout_config(timeouts)
}

/// For the one request that is answered late.
pub(super) fn while_completing() -> Builder {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .read_timeout(COMPLETION)
        .operation_attempt_timeout(COMPLETION)
        .build();
    aws_sdk_s3::config::Config::builder().timeout_config(timeouts)
}

fn http_client(tls_ca_file: Option<&Path>) -> Result<SharedHttpClient, StorageError> {
    let trust = tls_ca_file.map(read_certificates).transpose()?;
    let store = trust.into_iter().fold(TrustStore::default(), TrustStore::with_pem_certificate);
    let context = TlsContext::builder()
        .with_trust_store(store)
        .build()
        .map_err(|_| StorageError::Other("TLS could not be set up".to_owned()))?;
    Ok(aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
        .tls_context(context)
        .build_https())
}

/// The client would end the program at a certificate that it cannot read, so all are tried here.
fn read_certificates(path: &Path) -> Result<Vec<u8>, StorageError> {
    let problem = |words: &str| StorageError::Other(format!("TLS_CA_FILE {}: {words}", path.display()));
    let pem = std::fs::read(path).map_err(|error| problem(&error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|_| problem("is not PEM"))?;
        roots.add(certificate).map_err(|_| problem("holds a certificate that cannot be trusted"))?;
    }
    if roots.is_empty() { Err(problem("holds no certificate")) } else { Ok(pem) }
}
