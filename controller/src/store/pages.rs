//! Directory pages: rows of (line, chunk, version), of which a version resolves the newest that is not above it and not
//! below its floor. A row without a body is a tombstone.

use bytes::Bytes;
use tokio_postgres::types::ToSql;

use super::{Error, GenericClient, Transaction};

/// A row behind every other: no key is longer than 1,000 bytes.
pub const END: [u8; 1001] = [0xFF; 1001];

/// The rows of keys that were chosen as k.
const OF_KEYS: &str =
    "JOIN pages AS p ON p.line_id = $1 AND p.chunk = k.chunk AND p.version = k.version";

/// A version to resolve against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope {
    /// Line.
    pub line_id: i64,
    /// Version.
    pub version: i64,
    /// Version that resolution does not go below.
    pub floor: i64,
    /// Of rows of the floor itself only those count that an archive of this ordinal or a later one brought. 0 but for a version that is not
    /// whole.
    pub ordinal: i32,
}

impl Scope {
    /// All rows of a version.
    pub fn whole(line_id: i64, version: i64, floor: i64) -> Self {
        Self {
            line_id,
            version,
            floor,
            ordinal: 0,
        }
    }

    /// Only those of an archive, by version and ordinal, and of later ones: as if nothing older had ever been. A key of which that leaves
    /// nothing is not known.
    #[must_use]
    pub fn from(self, (version, ordinal): (i64, i32)) -> Self {
        if version < self.floor {
            return self;
        }
        Self {
            floor: version,
            ordinal,
            ..self
        }
    }

    /// The parameters of a statement that only asks for the last one, the ordinal, where not all rows of the floor count: without it, the
    /// index of keys tells the newest row of each alone, and the others are not read.
    fn given<'p>(&self, params: &'p [&'p (dyn ToSql + Sync)]) -> &'p [&'p (dyn ToSql + Sync)] {
        let ordinal = usize::from(self.ordinal == 0);
        &params[..params.len() - ordinal]
    }
}

/// A resolved row.
#[derive(Debug, Clone)]
pub struct PageRow {
    /// Key.
    pub chunk: Vec<u8>,
    /// Encoded page.
    pub body: Vec<u8>,
    /// Hashes of its entries.
    pub hashes: Vec<u8>,
}

/// A page or tombstone to add.
#[derive(Debug, Clone)]
pub struct NewPage {
    /// Key.
    pub chunk: Bytes,
    /// Encoded page and hashes; none for a tombstone.
    pub body: Option<(Bytes, Bytes)>,
}

/// Rows as the columns that a statement takes.
pub(super) struct Columns<'a> {
    pub(super) chunks: Vec<&'a [u8]>,
    /// None for a tombstone, as are the hashes.
    pub(super) bodies: Vec<Option<&'a [u8]>>,
    pub(super) hashes: Vec<Option<&'a [u8]>>,
}

impl<'a> Columns<'a> {
    pub(super) fn of(pages: &'a [NewPage]) -> Self {
        let body = |page: &'a NewPage| page.body.as_ref();
        Self {
            chunks: pages.iter().map(|page| page.chunk.as_ref()).collect(),
            bodies: pages
                .iter()
                .map(|page| body(page).map(|(it, _)| it.as_ref()))
                .collect(),
            hashes: pages
                .iter()
                .map(|page| body(page).map(|(_, it)| it.as_ref()))
                .collect(),
        }
    }
}

/// Removes the rows with these keys that earlier archives of the version brought: for one key and version the higher ordinal
/// counts.
pub async fn page_supersede_on(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
    archive_ordinal: i32,
    pages: &[NewPage],
) -> Result<(), Error> {
    let chunks: Vec<&[u8]> = pages.iter().map(|page| page.chunk.as_ref()).collect();
    let sql = tx
        .prepare_cached(
            "DELETE FROM pages WHERE line_id = $1 AND chunk = ANY($2::bytea[]) AND version = $3 AND archive_ordinal < $4",
        )
        .await?;
    tx.execute(&sql, &[&line, &chunks, &version, &archive_ordinal])
        .await?;
    Ok(())
}

/// Adds rows of one part. [`Error::Exists`] if the version has one of the keys already.
pub async fn page_add_on(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
    archive_ordinal: i32,
    part_number: i32,
    pages: &[NewPage],
) -> Result<(), Error> {
    let Columns {
        chunks,
        bodies,
        hashes,
    } = Columns::of(pages);
    let sql = tx
        .prepare_cached(
            "INSERT INTO pages (line_id, chunk, version, archive_ordinal, part_number, body, hashes) \
             SELECT $1::bigint, unnest($2::bytea[]), $3::bigint, $4::integer, $5::integer, unnest($6::bytea[]), unnest($7::bytea[])",
        )
        .await?;
    tx.execute(
        &sql,
        &[
            &line,
            &chunks,
            &version,
            &archive_ordinal,
            &part_number,
            &bodies,
            &hashes,
        ],
    )
    .await?;
    Ok(())
}

