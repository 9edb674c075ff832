//! What a restore needs from tape: first the parts, then the items in the order of their places.
//!
//! The order of pages is the order of the tape, but for further names of hard links: their place is where the bytes lie,
//! which may be under a name that was not chosen. Those are gathered first, sorted, and merged in; memory grows with their
//! number and with nothing else.

use std::collections::HashSet;

use bytes::Bytes;
use taf_format::entry::Kind;
use taf_format::page::{DirectoryStat, Entry, Page, Place};
use taf_proto::agent::fetch_recall_response::Message;
use taf_proto::agent::{
    Ancestor, EntryStat, FetchRecallResponse, RecallItem, RecallItems, RecallPart,
};
use tokio::sync::mpsc;

use super::{Error, Selection, View, view};
use crate::store::parts::{self, Located};

/// Most items of a message.
const ITEMS: usize = 1_000;
/// Bytes of paths at which a message is sent.
const PATH_BYTES: usize = 1 << 20;

/// What a selection amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Items that [`stream`] sends, the ancestors not counted.
    pub entries: u64,
    /// Apparent bytes, each inode once.
    pub bytes: u64,
}

/// Which of a version's parts hold something of a selection.
#[derive(Debug)]
pub struct Needed<'a> {
    parts: &'a [Located],
    hit: Vec<bool>,
}

impl<'a> Needed<'a> {
    /// None of these yet, which are in the order of their bytes.
    fn none(parts: &'a [Located]) -> Self {
        Self {
            parts,
            hit: vec![false; parts.len()],
        }
    }

    fn take(&mut self, place: Option<Place>, length: u64) {
        let Some(place) = place else { return };
        let begin = (place.archive_ordinal, place.tar_offset);
        let end = (begin.0, begin.1.saturating_add(length));
        let first = self.parts.partition_point(|part| {
            (part.archive_ordinal as u32, part.end_tar_offset as u64) <= begin
        });
        for (part, hit) in self.parts.iter().zip(&mut self.hit).skip(first) {
            if (part.archive_ordinal as u32, part.first_tar_offset as u64) >= end {
                return;
            }
            *hit = true;
        }
    }

    /// The parts, in the order of their bytes.
    pub fn parts(&self) -> impl Iterator<Item = &'a Located> + '_ {
        let hit = self.parts.iter().zip(&self.hit).filter(|(_, hit)| **hit);
        hit.map(|(part, _)| part)
    }
}

/// Counts a selection, and says which of the version's parts it needs.
pub async fn count<'a>(
    view: &View,
    selection: &Selection,
    parts: &'a [Located],
) -> Result<(Count, Needed<'a>), Error> {
    let mut needed = Needed::none(parts);
    let mut count = Count::default();
    let mut linked = HashSet::new();
    let mut pages = selection.pages(view);
    while let Some(page) = pages.next().await? {
        if let Some(header) = page.header.as_ref().filter(|_| !page.directory.is_empty()) {
            count.entries += 1;
            needed.take(header.place, header.tar_length);
        }
        for entry in page.entries.iter().filter(|entry| is_item(entry)) {
            count.entries += 1;
            needed.take(entry.place, entry.tar_length);
            if entry.link_group == 0 || linked.insert(entry.place) {
                count.bytes += entry.size;
            }
        }
    }
    Ok((count, needed))
}

/// Directories come from their own pages; what has no bytes on tape was an issue when it was backed up.
fn is_item(entry: &Entry) -> bool {
    entry.kind != Kind::Directory && entry.place.is_some()
}

/// Sends what a restore of the selection needs: of the parts all, since they say in which order the volumes come. Waits while the receiver is slow; ends early when it is gone.
pub async fn stream(
    view: &View,
    selection: &Selection,
    sender: &mpsc::Sender<Result<FetchRecallResponse, tonic::Status>>,
) -> Result<(), Error> {
    let client = view.client().await?;
    let parts =
        parts::part_list_of_version(&client, view.scope.line_id, view.scope.version).await?;
    drop(client);
    for part in &parts {
        let client = view.client().await?;
        let table = parts::part_table(&client, part.archive_uuid, part.part_number).await?;
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
            }))
            .await
            .is_err()
        {
            return Ok(());
        }
    }
    let mut out = Outgoing {
        sender,
        items: Vec::new(),
        path_bytes: 0,
        gone: false,
    };
    ancestors(view, selection, &mut out).await?;
    let mut links = links(view, selection).await?.into_iter().peekable();
    let mut pages = selection.pages(view);
    while let Some(page) = pages.next().await? {
        for (place, item) in items(&page) {
            while let Some((_, link)) =
                links.next_if(|(linked, _)| place.is_some_and(|place| *linked < place))
            {
                out.put(link).await;
            }
            out.put(item).await;
        }
        if out.gone {
            return Ok(());
        }
    }
    for (_, link) in links {
        out.put(link).await;
    }
    out.flush().await;
    Ok(())
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
        }),
    }
}

fn metadata(stat: &DirectoryStat) -> Ancestor {
    Ancestor {
        mode: stat.mode,
        uid: stat.uid,
        gid: stat.gid,
        mtime_seconds: stat.mtime.seconds,
        mtime_nanos: stat.mtime.nanos,
    }
}

/// All chosen names of files with several names, by the place of their bytes.
async fn links(view: &View, selection: &Selection) -> Result<Vec<(Place, RecallItem)>, Error> {
    let mut links = Vec::new();
    let mut pages = selection.pages(view);
    while let Some(page) = pages.next().await? {
        for entry in page
            .entries
            .iter()
            .filter(|entry| is_item(entry) && entry.link_group != 0)
        {
            if let Some(place) = entry.place {
                links.push((place, item(&page, entry)));
            }
        }
    }
    links.sort_by(|(a, left), (b, right)| a.cmp(b).then_with(|| left.path.cmp(&right.path)));
    Ok(links)
}

async fn ancestors(
    view: &View,
    selection: &Selection,
    out: &mut Outgoing<'_>,
) -> Result<(), Error> {
    for path in selection.ancestors() {
        let client = view.client().await?;
        let page = view.first_chunk(&client, &path).await?;
        drop(client);
        let stat = page.and_then(|page| page.header).unwrap_or_default();
        out.put(RecallItem {
            path: path.into(),
            ancestor: Some(metadata(&stat)),
            ..RecallItem::default()
        })
        .await;
    }
    Ok(())
}

/// Collects items into messages.
struct Outgoing<'a> {
    sender: &'a mpsc::Sender<Result<FetchRecallResponse, tonic::Status>>,
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
        self.gone = self
            .sender
            .send(Ok(FetchRecallResponse { message }))
            .await
            .is_err();
    }
}
