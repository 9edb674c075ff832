//! Agents: which exist, what they are, when they were heard.

use jiff::Timestamp;
use taf_peer::identity::Role;
use tokio_postgres::{GenericClient, Row, Transaction};

use super::{Error, Store};

/// An enrolled agent.
#[derive(Debug, Clone)]
pub struct Agent {
    /// Key of the row.
    pub id: i64,
    /// Its id in the API and in its certificate.
    pub name: String,
    /// `SourceAgent` or `TapeAgent`.
    pub role: Role,
    /// As it reported last.
    pub host_name: String,
    /// As it reported last.
    pub program_version: String,
    /// Whether one of its processes is connected.
    pub connected: bool,
    /// When it was heard last.
    pub last_seen_at: Option<Timestamp>,
    /// Of a source agent: whether it can restore from a version that is not whole, as it said last.
    pub reads_incomplete: Option<bool>,
}

const SELECT: &str = "SELECT a.id, a.agent_name, a.role, a.host_name, a.program_version,
            a.connected
                OR EXISTS (SELECT 1 FROM drives AS d WHERE d.agent_id = a.id AND d.connected)
                OR EXISTS (SELECT 1 FROM libraries AS l WHERE l.agent_id = a.id AND l.connected),
            a.last_seen_at, a.reads_incomplete
     FROM agents AS a";

fn agent(row: &Row) -> Agent {
    Agent {
        id: row.get(0),
        name: row.get(1),
        role: role_from(row.get(2)),
        host_name: row.get(3),
        program_version: row.get(4),
        connected: row.get(5),
        last_seen_at: row.get(6),
        reads_incomplete: row.get(7),
    }
}

/// A role from the database's word, whose set is closed by a CHECK. The words are those of certificates.
pub(super) fn role_from(word: &str) -> Role {
    if word == "tape-agent" {
        Role::TapeAgent
    } else {
        Role::SourceAgent
    }
}

impl Store {
    /// Enrolled agents behind a name, in order.
    pub async fn agent_list(&self, after: &str, limit: i64) -> Result<Vec<Agent>, Error> {
        let client = self.client().await?;
        let rows = client
            .query(
                &format!(
                    "{SELECT} WHERE a.agent_name > $1 AND a.enrolled_at IS NOT NULL
                     ORDER BY a.agent_name LIMIT $2::bigint"
                ),
                &[&after, &limit],
            )
            .await?;
        Ok(rows.iter().map(agent).collect())
    }

    /// One enrolled agent.
    pub async fn agent_get(&self, name: &str) -> Result<Option<Agent>, Error> {
        Self::agent_get_on(&**self.client().await?, name).await
    }

    /// One enrolled agent.
    pub async fn agent_get_on<C: GenericClient>(
        client: &C,
        name: &str,
    ) -> Result<Option<Agent>, Error> {
        let row = client
            .query_opt(
                &format!("{SELECT} WHERE a.agent_name = $1 AND a.enrolled_at IS NOT NULL"),
                &[&name],
            )
            .await?;
        Ok(row.as_ref().map(agent))
    }

    /// The source agent of a restore whose version is not whole.
    pub async fn agent_of_incomplete_on<C: GenericClient>(
        client: &C,
        job: i64,
    ) -> Result<Option<Agent>, Error> {
        let sql = format!(
            "{SELECT} JOIN jobs AS j ON j.agent_id = a.id JOIN versions AS v ON v.line_id = j.line_id AND v.version = j.version
             WHERE j.id = $1 AND j.kind = 'restore' AND v.incomplete_reason IS NOT NULL"
        );
        let row = client.query_opt(&sql, &[&job]).await?;
        Ok(row.as_ref().map(agent))
    }

    /// Key of the row of an agent with this role, enrolled or not, which is made if it is missing. Nothing if the agent has
    /// another role.
    pub async fn agent_ensure_on(
        tx: &Transaction<'_>,
        name: &str,
        role: Role,
    ) -> Result<Option<i64>, Error> {
        let role = role.to_string();
        tx.execute(
            "INSERT INTO agents (agent_name, role)
             SELECT $1::varchar, $2::varchar
             WHERE NOT EXISTS (SELECT 1 FROM agents WHERE agent_name = $1::varchar)",
            &[&name, &role],
        )
        .await?;
        let row = tx
            .query_opt(
                "SELECT id FROM agents WHERE agent_name = $1 AND role = $2",
                &[&name, &role],
            )
            .await?;
        Ok(row.map(|row| row.get(0)))
    }
}
