//! Operators' jobs from beginning to end: a whole controller with units made up for the test, over real mTLS and a real
//! PostgreSQL.
#![allow(clippy::unwrap_used, missing_docs)]

mod served;
#[path = "units/site.rs"]
mod site;
mod support;
mod units;
#[allow(dead_code)]
#[path = "support/world.rs"]
mod world;

use served::signed;
use site::{AT_DRIVE, DRIVE, Site, VOLUME};
use taf_proto::agent::assignment::Work;
use taf_proto::agent::drive_observation::Medium;
use taf_proto::agent::element::Type;
use taf_proto::agent::result::Done;
use taf_proto::agent::{Element, LabelDone};
use taf_proto::v1::device_service_client::DeviceServiceClient;
use taf_proto::v1::version_service_client::VersionServiceClient;
use taf_proto::v1::volume_service_client::VolumeServiceClient;
use taf_proto::v1::{self, EraseMethod, JobKind, VolumeState};
use tonic::transport::Channel;
use tonic::{Code, Status};
use units::{Library, Robot, Unit, drive_element, slot, within};

const LABELLED: Option<Done> = Some(Done::Label(LabelDone {
    next_block: 3,
    medium_serial: String::new(),
    density: 0,
}));
const MAIL: u32 = 10;

fn mail(barcode: &str) -> Element {
    Element {
        r#type: Type::MailSlot.into(),
        ..slot(MAIL, barcode)
    }
}

fn elements(in_drive: &str, slots: [&str; 3], in_mail: &str) -> Vec<Element> {
    vec![
        drive_element(AT_DRIVE, DRIVE, in_drive, 0),
        slot(1000, slots[0]),
        slot(1001, slots[1]),
        slot(1002, slots[2]),
        mail(in_mail),
    ]
}

/// A site whose library and drive are connected.
struct Place {
    site: Site,
    library: Library,
    robot: Robot,
    drive: Unit,
    devices: DeviceServiceClient<Channel>,
    volumes: VolumeServiceClient<Channel>,
}

impl Place {
    async fn new(elements: Vec<Element>) -> Self {
        let site = Site::new().await;
        let library = Library::new(elements);
        let robot = library.worker(&site.address, &site.tape);
        let drive = site.drive();
        robot.unit.connected().await;
        drive.connected().await;
        site.drive_until(|d| !d.library.is_empty()).await;
        let channel = site.served.channel(None).await;
        Self {
            devices: DeviceServiceClient::new(channel.clone()),
            volumes: VolumeServiceClient::new(channel),
            site,
            library,
            robot,
            drive,
        }
    }

