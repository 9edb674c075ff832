//! Enrolment tokens, known by the SHA-256 of their secret, and the moment when one is spent.

use jiff::Timestamp;
use taf_peer::identity::Role;
use tokio_postgres::Transaction;

use super::agents::role_from;
use super::{Error, Store};

/// What came of presenting a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spent {
    /// It is spent now, and stands for this agent.
    Agent {
        /// Key of the agent's row.
        id: i64,
        /// Its name.
        name: String,
        /// `SourceAgent` or `TapeAgent`.
        role: Role,
    },
    /// There is no such token.
    Unknown,
    /// Somebody used it before.
    Used,
    /// Its time is over.
    Expired,
}

impl Store {
    /// Keeps a new token for an agent and says when it ends.
    pub async fn enrolment_token_create_on(
        tx: &Transaction<'_>,
        agent: i64,
        secret_sha256: &[u8],
        lifetime_seconds: f64,
    ) -> Result<Timestamp, Error> {
        let row = tx
            .query_one(
                "INSERT INTO enrolment_tokens (agent_id, secret_sha256, created_at, expires_at)
                 VALUES ($1, $2, clock_timestamp(), clock_timestamp() + $3::float8 * interval '1 second')
                 RETURNING expires_at",
                &[&agent, &secret_sha256, &lifetime_seconds],
            )
            .await?;
        Ok(row.get(0))
    }

    /// Spends a token. Of any number of callers one gets the agent.
    pub async fn enrolment_token_spend_on(
        tx: &Transaction<'_>,
        secret_sha256: &[u8],
    ) -> Result<Spent, Error> {
        let spent = tx
            .query_opt(
                "UPDATE enrolment_tokens SET used_at = clock_timestamp()
                 WHERE secret_sha256 = $1 AND used_at IS NULL AND expires_at > clock_timestamp()
                 RETURNING agent_id",
                &[&secret_sha256],
            )
            .await?;
        if let Some(spent) = spent {
            let id: i64 = spent.get(0);
            let row = tx
                .query_one("SELECT agent_name, role FROM agents WHERE id = $1", &[&id])
                .await?;
            return Ok(Spent::Agent {
                id,
                name: row.get(0),
                role: role_from(row.get(1)),
            });
        }
        let row = tx
            .query_opt(
                "SELECT used_at IS NOT NULL FROM enrolment_tokens WHERE secret_sha256 = $1",
                &[&secret_sha256],
            )
            .await?;
        Ok(match row.map(|row| row.get(0)) {
            None => Spent::Unknown,
            Some(true) => Spent::Used,
            Some(false) => Spent::Expired,
        })
    }

    /// Notes that an agent has its certificate.
    pub async fn agent_enrolled_on(
        tx: &Transaction<'_>,
        id: i64,
        host_name: &str,
    ) -> Result<(), Error> {
        tx.execute(
            "UPDATE agents SET enrolled_at = clock_timestamp(), host_name = $2 WHERE id = $1",
            &[&id, &host_name],
        )
        .await?;
        Ok(())
    }
}
