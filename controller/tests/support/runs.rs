//! Runs that build on others, as source agents make them, and what their versions show.
#![allow(dead_code)]

use std::collections::BTreeMap;

use prost::Message as _;
use taf_controller::access::Caller;
use taf_controller::catalog::{Selection, View, browse, recall};
use taf_controller::services::agent_catalog::AgentCatalog;
use taf_controller::session::Registry;
use taf_core::catalog::Kind;
use taf_format::index::ClosingRecord;
use taf_format::{page, record};
use taf_peer::identity::{Identity, Role};
use taf_proto::agent::catalog_service_server::CatalogService;
use taf_proto::agent::fetch_recall_response::Message;
use taf_proto::agent::{
    AssignmentKey, BackupDone, BaseKind, BasePage, FetchBaseRequest, RecallItem,
};
use tokio_stream::StreamExt;
use tonic::{Request, Status};

use super::world::{self, Attempt, Backup, DICTIONARY, Part, Tree, World};

/// Pages by key, none for a tombstone.
pub type Pages = BTreeMap<Vec<u8>, Option<page::Page>>;

/// The first half of a base's stream, then the rest from where that ended.
pub async fn fetch(world: &World, key: AssignmentKey, kind: BaseKind) -> Result<Pages, Status> {
    let whole = stream(world, key, kind, Vec::new()).await?;
    let half = whole.len() / 2;
    // The key of the root, which comes first, is empty, as is what says that nothing has come.
    if half > 1 {
        let behind = whole[half - 1].chunk.to_vec();
        let rest = stream(world, key, kind, behind).await?;
        assert_eq!(rest, whole[half..], "a stream goes on where it broke");
    }
    assert!(whole.is_sorted_by(|a, b| a.chunk < b.chunk));
    let decode = |page: BasePage| {
        let body = (!page.body.is_empty()).then(|| {
            let mut known = page::Dictionaries::new();
            known.insert(DICTIONARY.0, DICTIONARY.1).unwrap();
            page::decode(&page.chunk, &page.body, Some(&page.hashes), &known).unwrap()
        });
        (page.chunk.to_vec(), body)
    };
    Ok(whole.into_iter().map(decode).collect())
}

pub async fn stream(
    world: &World,
    key: AssignmentKey,
    kind: BaseKind,
    after_chunk: Vec<u8>,
) -> Result<Vec<BasePage>, Status> {
    let request = FetchBaseRequest {
        key: Some(key),
        kind: kind.into(),
        after_chunk: after_chunk.into(),
        ..FetchBaseRequest::default()
    };
    ask(world, request).await
}

pub async fn ask(world: &World, request: FetchBaseRequest) -> Result<Vec<BasePage>, Status> {
    let service = AgentCatalog::new(world.store.clone(), Registry::default());
    let mut request = Request::new(request);
    request.extensions_mut().insert(Caller::Agent(Identity {
        role: Role::SourceAgent,
        id: world::SOURCE.into(),
        installation: uuid::Uuid::nil(),
    }));
    let mut messages = service.fetch_base(request).await?.into_inner();
    let mut pages = Vec::new();
    while let Some(message) = messages.next().await {
        let message = message?;
        assert!(message.encoded_len() < (1 << 20) + (64 << 10));
        pages.extend(message.pages);
    }
    Ok(pages)
}

/// What a source agent makes of a tree that is compared with `base`: a page where something differs, a tombstone for what has
/// gone, and unchanged files where they were.
pub fn compared(tree: &Tree, attempt: &Attempt, bases: &[&Pages]) -> (Backup, Vec<Vec<u8>>) {
    let mut made = Backup::of(tree, attempt.opened.ordinal as u32);
    for new in &mut made.pages {
        let Some(Some(old)) = bases[0].get(&new.chunk()) else {
            continue;
        };
        for entry in &mut new.entries {
            let same = |old: &&page::Entry| {
                (&old.name, old.size, old.hash) == (&entry.name, entry.size, entry.hash)
            };
            if let Some(old) = old.entries.iter().find(same) {
                entry.place = old.place;
            }
        }
        if let (Some(header), Some(old)) = (&mut new.header, &old.header) {
            header.place = old.place;
        }
    }
    let whole: BTreeMap<Vec<u8>, page::Page> =
        made.pages.iter().map(|p| (p.chunk(), p.clone())).collect();
    let differs = |page: &page::Page| {
        let same = |base: &&&Pages| base.get(&page.chunk()) == Some(&Some(page.clone()));
        bases.iter().filter(same).count() < bases.len()
    };
    made.pages.retain(differs);
    let mut gone: Vec<Vec<u8>> = bases
        .iter()
        .flat_map(|base| base.iter())
        .filter(|(key, page)| page.is_some() && !whole.contains_key(*key))
        .map(|(key, _)| key.clone())
        .collect();
    gone.sort();
    gone.dedup();
    (made, gone)
}

