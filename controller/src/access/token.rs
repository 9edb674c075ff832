//! API tokens of people: 256 random bits that only their holder knows. The store has their SHA-256.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::RngCore as _;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// So that a token is recognised where it should not be, by people and by scanners.
const PREFIX: &str = "taf_";
/// How long a token can be used, in seconds: 30 days.
pub const LIFETIME_SECONDS: f64 = 30.0 * 86_400.0;

/// A fresh token, as text.
pub fn generate() -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    rand::rng().fill_bytes(bytes.as_mut_slice());
    let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_slice()));
    Zeroizing::new(format!("{PREFIX}{}", text.as_str()))
}

/// What the store keeps of a token.
pub fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// Whether a text has the form of a token: looking anything else up would be in vain.
pub fn is_token(text: &str) -> bool {
    text.len() == PREFIX.len() + 43 && text.starts_with(PREFIX)
}
