//! Sources: what is to be backed up of which agent. A removed source keeps its row, because versions name it; making it
//! again takes the row up again.

use jiff::Timestamp;
use prost::Message as _;
use taf_proto::agent::{Detection, FetchSelectionResponse};
use tokio_postgres::types::ToSql;
use tokio_postgres::{GenericClient, Row, Transaction};

use super::{Error, Store};

/// A source.
#[derive(Debug, Clone)]
pub struct Source {
    /// Key of the row.
    pub id: i64,
    /// Its id in the API.
    pub name: String,
    /// Key of the agent's row.
    pub agent_id: i64,
    /// The agent's id in the API.
    pub agent: String,
    /// Paths and excluded paths.
    pub selection: FetchSelectionResponse,
    /// Whether to stay on the file systems of the paths.
    pub one_file_system: bool,
    /// How a changed file is told from an unchanged one.
    pub detection: Detection,
    /// Changes with every change.
    pub revision: i64,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What a new source is made of.
#[derive(Debug, Clone)]
pub struct NewSource {
    /// Its id in the API.
    pub name: String,
    /// Key of the agent's row.
    pub agent_id: i64,
    /// Paths and excluded paths.
    pub selection: FetchSelectionResponse,
    /// Whether to stay on the file systems of the paths.
    pub one_file_system: bool,
    /// How a changed file is told from an unchanged one.
    pub detection: Detection,
}

const SELECT: &str =
    "SELECT s.id, s.source_name, s.agent_id, a.agent_name, s.paths, s.one_file_system, s.revision,
            s.created_at, s.ignore_ctime, s.ignore_inode, s.always_compare_content
     FROM sources AS s JOIN agents AS a ON a.id = s.agent_id
     WHERE s.deleted_at IS NULL";

fn source(row: &Row) -> Result<Source, Error> {
    Ok(Source {
        id: row.get(0),
        name: row.get(1),
        agent_id: row.get(2),
        agent: row.get(3),
        selection: FetchSelectionResponse::decode(row.get::<_, &[u8]>(4))
            .map_err(|_| Error::Corrupt("the paths of a source"))?,
        one_file_system: row.get(5),
        revision: row.get(6),
        created_at: row.get(7),
        detection: Detection {
            ignore_ctime: row.get(8),
            ignore_inode: row.get(9),
            always_compare_content: row.get(10),
        },
    })
}

impl Store {
    /// Makes a source. False if there is one of this name.
    pub async fn source_create_on(tx: &Transaction<'_>, new: &NewSource) -> Result<bool, Error> {
        let paths = new.selection.encode_to_vec();
        let values: &[&(dyn ToSql + Sync)] = &[
            &new.name,
            &new.agent_id,
            &paths,
            &new.one_file_system,
            &new.detection.ignore_ctime,
            &new.detection.ignore_inode,
            &new.detection.always_compare_content,
        ];
        let revived = tx
            .execute(
                "UPDATE sources
                 SET agent_id = $2, paths = $3, one_file_system = $4, ignore_ctime = $5, ignore_inode = $6,
                     always_compare_content = $7, revision = revision + 1, created_at = clock_timestamp(), deleted_at = NULL
                 WHERE source_name = $1 AND deleted_at IS NOT NULL",
                values,
            )
            .await?;
        if revived == 1 {
            return Ok(true);
        }
        let made = tx
            .execute(
                "INSERT INTO sources (source_name, agent_id, paths, one_file_system, ignore_ctime, ignore_inode,
                     always_compare_content, created_at)
                 SELECT $1::varchar, $2::bigint, $3::bytea, $4::boolean, $5::boolean, $6::boolean, $7::boolean,
                     clock_timestamp()
                 WHERE NOT EXISTS (SELECT 1 FROM sources WHERE source_name = $1::varchar)",
                values,
            )
            .await?;
        Ok(made == 1)
    }

    /// One source by name.
    pub async fn source_get_on<C: GenericClient>(
        client: &C,
        name: &str,
    ) -> Result<Option<Source>, Error> {
        let row = client
            .query_opt(&format!("{SELECT} AND s.source_name = $1"), &[&name])
            .await?;
        row.as_ref().map(source).transpose()
    }

    /// One source by name.
    pub async fn source_get(&self, name: &str) -> Result<Option<Source>, Error> {
        Self::source_get_on(&**self.client().await?, name).await
    }

    /// One source by name, held until the transaction ends, so that it does not go while something is tied to it.
    pub async fn source_lock_on(tx: &Transaction<'_>, name: &str) -> Result<Option<Source>, Error> {
        tx.query_opt(
            "SELECT id FROM sources WHERE source_name = $1 AND deleted_at IS NULL FOR UPDATE",
            &[&name],
        )
        .await?;
        Self::source_get_on(tx, name).await
    }

    /// Sources behind a name, in order.
    pub async fn source_list(&self, after: &str, limit: i64) -> Result<Vec<Source>, Error> {
        let client = self.client().await?;
        let rows = client
            .query(
                &format!("{SELECT} AND s.source_name > $1 ORDER BY s.source_name LIMIT $2::bigint"),
                &[&after, &limit],
            )
            .await?;
        rows.iter().map(source).collect()
    }

    /// Whether a plan names the source.
    pub async fn source_in_use_on(tx: &Transaction<'_>, id: i64) -> Result<bool, Error> {
        let row = tx
            .query_one(
                "SELECT EXISTS (SELECT 1 FROM plans WHERE source_id = $1 AND deleted_at IS NULL)",
                &[&id],
            )
            .await?;
        Ok(row.get(0))
    }

    /// Replaces what a source at a revision takes. False if it is not there at this revision.
    pub async fn source_update_on(
        tx: &Transaction<'_>,
        id: i64,
        revision: i64,
        new: &NewSource,
    ) -> Result<bool, Error> {
        let paths = new.selection.encode_to_vec();
        let changed = tx
            .execute(
                "UPDATE sources SET paths = $3, one_file_system = $4, ignore_ctime = $5, ignore_inode = $6,
                     always_compare_content = $7, revision = revision + 1
                 WHERE id = $1 AND revision = $2 AND deleted_at IS NULL",
                &[
                    &id,
                    &revision,
                    &paths,
                    &new.one_file_system,
                    &new.detection.ignore_ctime,
                    &new.detection.ignore_inode,
                    &new.detection.always_compare_content,
                ],
            )
            .await?;
        Ok(changed == 1)
    }

    /// Removes a source at a revision. False if it is not there at this revision.
    pub async fn source_delete_on(
        tx: &Transaction<'_>,
        id: i64,
        revision: i64,
    ) -> Result<bool, Error> {
        let gone = tx
            .execute(
                "UPDATE sources SET deleted_at = clock_timestamp(), revision = revision + 1
                 WHERE id = $1 AND revision = $2 AND deleted_at IS NULL",
                &[&id, &revision],
            )
            .await?;
        Ok(gone == 1)
    }
}
