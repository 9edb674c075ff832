//! Assignments as agents name them: which attempt it is, and whose. This is how calls of agents are fenced.

use super::{Error, GenericClient};

/// What an assignment is about.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// Attempt.
    pub attempt_id: i64,
    /// Job.
    pub job_id: i64,
    /// `backup`, `restore` or `label`.
    pub kind: String,
    /// Whether the attempt still holds its drive.
    pub live: bool,
    /// Source agent.
    pub source_agent: Option<String>,
    /// Tape agent of the drive.
    pub tape_agent: String,
    /// Line of a backup or restore.
    pub line_id: Option<i64>,
    /// Version of a backup or restore.
    pub version: Option<i64>,
    /// Encoded request of a restore.
    pub restore_request: Option<Vec<u8>>,
}

/// The assignment of an attempt with exactly this generation.
pub async fn assignment_get(
    client: &impl GenericClient,
    attempt: i64,
    epoch: i64,
    counter: i64,
) -> Result<Option<Assignment>, Error> {
    let sql = "SELECT t.id, t.job_id, j.kind, t.ended_at IS NULL, s.agent_name, d.agent_name, j.line_id, j.version, \
               j.restore_request \
               FROM attempts AS t JOIN jobs AS j ON j.id = t.job_id JOIN drives AS x ON x.id = t.drive_id \
               JOIN agents AS d ON d.id = x.agent_id \
               LEFT JOIN agents AS s ON s.id = t.agent_id \
               WHERE t.id = $1 AND t.epoch = $2 AND t.generation = $3";
    let row = client.query_opt(sql, &[&attempt, &epoch, &counter]).await?;
    Ok(row.map(|row| Assignment {
        attempt_id: row.get(0),
        job_id: row.get(1),
        kind: row.get(2),
        live: row.get(3),
        source_agent: row.get(4),
        tape_agent: row.get(5),
        line_id: row.get(6),
        version: row.get(7),
        restore_request: row.get(8),
    }))
}

/// Encoded paths of the source that a backup's job takes.
pub async fn assignment_selection(
    client: &impl GenericClient,
    job: i64,
) -> Result<Option<Vec<u8>>, Error> {
    let sql = "SELECT s.paths FROM jobs AS j JOIN plans AS p ON p.id = j.plan_id JOIN sources AS s ON s.id = p.source_id WHERE j.id = $1";
    Ok(client.query_opt(sql, &[&job]).await?.map(|row| row.get(0)))
}
