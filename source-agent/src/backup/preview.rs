//! What a backup would take, and what leaves out the rest: its selection and its walk, without anything behind them.
//!
//! Because they are the very same, a preview can't say anything else than a backup does. It opens what a full backup opens, so that
//! what can't be read is known, and reads no content. What it finds goes to the controller as it is found; who doesn't listen fast
//! enough slows the walk, and who stops listening ends it.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message as _;
use taf_format::entry::{Kind, Metadata};
use taf_proto::agent::preview_service_client::PreviewServiceClient;
use taf_proto::agent::{
    FetchPreviewRequest, FetchPreviewResponse, SendPreviewRequest, send_preview_request::Message,
};
use taf_proto::path;
use taf_proto::v1::{
    EntryKind, LeftOutReason, LeftOutSum, PreviewDetail, PreviewItem, PreviewSourceResponse,
    PreviewSummary,
};
use taf_tree::walk::{Event, Listing};
use taf_tree::{IssueKind, Walk};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::leave_out::Note;
use super::select;
use crate::config::Config;
use crate::fault::{self, Error};
use crate::progress::absolute;

/// Messages on their way.
const AHEAD: usize = 4;
/// Items of a message.
const ITEMS: usize = 500;
/// Bytes of items at which a message ends.
const ITEM_BYTES: usize = 256 << 10;
/// An item waits at most this long for others to go with it, if the walk goes on meanwhile.
const LINGER: Duration = Duration::from_millis(200);
/// Between two sums while the walk goes on.
const SUMS: Duration = Duration::from_secs(1);
/// What one directory leaves out is put in order up to so many names.
const SORTED: usize = 50_000;
/// Files of several names that are remembered so as to count their bytes once.
const LINKS: usize = 1_000_000;

/// Takes a preview on and sends what it finds, until the walk is done, nobody wants to know any more, or `stop`.
pub async fn run(config: Config, controller: Channel, id: Bytes, stop: CancellationToken) {
    let mut client =
        PreviewServiceClient::new(controller).max_decoding_message_size(taf_peer::MESSAGE_LIMIT);
    let asked = match fetch(&mut client, id.clone()).await {
        Ok(asked) => asked,
        Err(error) => {
            tracing::info!(%error, "nobody waits for a preview any more");
            return;
        }
    };
    tracing::info!("a preview begins");
    let (sender, receiver) = mpsc::channel(AHEAD);
    // The walk ends however this function is left.
    let stop = stop.child_token();
    let _ended = stop.clone().drop_guard();
    let walking = tokio::task::spawn_blocking({
        let stop = stop.clone();
        move || {
            let reporter = Reporter::new(sender, id, &asked);
            if let Err(error) = walk(&config, &asked, &reporter, &stop) {
                lock(&reporter).send(Message::Fault(error.into_fault()));
            }
        }
    });
    let sending = client.send_preview(ReceiverStream::new(receiver));
    match stop.run_until_cancelled(sending).await {
        None => tracing::info!("the preview was stopped"),
        Some(Err(status)) => tracing::info!(reason = status.message(), "the preview ends"),
        Some(Ok(_)) => {
            stop.cancel();
            if let Err(error) = walking.await {
                tracing::error!(%error, "the walk of a preview died");
            }
            tracing::info!("the preview is done");
        }
    }
}

async fn fetch(
    client: &mut PreviewServiceClient<Channel>,
    id: Bytes,
) -> Result<FetchPreviewResponse, tonic::Status> {
    let request = FetchPreviewRequest { preview_id: id };
    let mut stream = client.fetch_preview(request).await?.into_inner();
    let mut asked = stream.message().await?.unwrap_or_default();
    let mut whole = asked.selection.take().unwrap_or_default();
    while let Some(more) = stream.message().await? {
        select::gather(&mut whole, more.selection.unwrap_or_default())
            .map_err(|error| tonic::Status::out_of_range(error.to_string()))?;
    }
    asked.selection = Some(whole);
    Ok(asked)
}

