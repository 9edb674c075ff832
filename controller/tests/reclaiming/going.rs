//! What two volumes have and no third one: one of them may go, and whatever is asked of both at one moment, not the other one.

use taf_proto::agent::assignment::Work;
use taf_proto::agent::drive_observation::Medium;
use taf_proto::v1::volume_service_client::VolumeServiceClient;
use taf_proto::v1::{EraseVolumeRequest, LabelVolumeRequest, LabelVolumesRequest};

use super::served::{reason, signed};
use super::site::{Site, Units, VOLUME};
use super::told;

const OTHER: &str = "BLANK1L9";

/// A kept version that needs no part, and whose closing record is on two volumes.
async fn told_twice() -> (Site, Units) {
    let site = Site::new().await;
    let units = site.units().await;
    site.backed_up(&units, "daily").await;
    site.volume_row(OTHER).await;
    let free = "UPDATE volumes SET index_due = false, freed_at = now(); DELETE FROM version_parts";
    for sql in [free, &told(VOLUME), &told(OTHER)] {
        site.served.sql(sql).await;
    }
    (site, units)
}

/// Asks whether a volume may be erased.
async fn erase(site: &Site, barcode: &str) -> Result<(), tonic::Status> {
    let request = EraseVolumeRequest {
        name: format!("volumes/{barcode}"),
        dry_run: true,
        ..EraseVolumeRequest::default()
    };
    let mut service = VolumeServiceClient::new(site.served.channel(None).await);
    let answer = service.erase_volume(signed(&site.token, request)).await;
    answer.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_erases_that_are_ordered_at_one_moment_one_begins() {
    let (site, units) = told_twice().await;
    erase(&site, VOLUME).await.unwrap();
    erase(&site, OTHER).await.unwrap();
    // Neither order has seen the other one.
    let both = "INSERT INTO jobs (kind, state, creator, volume_id, cartridge, created_at) \
                SELECT 'erase', 'queued', 'test', id, barcode, now() FROM volumes ORDER BY id";
    site.served.sql(both).await;
    let key = loop {
        match units.drive.given().await {
            (key, Work::Erase(_)) => break key,
            (key, Work::Unload(_)) => {
                units.drive.show_drive(None, Medium::Unloaded, "idle");
                units.drive.finish(key, None);
            }
            other => panic!("nothing to erase: {other:?}"),
        }
    };
    let of = |state: &str, volume: &str| {
        format!(
            "SELECT count(*) FROM jobs WHERE kind = 'erase' AND {state} AND cartridge = '{volume}'"
        )
    };
    let refused = "fault_reason = 'CLOSING_RECORDS_LAST'";
    let mut kept = VOLUME;
    if site.served.count(&of(refused, kept)).await == 0 {
        kept = OTHER;
    }
    assert_eq!(site.served.count(&of(refused, kept)).await, 1);
    assert_eq!(reason(erase(&site, kept).await), "CLOSING_RECORDS_LAST");
    let shown = site.volume(kept).await;
    assert!(shown.reuse_time.is_none(), "{shown:?}");
    // It has not begun to erase, and there are two again.
    units.drive.fail(key, "STOPPED");
    let ended = "SELECT count(*) FROM jobs WHERE kind = 'erase' AND ended_at IS NULL";
    super::units::within("the end of the erase", async {
        while site.served.count(ended).await > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    erase(&site, kept).await.unwrap();
    let shown = site.volume(kept).await;
    assert!(shown.reuse_time.is_some(), "{shown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erase_does_not_begin_if_the_other_volume_was_given_up_when_it_was_ordered() {
    let (site, _units) = told_twice().await;
    let both = format!(
        "UPDATE volumes SET state = 'labelling', former_recording = recording_uuid, former_end = next_block, \
         recording_uuid = volume_uuid, freed_at = NULL WHERE barcode = '{OTHER}'; \
         INSERT INTO jobs (kind, state, creator, volume_id, cartridge, created_at) \
         SELECT 'erase', 'queued', 'test', id, barcode, now() FROM volumes WHERE barcode = '{VOLUME}'"
    );
    site.served.sql(&both).await;
    let refused = "SELECT count(*) FROM jobs WHERE fault_reason = 'CLOSING_RECORDS_LAST'";
    super::units::within("the refusal", async {
        while site.served.count(refused).await == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cartridge_that_is_to_be_erased_gets_no_label_and_is_not_erased_once_it_has_data() {
    let site = Site::new().await;
    let units = site.units().await;
    site.backed_up(&units, "daily").await;
    // Ordered when the catalog did not know the cartridge.
    let erase = |barcode: &str| {
        format!(
            "INSERT INTO jobs (kind, state, creator, cartridge, created_at) VALUES ('erase', 'queued', 'test', '{barcode}', now())"
        )
    };
    site.served.sql(&erase(VOLUME)).await;
    let refused = "SELECT count(*) FROM jobs WHERE fault_reason = 'VOLUME_HAS_PARTS'";
    super::units::within("the refusal", async {
        while site.served.count(refused).await == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;

    site.served.sql(&erase(OTHER)).await;
    let mut service = VolumeServiceClient::new(site.served.channel(None).await);
    let one = LabelVolumeRequest {
        barcode: OTHER.into(),
        pool: "pools/default".into(),
        ..LabelVolumeRequest::default()
    };
    let answer = service.label_volume(signed(&site.token, one)).await;
    assert_eq!(reason(answer), "VOLUME_BUSY");
    let all = LabelVolumesRequest {
        pool: "pools/default".into(),
        dry_run: true,
        ..LabelVolumesRequest::default()
    };
    let answer = service.label_volumes(signed(&site.token, all)).await;
    let found = answer.unwrap().into_inner().cartridges;
    let found = found.into_iter().find(|one| one.barcode == OTHER);
    let refusal = found.unwrap().refusal.unwrap_or_default();
    assert_eq!(refusal.reason, "VOLUME_BUSY", "{refusal:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_brings_a_closing_record_elsewhere_is_said_as_it_is() {
    let (site, _units) = told_twice().await;
    let moves = format!(
        "DELETE FROM closings WHERE recording_uuid = (SELECT recording_uuid FROM volumes WHERE barcode = '{OTHER}'); \
         UPDATE parts SET volume_id = v.id, recording_uuid = v.recording_uuid FROM volumes AS v WHERE v.barcode = '{OTHER}'"
    );
    site.served.sql(&moves).await;
    let (verify, reclaim) = (
        "`taf volume verify BLANK1L9`",
        "`taf volume reclaim BLANK1L9`",
    );
    for (state, said, not_said) in [
        ("full", vec![verify, "`index_after`", reclaim], "expire"),
        ("read-only", vec![reclaim], "verify"),
        (
            "quarantined",
            vec!["until these versions expire"],
            "BLANK1L9",
        ),
    ] {
        let change = format!("UPDATE volumes SET state = '{state}' WHERE barcode = '{OTHER}'");
        site.served.sql(&change).await;
        let shown = site.volume(VOLUME).await;
        for said in said {
            assert!(shown.reuse_reason.contains(said), "{state}: {shown:?}");
        }
        assert!(!shown.reuse_reason.contains(not_said), "{state}: {shown:?}");
    }
}
