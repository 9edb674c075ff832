//! Synthetic fulls and their feeds: two jobs that hold a drive each, and stand and fall together. A whole controller with units made
//! up for the test.
#![allow(clippy::unwrap_used, missing_docs)]

mod served;
#[path = "units/site.rs"]
mod site;
mod support;
mod units;
#[allow(dead_code)]
#[path = "support/world.rs"]
mod world;

use site::{AT_DRIVE, DRIVE, Site, Units, VOLUME, written};
use taf_proto::agent::assignment::Work;
use taf_proto::agent::catalog_service_client::CatalogServiceClient;
use taf_proto::agent::drive_observation::Medium;
use taf_proto::agent::result::Done;
use taf_proto::agent::{
    AssignmentKey, BackupDone, Element, FeedWork, FetchPagesRequest, FetchRecallRequest, ReadDone,
    RestoreDone, fetch_recall_response::Message, hello,
};
use taf_proto::v1::{JobState, VersionType};
use units::{Library, Unit, drive_element, drive_unit, slot, within};
use uuid::Uuid;

const SECOND: &str = "TAF002L9";
const THIRD: &str = "TAF003L7";
const OTHER_DRIVE: &str = "D2";

struct Scene {
    site: Site,
    units: Units,
    other: Unit,
}

/// With another volume of the pool, to write on.
async fn scene() -> Scene {
    let scene = scene_of(["drive", "drive"]).await;
    scene.second_volume().await;
    scene
}

/// Two drives, the volume in the first one; a plan with a full and an incremental in which nothing changed.
async fn scene_of(products: [&str; 2]) -> Scene {
    let site = Site::new().await;
    let library = Library::new(elements(false));
    let drive = |serial, product: &str| {
        let hello::Unit::Drive(mut unit) = drive_unit(serial) else {
            panic!("no drive")
        };
        unit.product = product.into();
        let unit = hello::Unit::Drive(unit);
        Unit::start(&site.address, &site.tape, Uuid::new_v4(), unit)
    };
    let other = drive(OTHER_DRIVE, products[1]);
    let units = Units {
        robot: library.worker(&site.address, &site.tape),
        library,
        drive: drive(DRIVE, products[0]),
        source: site.source(),
    };
    for unit in [&units.robot.unit, &units.drive, &other, &units.source] {
        unit.connected().await;
    }
    site.drive_until(|d| d.barcode == VOLUME).await;
    let scene = Scene { site, units, other };
    scene.two_versions("daily").await;
    scene
}

fn elements(second: bool) -> Vec<Element> {
    vec![
        drive_element(AT_DRIVE, DRIVE, VOLUME, 1000),
        drive_element(AT_DRIVE + 1, OTHER_DRIVE, "", 0),
        slot(1000, ""),
        slot(1001, if second { SECOND } else { "" }),
    ]
}

/// A synthetic full under way, of which the feed reads.
struct Begun {
    job: String,
    feed_job: String,
    backup: AssignmentKey,
    feed: AssignmentKey,
    work: FeedWork,
    read: AssignmentKey,
}

impl Scene {
    async fn two_versions(&self, plan: &str) {
        self.site.backed_up(&self.units, plan).await;
        let job = self.site.run_as(plan, VersionType::Incremental).await;
        let (key, _) = self.units.source.given().await;
        let unchanged = BackupDone {
            unchanged: true,
            ..BackupDone::default()
        };
        self.units.source.finish(key, Some(Done::Backup(unchanged)));
        self.site.succeeded(&job).await;
        // Indexes have tests of their own.
        let sql = "UPDATE volumes SET index_due = false";
        self.site.served.sql(sql).await;
    }

    /// There is another volume of the pool.
    async fn second_volume(&self) {
        self.site.volume_row(SECOND).await;
        self.units.library.put(elements(true));
        self.units.library.show(&self.units.robot.unit);
    }

    /// A run whose feed has its volume in place.
    async fn begun(&self) -> Begun {
        let job = self.site.run_as("daily", VersionType::SyntheticFull).await;
        self.reading(job).await
    }

