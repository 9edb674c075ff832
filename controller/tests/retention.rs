//! How long versions are kept, through the API of a whole controller; and volumes on which nothing is needed, taken again.
#![allow(clippy::unwrap_used, missing_docs)]

mod served;
#[path = "units/site.rs"]
mod site;
mod support;
mod units;
#[allow(dead_code)]
#[path = "support/world.rs"]
mod world;

use std::time::Duration;

use served::{reason, signed};
use site::{AT_DRIVE, DRIVE, Site, Units, VOLUME, written};
use taf_controller::catalog::vacuum;
use taf_controller::services::timestamp;
use taf_controller::store;
use taf_proto::agent::assignment::Work;
use taf_proto::agent::drive_observation::Medium;
use taf_proto::agent::result::Done;
use taf_proto::agent::{AssignmentKey, LabelDone};
use taf_proto::v1::retention_service_client::RetentionServiceClient;
use taf_proto::v1::version_service_client::VersionServiceClient;
use taf_proto::v1::{self, plan_service_client::PlanServiceClient};
use taf_proto::v1::{
    ExpireVersionRequest, ExpireVersionResponse, HoldVersionRequest, ListIncompleteVersionsRequest,
    LockVersionRequest, PreviewRetentionRequest, ReleaseVersionRequest, Retention,
    RetentionDecision, TagVersionRequest, UpdatePlanRequest, VolumeState,
};
use tonic::Status;
use tonic::transport::Channel;
use units::{drive_element, slot, within};

const SECOND: &str = "TAF002L9";

async fn client(site: &Site) -> RetentionServiceClient<Channel> {
    RetentionServiceClient::new(site.served.channel(None).await)
}

async fn preview(site: &Site, retention: Option<Retention>) -> Vec<RetentionDecision> {
    let request = PreviewRetentionRequest {
        plan: "plans/daily".into(),
        retention,
    };
    let answer = client(site)
        .await
        .preview_retention(signed(&site.token, request))
        .await;
    answer.unwrap().into_inner().decisions
}

async fn expire(
    site: &Site,
    name: &str,
    (force, dry_run): (bool, bool),
) -> Result<ExpireVersionResponse, Status> {
    let request = ExpireVersionRequest {
        name: name.into(),
        force,
        dry_run,
        request_id: String::new(),
    };
    let answer = client(site)
        .await
        .expire_version(signed(&site.token, request))
        .await?;
    Ok(answer.into_inner())
}

async fn lock(site: &Site, name: &str, seconds: u64) -> Result<(), Status> {
    let request = LockVersionRequest {
        name: name.into(),
        lock_time: Some(timestamp(store::now() + Duration::from_secs(seconds))),
        request_id: String::new(),
    };
    client(site)
        .await
        .lock_version(signed(&site.token, request))
        .await
        .map(drop)
}

/// Changes the plan's rules.
async fn rule(site: &Site, retention: Retention) -> v1::Plan {
    let request = UpdatePlanRequest {
        plan: Some(v1::Plan {
            name: "plans/daily".into(),
            retention: Some(retention),
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["retention".into()],
        }),
        request_id: String::new(),
    };
    let mut plans = PlanServiceClient::new(site.served.channel(None).await);
    let answer = plans.update_plan(signed(&site.token, request)).await;
    answer.unwrap().into_inner().plan.unwrap()
}

fn last(keep_last: u32) -> Retention {
    Retention {
        keep_last,
        ..Retention::default()
    }
}