/// The page of a key; none if there is none or a tombstone.
pub async fn page_get(
    client: &impl GenericClient,
    scope: Scope,
    chunk: &[u8],
) -> Result<Option<PageRow>, Error> {
    let sql = client
        .prepare_cached(
            "SELECT body, hashes FROM pages WHERE line_id = $1 AND chunk = $2 AND version >= $3 AND version <= $4 \
             AND (version > $3 OR archive_ordinal >= $5) ORDER BY version DESC LIMIT 1",
        )
        .await?;
    let row = client
        .query_opt(
            &sql,
            &[
                &scope.line_id,
                &chunk,
                &scope.floor,
                &scope.version,
                &scope.ordinal,
            ],
        )
        .await?;
    let body = row.and_then(|row| {
        Some((
            row.get::<_, Option<Vec<u8>>>(0)?,
            row.get::<_, Option<Vec<u8>>>(1)?,
        ))
    });
    Ok(body.map(|(body, hashes)| PageRow {
        chunk: chunk.to_vec(),
        body,
        hashes,
    }))
}

/// The greatest key of the line with `from` <= key <= `to`, of whatever version.
pub async fn page_last_key(
    client: &impl GenericClient,
    line: i64,
    from: &[u8],
    to: &[u8],
) -> Result<Option<Vec<u8>>, Error> {
    let sql = client
        .prepare_cached(
            "SELECT chunk FROM pages WHERE line_id = $1 AND chunk >= $2 AND chunk <= $3 ORDER BY chunk DESC LIMIT 1",
        )
        .await?;
    Ok(client
        .query_opt(&sql, &[&line, &from, &to])
        .await?
        .map(|row| row.get(0)))
}

/// A key of a version and the version that its row is of.
pub type Key = (Vec<u8>, i64);

/// What [`page_keys`] found.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    /// Keys that have a page, in order.
    pub live: Vec<Key>,
    /// The last key looked at, tombstones included; none at the end.
    pub last: Option<Vec<u8>>,
}

/// The keys with `from` <= key < `to` that the version has, in order, `limit` looked at. With `behind`, `from` itself is left
/// out.
pub async fn page_keys(
    client: &impl GenericClient,
    scope: Scope,
    from: &[u8],
    behind: bool,
    to: &[u8],
    limit: i64,
) -> Result<Keys, Error> {
    let compare = if behind { ">" } else { ">=" };
    let sql = client
        .prepare_cached(&format!(
            "SELECT DISTINCT ON (chunk) chunk, version, body IS NULL FROM pages \
             WHERE line_id = $1 AND chunk {compare} $2 AND chunk < $3 AND version >= $4 AND version <= $5 \
             AND (version > $4 OR archive_ordinal >= $7) ORDER BY chunk, version DESC LIMIT $6::bigint"
        ))
        .await?;
    let rows = client
        .query(
            &sql,
            &[
                &scope.line_id,
                &from,
                &to,
                &scope.floor,
                &scope.version,
                &limit,
                &scope.ordinal,
            ],
        )
        .await?;
    let last = rows.last().map(|row| row.get(0));
    let live = rows
        .iter()
        .filter(|row| !row.get::<_, bool>(2))
        .map(|row| (row.get(0), row.get(1)));
    Ok(Keys {
        live: live.collect(),
        last,
    })
}

/// Which rows are scanned.
#[derive(Debug, Clone, Copy)]
pub struct Range<'a> {
    /// First key.
    pub from: &'a [u8],
    /// First key behind them.
    pub to: &'a [u8],
    /// The row behind which to go on, by key and version.
    pub after: Option<(&'a [u8], i64)>,
}

/// A row that was scanned, as it came.
#[derive(Debug)]
pub struct Row(tokio_postgres::Row);

impl Row {
    /// Key.
    pub fn chunk(&self) -> &[u8] {
        self.0.get(0)
    }

    /// Version that wrote it.
    pub fn version(&self) -> i64 {
        self.0.get(1)
    }

    /// Encoded page; none for a tombstone.
    pub fn body(&self) -> Option<&[u8]> {
        self.0.get(2)
    }
}

