//! The pages that a backup is compared with, streamed in the order of their keys, which is the order of the walk; and the drive
//! that it asks for when it has found something to store.
//!
//! Keys are looked up in batches, then bodies by the bytes that a message takes, so that memory is a message or two whatever the
//! size of the version. Between them no connection is held: an agent may take hours.

use taf_format::key;
use taf_proto::agent::{
    BaseKind, BasePage, ClaimDriveRequest, FetchBaseRequest, FetchBaseResponse,
    FetchDictionariesRequest, Worker,
};
use taf_proto::tape::Dictionary;
use tokio::sync::mpsc;
use tonic::Status;

use super::Error;
use super::report::{self, Side};
use crate::store::assignments::{self, Compared};
use crate::store::pages::{self, Measured, Scope};
use crate::store::{Store, attempts, dictionaries};

/// Keys looked up at once.
const KEYS: i64 = 4_000;
/// Bytes of pages at which a message is full.
const MESSAGE: usize = 1 << 20;
/// Most pages of a message.
const PAGES: usize = 2_000;
/// Most keys that are asked for by name.
const CHUNKS: usize = 1_000;

type Sender = mpsc::Sender<Result<FetchBaseResponse, Status>>;

/// What is to be sent of which version.
#[derive(Debug)]
pub struct Wanted {
    scope: Scope,
    /// Whether rows without a page are sent, too.
    tombstones: bool,
    without_shortened: bool,
    behind: Option<Vec<u8>>,
    chunks: Vec<Vec<u8>>,
}

impl Wanted {
    /// What a source agent asks for, checked against its assignment.
    pub async fn check(
        store: &Store,
        agent: &str,
        request: &FetchBaseRequest,
    ) -> Result<Self, Error> {
        let client = store.client().await?;
        let assignment =
            report::assignment(&client, request.key.as_ref(), agent, Side::Source).await?;
        let compared = assignments::assignment_compared(&client, assignment.attempt_id).await?;
        let compared = compared
            .ok_or_else(|| Error::Invalid("the assignment is no backup under way".into()))?;
        if request.chunks.len() > CHUNKS {
            return Err(Error::Invalid(format!(
                "it asks for more than {CHUNKS} chunks"
            )));
        }
        let long = |chunk: &[u8]| chunk.len() > key::SHORTENED;
        if long(&request.after_chunk) || request.chunks.iter().any(|chunk| long(chunk)) {
            return Err(Error::Invalid("a chunk's key is too long".into()));
        }
        Ok(Self {
            scope: scope(compared, request.kind())?,
            tombstones: request.kind() == BaseKind::Staged,
            without_shortened: request.without_shortened,
            // The root's key is empty, and so is what says that nothing has come yet.
            behind: (!request.after_chunk.is_empty()).then(|| request.after_chunk.to_vec()),
            chunks: request.chunks.iter().map(|chunk| chunk.to_vec()).collect(),
        })
    }

    fn is_sent(&self, row: &Measured) -> bool {
        (row.length.is_some() || self.tombstones)
            && !(self.without_shortened && key::is_shortened(&row.chunk))
    }
}

/// Which rows are meant.
fn scope(compared: Compared, kind: BaseKind) -> Result<Scope, Error> {
    let Compared {
        line_id,
        version,
        parent,
        floor,
    } = compared;
    let of = |version, floor| Scope::whole(line_id, version, floor);
    match kind {
        BaseKind::Unspecified => Err(Error::Invalid("it does not say which pages".into())),
        BaseKind::Staged => Ok(of(version, version)),
        _ if parent == 0 => Err(Error::Invalid("the backup has no base".into())),
        BaseKind::Head => Ok(of(parent, floor)),
        BaseKind::Full => Ok(of(floor, floor)),
    }
}

/// The dictionaries of a backup's line.
pub async fn dictionaries(
    store: &Store,
    agent: &str,
    request: &FetchDictionariesRequest,
) -> Result<Vec<Dictionary>, Error> {
    let client = store.client().await?;
    let assignment = report::assignment(&client, request.key.as_ref(), agent, Side::Source).await?;
    let compared = assignments::assignment_compared(&client, assignment.attempt_id).await?;
    let compared =
        compared.ok_or_else(|| Error::Invalid("the assignment is no backup under way".into()))?;
    let known = dictionaries::dictionary_list(&client, compared.line_id).await?;
    let dictionary = |(id, body): (u32, Vec<u8>)| Dictionary {
        id,
        body: body.into(),
    };
    Ok(known.into_iter().map(dictionary).collect())
}

