//! Runs with a base through the whole agent: its pages over the network, a drive only for what is to be stored.
#![allow(clippy::unwrap_used, missing_docs)]

mod fake;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use fake::Site;
use taf_format::key;
use taf_proto::agent::{BackupDone, EntryStat, result::Done};
use taf_proto::v1;

fn done(result: &taf_proto::agent::Result) -> BackupDone {
    match &result.done {
        Some(Done::Backup(done)) => *done,
        _ => panic!("{result:?}"),
    }
}

fn build(top: &Path) {
    for n in 0..40 {
        let directory = top.join(format!("d{n:02}/below"));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("file"), format!("content {n}")).unwrap();
    }
}

/// A site whose first version has everything below the folder.
async fn site(top: &Path) -> Site {
    let mut site = Site::start(&[top], &[top]).await;
    let first = done(&site.backup(&[top]).await);
    assert!(!first.unchanged);
    site.publish();
    site
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_tree_needs_no_drive() {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path().canonicalize().unwrap();
    build(&top);
    let mut site = site(&top).await;
    site.assign_incremental(&[&top], 2);
    let done = done(&site.result().await);
    assert!(done.unchanged, "{done:?}");
    assert_eq!(done.file_count, 40);
    assert_eq!(*site.told.base.claimed.lock().unwrap(), 0);
    assert!(site.told.segments.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drive_is_claimed_for_what_changed_and_a_broken_stream_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path().canonicalize().unwrap();
    build(&top);
    let mut site = site(&top).await;
    let changed = top.join("d20/below/file");
    fs::write(&changed, "another").unwrap();
    fs::remove_dir_all(top.join("d39")).unwrap();
    *site.told.base.early.lock().unwrap() = 2;
    // Also right behind the root, whose key is empty.
    *site.told.base.breaks.lock().unwrap() = vec![1, 0, 30, 5];
    site.assign_incremental(&[&top], 2);
    let done = done(&site.result().await);
    assert!(!done.unchanged && done.stored_byte_count > 0, "{done:?}");
    assert_eq!(*site.told.base.claimed.lock().unwrap(), 1);
    assert_eq!(*site.told.base.fetched.lock().unwrap(), 5);
    let (entries, keys) = site.sent();
    let inside = |path: &Path| path.strip_prefix("/").unwrap().to_str().unwrap().to_owned();
    // What changed, and the directory that lost a name.
    assert_eq!(entries, [inside(&top), inside(&changed)]);
    let key_of = |path: &Path| key::of_path(inside(path).as_bytes());
    let gone = top.join("d39");
    let expected = [
        key_of(&top),
        key_of(&top.join("d20/below")),
        key_of(&gone),
        key_of(&gone.join("below")),
    ];
    assert_eq!(keys, expected);
    site.publish();
    site.assign_incremental(&[&top], 3);
    assert!(self::done(&site.result().await).unchanged);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_base_a_run_fails_and_takes_no_drive() {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path().canonicalize().unwrap();
    build(&top);
    let mut site = site(&top).await;
    let none: [(&str, String); 0] = [];
    let refusal = taf_peer::faults::status(
        tonic::Code::FailedPrecondition,
        "BASE_GONE",
        "the base is gone",
        none,
    );
    *site.told.base.refusal.lock().unwrap() = Some(refusal);
    site.assign_incremental(&[&top], 2);
    let fault = site.result().await.fault.unwrap();
    assert_eq!(fault.reason, "BASE_GONE", "{fault:?}");
    assert_eq!(*site.told.base.claimed.lock().unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_takes_metadata_from_the_page() {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path().canonicalize().unwrap();
    let (from, to) = (top.join("from"), top.join("to"));
    fs::create_dir(&from).unwrap();
    fs::write(from.join("file"), "content").unwrap();
    fs::set_permissions(from.join("file"), fs::Permissions::from_mode(0o644)).unwrap();
    let mut site = Site::start(&[&top], &[&top]).await;
    done(&site.backup(&[&from]).await);
    let (pages, table) = site.write_tape();
    let mut items = fake::items(&pages);
    let item = items
        .iter_mut()
        .find(|item| item.path.ends_with(b"/file"))
        .unwrap();
    let owner = from.metadata().unwrap();
    item.stat = Some(EntryStat {
        mode: 0o600,
        uid: std::os::unix::fs::MetadataExt::uid(&owner),
        gid: std::os::unix::fs::MetadataExt::gid(&owner),
        mtime_seconds: 1_234_567_890,
        mtime_nanos: 5,
        ..EntryStat::default()
    });
    let restored = to.join(std::str::from_utf8(&item.path).unwrap());
    site.set_recall(&table, &items);
    fs::create_dir(&to).unwrap();
    site.assign_restore(&to, v1::Collision::Never);
    let result = site.result().await;
    assert!(result.fault.is_none(), "{result:?}");
    let meta = restored.metadata().unwrap();
    assert_eq!(meta.permissions().mode() & 0o7777, 0o600);
    let mtime = meta
        .modified()
        .unwrap()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    assert_eq!((mtime.as_secs(), mtime.subsec_nanos()), (1_234_567_890, 5));
}
