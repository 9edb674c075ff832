//! Passwords: Argon2id, computed away from the threads that serve, a few at a time, because each takes 19 MiB.

use std::sync::LazyLock;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use tokio::sync::Semaphore;
use tonic::{Code, Status};
use zeroize::Zeroizing;

use super::status;

/// Fewest characters of a new password.
pub const SHORTEST: usize = 8;
/// Longest password, in bytes.
pub const LONGEST: usize = 1024;

/// How many are computed at a time.
static TURNS: Semaphore = Semaphore::const_new(4);

/// What is checked for a user that does not exist, so that the answer takes as long as for one that does.
static NOBODY: LazyLock<String> = LazyLock::new(|| hash_now(b"nobody").unwrap_or_default());

/// What is wrong with a new password, if anything.
pub fn complaint(password: &str) -> Option<String> {
    if password.chars().count() < SHORTEST {
        return Some(format!("must have at least {SHORTEST} characters"));
    }
    (password.len() > LONGEST).then(|| format!("must have at most {LONGEST} bytes"))
}

/// The PHC string to store.
pub async fn hash(password: String) -> Result<String, Status> {
    let password = Zeroizing::new(password);
    compute(move || hash_now(password.as_bytes()))
        .await?
        .ok_or_else(|| {
            status::fault(
                Code::Internal,
                "INTERNAL",
                "the password could not be hashed",
            )
        })
}

/// Whether the password is the one that was hashed. Without a hash it takes as long, and is not.
pub async fn verify(password: String, hash: Option<String>) -> Result<bool, Status> {
    let password = Zeroizing::new(password);
    compute(move || {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| NOBODY.clone());
        let right = PasswordHash::new(&hash).is_ok_and(|hash| {
            Argon2::default()
                .verify_password(password.as_bytes(), &hash)
                .is_ok()
        });
        known && right
    })
    .await
}

fn hash_now(password: &[u8]) -> Option<String> {
    // Argon2id, 19 MiB, two passes: OWASP's first choice, and the crate's default.
    Some(Argon2::default().hash_password(password).ok()?.to_string())
}

async fn compute<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Status> {
    let _turn = TURNS
        .acquire()
        .await
        .expect("the semaphore is never closed");
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| status::internal("the password could not be checked", &e))
}
