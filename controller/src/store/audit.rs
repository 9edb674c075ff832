//! The audit log: every mutation with who, what and outcome.

use tokio_postgres::GenericClient;

use super::{Error, Store, clip};

/// One line of the log. Longer texts are cut to their columns.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// `accounts/x`, `agents/y`, `local`, `anonymous`.
    pub actor: &'a str,
    /// The RPC, as `Service.Method`.
    pub action: &'a str,
    /// The resource.
    pub subject: &'a str,
    /// `done`, or code and reason of the refusal.
    pub outcome: &'a str,
}

impl Store {
    /// Adds a line.
    pub async fn audit_add_on<C: GenericClient>(
        client: &C,
        entry: &Entry<'_>,
    ) -> Result<(), Error> {
        client
            .execute(
                "INSERT INTO audit (happened_at, actor, action, subject, outcome)
                 VALUES (clock_timestamp(), $1, $2, $3, $4)",
                &[
                    &clip(entry.actor, 160),
                    &clip(entry.action, 160),
                    &clip(entry.subject, 400),
                    &clip(entry.outcome, 400),
                ],
            )
            .await?;
        Ok(())
    }

    /// Adds a line on its own.
    pub async fn audit_add(&self, entry: &Entry<'_>) -> Result<(), Error> {
        let client = self.client().await?;
        Self::audit_add_on(&**client, entry).await
    }
}
