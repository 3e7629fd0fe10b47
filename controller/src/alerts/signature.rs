//! Signatures of Standard Webhooks 1.0.0: HMAC-SHA256 over `id.timestamp.body`, secrets as `whsec_` and base64.

use ring::hmac;
use state::seal::{base64url, from_base64url};
use state::secret::Secret;

/// Bytes that a secret may have, by the specification.
const LENGTHS: std::ops::RangeInclusive<usize> = 24..=64;

const PREFIX: &str = "whsec_";

/// A new secret of 32 random bytes.
pub fn new_secret() -> Secret {
    let mut bytes = [0u8; 32];
    state::ids::fill_random(&mut bytes);
    Secret::new(format!("{PREFIX}{}", base64(&bytes)))
}

/// Why a text cannot be a secret, in words that do not show it; `None` when it can.
pub fn secret_problem(secret: &Secret) -> Option<&'static str> {
    match key(secret).map(|bytes| LENGTHS.contains(&bytes.len())) {
        Some(true) => None,
        _ => Some("must be whsec_ and base64 of 24 to 64 bytes"),
    }
}

/// The header `webhook-signature`; `None` when the secret is none.
pub fn sign(secret: &Secret, id: &str, timestamp: i64, body: &[u8]) -> Option<String> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key(secret)?);
    let mut context = hmac::Context::with_key(&key);
    context.update(format!("{id}.{timestamp}.").as_bytes());
    context.update(body);
    Some(format!("v1,{}", base64(context.sign().as_ref())))
}

fn key(secret: &Secret) -> Option<Vec<u8>> {
    let text = secret.expose().strip_prefix(PREFIX)?.trim_end_matches('=');
    let usual = text.chars().all(|c| c.is_ascii_alphanumeric() || "+/".contains(c));
    // One letter more than a multiple of four holds no whole byte.
    (usual && text.len() % 4 != 1).then(|| from_base64url(&text.replace('+', "-").replace('/', "_")))?
}

fn base64(bytes: &[u8]) -> String {
    let text = base64url(bytes).replace('-', "+").replace('_', "/");
    let missing = (4 - text.len() % 4) % 4;
    text + &"=".repeat(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vector_of_the_specification_is_reproduced() {
        let secret = Secret::new("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD");
        let body = br#"{"email":"test@example.com","username":"test_user"}"#;
        let signature = sign(&secret, "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", 1_649_367_553, body);
        assert_eq!(signature.unwrap(), "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=");
    }

    #[test]
    fn only_secrets_that_are_long_enough_are_taken() {
        assert_eq!(secret_problem(&new_secret()), None);
        for bad in ["", "whsec_", "whsec_c2hvcnQ=", "C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "whsec_!!!!"] {
            assert!(secret_problem(&Secret::new(bad)).is_some(), "{bad}");
        }
        assert!(secret_problem(&Secret::new(format!("whsec_{}", "A".repeat(200)))).is_some());
    }
}
