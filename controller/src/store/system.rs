//! The installation in numbers, for one answer that says how things are.

use jiff::Timestamp;

use super::{Error, Store};

/// How many there are of what.
#[derive(Debug, Clone)]
pub struct Counts {
    /// Enrolled agents.
    pub agents: i64,
    /// Of these, connected.
    pub connected_agents: i64,
    /// Drives.
    pub drives: i64,
    /// Drives whose worker is connected.
    pub usable_drives: i64,
    /// Volumes that can be appended to.
    pub appendable_volumes: i64,
    /// Volumes that contradict the catalog.
    pub quarantined_volumes: i64,
    /// Volumes that have to be inspected before anything is written to them.
    pub suspect_volumes: i64,
    /// All volumes.
    pub volumes: i64,
    /// Plans.
    pub plans: i64,
    /// Published versions.
    pub versions: i64,
    /// When the newest version was published.
    pub last_published_at: Option<Timestamp>,
}

impl Store {
    /// Counts, of one moment.
    pub async fn system_counts(&self) -> Result<Counts, Error> {
        let client = self.client().await?;
        let row = client
            .query_one(
                "SELECT (SELECT count(*) FROM agents WHERE enrolled_at IS NOT NULL),
                        (SELECT count(*) FROM agents AS a WHERE a.enrolled_at IS NOT NULL AND (a.connected
                             OR EXISTS (SELECT 1 FROM drives AS d WHERE d.agent_id = a.id AND d.connected)
                             OR EXISTS (SELECT 1 FROM libraries AS l WHERE l.agent_id = a.id AND l.connected))),
                        (SELECT count(*) FROM drives),
                        (SELECT count(*) FROM drives WHERE connected AND hung_since IS NULL),
                        (SELECT count(*) FROM volumes WHERE state = 'appendable' AND suspect_since IS NULL),
                        (SELECT count(*) FROM volumes WHERE state = 'quarantined'),
                        (SELECT count(*) FROM volumes WHERE suspect_since IS NOT NULL),
                        (SELECT count(*) FROM volumes),
                        (SELECT count(*) FROM plans WHERE deleted_at IS NULL),
                        (SELECT count(*) FROM versions WHERE state = 'published'),
                        (SELECT max(published_at) FROM versions)",
                &[],
            )
            .await?;
        Ok(Counts {
            agents: row.get(0),
            connected_agents: row.get(1),
            drives: row.get(2),
            usable_drives: row.get(3),
            appendable_volumes: row.get(4),
            quarantined_volumes: row.get(5),
            suspect_volumes: row.get(6),
            volumes: row.get(7),
            plans: row.get(8),
            versions: row.get(9),
            last_published_at: row.get(10),
        })
    }

    /// The server as it calls itself: "PostgreSQL 15.18" or the like.
    pub async fn system_database(&self) -> Result<String, Error> {
        let client = self.client().await?;
        let row = client.query_one("SELECT version()", &[]).await?;
        let full: String = row.get(0);
        // PostgreSQL puts compiler and host behind; openGauss puts its name into brackets before.
        let name = full.trim_start_matches('(');
        Ok(name
            .split_whitespace()
            .take(2)
            .collect::<Vec<_>>()
            .join(" "))
    }
}