/// The keys that a version resolves to in a range, tombstones included, in order.
pub async fn page_scan_newest(
    client: &impl GenericClient,
    scope: Scope,
    range: Range<'_>,
    limit: i64,
) -> Result<Vec<Key>, Error> {
    let (compare, from) = match range.after {
        Some((chunk, _)) => (">", chunk),
        None => (">=", range.from),
    };
    let floor = if scope.ordinal == 0 {
        ""
    } else {
        " AND (version > $4 OR archive_ordinal >= $7)"
    };
    let sql = client
        .prepare_cached(&format!(
            "SELECT DISTINCT ON (chunk) chunk, version FROM pages \
             WHERE line_id = $1 AND chunk {compare} $2 AND chunk < $3 AND version >= $4 AND version <= $5{floor} \
             ORDER BY chunk, version DESC LIMIT $6::bigint"
        ))
        .await?;
    let params: [&(dyn ToSql + Sync); 7] = [
        &scope.line_id,
        &from,
        &range.to,
        &scope.floor,
        &scope.version,
        &limit,
        &scope.ordinal,
    ];
    let rows = client.query(&sql, scope.given(&params)).await?;
    Ok(rows.iter().map(key).collect())
}

/// The keys of all rows of a range with versions of a scope, in order, the newest of each first.
pub async fn page_scan(
    client: &impl GenericClient,
    scope: Scope,
    range: Range<'_>,
    limit: i64,
) -> Result<Vec<Key>, Error> {
    let (from, below) = range.after.unwrap_or((range.from, i64::MAX));
    let floor = if scope.ordinal == 0 {
        ""
    } else {
        " AND (version > $4 OR archive_ordinal >= $8)"
    };
    let sql = client
        .prepare_cached(&format!(
            "SELECT chunk, version FROM pages \
             WHERE line_id = $1 AND chunk >= $2 AND (chunk > $2 OR version < $7::bigint) AND chunk < $3 AND version >= $4 \
             AND version <= $5{floor} ORDER BY chunk, version DESC LIMIT $6::bigint"
        ))
        .await?;
    let params: [&(dyn ToSql + Sync); 8] = [
        &scope.line_id,
        &from,
        &range.to,
        &scope.floor,
        &scope.version,
        &limit,
        &below,
        &scope.ordinal,
    ];
    let rows = client.query(&sql, scope.given(&params)).await?;
    Ok(rows.iter().map(key).collect())
}

fn key(row: &tokio_postgres::Row) -> Key {
    (row.get(0), row.get(1))
}

/// The rows of keys that a scan gave, in their order; none for one that is gone since.
pub async fn page_rows(
    client: &impl GenericClient,
    line: i64,
    keys: &[Key],
) -> Result<Vec<Option<Row>>, Error> {
    let rows = rows_of(client, line, keys, false).await?;
    let mut rows: Vec<Row> = rows.into_iter().map(Row).collect();
    let in_order = |a: &Row, b: &Row| (a.chunk(), b.version()) <= (b.chunk(), a.version());
    if !rows.is_sorted_by(in_order) {
        rows.sort_by(|a, b| (a.chunk(), b.version()).cmp(&(b.chunk(), a.version())));
    }
    let mut rows = rows.into_iter().peekable();
    let row_of = |key: &Key| rows.next_if(|row| row.chunk() == key.0 && row.version() == key.1);
    Ok(keys.iter().map(row_of).collect())
}

/// The rows of keys in whichever order: key, version and page, and its hashes if they are wanted.
async fn rows_of(
    client: &impl GenericClient,
    line: i64,
    keys: &[Key],
    with_hashes: bool,
) -> Result<Vec<tokio_postgres::Row>, Error> {
    let chunks: Vec<&[u8]> = keys.iter().map(|(chunk, _)| chunk.as_slice()).collect();
    let versions: Vec<i64> = keys.iter().map(|(_, version)| *version).collect();
    let hashes = if with_hashes { ", p.hashes" } else { "" };
    let sql = client
        .prepare_cached(&format!(
            "SELECT p.chunk, p.version, p.body{hashes} FROM \
             (SELECT unnest($2::bytea[]) AS chunk, unnest($3::bigint[]) AS version) AS k {OF_KEYS}"
        ))
        .await?;
    Ok(client.query(&sql, &[&line, &chunks, &versions]).await?)
}

/// A resolved row with the length of its page.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Key.
    pub chunk: Vec<u8>,
    /// Version that wrote it.
    pub version: i64,
    /// Ordinal of the archive that brought it.
    pub archive_ordinal: i32,
    /// Its part.
    pub part_number: i32,
    /// Bytes of page and hashes; none for a tombstone.
    pub length: Option<usize>,
}

