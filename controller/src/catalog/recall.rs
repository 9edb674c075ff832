//! What a restore needs from tape: first the parts, then the items in the order of their places.
//!
//! Within an archive the order of pages is the order of the tape, but for further names of hard links: their place is where the
//! bytes lie, which may be under a name that was not chosen. Those are gathered first, sorted, and merged in. A version that
//! builds on others has its bytes in several archives, so its pages are gone through several times, each time for the items of
//! some archives. Memory grows with the number of hard links and with nothing else.

mod needed;
mod share;

use std::collections::HashSet;

use bytes::Bytes;
use taf_format::entry::Kind;
use taf_format::page::{DirectoryStat, Entry, Page, Place};
use taf_proto::agent::fetch_recall_response::Message;
use taf_proto::agent::{
    Ancestor, EntryStat, FetchRecallResponse, RecallItem, RecallItems, RecallLack, RecallLacks,
    RecallPart,
};
use taf_proto::v1::EntryKind;
use tokio::sync::mpsc;
use uuid::Uuid;

pub use self::needed::{Count, Needed, Take, count};
use self::share::Scope;
pub use self::share::{Archives, Share};
use super::gap::{Lack, Lacking};
use super::{Error, Selection, View, view};
use crate::store::parts::{self, Located};

/// Most items of a message.
const ITEMS: usize = 1_000;
/// Bytes of paths at which a message is sent.
const PATH_BYTES: usize = 1 << 20;
/// Directories above what was chosen that are looked up at once.
const ANCESTORS: usize = 1_000;
/// Most items that are sorted in memory.
const SORTED: u64 = 100_000;

/// In which order volumes are read if nothing else says so: as the archives come to them.
#[derive(Debug, Clone, Default)]
pub struct Preference {
    /// Recordings that were told in this order already.
    pub given: Vec<Uuid>,
    /// The volume that is in place.
    pub first: Option<i64>,
    /// Volumes that are nowhere to be had: they come last.
    pub away: HashSet<i64>,
    /// What it is limited to.
    pub share: Share,
}

impl Preference {
    /// The volumes of parts, each once, in the order in which they are read.
    pub fn order<'p>(&self, parts: impl IntoIterator<Item = &'p Located>) -> Vec<i64> {
        let mut volumes: Vec<(i64, Uuid)> = Vec::new();
        for part in parts {
            if !volumes.iter().any(|(id, _)| *id == part.volume_id) {
                volumes.push((part.volume_id, part.recording));
            }
        }
        volumes.sort_by_key(|(id, recording)| {
            let told = self.given.iter().position(|given| given == recording);
            let told = told.unwrap_or(usize::MAX);
            (told, self.first != Some(*id), self.away.contains(id))
        });
        volumes.into_iter().map(|(id, _)| id).collect()
    }
}

/// Directories come from their own pages; what has no bytes on tape was an issue when it was backed up.
pub(super) fn is_item(entry: &Entry) -> bool {
    entry.kind != Kind::Directory && entry.place.is_some()
}