/// The selection and the walk of a backup.
fn walk(
    config: &Config,
    asked: &FetchPreviewResponse,
    reporter: &Arc<Mutex<Reporter>>,
    stop: &CancellationToken,
) -> Result<(), Error> {
    // The controller learns that it has begun before anything is looked at.
    lock(reporter).sum(false);
    let noting = Arc::clone(reporter);
    let notes = Box::new(move |note: Note<'_>| lock(&noting).note(&note));
    let selection = asked.selection.clone().unwrap_or_default();
    let checked = select::check(config, &selection, asked.one_file_system, Some(notes))?;
    for (path, reason) in checked.missing {
        lock(reporter).left_out(&path, None, LeftOutReason::Missing, reason);
    }
    let mut walk =
        Walk::new(checked.options).map_err(|error| fault::internal(error.to_string()))?;
    while let Some(event) = walk.next() {
        let mut reporter = lock(reporter);
        if stop.is_cancelled() || reporter.lost {
            return Err(Error::Stopped);
        }
        reporter.event(event);
    }
    lock(reporter).sum(true);
    Ok(())
}

/// Every method leaves it whole, so a poisoned lock is still good.
fn lock(reporter: &Mutex<Reporter>) -> MutexGuard<'_, Reporter> {
    reporter.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts, and sends what is to be listed.
struct Reporter {
    sender: mpsc::Sender<SendPreviewRequest>,
    /// Until it was sent.
    id: Bytes,
    detail: PreviewDetail,
    limit: u64,
    listed: u64,
    /// What the directory that is being listed leaves out.
    notes: Vec<PreviewItem>,
    items: Vec<PreviewItem>,
    item_bytes: usize,
    summary: PreviewSummary,
    sums: BTreeMap<(i32, String), (u64, u64)>,
    /// By device and inode: names that are still to come of files that were counted.
    links: HashMap<(u64, u64), u64>,
    sent: Instant,
    summed: Instant,
    /// Nobody wants to know any more.
    lost: bool,
}

impl Reporter {
    fn new(
        sender: mpsc::Sender<SendPreviewRequest>,
        id: Bytes,
        asked: &FetchPreviewResponse,
    ) -> Arc<Mutex<Self>> {
        let now = Instant::now();
        Arc::new(Mutex::new(Self {
            sender,
            id,
            detail: asked.detail(),
            limit: match asked.limit {
                0 => u64::MAX,
                limit => limit,
            },
            listed: 0,
            notes: Vec::new(),
            items: Vec::new(),
            item_bytes: 0,
            summary: PreviewSummary::default(),
            sums: BTreeMap::new(),
            links: HashMap::new(),
            sent: now,
            summed: now,
            lost: false,
        }))
    }

    fn event(&mut self, event: Event) {
        self.flush_notes();
        match event {
            Event::Enter(directory) => {
                // As a version counts: without the root.
                if !directory.path.is_empty() {
                    self.summary.directory_count += 1;
                    self.taken(&directory.path, Kind::Directory, 0);
                }
                if directory.listing == Listing::MountPoint {
                    let kind = Some(Kind::Directory);
                    let reason = LeftOutReason::OtherFileSystem;
                    self.left_out(&directory.path, kind, reason, String::new());
                }
            }
            Event::Entry(item) => {
                self.summary.file_count += 1;
                let size = match item.meta.kind {
                    Kind::File => item.meta.size,
                    _ => 0,
                };
                if self.is_first_name(item.device, &item.meta) {
                    self.summary.byte_count += size;
                }
                self.taken(&item.path, item.meta.kind, size);
            }
            Event::Leave { .. } => {}
            Event::Issue(issue) => {
                let reason = match issue.kind {
                    IssueKind::Unsupported => LeftOutReason::Unsupported,
                    IssueKind::Vanished => LeftOutReason::Missing,
                    IssueKind::Unreadable
                    | IssueKind::UnreadableDirectory
                    | IssueKind::Changed
                    | IssueKind::ReadError => LeftOutReason::Unreadable,
                    // Taken all the same.
                    IssueKind::XattrUnreadable | IssueKind::Shrunk | IssueKind::Grown => return,
                };
                self.left_out(&issue.path, None, reason, issue.reason);
            }
        }
        if self.summed.elapsed() >= SUMS {
            self.sum(false);
        } else if !self.items.is_empty() && self.sent.elapsed() >= LINGER {
            self.flush(None);
        }
    }

    fn is_first_name(&mut self, device: u64, meta: &Metadata) -> bool {
        if meta.links < 2 {
            return true;
        }
        let key = (device, meta.inode);
        if let Some(left) = self.links.get_mut(&key) {
            *left -= 1;
            if *left == 0 {
                self.links.remove(&key);
            }
            return false;
        }
        if self.links.len() < LINKS {
            self.links.insert(key, u64::from(meta.links) - 1);
        }
        true
    }

    fn taken(&mut self, path: &[u8], kind: Kind, size: u64) {
        if self.detail == PreviewDetail::All {
            self.list(item(path, Some(kind), size));
        }
    }

    /// Something is left out by a word of the selection. Comes in any order within a directory.
    fn note(&mut self, note: &Note<'_>) {
        let size = match (note.size, note.kind) {
            (Some(size), _) => size,
            // A name that is left out was not looked at.
            (None, Some(Kind::File)) => size_of(note.path),
            (None, _) => 0,
        };
        self.count(note.reason, note.word.clone(), note.names as u64, size);
        if self.detail != PreviewDetail::Summary {
            self.notes.push(PreviewItem {
                left_out: note.reason.into(),
                word: note.word.clone(),
                ..item(note.path, note.kind, size)
            });
            if self.notes.len() >= SORTED {
                self.flush_notes();
            }
        }
    }

    /// Something is left out for what it is.
    fn left_out(&mut self, path: &[u8], kind: Option<Kind>, reason: LeftOutReason, word: String) {
        self.count(reason, String::new(), 1, 0);
        if self.detail != PreviewDetail::Summary {
            self.list(PreviewItem {
                left_out: reason.into(),
                word,
                ..item(path, kind, 0)
            });
        }
    }

    fn count(&mut self, reason: LeftOutReason, word: String, count: u64, bytes: u64) {
        let sum = self.sums.entry((reason.into(), word)).or_default();
        sum.0 += count;
        sum.1 += bytes;
    }

    fn flush_notes(&mut self) {
        let mut notes = std::mem::take(&mut self.notes);
        let raw = |item: &PreviewItem| item.path.as_ref().map(|path| path.raw.clone());
        notes.sort_by_cached_key(raw);
        for item in notes {
            self.list(item);
        }
    }

    fn list(&mut self, item: PreviewItem) {
        if self.listed == self.limit {
            self.summary.unlisted_count += 1;
            return;
        }
        self.listed += 1;
        self.item_bytes += item.encoded_len();
        self.items.push(item);
        if self.items.len() >= ITEMS || self.item_bytes >= ITEM_BYTES {
            self.flush(None);
        }
    }

    /// Sends what was found so far, or in all.
    fn sum(&mut self, complete: bool) {
        self.flush_notes();
        self.summed = Instant::now();
        let sums = self.sums.iter();
        let left_out = sums.map(|((reason, word), (count, bytes))| LeftOutSum {
            reason: *reason,
            word: word.clone(),
            count: *count,
            byte_count: *bytes,
        });
        let summary = PreviewSummary {
            complete,
            left_out: left_out.collect(),
            ..self.summary.clone()
        };
        self.flush(Some(summary));
    }

    fn flush(&mut self, summary: Option<PreviewSummary>) {
        self.item_bytes = 0;
        self.sent = Instant::now();
        let items = std::mem::take(&mut self.items);
        self.send(Message::Found(PreviewSourceResponse { items, summary }));
    }

    fn send(&mut self, message: Message) {
        let request = SendPreviewRequest {
            preview_id: std::mem::take(&mut self.id),
            message: Some(message),
        };
        self.lost |= self.sender.blocking_send(request).is_err();
    }
}

fn item(raw: &[u8], kind: Option<Kind>, size: u64) -> PreviewItem {
    PreviewItem {
        path: Some(path::from_raw(absolute(b"", raw))),
        kind: kind.map_or(EntryKind::Unspecified, kind_of).into(),
        size,
        ..PreviewItem::default()
    }
}

fn size_of(raw: &[u8]) -> u64 {
    let path = absolute(b"", raw);
    let meta = Path::new(OsStr::from_bytes(&path)).symlink_metadata();
    meta.ok()
        .filter(std::fs::Metadata::is_file)
        .map_or(0, |meta| meta.len())
}

fn kind_of(kind: Kind) -> EntryKind {
    match kind {
        Kind::File => EntryKind::File,
        Kind::Directory => EntryKind::Directory,
        Kind::Symlink => EntryKind::Symlink,
        Kind::Fifo => EntryKind::Fifo,
        Kind::CharDevice => EntryKind::CharDevice,
        Kind::BlockDevice => EntryKind::BlockDevice,
    }
}
