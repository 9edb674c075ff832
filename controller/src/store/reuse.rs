//! Volumes on which nothing is needed any more: which may be written from their beginning again, and their way back to a label.
//!
//! What a volume has may go if it is on another one that stays. Two of them may be asked about at the same moment, and neither may go
//! since the other one is there. So whether one goes is asked in a transaction of the controller that reconciles, and of those there is one
//! at a time ([`super::leadership`]): when a recording is given up, and when an erase begins. What goes is not there for whoever asks then:
//! its recording is given up, or a job is to erase it. That an erase may be ordered is asked, too, but nothing rests on that.

use std::collections::HashMap;

use jiff::Timestamp;
use uuid::Uuid;

use super::conditions::{LIVING, STAYS, put_in};
use super::{Error, GenericClient, Transaction, indexes};

/// What keeps a volume from being written anew, beside the time. Who began to read before it was free may have been told to read it.
const AT_WORK: &str = "EXISTS (SELECT 1 FROM attempt_volumes AS h WHERE h.held AND h.cartridge = volumes.barcode) \
     OR EXISTS (SELECT 1 FROM jobs AS j WHERE j.ended_at IS NULL AND (j.volume_id = volumes.id OR j.cartridge = volumes.barcode \
     OR j.kind IN ('restore', 'feed') AND j.created_at < volumes.freed_at))";

/// Needed parts `x` that were copied from a recording `h`, once or more often, and whose last copy nobody has read back, is damaged, may
/// have been written over, or is not there any more or about to go: what `h` still has may be all that is left.
const UNPROVED: &str = "{COPIED} JOIN parts AS x ON x.id = h.part WHERE NOT {PROVED} \
     AND EXISTS (SELECT 1 FROM archives AS a WHERE a.id = x.archive_id AND {LIVING})";

/// Rows `k` for versions that are kept and whose closing record is on a recording, or may be as parts of them were, and on no other one
/// that stays: a rebuild of the catalog would not know what they are.
const UNTOLD: &str = "(SELECT i.recording_uuid AS recording, c.line_id, c.version FROM volume_indexes AS i \
     JOIN closings AS c ON c.index_id = i.id UNION SELECT h.recording, o.line_id, o.version FROM {COPIED} \
     JOIN parts AS x ON x.id = h.part JOIN archives AS o ON o.id = x.archive_id) AS k \
     JOIN versions AS u ON u.line_id = k.line_id AND u.version = k.version WHERE u.closing IS NOT NULL AND u.expired_at IS NULL \
     AND u.lost_reason IS NULL AND (u.state = 'published' OR u.incomplete_reason IS NOT NULL) \
     AND NOT EXISTS (SELECT 1 FROM closings AS e JOIN volume_indexes AS f ON f.id = e.index_id \
     JOIN volumes AS w ON w.recording_uuid = f.recording_uuid WHERE e.line_id = u.line_id AND e.version = u.version \
     AND f.recording_uuid <> k.recording AND {STAYS} AND w.suspect_since IS NULL)";

/// The first other volume that stays and has parts of the version of `k`, or of the newest one before it that has any; more may be asked
/// of it before the bracket is closed.
const HOME: &str = "(SELECT min(w.barcode) FROM archives AS a JOIN parts AS x ON x.archive_id = a.id \
     JOIN volumes AS w ON w.recording_uuid = x.recording_uuid WHERE a.line_id = k.line_id AND a.state IN ('published', 'closed') \
     AND a.version = (SELECT max(b.version) FROM archives AS b WHERE b.line_id = k.line_id AND b.version <= k.version \
     AND b.state IN ('published', 'closed')) AND w.recording_uuid <> k.recording AND {STAYS}";

/// Nothing has been needed on a volume for `$2` seconds.
const RESTED: &str = "state IN ('appendable', 'full') AND suspect_since IS NULL \
     AND freed_at <= clock_timestamp() - $2::float8 * interval '1 second'";

