//! API tokens of people. Only their SHA-256 is known here.

use jiff::Timestamp;
use taf_proto::v1::Role;
use tokio_postgres::Transaction;

use super::accounts::role_from;
use super::{Error, Store};

/// Whose a token is.
#[derive(Debug, Clone)]
pub struct TokenOwner {
    /// Key of the token's row.
    pub token: i64,
    /// Key of the account's row.
    pub account: i64,
    /// User name.
    pub user: String,
    /// What the account may do now.
    pub role: Role,
    /// Whether the token's time is over.
    pub expired: bool,
}

impl Store {
    /// Keeps a new token for an account and says when it ends. Tokens of the account that ended long ago are dropped.
    pub async fn api_token_create_on(
        tx: &Transaction<'_>,
        account: i64,
        sha256: &[u8],
        lifetime_seconds: f64,
    ) -> Result<Timestamp, Error> {
        tx.execute(
            "DELETE FROM api_tokens WHERE account_id = $1 AND expires_at < clock_timestamp() - interval '30 days'",
            &[&account],
        )
        .await?;
        let row = tx
            .query_one(
                "INSERT INTO api_tokens (account_id, token_sha256, created_at, expires_at)
                 VALUES ($1, $2, clock_timestamp(), clock_timestamp() + $3::float8 * interval '1 second')
                 RETURNING expires_at",
                &[&account, &sha256, &lifetime_seconds],
            )
            .await?;
        Ok(row.get(0))
    }

    /// Whose a token is; nothing if it is unknown or revoked.
    pub async fn api_token_owner(&self, sha256: &[u8]) -> Result<Option<TokenOwner>, Error> {
        let client = self.client().await?;
        let row = client
            .query_opt(
                "SELECT t.id, a.id, a.user_name, a.role, t.expires_at <= clock_timestamp()
                 FROM api_tokens AS t JOIN accounts AS a ON a.id = t.account_id
                 WHERE t.token_sha256 = $1 AND t.revoked_at IS NULL",
                &[&sha256],
            )
            .await?;
        Ok(row.map(|row| TokenOwner {
            token: row.get(0),
            account: row.get(1),
            user: row.get(2),
            role: role_from(row.get(3)),
            expired: row.get(4),
        }))
    }

    /// Revokes a token. False if it was revoked before.
    pub async fn api_token_revoke_on(tx: &Transaction<'_>, token: i64) -> Result<bool, Error> {
        let revoked = tx
            .execute(
                "UPDATE api_tokens SET revoked_at = clock_timestamp() WHERE id = $1 AND revoked_at IS NULL",
                &[&token],
            )
            .await?;
        Ok(revoked == 1)
    }
}
