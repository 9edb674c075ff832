//! Streams: the attempts that a backup's job has at a time, each with a drive and an archive of its own. Stream 0 is the first one.

use std::collections::HashMap;

use super::{Error, GenericClient, Transaction};

/// A further stream of a job whose first attempt has not ended, or which has not ended itself.
#[derive(Debug, Clone)]
pub struct Further {
    /// Its verdict; `none` while it works.
    pub verdict: String,
    /// Encoded fault of a failed verdict.
    pub fault: Option<Vec<u8>>,
    /// Whether something that it met is an issue of the job.
    pub has_issues: bool,
}

/// The further streams that jobs under way have had, by job.
pub async fn stream_list_live_on(
    tx: &Transaction<'_>,
) -> Result<HashMap<i64, Vec<Further>>, Error> {
    let rows = tx
        .query(
            "SELECT t.job_id, t.verdict, t.fault, EXISTS (SELECT 1 FROM issues i WHERE i.attempt_id = t.id) FROM attempts t WHERE t.stream > 0 AND EXISTS \
             (SELECT 1 FROM attempts x WHERE x.job_id = t.job_id AND x.ended_at IS NULL) ORDER BY t.job_id, t.stream",
            &[],
        )
        .await?;
    let mut streams: HashMap<i64, Vec<Further>> = HashMap::new();
    for row in &rows {
        streams.entry(row.get(0)).or_default().push(Further {
            verdict: row.get(1),
            fault: row.get(2),
            has_issues: row.get(3),
        });
    }
    Ok(streams)
}

/// What the source agent reported of the further streams of a job that succeeded: attempt and encoded result.
pub async fn stream_list_done_on(
    tx: &Transaction<'_>,
    job: i64,
) -> Result<Vec<(i64, Vec<u8>)>, Error> {
    let rows = tx
        .query(
            "SELECT id, source_result FROM attempts WHERE job_id = $1 AND stream > 0 \
             AND verdict IN ('succeeded', 'succeeded-with-issues') AND source_result IS NOT NULL ORDER BY stream",
            &[&job],
        )
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Whether the first stream of a job still walks, so that others may join it.
pub async fn stream_may_join_on(tx: &Transaction<'_>, job: i64) -> Result<bool, Error> {
    let row = tx
        .query_opt(
            "SELECT id FROM attempts WHERE job_id = $1 AND stream = 0 AND ended_at IS NULL AND verdict = 'none' \
             AND source_result IS NULL FOR UPDATE",
            &[&job],
        )
        .await?;
    Ok(row.is_some())
}

/// Verdict and encoded fault of the first stream of a job, when none of its attempts is under way any more.
pub async fn stream_verdict_on(
    tx: &Transaction<'_>,
    job: i64,
) -> Result<Option<(String, Option<Vec<u8>>)>, Error> {
    let row = tx
        .query_opt(
            "SELECT t.verdict, t.fault FROM attempts t WHERE t.job_id = $1 AND t.stream = 0 AND NOT EXISTS \
             (SELECT 1 FROM attempts x WHERE x.job_id = $1 AND x.ended_at IS NULL) ORDER BY t.id DESC LIMIT 1",
            &[&job],
        )
        .await?;
    Ok(row.map(|row| (row.get(0), row.get(1))))
}

/// A stream of a backup, as people see it.
#[derive(Debug, Clone)]
pub struct StreamRow {
    /// Job.
    pub job_id: i64,
    /// From 0.
    pub stream: i32,
    /// Serial number of its drive.
    pub drive: Option<String>,
    /// Volumes that it has used, in order.
    pub volumes: Vec<String>,
    /// Its verdict; `none` while it works.
    pub verdict: String,
    /// Whether it is over.
    pub ended: bool,
    /// What it waits for.
    pub waiting_for: Option<String>,
    /// Step under way.
    pub step_kind: String,
    /// Encoded `taf.v1.Progress`.
    pub progress: Option<Vec<u8>>,
    /// Encoded `taf.agent.v1.DriveObservation`.
    pub drive_progress: Option<Vec<u8>>,
    /// Encoded `taf.agent.v1.Result` of the source agent.
    pub source_result: Option<Vec<u8>>,
    /// Bytes in committed parts.
    pub committed_bytes: i64,
    /// Issues.
    pub issue_count: i64,
}

/// The streams of those of the jobs that have had more than one, by job and stream.
pub async fn stream_list(
    client: &impl GenericClient,
    jobs: &[i64],
) -> Result<Vec<StreamRow>, Error> {
    let sql = "SELECT t.job_id, t.stream, d.serial, \
               (SELECT array_agg(x.cartridge ORDER BY x.ordinal) FROM attempt_volumes x WHERE x.attempt_id = t.id) AS used, \
               t.verdict, t.ended_at IS NOT NULL, t.waiting_for, t.step_kind, t.progress, t.drive_progress, t.source_result, \
               COALESCE((SELECT sum(x.byte_count) FROM archives r JOIN parts x ON x.archive_id = r.id \
               WHERE r.attempt_id = t.id)::bigint, 0) AS committed_bytes, \
               (SELECT count(*) FROM issues i WHERE i.attempt_id = t.id) AS issue_count \
               FROM attempts t LEFT JOIN drives d ON d.id = t.drive_id WHERE t.job_id = ANY($1::bigint[]) AND EXISTS \
               (SELECT 1 FROM attempts y WHERE y.job_id = t.job_id AND y.stream > 0) ORDER BY t.job_id, t.stream, t.id";
    let rows = client.query(sql, &[&jobs]).await?;
    let stream = |row: &tokio_postgres::Row| StreamRow {
        job_id: row.get(0),
        stream: row.get(1),
        drive: row.get(2),
        volumes: row.get::<_, Option<Vec<String>>>(3).unwrap_or_default(),
        verdict: row.get(4),
        ended: row.get(5),
        waiting_for: row.get(6),
        step_kind: row.get(7),
        progress: row.get(8),
        drive_progress: row.get(9),
        source_result: row.get(10),
        committed_bytes: row.get(11),
        issue_count: row.get(12),
    };
    Ok(rows.iter().map(stream).collect())
}
