//! The one-time enrolment token: a secret that the controller knows by its hash only, and the fingerprint of
//! the authority, so that the very first contact is authenticated in both directions.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::RngCore as _;
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

const PREFIX: &str = "taf1.";

/// A token as the administrator hands it over. `Display` shows the secret, `Debug` does not.
#[derive(Clone, PartialEq, Eq)]
pub struct EnrolmentToken {
    /// 128 random bits, good for one enrolment.
    pub secret: [u8; 16],
    /// SHA-256 of the authority's certificate in DER.
    pub authority_sha256: [u8; 32],
}

/// Not a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is not an enrolment token: it begins with \"{PREFIX}\" and has 69 characters; copy it again in full"
)]
pub struct Error;

impl EnrolmentToken {
    /// A fresh token for the authority with this fingerprint.
    pub fn generate(authority_sha256: [u8; 32]) -> Self {
        let mut secret = [0; 16];
        rand::rng().fill_bytes(&mut secret);
        Self {
            secret,
            authority_sha256,
        }
    }

    /// What the controller stores and looks up: SHA-256 of the secret.
    pub fn secret_hash(&self) -> [u8; 32] {
        Sha256::digest(self.secret).into()
    }
}

/// The stored hash that belongs to a secret from a request, or none if it can't be a secret.
pub fn hash_of_secret(secret: &[u8]) -> Option<[u8; 32]> {
    (secret.len() == 16).then(|| Sha256::digest(secret).into())
}

impl FromStr for EnrolmentToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let body = text.trim().strip_prefix(PREFIX).ok_or(Error)?;
        let mut bytes = Zeroizing::new([0_u8; 48]);
        match URL_SAFE_NO_PAD.decode_slice(body, bytes.as_mut_slice()) {
            Ok(48) => {}
            _ => return Err(Error),
        }
        let mut token = Self {
            secret: [0; 16],
            authority_sha256: [0; 32],
        };
        token.secret.copy_from_slice(&bytes[..16]);
        token.authority_sha256.copy_from_slice(&bytes[16..]);
        Ok(token)
    }
}

impl fmt::Display for EnrolmentToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Zeroizing::new([0_u8; 48]);
        bytes[..16].copy_from_slice(&self.secret);
        bytes[16..].copy_from_slice(&self.authority_sha256);
        let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_slice()));
        write!(f, "{PREFIX}{}", text.as_str())
    }
}

impl fmt::Debug for EnrolmentToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnrolmentToken")
            .field("secret", &"(hidden)")
            .field("authority_sha256", &hex::encode(self.authority_sha256))
            .finish()
    }
}

impl Drop for EnrolmentToken {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, missing_docs)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_its_text() {
        let token = EnrolmentToken::generate([7; 32]);
        let text = token.to_string();
        assert_eq!(text.len(), 69);
        assert_eq!(
            format!(" {text}\n").parse::<EnrolmentToken>().unwrap(),
            token
        );
        assert_eq!(hash_of_secret(&token.secret), Some(token.secret_hash()));
    }

    #[test]
    fn damaged_tokens_are_refused() {
        let text = EnrolmentToken::generate([7; 32]).to_string();
        for wrong in ["", "taf1.", &text[1..], &text[..68], &format!("{text}A")] {
            assert_eq!(wrong.parse::<EnrolmentToken>(), Err(Error), "{wrong}");
        }
        assert_eq!(hash_of_secret(b"short"), None);
    }

    #[test]
    fn debug_hides_the_secret() {
        let token = EnrolmentToken::generate([7; 32]);
        let shown = format!("{token:?}");
        assert!(!shown.contains(&hex::encode(token.secret)));
        assert!(!shown.contains(&token.to_string()[5..20]));
    }
}
