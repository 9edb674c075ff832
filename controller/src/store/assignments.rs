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
    /// Tape agent of the drive, if it has one.
    pub tape_agent: Option<String>,
    /// Line of a backup or restore.
    pub line_id: Option<i64>,
    /// Version of a backup or restore.
    pub version: Option<i64>,
    /// Encoded request of a restore.
    pub restore_request: Option<Vec<u8>>,
    /// Encoded request of a removal.
    pub removal: Option<Vec<u8>>,
}

/// The assignment of an attempt with exactly this generation.
pub async fn assignment_get(
    client: &impl GenericClient,
    attempt: i64,
    epoch: i64,
    counter: i64,
) -> Result<Option<Assignment>, Error> {
    let sql = "SELECT t.id, t.job_id, j.kind, t.ended_at IS NULL, s.agent_name, d.agent_name, j.line_id, j.version, \
               j.restore_request, j.removal \
               FROM attempts AS t JOIN jobs AS j ON j.id = t.job_id LEFT JOIN drives AS x ON x.id = t.drive_id \
               LEFT JOIN agents AS d ON d.id = x.agent_id \
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
        removal: row.get(9),
    }))
}

/// What a backup's attempt compares with: the version that it makes and the numbers that this builds on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compared {
    /// Line.
    pub line_id: i64,
    /// The version that is made.
    pub version: i64,
    /// The head, 0 for none.
    pub parent: i64,
    /// The version that the head does not resolve below.
    pub floor: i64,
}

/// What a live backup compares with.
pub async fn assignment_compared(
    client: &impl GenericClient,
    attempt: i64,
) -> Result<Option<Compared>, Error> {
    let sql = "SELECT v.line_id, v.version, v.parent, v.floor FROM attempts AS t JOIN archives AS a ON a.attempt_id = t.id \
               JOIN versions AS v ON v.line_id = a.line_id AND v.version = a.version \
               WHERE t.id = $1 AND t.ended_at IS NULL AND t.verdict = 'none' AND v.state = 'staged' AND a.state = 'staged'";
    let row = client.query_opt(sql, &[&attempt]).await?;
    Ok(row.map(|row| Compared {
        line_id: row.get(0),
        version: row.get(1),
        parent: row.get(2),
        floor: row.get(3),
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

/// The chosen paths of a restore, as they were kept; none of a job that has them in its request.
pub async fn assignment_paths(
    client: &impl GenericClient,
    job: i64,
) -> Result<Option<Vec<u8>>, Error> {
    let sql = "SELECT restore_paths FROM jobs WHERE id = $1";
    let row = client.query_opt(sql, &[&job]).await?;
    Ok(row.and_then(|row| row.get(0)))
}