/// Sends what a restore of the selection needs: of the parts all, since they say in which order the volumes come. Waits while
/// the receiver is slow; ends early when it is gone. `attempt` is told the same each time.
pub async fn stream(
    view: &View,
    attempt: i64,
    selection: &Selection,
    archives: Archives,
    preference: &Preference,
    sender: &mpsc::Sender<Result<FetchRecallResponse, tonic::Status>>,
) -> Result<(), Error> {
    let client = view.client().await?;
    let mut parts =
        parts::part_list_of_reader(&client, view.scope.line_id, view.scope.version, attempt)
            .await?;
    drop(client);
    if view.gap().is_some() {
        // What was erased is told to lack; nobody is sent to wait for its volume.
        parts.retain(|part| part.in_place);
    }
    let scope = Scope::of(archives, parts, &preference.share);
    let parts = scope.parts();
    let order = Order::of(&parts, preference);
    for &at in &order.parts {
        let part = &parts[at];
        let client = view.client().await?;
        let (archive, number) = (part.archive_uuid, part.part_number);
        let table = parts::part_table(&client, archive, number, part.recording).await?;
        drop(client);
        let message = Message::Part(RecallPart {
            archive_ordinal: part.archive_ordinal as u32,
            archive_uuid: Bytes::copy_from_slice(part.archive_uuid.as_bytes()),
            part_number: part.part_number as u32,
            tape_file: part.tape_file as u64,
            first_block: part.first_block as u64,
            block_size: part.block_size as u32,
            byte_count: part.byte_count as u64,
            first_tar_offset: part.first_tar_offset as u64,
            end_tar_offset: part.end_tar_offset as u64,
            segment_table: table.unwrap_or_default(),
            recording_uuid: Bytes::copy_from_slice(part.recording.as_bytes()),
            barcode: part.barcode.clone(),
        });
        if sender
            .send(Ok(FetchRecallResponse {
                message: Some(message),
                revision: view.revision(),
            }))
            .await
            .is_err()
        {
            return Ok(());
        }
    }
    if !lacks(view, selection, sender).await? {
        return Ok(());
    }
    let mut out = Outgoing {
        sender,
        revision: view.revision(),
        items: Vec::new(),
        path_bytes: 0,
        gone: false,
    };
    ancestors(view, selection, &mut out).await?;
    let (links, counts) = survey(view, selection, &scope, &parts, &order).await?;
    let mut links = links.into_iter().peekable();
    for pass in passes(&counts) {
        let mut sorted = Vec::new();
        let mut pages = selection.pages(view);
        while let Some(page) = pages.next().await? {
            for (place, item) in items(&page) {
                if !scope.holds(place) {
                    continue;
                }
                let run = order.run(&parts, place);
                if !pass.runs.contains(&run) {
                    continue;
                }
                let rank = (run, place);
                if pass.sorts {
                    sorted.push((rank, item));
                    continue;
                }
                while let Some((_, link)) = links.next_if(|(linked, _)| *linked < rank) {
                    out.put(link).await;
                }
                out.put(item).await;
            }
            if out.gone {
                return Ok(());
            }
        }
        sorted.sort_by_key(|(rank, _)| *rank);
        for (rank, item) in sorted {
            while let Some((_, link)) = links.next_if(|(linked, _)| *linked < rank) {
                out.put(link).await;
            }
            out.put(item).await;
        }
    }
    for (_, link) in links {
        out.put(link).await;
    }
    out.flush().await;
    Ok(())
}

