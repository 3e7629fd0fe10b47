//! What a failed request means, from the SDK's error and the server's code.

use crate::StorageError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use state::storage::StorageSettings;
use std::error::Error;

/// Who is asked, as an operator may read it.
pub(super) struct Place {
    /// The bucket's name.
    pub(super) bucket: String,
    /// Host of the endpoint, or AWS and its region.
    pub(super) service: String,
}

impl Place {
    pub(super) fn of(settings: &StorageSettings) -> Self {
        let service = match settings.endpoint.as_str() {
            "" => format!("AWS S3 in {}", settings.region),
            endpoint => state::mask::url(endpoint),
        };
        Self { bucket: settings.bucket.clone(), service }
    }

    /// What a failed request about the bucket, or about one key, means.
    pub(super) fn fault<E>(&self, key: Option<&str>, error: &SdkError<E, HttpResponse>) -> StorageError
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        match error {
            SdkError::TimeoutError(_) => self.timed_out(),
            SdkError::DispatchFailure(failure) if failure.is_timeout() => self.timed_out(),
            SdkError::DispatchFailure(failure) => {
                self.unreachable(failure.as_connector_error().map(|e| e as &(dyn Error + 'static)))
            }
            SdkError::ServiceError(answer) => {
                let meta = answer.err().meta();
                self.refusal(
                    key,
                    answer.raw().status().as_u16(),
                    meta.code().unwrap_or_default(),
                    meta.message().unwrap_or_default(),
                )
            }
            SdkError::ResponseError(answer) => self.refusal(key, answer.raw().status().as_u16(), "", ""),
            _ => StorageError::Other(format!("{}: the request could not be made", self.service)),
        }
    }

    fn timed_out(&self) -> StorageError {
        StorageError::TimedOut(format!(
            "{} did not answer in time; look at the network of this machine and at the state of the service",
            self.service
        ))
    }

    fn unreachable(&self, error: Option<&(dyn Error + 'static)>) -> StorageError {
        let cause = error.map(innermost).unwrap_or_default();
        if cause.contains("certificate") {
            return StorageError::Other(format!(
                "{} cannot be trusted: {cause}; set TLS_CA_FILE to its authority's certificate if it is your own",
                self.service
            ));
        }
        StorageError::Unreachable(format!(
            "{} cannot be reached: {cause}; look at the network of this machine and at STORAGE_ENDPOINT",
            self.service
        ))
    }

    /// The server's own answer. Its message is only looked at, never shown: it may repeat what was sent.
    fn refusal(&self, key: Option<&str>, status: u16, code: &str, message: &str) -> StorageError {
        match kind_of(status, code, message) {
            Kind::Refused => StorageError::RefusedCredentials(format!(
                "{} refused the credentials for bucket {:?} ({}); check STORAGE_ACCESS_KEY_ID and \
                 STORAGE_SECRET_ACCESS_KEY, and that they may read, list and write this bucket",
                self.service,
                self.bucket,
                shown(status, code)
            )),
            Kind::Skew => StorageError::ClockSkew(format!(
                "the clock of this machine differs from that of {} by more than 15 minutes; set it, for example \
                 with timedatectl set-ntp true",
                self.service
            )),
            Kind::NotFound if key.is_some() => StorageError::no_key(key.unwrap_or_default()),
            Kind::NotFound | Kind::NoBucket => StorageError::NoBucket(format!(
                "there is no bucket {:?} at {}; check STORAGE_BUCKET, and that endpoint, account and region are its own",
                self.bucket, self.service
            )),
            Kind::OtherRegion => StorageError::NoBucket(format!(
                "the bucket {:?} lies in another region than {}; set STORAGE_REGION to its own",
                self.bucket, self.service
            )),
            Kind::Throttled => StorageError::Throttled(format!(
                "{} is asked too often or overloaded ({}); it is worth trying again later",
                self.service,
                shown(status, code)
            )),
            Kind::Full => StorageError::NoSpace(format!(
                "{} has no room left; delete media or enlarge it",
                self.service
            )),
            Kind::Changed => StorageError::changed(key.unwrap_or(&self.bucket)),
            Kind::Range => StorageError::Range(format!("{:?} is shorter than that", key.unwrap_or_default())),
            Kind::TimedOut => self.timed_out(),
            Kind::Broken => StorageError::Unreachable(format!(
                "{} is out of order ({}); it is worth trying again later",
                self.service,
                shown(status, code)
            )),
            Kind::Unsupported => StorageError::Unsupported(format!(
                "{} cannot do this ({})",
                self.service,
                shown(status, code)
            )),
            Kind::Other => {
                StorageError::Other(format!("{} refused the request ({})", self.service, shown(status, code)))
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Refused,
    Skew,
    NotFound,
    NoBucket,
    OtherRegion,
    Throttled,
    Full,
    Changed,
    Range,
    TimedOut,
    Broken,
    Unsupported,
    Other,
}

/// By the code of the S3 API (Error Responses, "List of error codes"), else by the status.
fn kind_of(status: u16, code: &str, message: &str) -> Kind {
    match code {
        "NoSuchBucket" | "InvalidBucketName" => Kind::NoBucket,
        "NoSuchKey" => Kind::NotFound,
        "RequestTimeTooSkewed" => Kind::Skew,
        "AccessDenied" if message.contains("expired") => Kind::Skew,
        "AccessDenied"
        | "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "Unauthorized"
        | "InvalidToken"
        | "ExpiredToken"
        | "AccountProblem"
        | "AllAccessDisabled"
        | "NotSignedUp" => Kind::Refused,
        // R2, for a key id of the wrong length.
        "InvalidArgument" if message.contains("redential") => Kind::Refused,
        "AuthorizationHeaderMalformed" | "PermanentRedirect" | "TemporaryRedirect" => Kind::OtherRegion,
        "SlowDown"
        | "Throttling"
        | "ThrottlingException"
        | "TooManyRequests"
        | "RequestLimitExceeded"
        | "ServiceUnavailable" => Kind::Throttled,
        "QuotaExceeded" | "StorageFull" | "XMinioStorageFull" | "InsufficientStorage" => Kind::Full,
        "PreconditionFailed" => Kind::Changed,
        "InvalidRange" => Kind::Range,
        "RequestTimeout" => Kind::TimedOut,
        "NotImplemented" => Kind::Unsupported,
        _ => kind_of_status(status),
    }
}

fn kind_of_status(status: u16) -> Kind {
    match status {
        401 | 403 => Kind::Refused,
        404 => Kind::NotFound,
        301 | 307 => Kind::OtherRegion,
        408 => Kind::TimedOut,
        412 => Kind::Changed,
        416 => Kind::Range,
        429 | 503 => Kind::Throttled,
        501 => Kind::Unsupported,
        507 => Kind::Full,
        500..=599 => Kind::Broken,
        _ => Kind::Other,
    }
}

/// The code as the server gave it, as far as it looks like a code.
fn shown(status: u16, code: &str) -> String {
    let word: String = code.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
    if word.is_empty() { format!("status {status}") } else { format!("{word}, status {status}") }
}

/// The cause of causes: "connection refused" rather than "dispatch failure". It never holds the address.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