/// A run of this kind over the tree, in one part.
pub async fn run(world: &World, kind: Kind, tree: &Tree) -> Attempt {
    let attempt = world.attempt_at(kind).await;
    make(world, &attempt, tree).await;
    attempt
}

/// What an attempt makes of the tree, in one part, none if nothing differs; and the whole of it.
async fn made(world: &World, attempt: &Attempt, tree: &Tree) -> (Option<Part>, Backup) {
    let opening = attempt.opened.opening;
    let mut bases = Vec::new();
    if opening.parent != 0 {
        if opening.kind == Kind::Differential {
            bases.push(fetch(world, attempt.key, BaseKind::Full).await.unwrap());
        }
        bases.push(fetch(world, attempt.key, BaseKind::Head).await.unwrap());
    }
    let (made, gone) = if bases.is_empty() {
        let whole = Backup::of(tree, attempt.opened.ordinal as u32);
        (whole, Vec::new())
    } else {
        compared(tree, attempt, &bases.iter().collect::<Vec<_>>())
    };
    if made.pages.is_empty() && gone.is_empty() {
        return (None, made);
    }
    let mut part = made.parts(world, attempt, 1).await.remove(0);
    for chunk in gone {
        record::encode(&record::tombstone(chunk), &mut part.records).unwrap();
    }
    (Some(part), made)
}

/// Makes what an attempt is to make of the tree, in one part, and publishes it.
pub async fn make(world: &World, attempt: &Attempt, tree: &Tree) {
    let (part, made) = made(world, attempt, tree).await;
    let Some(part) = part else {
        let done = BackupDone {
            unchanged: true,
            file_count: made.files,
            directory_count: made.directories,
            ..BackupDone::default()
        };
        return world.publish_done(attempt, &done).await.unwrap();
    };
    world.commit(&part).await.unwrap();
    world.publish(attempt, &made).await.unwrap();
}

/// The same of an attempt that fails when its part is on tape. False if it had nothing to write.
pub async fn fail(world: &World, attempt: &Attempt, tree: &Tree) -> bool {
    let (part, _) = made(world, attempt, tree).await;
    if let Some(part) = &part {
        world.commit(part).await.unwrap();
    }
    world.end_attempts().await;
    part.is_some()
}

pub async fn view(world: &World, version: i64) -> View {
    let found = View::open_restored(&world.store, world.line, version).await;
    found.unwrap().unwrap()
}

/// Everything in a version: paths of files with their sizes, by `ls`.
pub async fn files(world: &World, version: i64) -> BTreeMap<Vec<u8>, u64> {
    let view = view(world, version).await;
    let mut found = BTreeMap::new();
    let mut open = vec![Vec::new()];
    while let Some(directory) = open.pop() {
        let listing = browse::list(&view, &directory, None, 10_000).await.unwrap();
        for entry in listing.unwrap().entries {
            let path = match directory.as_slice() {
                [] => entry.name.clone(),
                above => [above, b"/", &entry.name].concat(),
            };
            if entry.kind == taf_format::entry::Kind::Directory {
                open.push(path);
            } else {
                found.insert(path, entry.size);
            }
        }
    }
    found
}

pub fn sizes(tree: &Tree) -> BTreeMap<Vec<u8>, u64> {
    let files = tree.files.iter();
    files
        .map(|(path, (size, _))| (path.clone(), *size))
        .collect()
}

/// What a restore of all is given: the ordinals of the parts' archives, and the items.
pub async fn recalled(world: &World, version: i64) -> (Vec<u32>, Vec<RecallItem>) {
    let (archives, items, lacks) = recalled_partly(world, version).await;
    assert_eq!(lacks, 0, "the version is whole");
    (archives, items)
}

/// The same of a version that may not be whole, and how many things it lacks.
pub async fn recalled_partly(world: &World, version: i64) -> (Vec<u32>, Vec<RecallItem>, usize) {
    let view = view(world, version).await;
    let selection = Selection::resolve(&view, &[]).await.unwrap();
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let sending = async move {
        let preference = recall::Preference::default();
        recall::stream(
            &view,
            0,
            &selection,
            recall::Archives::All,
            &preference,
            &sender,
        )
        .await
        .unwrap();
    };
    let receiving = async {
        let (mut archives, mut items, mut lacks) = (Vec::new(), Vec::new(), 0);
        while let Some(message) = receiver.recv().await {
            match message.unwrap().message.unwrap() {
                Message::Part(part) => archives.push(part.archive_ordinal),
                Message::Lacks(some) => lacks += some.lacks.len(),
                Message::Items(batch) => items.extend(batch.items),
            }
        }
        (archives, items, lacks)
    };
    tokio::join!(receiving, sending).0
}

pub async fn closing(world: &World, version: i64) -> ClosingRecord {
    let client = world.store.client().await.unwrap();
    let sql = "SELECT closing FROM versions WHERE version = $1";
    let row = client.query_one(sql, &[&version]).await.unwrap();
    ClosingRecord::decode(row.get::<_, Vec<u8>>(0).as_slice()).unwrap()
}