/// A volume on which nothing has been needed for a while, and with which nobody works. It may be written from its beginning again, unless
/// what was on it may be needed all the same ([`recordings_held`]).
#[derive(Debug, Clone)]
pub struct Rested {
    /// Row.
    pub id: i64,
    /// Barcode.
    pub barcode: String,
    /// Since when nothing on it is needed.
    pub freed_at: Timestamp,
    /// Recording.
    pub recording: Uuid,
}

/// The volumes of a pool on which nothing has been needed for so many seconds and with which nobody works, the longest first; without a
/// pool those of all pools that have no other volume to write on.
pub async fn volume_list_rested(
    client: &impl GenericClient,
    pool: Option<i64>,
    seconds: f64,
) -> Result<Vec<Rested>, Error> {
    let sql = format!(
        "SELECT id, barcode, freed_at, recording_uuid FROM volumes WHERE {RESTED} AND (pool_id = $1::bigint OR $1::bigint IS NULL \
         AND NOT EXISTS (SELECT 1 FROM volumes AS z WHERE z.pool_id = volumes.pool_id AND z.state = 'appendable' \
         AND z.suspect_since IS NULL)) AND NOT ({AT_WORK}) ORDER BY freed_at, barcode"
    );
    let rows = client.query(&sql, &[&pool, &seconds]).await?;
    let rested = |row: &tokio_postgres::Row| Rested {
        id: row.get(0),
        barcode: row.get(1),
        freed_at: row.get(2),
        recording: row.get(3),
    };
    Ok(rows.iter().map(rested).collect())
}

/// For the controller that reconciles alone: gives up what is on such a volume and makes it one that is to be labelled anew, with another
/// recording; what may still be on the cartridge is remembered until the label is there. False, and nothing is done, if by now something
/// on it is needed, somebody works with it, or what is needed of it elsewhere is not proved there ([`Held`]): all that is asked here, of
/// one moment, with the row held.
pub async fn volume_reuse_on(
    tx: &Transaction<'_>,
    id: i64,
    seconds: f64,
    fresh: Uuid,
) -> Result<bool, Error> {
    let locked = "SELECT recording_uuid FROM volumes WHERE id = $1 FOR UPDATE";
    let Some(row) = tx.query_opt(locked, &[&id]).await? else {
        return Ok(false);
    };
    // As a parameter it is looked for by index, also within what is made of two tables; a column of the row is not.
    let recording: Uuid = row.get(0);
    let sql = put_in(&format!(
        "UPDATE volumes SET state = 'labelling', state_reason = NULL, former_recording = recording_uuid, former_end = next_block, \
         recording_uuid = $3, block_size = (SELECT p.block_size FROM pools AS p WHERE p.id = volumes.pool_id), freed_at = NULL, \
         next_tape_file = 0, next_block = 0, byte_count = 0, labelled_at = NULL, written_at = NULL, index_due = false, \
         index_tries = 0, index_omitted = false WHERE id = $1 AND recording_uuid = $4 AND {RESTED} AND NOT ({AT_WORK}) \
         AND NOT EXISTS (SELECT 1 FROM {UNPROVED} AND h.recording = $4) \
         AND NOT EXISTS (SELECT 1 FROM {UNTOLD} AND k.recording = $4) \
         AND NOT EXISTS (SELECT 1 FROM parts AS x JOIN archives AS a ON a.id = x.archive_id \
         WHERE x.recording_uuid = $4 AND {LIVING})"
    ));
    let given_up = tx
        .execute(&sql, &[&id, &seconds, &fresh, &recording])
        .await?;
    if given_up == 1 {
        indexes::index_forget_on(tx, recording).await?;
    }
    Ok(given_up == 1)
}

