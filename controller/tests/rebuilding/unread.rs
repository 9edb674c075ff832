//! Cartridges of which a rescan could not read everything, and a later one can.

use taf_controller::store::{checks, orphans};
use taf_core::catalog::Kind;
use taf_format::index::Body;
use taf_proto::agent::{AssignmentKey, ScanProblem, ScanTrailer};

use super::cartridges::{Cartridge, cartridges, empty, scan, scan_ended};
use super::runs::make;
use super::world::{Tree, World};

/// A cartridge with two versions, and what a rescan tells of it that can't read the second one.
async fn with_two_parts() -> (Cartridge, Cartridge) {
    let world = World::new().await;
    for tree in [
        Tree::of(&[("one", 5_000, 0)]),
        Tree::of(&[("one", 5_000, 0), ("two", 9_000, 0)]),
    ] {
        make(&world, &world.attempt_at(Kind::Full).await, &tree).await;
    }
    let whole = cartridges(&world).await.remove(0);
    let mut cut = whole.clone();
    let is_part = |record: &Body| matches!(record, Body::Part(_));
    let second = cut.records.iter().rposition(is_part).unwrap();
    assert!(cut.records.iter().position(is_part).unwrap() < second);
    cut.records.truncate(second);
    (whole, cut)
}

/// A rescan that can't read the second part.
async fn scan_cut(world: &World, key: AssignmentKey, cut: &Cartridge) {
    let problem = ScanProblem {
        tape_file: 2,
        first_block: 10,
        reason: "test".into(),
    };
    let end = ScanTrailer {
        problems: vec![problem],
        ..ScanTrailer::default()
    };
    scan_ended(world, key, cut, end).await.unwrap();
}

/// State of the cartridge's volume and why, parts on it, and whether its bytes are theirs.
async fn volume(world: &World, cartridge: &Cartridge) -> (String, String, i64, bool) {
    let client = world.store.client().await.unwrap();
    let sql = "SELECT state, COALESCE(state_reason, ''), (SELECT count(*) FROM parts AS x WHERE x.recording_uuid = $1) FROM volumes \
               WHERE recording_uuid = $1";
    let row = client.query_one(sql, &[&cartridge.recording]).await;
    let row = row.unwrap();
    let mut all = checks::CHECKS.iter();
    let check = all.find(|check| check.kind == "VOLUME_BYTES_DIFFER");
    let found = checks::check_run(&client, check.unwrap()).await.unwrap();
    (row.get(0), row.get(1), row.get(2), found.0 == 0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_can_be_read_after_all_is_what_it_was() {
    let (whole, cut) = with_two_parts().await;
    let (world, key) = empty().await;
    let client = world.store.client().await.unwrap();
    scan_cut(&world, key, &cut).await;
    let (state, why, parts, weighed) = volume(&world, &whole).await;
    assert_eq!((state.as_str(), parts, weighed), ("read-only", 1, true));
    assert!(why.contains("rebuild"), "{why}");
    // One that does not find all that is known to be there has not read everything.
    let mut shorter = cut.clone();
    shorter.end = (2, cut.end.1);
    scan(&world, key, &shorter).await.unwrap();
    assert_eq!(volume(&world, &whole).await.0, "read-only");
    // Its end is known, and what it holds is more.
    scan(&world, key, &whole).await.unwrap();
    let open = ("appendable".to_owned(), String::new(), 2, true);
    assert_eq!(volume(&world, &whole).await, open);

    let fill = "UPDATE volumes SET state = 'full'";
    client.batch_execute(fill).await.unwrap();
    scan_cut(&world, key, &cut).await;
    assert_eq!(volume(&world, &whole).await.0, "read-only");
    scan_cut(&world, key, &cut).await;
    assert_eq!(volume(&world, &whole).await.0, "read-only");
    scan(&world, key, &whole).await.unwrap();
    let full = ("full".to_owned(), String::new(), 2, true);
    assert_eq!(volume(&world, &whole).await, full);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_is_read_only_for_another_reason_too_stays_so() {
    let (whole, cut) = with_two_parts().await;
    let open = "nothing closes its last tape file";
    for (before, why) in [(true, "a drive said so"), (false, open)] {
        let (world, key) = empty().await;
        scan_cut(&world, key, &cut).await;
        if before {
            let mut client = world.store.client().await.unwrap();
            let tx = client.transaction().await.unwrap();
            let done = orphans::recording_verdict_on(&tx, whole.recording, "read-only", why).await;
            assert!(done.unwrap());
            tx.commit().await.unwrap();
        }
        let end = ScanTrailer {
            open: !before,
            ..ScanTrailer::default()
        };
        for _ in 0..2 {
            scan_ended(&world, key, &whole, end.clone()).await.unwrap();
            let left = ("read-only".to_owned(), why.to_owned(), 2, true);
            assert_eq!(volume(&world, &whole).await, left);
        }
    }
}
