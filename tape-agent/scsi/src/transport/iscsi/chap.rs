//! How two sides prove by CHAP (RFC 1994, RFC 7143 section 12.1.3) that they know a secret, and the secrets.
//!
//! A secret never goes over the wire, is in no message and in no log.

use std::fmt::{self, Write as _};

use md5::{Digest as _, Md5};
use sha2::Sha256;

/// Bytes of a challenge of ours.
const CHALLENGE: usize = 32;
/// The longest that anybody sends.
const BINARY_MAX: usize = 1024;

/// How a response is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// CHAP with MD5, which every side must know.
    Md5,
    /// CHAP with SHA-256.
    Sha256,
}

impl Algorithm {
    /// All that we know, best first, as `CHAP_A` has them.
    pub const OFFER: &str = "7,5";

    /// Its number with IANA.
    pub fn number(self) -> u8 {
        match self {
            Self::Md5 => 5,
            Self::Sha256 => 7,
        }
    }

    /// The first of a list of numbers that we know.
    pub fn first_of(list: &str) -> Option<Self> {
        list.split(',').find_map(|number| match number.trim() {
            "5" => Some(Self::Md5),
            "7" => Some(Self::Sha256),
            _ => None,
        })
    }

    /// The proof.
    pub fn response(self, identifier: u8, secret: &str, challenge: &[u8]) -> Vec<u8> {
        let text = [&[identifier], secret.as_bytes(), challenge].concat();
        match self {
            Self::Md5 => Md5::digest(&text).to_vec(),
            Self::Sha256 => <Sha256 as sha2::Digest>::digest(&text).to_vec(),
        }
    }
}

/// What one side asks of the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// Named in the response.
    pub identifier: u8,
    /// Random.
    pub bytes: Vec<u8>,
}

impl Challenge {
    /// One that was never there before.
    pub fn new() -> std::io::Result<Self> {
        let mut bytes = super::random::<{ CHALLENGE + 1 }>()?.to_vec();
        let identifier = bytes.pop().unwrap_or_default();
        Ok(Self { identifier, bytes })
    }

    /// Whether the response proves that the other side knows the secret.
    pub fn proves(&self, algorithm: Algorithm, secret: &str, response: &[u8]) -> bool {
        let own = algorithm.response(self.identifier, secret, &self.bytes);
        // All bytes, whatever the first says.
        own.len() == response.len()
            && own
                .iter()
                .zip(response)
                .fold(0, |all, (a, b)| all | (a ^ b))
                == 0
    }
}

/// Bytes as a value of a text: hexadecimal.
pub fn encode(bytes: &[u8]) -> String {
    format!("0x{}", hex(bytes))
}

/// Two digits a byte.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // a string takes everything
        text
    })
}

/// Reads hexadecimal (`0x…`) or base64 (`0b…`); `None` if it is neither, or too long.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    if text.len() > 2 * BINARY_MAX + 2 || !text.is_ascii() {
        return None;
    }
    let (form, digits) = text.split_at_checked(2)?;
    match form {
        "0x" | "0X" => {
            // An odd number of digits has a zero before it.
            let padded = if digits.len() % 2 == 1 {
                format!("0{digits}")
            } else {
                digits.to_owned()
            };
            (0..padded.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&padded[at..at + 2], 16).ok())
                .collect()
        }
        "0b" | "0B" => base64(digits),
        _ => None,
    }
}

fn base64(digits: &str) -> Option<Vec<u8>> {
    let digits = digits.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut held, mut bits) = (0_u32, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        held = (held << 6) | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    Some(bytes)
}

/// One who may log in, and by what the target proves itself to him.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// His name.
    pub user: String,
    /// His secret.
    pub secret: String,
    /// Name and secret of the target, if it has to prove itself too (mutual CHAP).
    pub target: Option<(String, String)>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Secret({}, mutual: {})",
            self.user,
            self.target.is_some()
        )
    }
}

/// Those of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Secrets(Vec<Secret>);

impl Secrets {
    /// Reads a file's text: a line each, `USER SECRET` or, if the target must prove itself too, `USER SECRET TARGET-USER
    /// TARGET-SECRET`. Empty lines and such as begin with `#` count nothing. An error names the line and no secret.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut secrets: Vec<Secret> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let number = number + 1;
            if line.trim_start().starts_with('#') {
                continue;
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            let (user, secret, target) = match words[..] {
                [] => continue,
                [user, secret] => (user, secret, None),
                [user, secret, target, proof] => (user, secret, Some((target, proof))),
                _ => {
                    return Err(format!(
                        "line {number} must be USER SECRET, or USER SECRET TARGET-USER TARGET-SECRET"
                    ));
                }
            };
            // RFC 7143 9.2.1: else whoever listens has the target answer its own challenge.
            if target.is_some_and(|(_, proof)| proof == secret) {
                return Err(format!(
                    "line {number} has one secret for both directions; give the target another"
                ));
            }
            if secrets.iter().any(|other| other.user == user) {
                return Err(format!("line {number} names {user} a second time"));
            }
            secrets.push(Secret {
                user: user.to_owned(),
                secret: secret.to_owned(),
                target: target.map(|(name, proof)| (name.to_owned(), proof.to_owned())),
            });
        }
        Ok(Self(secrets))
    }

    /// Of this user.
    pub fn of(&self, user: &str) -> Option<&Secret> {
        self.0.iter().find(|one| one.user == user)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests;