/// Whoever notes that parts of a line are needed, each by ordinal of its archive and number, asks for this before. Nobody gives up what
/// they are on, and no erase of it begins, before the transaction ends: who does locks the volume ([`volume_reuse_on`],
/// [`super::volumes::volume_living_on`]) and sees then what was noted. Of what went before, the recording is gone in the next statement.
pub async fn part_volumes_stay_on(
    tx: &Transaction<'_>,
    line: i64,
    parts: &[(i32, i32)],
) -> Result<(), Error> {
    let ordinals: Vec<i32> = parts.iter().map(|(ordinal, _)| *ordinal).collect();
    let numbers: Vec<i32> = parts.iter().map(|(_, number)| *number).collect();
    // It stands in the way of nothing else: who writes on a volume goes on.
    let sql = "SELECT v.id FROM volumes AS v WHERE v.recording_uuid IN (SELECT x.recording_uuid FROM \
               (SELECT unnest($2::integer[]) AS ordinal, unnest($3::integer[]) AS part_number) AS k \
               JOIN archives AS a ON a.line_id = $1::bigint AND a.ordinal = k.ordinal \
               JOIN parts AS x ON x.archive_id = a.id AND x.part_number = k.part_number) ORDER BY v.id FOR KEY SHARE OF v";
    tx.query(sql, &[&line, &ordinals, &numbers]).await?;
    Ok(())
}

/// What is needed on a recording: versions that are kept, or protected though they expired, how many of them have expired, and
/// until when they all are kept if that is a matter of time alone.
#[derive(Debug, Clone, Default)]
pub struct Needed {
    /// Versions, also such as are being made.
    pub versions: i64,
    /// Of these, versions that have expired and are still built on or read.
    pub expired: i64,
    /// Until when those that are kept are, as far as that is known of all.
    pub until: Option<Timestamp>,
}

/// See [`Needed`].
pub async fn volume_needed(client: &impl GenericClient, recording: Uuid) -> Result<Needed, Error> {
    let sql = "SELECT count(*), count(v.expired_at), CASE WHEN count(*) = count(v.keep_until) THEN max(v.keep_until) ELSE NULL END \
               FROM versions AS v WHERE EXISTS (SELECT 1 FROM version_parts AS n JOIN parts AS x ON x.id = n.part_id \
               WHERE n.line_id = v.line_id AND n.version = v.version AND x.recording_uuid = $1) \
               OR EXISTS (SELECT 1 FROM archives AS a JOIN parts AS y ON y.archive_id = a.id WHERE a.line_id = v.line_id \
               AND a.version = v.version AND a.state IN ('staged', 'closed', 'unclaimed') AND y.recording_uuid = $1)";
    let row = client.query_one(sql, &[&recording]).await?;
    Ok(Needed {
        versions: row.get(0),
        expired: row.get(1),
        until: row.get(2),
    })
}

/// Needed parts that were copied from a recording to one volume and are not proved there.
#[derive(Debug, Clone)]
pub struct Unproved {
    /// Barcode of that volume; none if it is gone, about to go, or not to be trusted.
    pub barcode: Option<String>,
    /// Whether that has to be inspected before anybody can say what is on it.
    pub suspect: bool,
    /// How many nobody has read there, or not since it is suspect.
    pub unread: i64,
    /// How many are damaged there.
    pub damaged: i64,
}

/// Versions whose closing record is on a recording, or may be, and on no other one that stays.
#[derive(Debug, Clone)]
pub struct Untold {
    /// How many.
    pub versions: i64,
    /// A volume that stays and has parts of one of them.
    pub home: Option<Home>,
}

/// A volume that a closing record belongs on.
#[derive(Debug, Clone)]
pub struct Home {
    /// Barcode.
    pub barcode: String,
    /// Whether it gets the record with its next index: else it is read only, or a suspect.
    pub indexed: bool,
}

/// Why a recording on which nothing is needed may be needed all the same.
#[derive(Debug, Clone, Default)]
pub struct Held {
    /// Copies of what was on it.
    pub copies: Vec<Unproved>,
    /// Closing records.
    pub untold: Option<Untold>,
}