async fn numbers(site: &Site) -> Vec<u64> {
    site.versions()
        .await
        .iter()
        .map(|version| version.number)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn people_hold_lock_tag_and_let_versions_expire() {
    let site = Site::new().await;
    let units = site.units().await;
    let mut names = Vec::new();
    for _ in 0..3 {
        names.push(site.backed_up(&units, "daily").await);
    }
    let mut service = client(&site).await;

    let told = preview(&site, None).await;
    assert!(
        told.iter()
            .all(|d| d.kept && d.reasons == ["the plan has no rule by which versions expire"])
    );
    let told = preview(&site, Some(last(1))).await;
    let kept: Vec<_> = told
        .iter()
        .map(|d| (d.number, d.kept, d.reasons.join("; ")))
        .collect();
    assert_eq!(kept[2], (3, true, "last 1 of 1".into()));
    assert_eq!(kept[0], (1, false, "no rule keeps it: last 1".into()));
    assert_eq!(numbers(&site).await, [3, 2, 1], "a preview does nothing");

    let hold = HoldVersionRequest {
        name: names[0].clone(),
        reason: "case 7".into(),
        ..Default::default()
    };
    service
        .hold_version(signed(&site.token, hold))
        .await
        .unwrap();
    assert_eq!(
        reason(expire(&site, &names[0], (true, false)).await),
        "VERSION_HELD"
    );
    lock(&site, &names[1], 3_600).await.unwrap();
    assert_eq!(reason(lock(&site, &names[1], 60).await), "VERSION_LOCKED");
    lock(&site, &names[1], 7_200).await.unwrap();
    assert_eq!(
        reason(expire(&site, &names[1], (true, false)).await),
        "VERSION_LOCKED"
    );
    let tag = TagVersionRequest {
        name: names[1].clone(),
        add_tags: vec!["release".into(), "old".into(), "release".into()],
        ..Default::default()
    };
    service.tag_version(signed(&site.token, tag)).await.unwrap();
    let tag = TagVersionRequest {
        name: names[1].clone(),
        remove_tags: vec!["old".into()],
        ..Default::default()
    };
    let tagged = service.tag_version(signed(&site.token, tag)).await.unwrap();
    assert_eq!(tagged.into_inner().tags, ["release"]);
    let versions = site.versions().await;
    assert_eq!(
        (&versions[2].hold_reason[..], &versions[1].tags[..]),
        ("case 7", &["release".to_owned()][..])
    );
    assert!(versions[1].lock_time.is_some() && !versions[1].keep_reasons.is_empty());

    // What would be given free is said before, and nothing is done.
    let newest = expire(&site, &names[2], (false, true)).await.unwrap();
    assert_eq!(
        (newest.freed_part_count, newest.freed_volumes.len()),
        (1, 0)
    );
    assert!(newest.waiting_for.contains("newest"), "{newest:?}");
    assert_eq!(numbers(&site).await, [3, 2, 1]);

    let release = ReleaseVersionRequest {
        name: names[0].clone(),
        ..Default::default()
    };
    service
        .release_version(signed(&site.token, release))
        .await
        .unwrap();
    let request = ExpireVersionRequest {
        name: names[0].clone(),
        request_id: uuid::Uuid::new_v4().to_string(),
        ..Default::default()
    };
    let first = service
        .expire_version(signed(&site.token, request.clone()))
        .await
        .unwrap()
        .into_inner();
    let again = service
        .expire_version(signed(&site.token, request))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(first, again, "a repeated request gets the same answer");
    assert!(first.freed_byte_count > 0 && first.waiting_for.is_empty());
    assert_eq!(
        reason(expire(&site, &names[0], (false, false)).await),
        "RESOURCE_NOT_FOUND"
    );
    assert_eq!(numbers(&site).await, [3, 2]);
    expire(&site, &names[2], (false, false)).await.unwrap();

    // While an archive's files are removed from the source, and when they were, it may be the only copy.
    let removal = "INSERT INTO jobs (kind, state, creator, line_id, version, agent_id, removal, created_at, started_at) \
                   SELECT 'remove-sources', 'running', 'test', min(l.id), 2, min(a.id), 'x', now(), now() \
                   FROM lines AS l CROSS JOIN agents AS a WHERE a.role = 'source-agent' AND NOT l.archives";
    site.served
        .sql("UPDATE versions SET locked_until = NULL")
        .await;
    site.served.sql(removal).await;
    assert_eq!(
        reason(expire(&site, &names[1], (true, false)).await),
        "SOURCES_BEING_REMOVED"
    );
    site.served
        .sql("UPDATE jobs SET state = 'succeeded', ended_at = now() WHERE kind = 'remove-sources'")
        .await;
    assert_eq!(
        reason(expire(&site, &names[1], (false, false)).await),
        "LAST_GOOD_VERSION"
    );
    site.served.sql("UPDATE versions SET expired_at = NULL, pages_gone = false, vacuumed_at = NULL WHERE version = 3").await;
    assert_eq!(
        reason(expire(&site, &names[1], (false, false)).await),
        "SOURCES_REMOVED"
    );
    site.served
        .sql("UPDATE versions SET expired_at = now() WHERE version = 3")
        .await;

    assert_eq!(
        reason(expire(&site, &names[1], (false, false)).await),
        "LAST_GOOD_VERSION"
    );
    expire(&site, &names[1], (true, false)).await.unwrap();
    assert_eq!(numbers(&site).await, Vec::<u64>::new());
    let forced = "SELECT count(*) FROM audit WHERE action = 'RetentionService.ExpireVersion' AND outcome = 'done' \
                  AND subject LIKE '% by force'";
    assert_eq!(site.served.count(forced).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_not_whole_is_given_up_by_force_and_its_volume_is_free_then() {
    let site = Site::new().await;
    let units = site.units().await;
    let name = site.backed_up(&units, "daily").await;
    // As after a rebuild that has not met all of it; in the version behind it nothing had changed.
    site.served
        .sql("UPDATE versions SET state = 'staged', published_at = NULL, rebuilt_at = now(), incomplete_reason = 'it lacks a part'")
        .await;
    site.served
        .sql("UPDATE archives SET state = 'closed'")
        .await;
    site.served
        .sql(
            "INSERT INTO versions (line_id, version, state, kind, parent, floor, job_id, started_at, rebuilt_at, incomplete_reason) \
             SELECT line_id, 2, 'staged', 'incremental', 1, 1, job_id, now(), now(), 'it is as version 1' FROM versions",
        )
        .await;
    site.served
        .sql("UPDATE lines SET head = 2 WHERE head = 1")
        .await;
    assert_eq!(numbers(&site).await, [2, 1]);
    let same = format!("{}2", name.strip_suffix('1').unwrap());
    for dry_run in [true, false] {
        let needed = reason(expire(&site, &name, (true, dry_run)).await);
        assert_eq!(needed, "VERSION_NEEDED");
    }
    expire(&site, &same, (true, false)).await.unwrap();
    let released = "SELECT count(*) FROM versions WHERE version = 2 AND pages_gone";
    within("the release of what it needed", async {
        while site.served.count(released).await == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;

    // What would be lost must be known first.
    for dry_run in [true, false] {
        let uncounted = reason(expire(&site, &name, (true, dry_run)).await);
        assert_eq!(uncounted, "VERSION_NOT_COUNTED");
    }
    site.served
        .sql("UPDATE versions SET certain_version = 1, certain_ordinal = 1 WHERE version = 1")
        .await;
    let refused = expire(&site, &name, (false, false)).await;
    assert_eq!(reason(refused), "VERSION_INCOMPLETE");
    let told = expire(&site, &name, (false, true)).await.unwrap();
    assert_eq!(told.incomplete_reason, "it lacks a part");
    assert_eq!(told.freed_volumes, [format!("volumes/{VOLUME}")]);
    assert!(
        told.freed_part_count > 0 && told.lost_file_count > 0,
        "{told:?}"
    );
    assert_eq!(told.waiting_for, "");
    assert_eq!(numbers(&site).await, [1], "nothing was done");
    assert_eq!(expire(&site, &name, (true, false)).await.unwrap(), told);
    assert_eq!(numbers(&site).await, Vec::<u64>::new());
    let free = "SELECT count(*) FROM volumes WHERE freed_at IS NOT NULL";
    within("a free volume", async {
        while site.served.count(free).await == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let gone = "SELECT count(*) FROM versions WHERE pages_gone AND state = 'staged'";
    assert_eq!(site.served.count(gone).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_of_which_no_record_tells_is_named_and_given_up_by_force() {
    let site = Site::new().await;
    let units = site.units().await;
    let name = site.backed_up(&units, "daily").await;
    let incomplete = async || {
        let mut versions = VersionServiceClient::new(site.served.channel(None).await);
        let request = signed(&site.token, ListIncompleteVersionsRequest::default());
        let answer = versions.list_incomplete_versions(request).await;
        answer.unwrap().into_inner().versions
    };
    assert!(incomplete().await.is_empty());
    // As after a rebuild that has met its part, and no closing record.
    for sql in [
        "DELETE FROM version_parts",
        "DELETE FROM versions",
        "UPDATE lines SET head = 0",
        "UPDATE archives SET state = 'unclaimed'",
    ] {
        site.served.sql(sql).await;
    }
    let told = incomplete().await.remove(0);
    assert_eq!((&told.name, told.number), (&name, 1));
    assert_eq!(told.plan, "plans/daily");
    assert!(told.nothing_known && told.start_time.is_none() && !told.archive);
    let parts = format!("parts of it are on {VOLUME}");
    let part = format!("1 part of it is on {VOLUME}");
    let why = &told.reason;
    assert!(why.contains(&parts) || why.contains(&part), "{why}");

    // A later version says that nothing had changed in it.
    let same = "INSERT INTO versions (line_id, version, state, kind, parent, floor, job_id, started_at, rebuilt_at, incomplete_reason) \
                SELECT a.line_id, 2, 'staged', 'incremental', 1, 1, (SELECT min(id) FROM jobs), now(), now(), 'it is as version 1' \
                FROM archives a WHERE a.ordinal = 1";
    site.served.sql(same).await;
    for dry_run in [true, false] {
        let needed = reason(expire(&site, &name, (true, dry_run)).await);
        assert_eq!(needed, "VERSION_NEEDED");
    }
    site.served.sql("DELETE FROM versions").await;

    let refused = expire(&site, &name, (false, false)).await;
    assert_eq!(reason(refused), "VERSION_INCOMPLETE");
    let would = expire(&site, &name, (false, true)).await.unwrap();
    assert_eq!(would.incomplete_reason, told.reason);
    assert!(would.lost_unknown && would.freed_part_count > 0 && would.freed_byte_count > 0);
    assert_eq!(would.freed_volumes, [format!("volumes/{VOLUME}")]);
    assert_eq!(would.waiting_for, "");
    assert_eq!(incomplete().await, [told], "nothing was done");
    assert_eq!(expire(&site, &name, (true, false)).await.unwrap(), would);
    assert!(incomplete().await.is_empty());
    assert_eq!(
        reason(expire(&site, &name, (true, false)).await),
        "RESOURCE_NOT_FOUND"
    );
    vacuum::free_volumes(&site.served.app.store).await.unwrap();
    let free = "SELECT count(*) FROM volumes WHERE freed_at IS NOT NULL";
    assert_eq!(site.served.count(free).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_of_a_plan_are_applied_by_themselves_and_written_down() {
    let site = Site::new().await;
    let units = site.units().await;
    for _ in 0..4 {
        site.backed_up(&units, "daily").await;
    }
    site.served
        .sql("UPDATE versions SET hold_reason = 'x' WHERE version = 1")
        .await;
    let plan = rule(&site, last(2)).await;
    assert_eq!(plan.retention, Some(last(2)));
    within("versions to expire", async {
        while numbers(&site).await != [4, 3, 1] {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let told = "SELECT count(*) FROM audit WHERE actor = 'controller' AND subject LIKE '%/versions/2' \
                AND outcome = 'no rule of its plan keeps it: last 2'";
    assert_eq!(site.served.count(told).await, 1);
    let rows = "SELECT count(*) FROM pages WHERE version = 2";
    within("their rows to go", async {
        while site.served.count(rows).await > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    // Bad rules are refused, each by its field.
    let bad = Retention {
        time_zone: "Atlantis".into(),
        keep_tags: vec!["A B".into()],
        ..last(200_000)
    };
    let request = PreviewRetentionRequest {
        plan: "plans/daily".into(),
        retention: Some(bad),
    };
    let said = client(&site)
        .await
        .preview_retention(signed(&site.token, request))
        .await
        .unwrap_err();
    for field in ["time_zone", "keep_tags", "keep_last"] {
        assert!(
            said.message().contains(field) || format!("{said:?}").contains(field),
            "{said:?}"
        );
    }
}

/// The drive's next work that is more than unloading.
async fn work(units: &Units) -> (AssignmentKey, Work) {
    loop {
        match units.drive.given().await {
            (key, Work::Unload(_)) => {
                units.drive.show_drive(None, Medium::Unloaded, "idle");
                units.drive.finish(key, None);
            }
            given => return given,
        }
    }
}

/// A backup whose drive was given this; gives the version.
async fn back_up(
    site: &Site,
    units: &Units,
    job: &str,
    (key, given): (AssignmentKey, Work),
) -> String {
    let Work::Write(write) = given else {
        panic!("no parts: {given:?}")
    };
    let (source_key, _) = units.source.given().await;
    let done = site.commit(key, &write).await;
    units.source.finish(source_key, Some(Done::Backup(done)));
    units.drive.finish(key, Some(Done::Write(written(1))));
    site.succeeded(job).await.version
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_on_which_nothing_is_needed_is_labelled_anew_when_a_backup_needs_one() {
    let site = Site::configured(Duration::from_secs(15), |config| {
        config.reuse_after = Duration::ZERO;
        config.index_after = Duration::from_hours(1);
    })
    .await;
    site.volume_row(SECOND).await;
    let units = site.units().await;
    units.library.put(vec![
        drive_element(AT_DRIVE, DRIVE, VOLUME, 1000),
        slot(1000, ""),
        slot(1001, SECOND),
    ]);
    units.library.show(&units.robot.unit);
    site.drive_until(|d| !d.library.is_empty()).await;
    let first = site.backed_up(&units, "daily").await;
    let full = |barcode: &str| {
        format!("UPDATE volumes SET state = 'full', index_due = false WHERE barcode = '{barcode}'")
    };
    site.served.sql(&full(VOLUME)).await;
    let job = site.run("daily").await;
    let second = back_up(&site, &units, &job, work(&units).await).await;
    site.served.sql(&full(SECOND)).await;

    // Both are full, and both are needed.
    let needed = site.volume(VOLUME).await;
    assert_eq!(
        (needed.state(), &needed.reuse_reason[..]),
        (VolumeState::Full, "needed by 1 version")
    );
    let job = site.run("daily").await;
    assert_eq!(site.failed(&job).await.reason, "NO_VOLUME");

    expire(&site, &first, (false, false)).await.unwrap();
    within("the volume to be free", async {
        while site.volume(VOLUME).await.free_time.is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let free = site.volume(VOLUME).await;
    assert!(
        free.reuse_reason.starts_with("reusable since "),
        "{}",
        free.reuse_reason
    );
    let end = "SELECT next_block FROM volumes WHERE barcode = 'TAF001L9'";
    let end = site.served.count(end).await;

    let job = site.run("daily").await;
    let (key, given) = work(&units).await;
    let Work::Label(label) = given else {
        panic!("no label: {given:?}")
    };
    let (recording, expired) = (label.recording.unwrap(), label.expired.unwrap());
    assert_eq!(recording.barcode, VOLUME);
    let uuid = |bytes: &[u8]| uuid::Uuid::from_slice(bytes).unwrap().to_string();
    assert_eq!(uuid(&expired.recording_uuid), free.recording_uuid);
    assert_eq!(expired.next_block as i64, end);
    assert_ne!(uuid(&recording.recording_uuid), free.recording_uuid);
    assert!(!label.force, "only what is given up may be there");
    site.waits_for(&job, "labelled anew").await;
    let labelled = LabelDone {
        next_block: 3,
        ..LabelDone::default()
    };
    units.drive.finish(key, Some(Done::Label(labelled)));
    let third = back_up(&site, &units, &job, work(&units).await).await;
    let now = site.volume(VOLUME).await;
    assert_eq!((now.part_count, now.version_count), (1, 1));
    let kept: Vec<String> = site.versions().await.into_iter().map(|v| v.name).collect();
    assert_eq!(kept, [third, second]);
    let told = "SELECT count(*) FROM audit WHERE actor = 'controller' AND subject = 'volumes/TAF001L9' \
                AND outcome LIKE 'nothing on it has been needed since %'";
    assert_eq!(site.served.count(told).await, 1);
}
