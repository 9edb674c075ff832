//! Answers to mutations by request id, kept in the mutation's own transaction.

use tokio_postgres::Transaction;
use uuid::Uuid;

use super::{Error, Store};

/// What is known of a request id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Nothing: it is taken now, until the transaction ends.
    New,
    /// The same request was answered so.
    Answered(Vec<u8>),
    /// Another request had this id.
    Different,
}

impl Store {
    /// Takes a request id, or says what was answered to it. A second caller with the same id waits here until the first
    /// one's transaction has ended; if that was committed it gets a unique violation and should look again.
    pub async fn request_begin_on(
        tx: &Transaction<'_>,
        request: Uuid,
        method: &str,
        sha256: &[u8],
    ) -> Result<Seen, Error> {
        let row = tx
            .query_opt(
                "SELECT method, request_sha256, answer FROM requests WHERE request_uuid = $1",
                &[&request],
            )
            .await?;
        if let Some(row) = row {
            let same = row.get::<_, &str>(0) == method && row.get::<_, &[u8]>(1) == sha256;
            return Ok(if same {
                Seen::Answered(row.get(2))
            } else {
                Seen::Different
            });
        }
        let nothing: &[u8] = &[];
        tx.execute(
            "INSERT INTO requests (request_uuid, method, request_sha256, answer, created_at)
             VALUES ($1, $2, $3, $4, clock_timestamp())",
            &[&request, &method, &sha256, &nothing],
        )
        .await?;
        Ok(Seen::New)
    }

    /// Keeps the answer of a request that was begun.
    pub async fn request_answer_on(
        tx: &Transaction<'_>,
        request: Uuid,
        answer: &[u8],
    ) -> Result<(), Error> {
        tx.execute(
            "UPDATE requests SET answer = $2 WHERE request_uuid = $1",
            &[&request, &answer],
        )
        .await?;
        Ok(())
    }

    /// Forgets answers older than a week. Returns how many, at most 1,000: call again while it is that many.
    pub async fn request_forget(&self) -> Result<u64, Error> {
        let client = self.client().await?;
        Ok(client
            .execute(
                "DELETE FROM requests WHERE request_uuid IN
                     (SELECT request_uuid FROM requests
                      WHERE created_at < clock_timestamp() - interval '7 days' LIMIT 1000)",
                &[],
            )
            .await?)
    }
}