/// See [`Held`]; by recording.
pub async fn recordings_held(
    client: &impl GenericClient,
    recordings: &[Uuid],
) -> Result<HashMap<Uuid, Held>, Error> {
    let mut all: HashMap<Uuid, Held> = HashMap::new();
    for (recording, copies) in copies_unproved(client, recordings).await? {
        all.entry(recording).or_default().copies = copies;
    }
    let sql = put_in(&format!(
        "SELECT q.recording, count(*) AS n, max(q.indexed) AS indexed, max(q.home) AS home FROM (SELECT k.recording, {HOME} \
         AND w.state IN ('appendable', 'full') AND w.suspect_since IS NULL) AS indexed, {HOME}) AS home FROM {UNTOLD} \
         AND k.recording = ANY($1::uuid[])) AS q GROUP BY q.recording"
    ));
    for row in client.query(&sql, &[&recordings]).await? {
        let (indexed, home): (Option<String>, Option<String>) = (row.get(2), row.get(3));
        let home = match indexed {
            Some(barcode) => Some((barcode, true)),
            None => home.map(|barcode| (barcode, false)),
        };
        all.entry(row.get(0)).or_default().untold = Some(Untold {
            versions: row.get(1),
            home: home.map(|(barcode, indexed)| Home { barcode, indexed }),
        });
    }
    Ok(all)
}

/// See [`Unproved`]; by the recording that the parts were copied from.
pub async fn copies_unproved(
    client: &impl GenericClient,
    recordings: &[Uuid],
) -> Result<HashMap<Uuid, Vec<Unproved>>, Error> {
    let sql = put_in(&format!(
        "SELECT q.recording, w.barcode, w.suspect_since IS NOT NULL AS suspect, count(*) - count(q.damage) AS unread, \
         count(q.damage) AS damaged FROM (SELECT h.recording, x.recording_uuid AS copy, x.damage FROM {UNPROVED} \
         AND h.recording = ANY($1::uuid[])) AS q LEFT JOIN volumes AS w ON w.recording_uuid = q.copy AND {STAYS} \
         GROUP BY q.recording, w.barcode, w.suspect_since ORDER BY q.recording, w.barcode"
    ));
    let mut found: HashMap<Uuid, Vec<Unproved>> = HashMap::new();
    for row in client.query(&sql, &[&recordings]).await? {
        found.entry(row.get(0)).or_default().push(Unproved {
            barcode: row.get(1),
            suspect: row.get(2),
            unread: row.get(3),
            damaged: row.get(4),
        });
    }
    Ok(found)
}

/// If jobs read back all copies of needed parts of a recording that nobody has read, and could begin, one of them.
pub async fn copies_are_read_on(
    tx: &Transaction<'_>,
    recording: Uuid,
) -> Result<Option<i64>, Error> {
    let sql = put_in(&format!(
        "SELECT count(*) AS all_parts, count(q.job) AS read, max(q.job) FROM (SELECT (SELECT min(j.id) FROM job_parts AS k \
         JOIN jobs AS j ON j.id = k.job_id JOIN volumes AS w ON w.id = j.volume_id WHERE k.part_id = x.id AND j.ended_at IS NULL \
         AND NOT j.cancel_asked AND x.damage IS NULL AND w.recording_uuid = x.recording_uuid \
         AND {STAYS} AND w.suspect_since IS NULL \
         AND EXISTS (SELECT 1 FROM elements AS e JOIN libraries AS l ON l.id = e.library_id WHERE e.occupied AND e.barcode = w.barcode \
         AND l.connected AND e.kind <> 'mail-slot')) AS job FROM {UNPROVED} AND h.recording = $1) AS q"
    ));
    let row = tx.query_one(&sql, &[&recording]).await?;
    let (all, read): (i64, i64) = (row.get(0), row.get(1));
    Ok(row.get::<_, Option<i64>>(2).filter(|_| all == read))
}
