//! Issues: files and directories that an attempt could not treat as it should.

use super::{Error, GenericClient, Transaction, clip};

/// An issue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// Attempt that met it.
    pub attempt_id: i64,
    /// Number within the attempt.
    pub number: i64,
    /// Absolute path, raw.
    pub path: Vec<u8>,
    /// Stable name.
    pub reason: String,
    /// What the system said.
    pub message: String,
}

/// Adds those that are not there yet. [`Error::Exists`] if the same are being added at this moment.
pub async fn issue_add_on(
    tx: &Transaction<'_>,
    attempt: i64,
    issues: &[Issue],
) -> Result<(), Error> {
    let numbers: Vec<i64> = issues.iter().map(|issue| issue.number).collect();
    let paths: Vec<&[u8]> = issues.iter().map(|issue| issue.path.as_slice()).collect();
    let reasons: Vec<String> = issues.iter().map(|issue| clip(&issue.reason, 64)).collect();
    let messages: Vec<String> = issues
        .iter()
        .map(|issue| clip(&issue.message, 2000))
        .collect();
    tx.execute(
        "INSERT INTO issues (attempt_id, issue_number, path, reason, message) \
         SELECT $1::bigint, fresh.n, fresh.p, fresh.r, fresh.m FROM ( \
             SELECT unnest($2::bigint[]) AS n, unnest($3::bytea[]) AS p, unnest($4::varchar[]) AS r, unnest($5::varchar[]) AS m \
         ) AS fresh \
         WHERE NOT EXISTS (SELECT 1 FROM issues AS i WHERE i.attempt_id = $1::bigint AND i.issue_number = fresh.n)",
        &[&attempt, &numbers, &paths, &reasons, &messages],
    )
    .await?;
    Ok(())
}

/// The issues of a job's newest try behind a number, stream by stream in the order they were met. The numbers are such that they
/// grow through all streams.
pub async fn issue_list(
    client: &impl GenericClient,
    job: i64,
    after: i64,
    limit: i64,
) -> Result<Vec<Issue>, Error> {
    let sql = "SELECT i.attempt_id, t.stream * 281474976710656::bigint + i.issue_number AS place, i.path, i.reason, i.message \
               FROM issues AS i JOIN attempts AS t ON t.id = i.attempt_id \
               WHERE t.job_id = $1 AND t.id >= (SELECT max(x.id) FROM attempts AS x WHERE x.job_id = $1 AND x.stream = 0) \
               AND t.stream * 281474976710656::bigint + i.issue_number > $2 \
               ORDER BY t.stream, i.issue_number LIMIT $3::bigint";
    let rows = client.query(sql, &[&job, &after, &limit]).await?;
    let issue = |row: &tokio_postgres::Row| Issue {
        attempt_id: row.get(0),
        number: row.get(1),
        path: row.get(2),
        reason: row.get(3),
        message: row.get(4),
    };
    Ok(rows.iter().map(issue).collect())
}