/// Sends the pages. Waits while the receiver is slow; ends early when it is gone.
pub async fn stream(store: &Store, wanted: &Wanted, sender: &Sender) -> Result<(), Error> {
    if !wanted.chunks.is_empty() {
        let client = store.client().await?;
        let chunks: Vec<&[u8]> = wanted.chunks.iter().map(Vec::as_slice).collect();
        let rows = pages::page_measure_keys(&client, wanted.scope, &chunks).await?;
        drop(client);
        send(store, wanted, rows, sender).await?;
        return Ok(());
    }
    let mut behind = wanted.behind.clone();
    loop {
        let client = store.client().await?;
        let rows = pages::page_measure(&client, wanted.scope, behind.as_deref(), KEYS).await?;
        drop(client);
        let Some(last) = rows.last() else {
            return Ok(());
        };
        behind = Some(last.chunk.clone());
        if !send(store, wanted, rows, sender).await? {
            return Ok(());
        }
    }
}

/// Sends rows in messages; false if nobody takes them any more.
async fn send(
    store: &Store,
    wanted: &Wanted,
    rows: Vec<Measured>,
    sender: &Sender,
) -> Result<bool, Error> {
    let rows: Vec<Measured> = rows.into_iter().filter(|row| wanted.is_sent(row)).collect();
    let mut rest = rows.as_slice();
    while !rest.is_empty() {
        let (now, later) = rest.split_at(full(rest));
        rest = later;
        let pages = fetch(store, wanted.scope.line_id, now).await?;
        if sender.send(Ok(FetchBaseResponse { pages })).await.is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// How many of these rows make a message; one at least.
fn full(rows: &[Measured]) -> usize {
    let mut bytes = 0;
    let fits = rows.iter().take(PAGES).take_while(|row| {
        bytes += row.chunk.len() + row.length.unwrap_or(0);
        bytes <= MESSAGE
    });
    fits.count().max(1)
}

async fn fetch(store: &Store, line: i64, rows: &[Measured]) -> Result<Vec<BasePage>, Error> {
    let live = rows.iter().filter(|row| row.length.is_some());
    let keys: Vec<pages::Key> = live.map(|row| (row.chunk.clone(), row.version)).collect();
    let client = store.client().await?;
    let mut bodies = pages::page_bodies(&client, line, &keys).await?.into_iter();
    let page = |row: &Measured| {
        let body = row.length.and_then(|_| bodies.next());
        let (body, hashes) = body
            .map(|page| (page.body, page.hashes))
            .unwrap_or_default();
        BasePage {
            chunk: row.chunk.clone().into(),
            body: body.into(),
            hashes: hashes.into(),
        }
    };
    Ok(rows.iter().map(page).collect())
}

/// The worker of a backup's drive, once there is one that is ready. The first call makes the attempt wait for one: true if it
/// did, for then the reconciler has something to do.
pub async fn claim(
    store: &Store,
    agent: &str,
    request: &ClaimDriveRequest,
) -> Result<(Option<Worker>, bool), Error> {
    let mut client = store.client().await?;
    let assignment = report::assignment(&client, request.key.as_ref(), agent, Side::Source).await?;
    if assignment.kind != "backup" || !assignment.live {
        return Err(Error::Invalid(
            "the assignment is no backup under way".into(),
        ));
    }
    let attempt = assignment.attempt_id;
    if let Some((agent_id, addresses)) = attempts::attempt_worker(&client, attempt).await? {
        let addresses = addresses.split_whitespace().map(str::to_owned).collect();
        let worker = Worker {
            agent_id,
            addresses,
        };
        return Ok((Some(worker), false));
    }
    let tx = client.transaction().await?;
    let asked = attempts::attempt_claim_on(&tx, attempt).await?;
    tx.commit().await?;
    Ok((None, asked))
}
