//! Copies that a rescan meets and that can't be taken as they are: torn ones, and such as somebody reads elsewhere.

use taf_format::index::{Body, IndexPartEnd};
use taf_format::table::SegmentTable;

use uuid::Uuid;

use super::cartridges::{Cartridge, empty, scan};
use super::{Scene, place, whole};
use taf_controller::store::{versions, volumes};

/// What a rescan tells when the copying of the last part ended in the middle of it.
fn torn(whole: &Cartridge) -> Cartridge {
    let mut torn = whole.clone();
    let at = torn
        .records
        .iter()
        .rposition(|r| matches!(r, Body::Part(_)));
    let behind = torn.records.split_off(at.unwrap());
    let Body::Part(mut part) = behind[0].clone() else {
        panic!("no part")
    };
    let encoded = behind.iter().filter_map(|record| match record {
        Body::Table(piece) => Some(piece.to_vec()),
        _ => None,
    });
    let mut table = SegmentTable::decode(&encoded.collect::<Vec<_>>().concat()).unwrap();
    assert!(table.len() > 1);
    table.truncate(table.len() - 1);
    part.last_sequence -= 1;
    part.end_tar_offset = table.tar_range().end;
    (part.truncated, part.last) = (true, false);
    let table = table.encode();
    torn.records.extend([
        Body::Part(part),
        Body::Table(table.clone().into()),
        Body::PartEnd(IndexPartEnd {
            table_byte_count: table.len() as u64,
            ..IndexPartEnd::default()
        }),
    ]);
    torn.records.extend(
        behind
            .into_iter()
            .filter(|record| matches!(record, Body::Closing(_))),
    );
    torn
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_copy_gives_way_to_the_whole_part_in_whichever_order_they_come() {
    let [old, new] = Scene::set().await.copied().await;
    let torn = torn(&new);
    for order in [[&torn, &old, &torn], [&old, &torn, &old]] {
        let (world, key) = empty().await;
        for cartridge in order {
            scan(&world, key, cartridge).await.unwrap();
        }
        let (first, second) = (place(&world, 0).await, place(&world, 1).await);
        assert_eq!((first.0.as_str(), first.1), ("TAF002L9", 1));
        assert_eq!((second.0.as_str(), second.1), ("TAF001L9", 2));
        assert_eq!(whole(&world).await, 1);
        assert_eq!(world.count("parts WHERE truncated").await, 0);
        assert_eq!(world.count("parts WHERE final_part").await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_reads_where_it_was_is_not_moved_once_more() {
    let [old, new] = Scene::set().await.copied().await;
    let (world, key) = empty().await;
    for cartridge in [&old, &new] {
        scan(&world, key, cartridge).await.unwrap();
    }
    let client = world.store.client().await.unwrap();
    let sql = "INSERT INTO jobs (kind, state, creator, line_id, version, agent_id, restore_request, created_at) \
               SELECT 'restore', 'running', 'test', n.line_id, n.version, (SELECT min(a.id) FROM agents AS a), '', \
               (SELECT min(x.moved_at) FROM parts AS x) - interval '1 second' FROM version_parts AS n LIMIT 1; \
               UPDATE parts SET damage = 'test', verified_at = now()";
    client.batch_execute(sql).await.unwrap();
    scan(&world, key, &old).await.unwrap();
    assert_eq!(place(&world, 0).await.0, "TAF002L9");
    let said = "issues WHERE reason = 'PART_IS_READ'";
    assert_eq!(world.count(said).await, 2);
    let sql = "UPDATE jobs SET state = 'cancelled', ended_at = now() WHERE kind = 'restore'";
    client.batch_execute(sql).await.unwrap();
    scan(&world, key, &old).await.unwrap();
    assert_eq!(place(&world, 0).await.0, "TAF001L9");
    assert_eq!(world.count("orphans").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_for_a_volume_that_is_lost_is_named_and_taken_when_that_is_given_up() {
    let [old, new] = Scene::set().await.copied().await;
    let (world, key) = empty().await;
    let said = "issues WHERE reason = 'PART_ELSEWHERE'";
    scan(&world, key, &new).await.unwrap();
    assert_eq!(world.count(said).await, 0);
    scan(&world, key, &old).await.unwrap();
    assert_eq!(world.count(said).await, 1);
    let named = "message LIKE '2 parts of TAF001L9 %volume TAF002L9, %`taf volume erase TAF002L9 --force`%'";
    assert_eq!(world.count(&format!("{said} AND {named}")).await, 1);
    let give_up = async |of: &Cartridge| {
        let mut client = world.store.client().await.unwrap();
        let tx = client.transaction().await.unwrap();
        let lost = versions::version_lost_on(&tx, of.recording, "test").await;
        lost.unwrap();
        let sql = "SELECT id FROM volumes WHERE recording_uuid = $1";
        let id = tx.query_one(sql, &[&of.recording]).await.unwrap().get(0);
        let gone = volumes::volume_erased_on(&tx, id, Uuid::new_v4(), "test").await;
        gone.unwrap();
        tx.commit().await.unwrap();
    };
    // One that turns up again has what it had.
    give_up(&new).await;
    assert_eq!(whole(&world).await, 0);
    scan(&world, key, &new).await.unwrap();
    assert_eq!(whole(&world).await, 1);
    assert_eq!(place(&world, 0).await.0, "TAF002L9");
    give_up(&new).await;
    scan(&world, key, &old).await.unwrap();
    for part in 0..2 {
        assert_eq!(place(&world, part).await.0, "TAF001L9");
    }
    assert_eq!(whole(&world).await, 1);
}