    /// Its feed has its volume in place.
    async fn reading(&self, job: String) -> Begun {
        let source = &self.units.source;
        let (backup, Work::Backup(work)) = source.given().await else {
            panic!("no backup")
        };
        assert!(work.synthetic && work.worker.is_none() && work.base.is_none());
        let (read, Work::Read(_)) = self.units.drive.given().await else {
            panic!("nothing is read")
        };
        self.units.drive.show_drive(None, Medium::Loaded, "reading");
        let (feed, Work::Feed(work)) = source.given().await else {
            panic!("no feed")
        };
        let shown = self.site.job(&job).await;
        assert_eq!(shown.follow_up_jobs.len(), 1, "{shown:#?}");
        Begun {
            job,
            feed_job: shown.follow_up_jobs[0].clone(),
            backup,
            feed,
            work,
            read,
        }
    }

    /// The drive that reads ends what was withdrawn.
    async fn stop_reading(&self, begun: &Begun) {
        self.units.drive.withdrawn(&begun.read).await;
        self.units.drive.fail(begun.read, "STOPPED");
    }

    async fn state(&self, job: &str) -> JobState {
        self.site.ended(job).await.state()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_drive_reads_and_another_one_writes_to_another_volume() {
    let scene = scene().await;
    let begun = scene.begun().await;
    assert_eq!(begun.work.backup_attempt, begun.backup.attempt);
    assert_eq!(begun.work.streamed_archive, 1);
    assert_eq!(begun.work.spool_byte_count, 0);
    let channel = scene.site.served.channel(Some(&scene.site.files)).await;
    let mut catalog = CatalogServiceClient::new(channel);
    let key = Some(begun.feed);
    let pages = catalog.fetch_pages(FetchPagesRequest { key }).await;
    let mut pages = pages.unwrap().into_inner();
    let mut chunks = Vec::new();
    while let Some(message) = pages.message().await.unwrap() {
        chunks.extend(message.pages.into_iter().map(|page| page.chunk));
    }
    assert!(chunks.len() == 3 && chunks.is_sorted(), "{chunks:?}");
    // What is streamed and what is spooled is everything, and nothing twice.
    let mut counts = Vec::new();
    for without_archive in [false, true] {
        let request = FetchRecallRequest {
            key,
            archive_ordinal: 1,
            without_archive,
            ..FetchRecallRequest::default()
        };
        let mut stream = catalog.fetch_recall(request).await.unwrap().into_inner();
        let (mut parts, mut items) = (0, 0);
        while let Some(message) = stream.message().await.unwrap() {
            match message.message.unwrap() {
                Message::Part(_) => parts += 1,
                Message::Lacks(_) => panic!("the version is whole"),
                Message::Items(some) => items += some.items.len(),
            }
        }
        counts.push((parts, items > 0));
    }
    assert_eq!(counts, [(1, true), (0, false)]);

    // There is room on the volume that is read, and nobody writes there.
    let asked = scene.site.claim(begun.backup).await.unwrap_err();
    assert_eq!(asked.code(), tonic::Code::Unavailable);
    let (write, work) = scene.other.given_write().await;
    assert_eq!(work.recording.as_ref().unwrap().barcode, SECOND);
    let done = scene.site.commit(write, &work).await;
    let restored = Done::Restore(RestoreDone::default());
    scene.units.source.finish(begun.feed, Some(restored));
    scene
        .units
        .source
        .finish(begun.backup, Some(Done::Backup(done)));
    scene.other.finish(write, Some(Done::Write(written(1))));
    scene.site.succeeded(&begun.job).await;
    scene.stop_reading(&begun).await;
    scene.site.succeeded(&begun.feed_job).await;
    let version = scene.site.versions().await.remove(0);
    assert_eq!(version.r#type(), VersionType::SyntheticFull);
    assert_eq!((version.number, version.full_number), (3, 3));
    assert_eq!(version.volumes, [format!("volumes/{SECOND}")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_fails_for_the_reason_of_its_feed_and_a_feed_ends_with_its_backup() {
    let scene = scene().await;
    let begun = scene.begun().await;
    // What the source agent says of the backup says nothing of the cause, and comes first.
    scene.units.source.fail(begun.backup, "OTHER_STREAM");
    scene.units.source.acknowledged(&begun.backup).await;
    scene.units.source.fail(begun.feed, "PEER_LOST");
    scene.units.drive.fail(begun.read, "READ_ERROR");
    let fault = scene.site.failed(&begun.job).await;
    assert_eq!(fault.reason, "READ_ERROR");
    assert!(fault.message.contains("put together"), "{}", fault.message);
    assert_eq!(scene.state(&begun.feed_job).await, JobState::Failed);
    assert_eq!(scene.site.versions().await.len(), 2);

    let begun = scene.begun().await;
    scene.site.cancel(&begun.job).await.unwrap();
    scene.stop_reading(&begun).await;
    assert_eq!(scene.state(&begun.job).await, JobState::Cancelled);
    assert_eq!(scene.state(&begun.feed_job).await, JobState::Cancelled);

    let begun = scene.begun().await;
    scene.site.cancel(&begun.feed_job).await.unwrap();
    scene.stop_reading(&begun).await;
    assert_eq!(scene.state(&begun.feed_job).await, JobState::Cancelled);
    assert_eq!(scene.site.failed(&begun.job).await.reason, "FEED_CANCELLED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_one_waits_until_the_first_reads_no_more() {
    let scene = scene().await;
    for plan in ["weekly", "third"] {
        scene.site.plan(plan).await;
        scene.two_versions(plan).await;
    }
    let begun = scene.begun().await;
    let second = scene
        .site
        .run_as("weekly", VersionType::SyntheticFull)
        .await;
    let (key, Work::Backup(_)) = scene.units.source.given().await else {
        panic!("no backup")
    };
    let feed = scene.site.job(&second).await.follow_up_jobs.remove(0);
    scene.site.waits_for(&feed, "another synthetic full").await;
    // Who looks at the backup is told.
    let told = scene.site.job(&second).await.waiting_for;
    assert!(told.contains("another synthetic full"), "{told}");
    // To be cancelled it need not wait.
    let third = scene.site.run_as("third", VersionType::SyntheticFull).await;
    let cancelled = scene.site.job(&third).await.follow_up_jobs.remove(0);
    scene
        .site
        .waits_for(&cancelled, "another synthetic full")
        .await;
    scene.site.cancel(&cancelled).await.unwrap();
    assert_eq!(scene.state(&cancelled).await, JobState::Cancelled);
    assert_eq!(scene.site.failed(&third).await.reason, "FEED_CANCELLED");
    scene.site.cancel(&begun.job).await.unwrap();
    scene.stop_reading(&begun).await;
    let given = within("the second feed", scene.units.source.given()).await;
    let (_, Work::Feed(work)) = given else {
        panic!("no feed")
    };
    assert_eq!(work.backup_attempt, key.attempt);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_the_newest_any_more_is_not_copied() {
    let scene = scene().await;
    let served = &scene.site.served;
    // It waits until the catalog is trusted; meanwhile a rebuild has met a newer version.
    distrusted(&scene).await;
    let job = scene.site.run_as("daily", VersionType::SyntheticFull).await;
    let waits = |job: &taf_proto::v1::Job| job.waiting_for.contains("older than the tapes");
    scene.site.until(&job, waits).await;
    served.sql("UPDATE lines SET head = head + 1").await;
    served.sql("UPDATE volumes SET suspect_since = NULL").await;
    let fault = scene.site.failed(&job).await;
    assert_eq!(fault.reason, "VERSION_CHANGED", "{fault:?}");
}

/// Nothing begins for as long as this is so.
async fn distrusted(scene: &Scene) {
    let served = &scene.site.served;
    served.sql("UPDATE volumes SET suspect_since = now()").await;
    let distrust = "UPDATE installation SET distrusted_at = now(), distrust_reason = 'a test'";
    served.sql(distrust).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_where_it_was_is_not_written_there_though_it_was_copied_meanwhile() {
    let scene = scene().await;
    distrusted(&scene).await;
    let job = scene.site.run_as("daily", VersionType::SyntheticFull).await;
    // A reclaiming that is cancelled then leaves the old volume to be appended to, and it is the fullest.
    let moved = format!(
        "UPDATE parts SET moved_at = clock_timestamp(), former_recording = parts.recording_uuid, former_tape_file = tape_file, \
         former_first_block = first_block, former_byte_count = parts.byte_count, volume_id = v.id, recording_uuid = v.recording_uuid, \
         copy_number = 1 FROM volumes AS v WHERE v.barcode = '{SECOND}'; UPDATE volumes SET suspect_since = NULL"
    );
    scene.site.served.sql(&moved).await;
    let begun = scene.reading(job).await;
    scene.site.claim(begun.backup).await.unwrap_err();
    let given = within("a volume to write on", scene.other.given_write()).await;
    assert_eq!(given.1.recording.unwrap().barcode, SECOND);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_volume_to_write_on_nothing_is_read() {
    let scene = scene_of(["drive", "drive"]).await;
    let job = scene.site.run_as("daily", VersionType::SyntheticFull).await;
    let feed = scene.site.job(&job).await.follow_up_jobs.remove(0);
    for job in [&feed, &job] {
        let fault = scene.site.failed(job).await;
        assert_eq!(fault.reason, "NO_VOLUME", "{fault:?}");
        assert!(fault.next_step.contains("taf volume label"), "{fault:?}");
    }
    assert_eq!(scene.site.job(&feed).await.start_time, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_whose_drive_has_become_the_only_one_to_write_in_ends_with_its_backup() {
    let scene = scene().await;
    let begun = scene.begun().await;
    let change = async |to: &str| {
        let sql = format!("UPDATE drives SET {to} WHERE serial = '{OTHER_DRIVE}'");
        scene.site.served.sql(&sql).await;
    };
    change("down_reason = 'a test', down_at = now()").await;
    let asked = scene.site.claim(begun.backup).await.unwrap_err();
    assert_eq!(asked.code(), tonic::Code::Unavailable);
    scene.stop_reading(&begun).await;
    for job in [&begun.feed_job, &begun.job] {
        let fault = scene.site.failed(job).await;
        assert_eq!(fault.reason, "TWO_DRIVES_NEEDED", "{fault:?}");
        assert!(fault.message.contains("drive D1"), "{fault:?}");
    }
    scene.units.source.withdrawn(&begun.backup).await;
    // Nothing is held, and the next one begins.
    change("down_reason = NULL, down_at = NULL").await;
    scene.begun().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_does_not_take_the_only_drive_that_its_backup_could_write_in() {
    let scene = scene().await;
    let Scene { site, units, other } = scene;
    let Units {
        source,
        library: _library,
        robot: _robot,
        drive: _drive,
    } = units;
    drop(source);
    within("the source agent's end", async {
        let sql = "SELECT count(*) FROM agents WHERE connected AND agent_name = 'files'";
        while site.served.count(sql).await > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    let job = site.run_as("daily", VersionType::SyntheticFull).await;
    let feed = site.job(&job).await.follow_up_jobs.remove(0);
    // There were two when it was asked for.
    let down = "UPDATE drives SET down_reason = 'a test', down_at = now() WHERE serial = 'D2'";
    site.served.sql(down).await;
    site.waits_for(&feed, "source agent files").await;
    let source = site.source();
    source.connected().await;
    let fault = site.failed(&feed).await;
    assert_eq!(fault.reason, "TWO_DRIVES_NEEDED", "{fault:?}");
    assert!(fault.message.contains("only drive D1"), "{fault:?}");
    assert_eq!(site.failed(&job).await.reason, "TWO_DRIVES_NEEDED");
    drop(other);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_waits_for_a_second_drive_that_is_only_away() {
    let scene = scene().await;
    let Scene { site, units, other } = scene;
    drop(other);
    within("the other drive's end", async {
        let sql = "SELECT count(*) FROM drives WHERE connected AND serial = 'D2'";
        while site.served.count(sql).await > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    let begin = async || {
        let job = site.run_as("daily", VersionType::SyntheticFull).await;
        let feed = site.job(&job).await.follow_up_jobs.remove(0);
        site.waits_for(&feed, "D2 is not connected").await;
        (job, feed)
    };
    // Meanwhile it can be cancelled, and ends with its backup.
    let (job, feed) = begin().await;
    site.cancel(&feed).await.unwrap();
    assert_eq!(site.ended(&feed).await.state(), JobState::Cancelled);
    assert_eq!(site.failed(&job).await.reason, "FEED_CANCELLED");
    let (job, feed) = begin().await;
    site.cancel(&job).await.unwrap();
    assert_eq!(site.ended(&job).await.state(), JobState::Cancelled);
    assert_eq!(site.ended(&feed).await.state(), JobState::Cancelled);
    begin().await;
    let unit = drive_unit(OTHER_DRIVE);
    let _back = Unit::start(&site.address, &site.tape, Uuid::new_v4(), unit);
    let (_, work) = units.drive.given().await;
    assert!(matches!(work, Work::Read(_)), "{work:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_leaves_the_only_drive_to_write_in_until_its_backup_has_one() {
    // Both drives read LTO-8, and only the first one writes LTO-9.
    let scene = scene_of(["ULTRIUM-HH9", "ULTRIUM-HH8"]).await;
    let Scene { site, units, other } = &scene;
    site.served.sql("UPDATE volumes SET density = 94").await;
    site.volume_row(SECOND).await;
    units.library.put(vec![
        drive_element(AT_DRIVE, DRIVE, "", 0),
        drive_element(AT_DRIVE + 1, OTHER_DRIVE, "", 0),
        slot(1000, VOLUME),
        slot(1001, SECOND),
    ]);
    units.library.show(&units.robot.unit);
    site.drive_until(|d| d.name.ends_with(DRIVE) && d.barcode.is_empty())
        .await;
    site.run_as("daily", VersionType::SyntheticFull).await;
    let (backup, _) = units.source.given().await;
    let (read, work) = other.given().await;
    assert!(matches!(work, Work::Read(_)), "{work:?}");
    other.show_drive(None, Medium::Loaded, "reading");
    let (_, work) = units.source.given().await;
    assert!(matches!(work, Work::Feed(_)), "{work:?}");
    site.claim(backup).await.unwrap_err();
    let (_, work) = units.drive.given_write().await;
    assert_eq!(work.recording.unwrap().barcode, SECOND);

    // What else could be written now could be only in the feed's own drive. The backup has one, and the feed keeps that.
    site.volume_row(THIRD).await;
    let mut elements = units.library.model.lock().unwrap().elements.clone();
    elements.push(slot(1002, THIRD));
    units.library.put(elements);
    units.library.show(&units.robot.unit);
    let shown = format!("SELECT count(*) FROM elements WHERE barcode = '{THIRD}'");
    within("the third volume", async {
        while site.served.count(&shown).await == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    let recording: Uuid = site.volume(VOLUME).await.recording_uuid.parse().unwrap();
    let again = ReadDone {
        next_recording_uuid: recording.as_bytes().to_vec().into(),
    };
    other.finish(read, Some(Done::Read(again)));
    let (_, work) = other.given().await;
    assert!(matches!(work, Work::Read(_)), "{work:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_waits_for_a_volume_keeps_no_other() {
    let scene = scene_of(["drive", "drive"]).await;
    // One to write on.
    scene.site.volume_row(THIRD).await;
    let mut elements = elements(false);
    elements.push(slot(1002, THIRD));
    scene.units.library.put(elements);
    scene.units.library.show(&scene.units.robot.unit);
    scene.site.plan("weekly").await;
    scene.two_versions("weekly").await;
    let served = &scene.site.served;
    scene.site.volume_row(SECOND).await;
    // The first one's volume is nowhere: it is held until the row says so.
    distrusted(&scene).await;
    let first = scene.site.run_as("daily", VersionType::SyntheticFull).await;
    let feed = scene.site.job(&first).await.follow_up_jobs.remove(0);
    let away = format!(
        "UPDATE jobs SET volume_id = (SELECT id FROM volumes WHERE barcode = '{SECOND}') WHERE kind = 'feed'"
    );
    served.sql(&away).await;
    let second = scene
        .site
        .run_as("weekly", VersionType::SyntheticFull)
        .await;
    served.sql("UPDATE volumes SET suspect_since = NULL").await;
    let mut backups = Vec::new();
    let work = loop {
        match within("the second feed", scene.units.source.given()).await {
            (key, Work::Backup(_)) => backups.push(key.attempt),
            (_, Work::Feed(work)) => break work,
            (_, other) => panic!("{other:?}"),
        }
    };
    assert!(backups.contains(&work.backup_attempt));
    assert_eq!(scene.site.job(&feed).await.state(), JobState::Queued);
    let reads = scene.site.job(&second).await.follow_up_jobs.remove(0);
    assert_eq!(scene.site.job(&reads).await.state(), JobState::Running);
}