/// Sends what of the selection can't be restored, since the version is not whole. False if nobody takes it any more.
async fn lacks(
    view: &View,
    selection: &Selection,
    sender: &mpsc::Sender<Result<FetchRecallResponse, tonic::Status>>,
) -> Result<bool, Error> {
    let Some(mut lacking) = Lacking::of(view, selection) else {
        return Ok(true);
    };
    let lack = |lack: &Lack| RecallLack {
        path: Bytes::copy_from_slice(&lack.path),
        reason: lack.what.reason().to_owned(),
        message: lack.message.clone(),
    };
    while let Some(some) = lacking.next().await? {
        for some in some.chunks(ITEMS) {
            let lacks = some.iter().map(lack).collect();
            let message = Some(Message::Lacks(RecallLacks { lacks }));
            if sender
                .send(Ok(FetchRecallResponse {
                    message,
                    revision: view.revision(),
                }))
                .await
                .is_err()
            {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Where an item comes: the run of parts that it begins in, and its place. What has no place comes first.
type Rank = (usize, Option<Place>);

/// The order in which parts are read: volume after volume, each once, in the order in which the archives first come to them, or as a
/// [`Preference`] says (a file that crosses volumes then has its later one mounted again); on a volume from its beginning to its end. A run is what follows each other of one archive: within it, pages are in the order
/// of the tape by themselves.
struct Order {
    /// Indexes of parts, in this order.
    parts: Vec<usize>,
    /// The run of each part, by its index.
    runs: Vec<usize>,
    /// How many runs there are.
    count: usize,
}

impl Order {
    /// The order of these parts, which are in the order of their archives.
    fn of(parts: &[Located], preference: &Preference) -> Self {
        let volumes = preference.order(parts);
        let volume = |part: &Located| volumes.iter().position(|id| *id == part.volume_id);
        let mut order: Vec<usize> = (0..parts.len()).collect();
        order.sort_by_key(|&at| (volume(&parts[at]), parts[at].tape_file));
        let mut runs = vec![0; parts.len()];
        let mut count = 0;
        let mut before: Option<&Located> = None;
        for &at in &order {
            let part = &parts[at];
            let follows = |before: &Located| {
                before.archive_ordinal == part.archive_ordinal
                    && before.part_number < part.part_number
            };
            if !before.is_some_and(follows) {
                count += 1;
            }
            runs[at] = count - 1;
            before = Some(part);
        }
        Self {
            parts: order,
            runs,
            count,
        }
    }

    /// The run that something at this place begins in; the first one for what is nowhere.
    fn run(&self, parts: &[Located], place: Option<Place>) -> usize {
        let Some(place) = place else { return 0 };
        let begin = (place.archive_ordinal, place.tar_offset);
        let at = parts.partition_point(|part| {
            (part.archive_ordinal as u32, part.end_tar_offset as u64) <= begin
        });
        self.runs.get(at).copied().unwrap_or(0)
    }
}

/// Runs that are sent in one pass over the pages.
#[derive(Debug, PartialEq, Eq)]
struct Pass {
    runs: std::ops::Range<usize>,
    /// Whether their items have to be sorted, in memory.
    sorts: bool,
}

/// Cuts runs, given by their number of items, into passes: few items of several archives are sorted in memory, and many of one
/// come in order by themselves. So memory is bounded, and an old full with its changes takes two passes.
fn passes(counts: &[u64]) -> Vec<Pass> {
    let mut passes: Vec<Pass> = Vec::new();
    let mut held = 0;
    for (run, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        match passes.last_mut() {
            Some(last) if held + count <= SORTED => {
                last.sorts = true;
                last.runs.end = run + 1;
                held += count;
            }
            _ => {
                passes.push(Pass {
                    runs: run..run + 1,
                    sorts: false,
                });
                held = count;
            }
        }
    }
    passes
}

/// All chosen names of files with several names, in the order of their bytes; and how many other items each run has.
async fn survey(
    view: &View,
    selection: &Selection,
    scope: &Scope,
    parts: &[Located],
    order: &Order,
) -> Result<(Vec<(Rank, RecallItem)>, Vec<u64>), Error> {
    let mut links: Vec<(Rank, RecallItem)> = Vec::new();
    let mut counts = vec![0; order.count.max(1)];
    let mut pages = selection.pages(view);
    while let Some(page) = pages.next().await? {
        for place in places(&page).filter(|place| scope.holds(*place)) {
            counts[order.run(parts, place)] += 1;
        }
        let linked = page.entries.iter();
        let linked = linked.filter(|entry| is_item(entry) && entry.link_group != 0);
        for entry in linked.filter(|entry| scope.holds(entry.place)) {
            let rank = (order.run(parts, entry.place), entry.place);
            links.push((rank, item(&page, entry)));
        }
    }
    links.sort_by(|(a, left), (b, right)| a.cmp(b).then_with(|| left.path.cmp(&right.path)));
    Ok((links, counts))
}

/// The places of a page's items but for its hard links.
fn places(page: &Page) -> impl Iterator<Item = Option<Place>> {
    let header = page.header.iter().filter(|_| !page.directory.is_empty());
    let entries = page.entries.iter();
    header.map(|header| header.place).chain(
        entries
            .filter(|entry| is_item(entry) && entry.link_group == 0)
            .map(|entry| entry.place),
    )
}

/// The items of a page but for its hard links.
fn items(page: &Page) -> Vec<(Option<Place>, RecallItem)> {
    let mut items = Vec::with_capacity(page.entries.len() + 1);
    if let Some(header) = page.header.as_ref().filter(|_| !page.directory.is_empty()) {
        let path = Bytes::copy_from_slice(&page.directory);
        // A directory without a tar header still has its metadata here.
        let item = match header.place {
            Some(place) => RecallItem {
                path,
                archive_ordinal: place.archive_ordinal,
                tar_offset: place.tar_offset,
                tar_length: header.tar_length,
                ..RecallItem::default()
            },
            None => RecallItem {
                path,
                ancestor: Some(metadata(header)),
                ..RecallItem::default()
            },
        };
        items.push((header.place, item));
    }
    let single = page
        .entries
        .iter()
        .filter(|entry| is_item(entry) && entry.link_group == 0);
    items.extend(single.map(|entry| (entry.place, item(page, entry))));
    items
}

fn item(page: &Page, entry: &Entry) -> RecallItem {
    let place = entry.place.unwrap_or(Place {
        archive_ordinal: 0,
        tar_offset: 0,
    });
    RecallItem {
        path: view::join(&page.directory, &entry.name).into(),
        archive_ordinal: place.archive_ordinal,
        tar_offset: place.tar_offset,
        tar_length: entry.tar_length,
        hash: entry
            .hash
            .map(|hash| Bytes::copy_from_slice(&hash))
            .unwrap_or_default(),
        link_group: entry.link_group,
        ancestor: None,
        stat: Some(EntryStat {
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime_seconds: entry.mtime.seconds,
            mtime_nanos: entry.mtime.nanos,
            size: entry.size,
            kind: kind(entry.kind).into(),
        }),
    }
}

fn kind(kind: Kind) -> EntryKind {
    match kind {
        Kind::File => EntryKind::File,
        Kind::Directory => EntryKind::Directory,
        Kind::Symlink => EntryKind::Symlink,
        Kind::Fifo => EntryKind::Fifo,
        Kind::CharDevice => EntryKind::CharDevice,
        Kind::BlockDevice => EntryKind::BlockDevice,
    }
}

fn metadata(stat: &DirectoryStat) -> Ancestor {
    Ancestor {
        mode: stat.mode,
        uid: stat.uid,
        gid: stat.gid,
        mtime_seconds: stat.mtime.seconds,
        mtime_nanos: stat.mtime.nanos,
        above: false,
    }
}

async fn ancestors(
    view: &View,
    selection: &Selection,
    out: &mut Outgoing<'_>,
) -> Result<(), Error> {
    let paths: Vec<Vec<u8>> = selection.ancestors().collect();
    for some in paths.chunks(ANCESTORS) {
        let directories: Vec<&[u8]> = some.iter().map(Vec::as_slice).collect();
        let found = view.stat_all(&directories).await?;
        for (path, found) in some.iter().zip(found) {
            let stat = match found {
                Some(view::Found::Directory(stat)) => stat,
                // Whoever writes below it makes it as he makes any.
                Some(view::Found::Unknown) => continue,
                _ => DirectoryStat::default(),
            };
            out.put(RecallItem {
                path: Bytes::copy_from_slice(path),
                ancestor: Some(Ancestor {
                    above: true,
                    ..metadata(&stat)
                }),
                ..RecallItem::default()
            })
            .await;
        }
    }
    Ok(())
}

/// Collects items into messages.
struct Outgoing<'a> {
    sender: &'a mpsc::Sender<Result<FetchRecallResponse, tonic::Status>>,
    revision: Bytes,
    items: Vec<RecallItem>,
    path_bytes: usize,
    gone: bool,
}

impl Outgoing<'_> {
    async fn put(&mut self, item: RecallItem) {
        self.path_bytes += item.path.len();
        self.items.push(item);
        if self.items.len() >= ITEMS || self.path_bytes >= PATH_BYTES {
            self.flush().await;
        }
    }

    async fn flush(&mut self) {
        self.path_bytes = 0;
        if self.items.is_empty() || self.gone {
            self.items.clear();
            return;
        }
        let items = std::mem::take(&mut self.items);
        let message = Some(Message::Items(RecallItems { items }));
        let revision = self.revision.clone();
        let response = FetchRecallResponse { message, revision };
        self.gone = self.sender.send(Ok(response)).await.is_err();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A part of an archive on a volume.
    pub(super) fn part(
        archive_ordinal: i32,
        part_number: i32,
        volume_id: i64,
        tape_file: i64,
    ) -> Located {
        Located {
            archive_ordinal,
            archive_uuid: Uuid::nil(),
            part_number,
            volume_id,
            barcode: String::new(),
            recording: Uuid::from_u128(volume_id as u128),
            block_size: 0,
            tape_file,
            first_block: 0,
            byte_count: 0,
            first_tar_offset: i64::from(part_number - 1) * 100,
            end_tar_offset: i64::from(part_number) * 100,
            in_place: true,
        }
    }

    #[test]
    fn each_volume_is_read_once_from_its_beginning_to_its_end() {
        // A full over two volumes, then two incrementals: one on the second volume, one that found room on the first.
        let parts = [
            part(1, 1, 10, 1),
            part(1, 2, 10, 2),
            part(1, 3, 11, 1),
            part(2, 1, 11, 2),
            part(3, 1, 10, 3),
        ];
        let order = Order::of(&parts, &Preference::default());
        assert_eq!(order.parts, [0, 1, 4, 2, 3]);
        assert_eq!(order.runs, [0, 0, 2, 3, 1]);
        let run = |archive_ordinal, tar_offset| {
            let place = Place {
                archive_ordinal,
                tar_offset,
            };
            order.run(&parts, Some(place))
        };
        assert_eq!(
            [run(1, 0), run(1, 199), run(1, 200), run(2, 0), run(3, 50)],
            [0, 0, 2, 3, 1]
        );
        assert_eq!(order.run(&parts, None), 0);
        // The first volume is away: what it has comes last, and in its own order.
        let away = Preference {
            away: HashSet::from([10]),
            ..Preference::default()
        };
        let order = Order::of(&parts, &away);
        assert_eq!(order.parts, [2, 3, 0, 1, 4]);
        assert_eq!(order.runs, [2, 2, 0, 1, 3]);
    }

    #[test]
    fn what_was_told_stays_then_comes_what_is_in_place_then_what_is_at_hand() {
        let parts = [1, 2, 3, 4].map(|volume| part(1, volume as i32, volume, 1));
        let told = |preference: &Preference| preference.order(&parts);
        let mut preference = Preference::default();
        assert_eq!(told(&preference), [1, 2, 3, 4]);
        preference.away = HashSet::from([1, 3]);
        assert_eq!(told(&preference), [2, 4, 1, 3]);
        preference.first = Some(3);
        assert_eq!(told(&preference), [3, 2, 4, 1]);
        preference.given = [4, 1].map(Uuid::from_u128).to_vec();
        assert_eq!(told(&preference), [4, 1, 3, 2]);
    }

    #[test]
    fn little_is_sorted_together_and_much_goes_by_itself() {
        let many = SORTED + 1;
        assert_eq!(passes(&[0, 0]), []);
        let pass = |runs, sorts| Pass { runs, sorts };
        assert_eq!(passes(&[many]), [pass(0..1, false)]);
        assert_eq!(
            passes(&[many, 5, 0, 6, many, 1]),
            [
                pass(0..1, false),
                pass(1..4, true),
                pass(4..5, false),
                pass(5..6, false)
            ]
        );
        assert_eq!(
            passes(&[SORTED - 1, 1, 1]),
            [pass(0..2, true), pass(2..3, false)]
        );
    }
}