/// What a version resolves to behind a key, tombstones included; with `behind` none, from the first key on.
pub async fn page_measure(
    client: &impl GenericClient,
    scope: Scope,
    behind: Option<&[u8]>,
    limit: i64,
) -> Result<Vec<Measured>, Error> {
    let compare = if behind.is_some() { ">" } else { ">=" };
    let from = behind.unwrap_or_default();
    let floor = if scope.ordinal == 0 {
        ""
    } else {
        " AND (version > $3 OR archive_ordinal >= $6)"
    };
    let sql = client
        .prepare_cached(&format!(
            "SELECT p.chunk, p.version, p.archive_ordinal, p.part_number, octet_length(p.body) + octet_length(p.hashes) \
             FROM (SELECT DISTINCT ON (chunk) chunk, version FROM pages \
             WHERE line_id = $1 AND chunk {compare} $2 AND version >= $3 AND version <= $4{floor} \
             ORDER BY chunk, version DESC LIMIT $5::bigint) AS k {OF_KEYS} ORDER BY k.chunk"
        ))
        .await?;
    let params: [&(dyn ToSql + Sync); 6] = [
        &scope.line_id,
        &from,
        &scope.floor,
        &scope.version,
        &limit,
        &scope.ordinal,
    ];
    let rows = client.query(&sql, scope.given(&params)).await?;
    Ok(rows.iter().map(measured).collect())
}

/// What a version resolves to of these keys, in their order.
pub async fn page_measure_keys(
    client: &impl GenericClient,
    scope: Scope,
    chunks: &[&[u8]],
) -> Result<Vec<Measured>, Error> {
    let floor = if scope.ordinal == 0 {
        ""
    } else {
        " AND (version > $3 OR archive_ordinal >= $5)"
    };
    let sql = client
        .prepare_cached(&format!(
            "SELECT p.chunk, p.version, p.archive_ordinal, p.part_number, octet_length(p.body) + octet_length(p.hashes) \
             FROM (SELECT DISTINCT ON (chunk) chunk, version FROM pages \
             WHERE line_id = $1 AND chunk = ANY($2::bytea[]) AND version >= $3 AND version <= $4{floor} \
             ORDER BY chunk, version DESC) AS k {OF_KEYS} ORDER BY k.chunk"
        ))
        .await?;
    let params: [&(dyn ToSql + Sync); 5] = [
        &scope.line_id,
        &chunks,
        &scope.floor,
        &scope.version,
        &scope.ordinal,
    ];
    let rows = client.query(&sql, scope.given(&params)).await?;
    Ok(rows.iter().map(measured).collect())
}

/// How many rows a version resolves to, tombstones included, by the part that brought them: version, ordinal of the archive, number
/// and rows of each.
pub async fn page_count_parts(
    client: &impl GenericClient,
    scope: Scope,
) -> Result<Vec<(i64, i32, i32, i64)>, Error> {
    let sql = "SELECT q.version, q.archive_ordinal, q.part_number, count(*) AS n FROM \
               (SELECT DISTINCT ON (chunk) chunk, version, archive_ordinal, part_number FROM pages \
                WHERE line_id = $1 AND version >= $2 AND version <= $3 AND (version > $2 OR archive_ordinal >= $4) \
                ORDER BY chunk, version DESC) AS q GROUP BY q.version, q.archive_ordinal, q.part_number";
    let rows = client
        .query(
            sql,
            &[&scope.line_id, &scope.floor, &scope.version, &scope.ordinal],
        )
        .await?;
    let counted = |row: &tokio_postgres::Row| (row.get(0), row.get(1), row.get(2), row.get(3));
    Ok(rows.iter().map(counted).collect())
}

fn measured(row: &tokio_postgres::Row) -> Measured {
    Measured {
        chunk: row.get(0),
        version: row.get(1),
        archive_ordinal: row.get(2),
        part_number: row.get(3),
        length: row.get::<_, Option<i32>>(4).map(|n| n.max(0) as usize),
    }
}

/// The bodies of resolved keys, in the order of the keys given.
pub async fn page_bodies(
    client: &impl GenericClient,
    line: i64,
    keys: &[Key],
) -> Result<Vec<PageRow>, Error> {
    let rows = rows_of(client, line, keys, true).await?;
    let mut found = std::collections::HashMap::with_capacity(rows.len());
    for row in rows {
        let page = PageRow {
            chunk: row.get(0),
            body: row.get::<_, Option<Vec<u8>>>(2).unwrap_or_default(),
            hashes: row.get::<_, Option<Vec<u8>>>(3).unwrap_or_default(),
        };
        found.insert(page.chunk.clone(), page);
    }
    keys.iter()
        .map(|(chunk, _)| found.remove(chunk).ok_or(Error::Stale("listing")))
        .collect()
}