    /// A person changes what is in the library; waits until the controller knows.
    async fn put(&mut self, elements: Vec<Element>) {
        self.library.put(elements.clone());
        self.library.show(&self.robot.unit);
        let wanted: Vec<String> = barcodes(&elements);
        within("the inventory", async {
            loop {
                let shown = self.shown().await;
                let mut now: Vec<String> = shown.slots.iter().map(|s| s.barcode.clone()).collect();
                now.extend(shown.drive_slots.iter().map(|d| d.barcode.clone()));
                now.sort();
                if now == wanted {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    async fn shown(&mut self) -> v1::Library {
        let request = signed(&self.site.token, v1::ListLibrariesRequest::default());
        let answer = self.devices.list_libraries(request).await.unwrap();
        answer.into_inner().libraries.remove(0)
    }

    async fn export(&mut self, barcode: &str) -> String {
        let request = v1::ExportCartridgesRequest {
            barcodes: vec![barcode.into()],
            ..Default::default()
        };
        let request = signed(&self.site.token, request);
        let answer = self.devices.export_cartridges(request).await.unwrap();
        answer.into_inner().carriages.remove(0).job
    }

    fn erase(&self, force: bool, dry_run: bool) -> tonic::Request<v1::EraseVolumeRequest> {
        let request = v1::EraseVolumeRequest {
            name: format!("volumes/{VOLUME}"),
            method: EraseMethod::Quick.into(),
            force,
            dry_run,
            request_id: String::new(),
        };
        signed(&self.site.token, request)
    }

    async fn clean(&mut self) -> Result<String, Status> {
        let request = v1::CleanDriveRequest {
            name: "drives/D1".into(),
            ..Default::default()
        };
        let request = signed(&self.site.token, request);
        Ok(self.devices.clean_drive(request).await?.into_inner().job)
    }

    async fn label_all(&mut self, dry_run: bool) -> Vec<v1::LabelCandidate> {
        let request = v1::LabelVolumesRequest {
            pool: "pools/default".into(),
            dry_run,
            ..Default::default()
        };
        let request = signed(&self.site.token, request);
        let answer = self.volumes.label_volumes(request).await.unwrap();
        answer.into_inner().cartridges
    }
}

/// The stable reason of a refusal.
fn reason(status: &Status) -> String {
    taf_peer::faults::reason_of(status).unwrap().0
}

fn barcodes(elements: &[Element]) -> Vec<String> {
    let mut all: Vec<String> = elements.iter().map(|e| e.barcode.clone()).collect();
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_robot_looks_and_moves_without_a_drive() {
    let mut place = Place::new(elements("", [VOLUME, "", ""], "")).await;
    let request = v1::InventoryLibraryRequest {
        name: "libraries/L1".into(),
        ..Default::default()
    };
    let request = signed(&place.site.token, request);
    let job = place.devices.inventory_library(request).await.unwrap();
    let ended = place.site.succeeded(&job.into_inner().job).await;
    assert_eq!(ended.kind(), JobKind::Inventory);
    assert_eq!(place.library.model.lock().unwrap().scans, 1);

    let carry = |dry_run| v1::MoveCartridgeRequest {
        name: "libraries/L1".into(),
        from_address: 1000,
        to_address: 1002,
        dry_run,
        ..Default::default()
    };
    let request = signed(&place.site.token, carry(true));
    let dry = place.devices.move_cartridge(request).await.unwrap();
    let dry = dry.into_inner();
    let steps = dry.preview.unwrap().steps;
    assert_eq!(
        steps,
        [format!("move {VOLUME} from slot 1000 to slot 1002")]
    );
    assert_eq!(dry.job, "");
    let request = signed(&place.site.token, carry(false));
    let job = place.devices.move_cartridge(request).await.unwrap();
    let ended = place.site.succeeded(&job.into_inner().job).await;
    assert_eq!(ended.drive, "", "it takes no drive");
    assert_eq!(place.library.moves(), [(VOLUME.to_owned(), 1000, 1002)]);
    let request = signed(&place.site.token, carry(false));
    let refused = place.devices.move_cartridge(request).await.unwrap_err();
    assert_eq!(reason(&refused), "ELEMENT_EMPTY");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_waits_for_people_and_what_they_take_is_outside() {
    let mut place = Place::new(elements("", [VOLUME, "OTHER1L9", ""], "")).await;
    let first = place.export(VOLUME).await;
    place.site.succeeded(&first).await;
    assert_eq!(place.library.moves(), [(VOLUME.to_owned(), 1000, MAIL)]);
    let second = place.export("OTHER1L9").await;
    let full = format!("the mail slots of library L1 are full: take out {VOLUME}");
    place.site.waits_for(&second, &full).await;
    // Nobody takes it back for a backup meanwhile.
    let backup = place.site.run("daily").await;
    let _source = place.site.source();
    place.site.waits_for(&backup, "is in a mail slot").await;

    place.put(elements("", ["", "OTHER1L9", ""], "")).await;
    place.site.succeeded(&second).await;
    let volume = place.site.volume(VOLUME).await;
    assert_eq!(volume.location, "");
    assert_eq!(volume.last_location, "libraries/L1/slots/10");
    assert!(volume.last_seen_time.is_some());
    place.site.waits_for(&backup, "is in no library").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_imported_stays_unknown() {
    let mut place = Place::new(elements("", [VOLUME, "", ""], "ALIEN1L9")).await;
    let import = |addresses: Vec<u32>| v1::ImportCartridgesRequest {
        name: "libraries/L1".into(),
        addresses,
        ..Default::default()
    };
    let request = signed(&place.site.token, import(vec![1000]));
    let refused = place.devices.import_cartridges(request).await.unwrap_err();
    assert_eq!(reason(&refused), "NOTHING_TO_IMPORT");
    let request = signed(&place.site.token, import(Vec::new()));
    let answer = place.devices.import_cartridges(request).await.unwrap();
    let carriage = answer.into_inner().carriages.remove(0);
    assert_eq!(carriage.barcode, "ALIEN1L9");
    let job = place.site.succeeded(&carriage.job).await;
    assert_eq!(job.from_address, MAIL);
    let shown = place.shown().await;
    let place_now = shown
        .slots
        .iter()
        .find(|s| s.barcode == "ALIEN1L9")
        .unwrap();
    assert_eq!(place_now.address, 1001);
    assert_eq!(place_now.volume_state(), VolumeState::Unspecified);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_door_pauses_moves_visibly() {
    let mut place = Place::new(elements("", [VOLUME, "", ""], "")).await;
    place.library.model.lock().unwrap().pause = "its door is open".into();
    place.library.show(&place.robot.unit);
    within("the pause", async {
        while place.shown().await.pause.is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    let job = place.export(VOLUME).await;
    place
        .site
        .waits_for(&job, "library L1: its door is open")
        .await;
    assert!(place.library.moves().is_empty());
    place.library.model.lock().unwrap().pause.clear();
    place.library.show(&place.robot.unit);
    place.site.succeeded(&job).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn living_data_is_erased_by_force_only_and_its_versions_are_lost() {
    let mut place = Place::new(elements(VOLUME, ["", "", ""], "")).await;
    let source = place.site.source();
    source.connected().await;
    let job = place.site.run("daily").await;
    let (key, write) = place.drive.given_write().await;
    let (source_key, _) = source.given().await;
    let done = place.site.commit(key, &write).await;
    source.finish(source_key, Some(Done::Backup(done)));
    place.drive.finish(key, None);
    let version = place.site.succeeded(&job).await.version;

    let request = place.erase(false, false);
    let refused = place.volumes.erase_volume(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(reason(&refused), "VOLUME_HAS_PARTS");
    let request = place.erase(true, true);
    let dry = place.volumes.erase_volume(request).await.unwrap();
    let preview = dry.into_inner().preview.unwrap();
    assert_eq!(preview.lost_versions, std::slice::from_ref(&version));
    assert_eq!(preview.steps, [format!("erase {VOLUME}")]);

    let request = place.erase(true, false);
    let job = place.volumes.erase_volume(request).await.unwrap();
    let job = job.into_inner().job;
    let (key, work) = place.drive.given().await;
    let Work::Erase(work) = work else {
        panic!("nothing to erase: {work:?}")
    };
    assert!(work.force);
    assert_eq!(
        work.expired.unwrap().recording_uuid,
        write.recording.unwrap().recording_uuid
    );
    place.drive.finish(key, None);
    place.site.succeeded(&job).await;
    let volume = place.site.volume(VOLUME).await;
    assert_eq!(volume.state(), VolumeState::Unlabelled);
    assert_eq!(volume.part_count, 0);
    let lost = place.site.versions().await.remove(0);
    assert!(lost.lost_reason.contains(VOLUME), "{}", lost.lost_reason);
    let request = v1::RestoreVersionRequest {
        version,
        target: Some(taf_proto::path::from_raw(&b"/restored"[..])),
        ..Default::default()
    };
    let channel = place.site.served.channel(None).await;
    let refused = VersionServiceClient::new(channel)
        .restore_version(signed(&place.site.token, request))
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), "VERSION_LOST");
    let audited = place
        .site
        .served
        .count(&format!(
            "SELECT count(*) FROM audit WHERE action = 'VolumeService.EraseVolume' AND subject = 'volumes/{VOLUME} by force' \
             AND outcome = 'done'"
        ))
        .await;
    assert_eq!(audited, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erase_that_did_not_end_quarantines_the_volume() {
    let mut place = Place::new(elements(VOLUME, ["", "", ""], "")).await;
    let request = place.erase(false, false);
    let job = place.volumes.erase_volume(request).await.unwrap();
    let (key, _) = place.drive.given().await;
    place.drive.fail(key, "ERASE_INCOMPLETE");
    let job = job.into_inner().job;
    assert_eq!(place.site.failed(&job).await.reason, "ERASE_INCOMPLETE");
    let volume = place.site.volume(VOLUME).await;
    assert_eq!(volume.state(), VolumeState::Quarantined);
    let request = place.erase(false, false);
    let refused = place.volumes.erase_volume(request).await.unwrap_err();
    assert_eq!(reason(&refused), "VOLUME_QUARANTINED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_whose_erase_the_catalog_does_not_take_is_quarantined() {
    let mut place = Place::new(elements(VOLUME, ["", "", ""], "")).await;
    let request = place.erase(false, false);
    let job = place.volumes.erase_volume(request).await.unwrap();
    let (key, _) = place.drive.given().await;
    let refuses = "ALTER TABLE volumes ADD CONSTRAINT test_check CHECK (state <> 'unlabelled')";
    place.site.served.sql(refuses).await;
    place.drive.finish(key, None);
    let job = job.into_inner().job;
    assert_eq!(place.site.failed(&job).await.reason, "CATALOG_REFUSED");
    let volume = place.site.volume(VOLUME).await;
    assert_eq!(volume.state(), VolumeState::Quarantined);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drive_is_cleaned_the_use_is_counted_and_the_cartridge_goes_home() {
    let mut place = Place::new(elements("", ["CLN001L1", VOLUME, ""], "")).await;
    let job = place.clean().await.unwrap();
    let (key, work) = place.drive.given().await;
    let Work::Clean(work) = work else {
        panic!("not to be cleaned: {work:?}")
    };
    assert_eq!(work.barcode, "CLN001L1");
    place.drive.show_drive(Some(key), Medium::Empty, "cleaning");
    place.drive.finish(key, None);
    place.site.succeeded(&job).await;
    assert_eq!(
        place.library.moves(),
        [
            ("CLN001L1".to_owned(), 1000, AT_DRIVE),
            ("CLN001L1".to_owned(), AT_DRIVE, 1000)
        ]
    );
    let shown = place.shown().await;
    let cleaner = shown.slots.iter().find(|s| s.cleaning).unwrap();
    assert_eq!((cleaner.address, cleaner.cleanings_left), (1000, 49));

    let job = place.clean().await.unwrap();
    let (key, _) = place.drive.given().await;
    place.drive.fail(key, "CLEANING_EXPIRED");
    assert_eq!(place.site.failed(&job).await.reason, "CLEANING_EXPIRED");
    let job = place.clean().await.unwrap();
    let fault = place.site.failed(&job).await;
    assert_eq!(fault.reason, "NO_CLEANING_CARTRIDGE");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_unknown_is_labelled_and_the_rest_says_why_not() {
    let mut place = Place::new(elements("", ["BLANK1L9", "CLN001L1", VOLUME], "BLANK2L9")).await;
    let said = |cartridges: &[v1::LabelCandidate]| -> Vec<(String, String)> {
        cartridges
            .iter()
            .map(|c| {
                let why = c.refusal.as_ref().map_or("", |r| &r.reason);
                (c.barcode.clone(), why.to_owned())
            })
            .collect()
    };
    let expected = [
        ("BLANK1L9".to_owned(), String::new()),
        ("CLN001L1".to_owned(), "CLEANING_CARTRIDGE".to_owned()),
        (VOLUME.to_owned(), "VOLUME_LABELLED".to_owned()),
    ];
    let dry = place.label_all(true).await;
    assert_eq!(said(&dry), expected);
    assert!(dry.iter().all(|c| c.job.is_empty()));
    let made = place.label_all(false).await;
    assert_eq!(said(&made), expected, "the dry run has left nothing behind");
    let again = place.label_all(false).await;
    assert_eq!(said(&again)[0].1, "VOLUME_LABELLING");
    let (key, recording) = place.drive.given_label().await;
    assert_eq!(recording.barcode, "BLANK1L9");
    place.drive.fail(key, "FOREIGN_VOLUME");
    assert_eq!(
        place.site.failed(&made[0].job).await.reason,
        "FOREIGN_VOLUME"
    );
    // What was found on it stays on it; another fault would be tried again.
    assert_eq!(said(&place.label_all(true).await)[0].1, "FOREIGN_VOLUME");
    let forced = v1::LabelVolumeRequest {
        barcode: "BLANK1L9".into(),
        pool: "pools/default".into(),
        force: true,
        ..Default::default()
    };
    let forced = signed(&place.site.token, forced);
    let job = place.volumes.label_volume(forced).await.unwrap();
    let (key, work) = place.drive.given().await;
    assert!(matches!(work, Work::Label(work) if work.force));
    place.drive.finish(key, LABELLED);
    place.site.succeeded(&job.into_inner().job).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_cartridges_with_one_barcode_are_both_quarantined() {
    let mut place = Place::new(elements("", [VOLUME, VOLUME, "TWIN01L9"], "TWIN01L9")).await;
    let volume = place.site.volume(VOLUME).await;
    assert_eq!(volume.state(), VolumeState::Quarantined);
    assert!(
        volume.state_reason.contains("2 cartridges"),
        "{}",
        volume.state_reason
    );
    let shown = place.shown().await;
    assert_eq!(shown.slots.iter().filter(|s| s.barcode_twice).count(), 4);
    let refusals: Vec<String> = place
        .label_all(true)
        .await
        .into_iter()
        .map(|c| c.refusal.unwrap().reason)
        .collect();
    assert_eq!(refusals, ["BARCODE_TWICE"; 3]);
    let _source = place.site.source();
    let backup = place.site.run("daily").await;
    place.site.waits_for(&backup, "two cartridges").await;
    place.put(elements("", [VOLUME, "", ""], "")).await;
    let volume = place.site.volume(VOLUME).await;
    assert_eq!(volume.state(), VolumeState::Appendable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cartridge_is_reserved_before_it_moves_and_two_jobs_never_fight_for_it() {
    let mut place = Place::new(elements("", [VOLUME, "ALIEN1L9", ""], "")).await;
    place.library.hold(true);
    let load = v1::LoadDriveRequest {
        name: "drives/D1".into(),
        barcode: "ALIEN1L9".into(),
        ..Default::default()
    };
    let request = signed(&place.site.token, load);
    let load = place.devices.load_drive(request).await.unwrap();
    let load = load.into_inner().job;
    place
        .site
        .until(&load, |job| job.state() == v1::JobState::Running)
        .await;
    let held = "SELECT count(*) FROM attempt_volumes WHERE held AND cartridge = 'ALIEN1L9' AND volume_id IS NULL";
    assert_eq!(place.site.served.count(held).await, 1);
    let export = place.export("ALIEN1L9").await;
    place.site.waits_for(&export, "in use by another job").await;
    place.library.hold(false);
    let (key, work) = place.drive.given().await;
    assert!(matches!(work, Work::Load(work) if work.barcode == "ALIEN1L9"));
    place.drive.show_drive(None, Medium::Loaded, "idle");
    place.drive.finish(key, None);
    place.site.succeeded(&load).await;

    // It is in the drive now: the export has that unload it.
    let (key, work) = place.drive.given().await;
    assert!(matches!(work, Work::Unload(_)), "{work:?}");
    place.drive.show_drive(None, Medium::Unloaded, "idle");
    place.drive.finish(key, None);
    place.site.succeeded(&export).await;
    assert_eq!(
        place.library.moves(),
        [
            ("ALIEN1L9".to_owned(), 1001, AT_DRIVE),
            ("ALIEN1L9".to_owned(), AT_DRIVE, MAIL)
        ]
    );
    let unload = v1::UnloadDriveRequest {
        name: "drives/D1".into(),
        ..Default::default()
    };
    let request = signed(&place.site.token, unload);
    let refused = place.devices.unload_drive(request).await.unwrap_err();
    assert_eq!(reason(&refused), "DRIVE_EMPTY");
}
