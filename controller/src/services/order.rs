//! What operators order of drives and libraries: checked against the catalog and made into jobs, one for each cartridge. For a
//! dry run the same is done, looked at, and undone.

use prost::Message;
use taf_core::Fault;
use taf_proto::v1;
use tonic::Status;
use uuid::Uuid;

use super::mutation::Mutation;
use super::{names, reuse, status};
use crate::app::App;
use crate::reconcile::{self, Outlook};
use crate::session::Registry;
use crate::store::attempts::Task;
use crate::store::drives::{self, DriveRow};
use crate::store::jobs::{self, NewTask};
use crate::store::libraries::{self, ElementRow, LibraryRow};
use crate::store::reuse::{self as needed, Held};
use crate::store::trust::{self, Trust};
use crate::store::volumes::{self, VolumeRow};
use crate::store::{self, Transaction, cleaning, versions};

/// More devices than any installation has.
const ALL: i64 = 10_000;

/// An order, its names read.
#[derive(Debug, Clone)]
pub enum Order<'a> {
    /// Make a cartridge blank.
    Erase {
        barcode: &'a str,
        format: bool,
        thorough: bool,
        force: bool,
    },
    /// Compare a volume with the catalog.
    Inspect { barcode: &'a str },
    /// Take what is on a cartridge into the catalog.
    Rescan { barcode: &'a str },
    /// Bring a cartridge into a drive, or thread what is in it.
    Load {
        drive: &'a str,
        barcode: Option<&'a str>,
    },
    /// Take out what is in a drive.
    Unload { drive: &'a str },
    /// Rewind what is in a drive.
    Rewind { drive: &'a str },
    /// Clean a drive.
    Clean {
        drive: &'a str,
        barcode: Option<&'a str>,
    },
    /// Look at all elements anew.
    Inventory { library: &'a str },
    /// Carry what is in one element to another.
    Move {
        library: &'a str,
        from: u32,
        to: u32,
    },
    /// Bring in what is in mail slots.
    Import {
        library: &'a str,
        addresses: &'a [u32],
    },
    /// Bring cartridges into mail slots.
    Export { barcodes: &'a [String] },
}

/// A job that was made, or would be.
#[derive(Debug, Clone, Default)]
pub struct Made {
    /// Its row; none if all is done without one.
    pub job: Option<i64>,
    /// The cartridge.
    pub barcode: String,
    /// Where that is, as a resource name.
    pub location: String,
    /// Versions that would be lost.
    pub lost: Vec<(i64, i64)>,
    /// Of a dry run.
    pub outlook: Option<Outlook>,
}

impl Made {
    /// The job's name; empty for a dry run, and where there is none.
    pub fn job(&self) -> String {
        match (&self.outlook, self.job) {
            (None, Some(job)) => names::job(job),
            _ => String::new(),
        }
    }

    /// The preview of a dry run.
    pub fn preview(&self) -> Option<v1::Preview> {
        let outlook = self.outlook.as_ref()?;
        Some(v1::Preview {
            steps: outlook.steps.clone(),
            waiting_for: outlook.waiting_for.clone().unwrap_or_default(),
            lost_versions: self
                .lost
                .iter()
                .map(|(line, version)| names::version(*line, *version))
                .collect(),
        })
    }
}

/// Carries out an order, or with `dry_run` only says what would come of it. `answer` makes the RPC's answer.
pub async fn carry_out<A: Message + Default>(
    app: &App,
    registry: &Registry,
    mutation: &Mutation,
    order: &Order<'_>,
    dry_run: bool,
    answer: impl Fn(&[Made]) -> A + Send,
) -> Result<A, Status> {
    let mut client = app.store.client().await?;
    let tx = client.transaction().await.map_err(store::Error::from)?;
    if !dry_run && let Some(answer) = mutation.begin_on(&tx).await? {
        return Ok(answer);
    }
    let mut made = order_on(&tx, order, mutation.actor()).await?;
    if dry_run {
        for one in &mut made {
            let Some(job) = one.job else { continue };
            let outlook = reconcile::outlook_on(&tx, job).await?;
            if let Some(fault) = &outlook.fault {
                return Err(refused(fault));
            }
            one.outlook = Some(outlook);
        }
        // Dropped without a commit, so nothing was done.
        return Ok(answer(&made));
    }
    let answer = answer(&made);
    mutation.finish_on(&tx, &answer).await?;
    tx.commit().await.map_err(store::Error::from)?;
    registry.wake();
    Ok(answer)
}

/// A fault of the core as the answer to a request.
pub fn refused(fault: &Fault) -> Status {
    status::precondition(
        &fault.reason,
        format!("{}: {}", fault.message, fault.next_step),
    )
}

async fn order_on(
    tx: &Transaction<'_>,
    order: &Order<'_>,
    actor: &str,
) -> Result<Vec<Made>, Status> {
    match *order {
        Order::Erase {
            barcode,
            format,
            thorough,
            force,
        } => erase_on(tx, barcode, (format, thorough, force), actor).await,
        Order::Inspect { barcode } => inspect_on(tx, barcode, actor).await,
        Order::Rescan { barcode } => rescan_on(tx, barcode, actor).await,
        Order::Load { drive, barcode } => load_on(tx, drive, barcode, actor).await,
        Order::Unload { drive } => unload_on(tx, drive, actor).await,
        Order::Rewind { drive } => {
            let drive = drive_on(tx, drive).await?;
            let new = NewTask {
                kind: "drive-rewind",
                drive_id: Some(drive.id),
                ..NewTask::default()
            };
            one_on(tx, &new, Made::default(), actor).await
        }
        Order::Clean { drive, barcode } => clean_on(tx, drive, barcode, actor).await,
        Order::Inventory { library } => {
            let (library, _) = library_on(tx, library).await?;
            let new = NewTask {
                kind: "inventory",
                library_id: Some(library.id),
                ..NewTask::default()
            };
            one_on(tx, &new, Made::default(), actor).await
        }
        Order::Move { library, from, to } => move_on(tx, library, (from, to), actor).await,
        Order::Import { library, addresses } => import_on(tx, library, addresses, actor).await,
        Order::Export { barcodes } => export_on(tx, barcodes, actor).await,
    }
}

/// Adds the one job of an order.
async fn one_on(
    tx: &Transaction<'_>,
    new: &NewTask<'_>,
    made: Made,
    actor: &str,
) -> Result<Vec<Made>, Status> {
    let job = jobs::job_create_task_on(tx, new, actor).await?;
    Ok(vec![Made {
        job: Some(job),
        ..made
    }])
}

/// Adds the one job of an order about a drive and, if one is named, a cartridge.
async fn with_cartridge_on(
    tx: &Transaction<'_>,
    kind: &'static str,
    drive: i64,
    barcode: Option<&str>,
    actor: &str,
) -> Result<Vec<Made>, Status> {
    let new = NewTask {
        kind,
        drive_id: Some(drive),
        cartridge: barcode,
        ..NewTask::default()
    };
    let made = Made {
        barcode: barcode.unwrap_or_default().to_owned(),
        ..Made::default()
    };
    one_on(tx, &new, made, actor).await
}

async fn drive_on(tx: &Transaction<'_>, serial: &str) -> Result<DriveRow, Status> {
    let drive = drives::drive_get(tx, serial).await?;
    drive.ok_or_else(|| status::not_found(&names::drive(serial)))
}

async fn library_on(
    tx: &Transaction<'_>,
    serial: &str,
) -> Result<(LibraryRow, Vec<ElementRow>), Status> {
    let libraries = libraries::library_list(tx, "", ALL).await?;
    let library = libraries
        .into_iter()
        .find(|l| l.serial == serial)
        .ok_or_else(|| status::not_found(&names::library(serial)))?;
    let elements = libraries::library_elements(tx, library.id).await?;
    Ok((library, elements))
}

/// Whether a cartridge is one for cleaning, and how often it can still be used.
pub async fn cleanings_left_on(tx: &Transaction<'_>, barcode: &str) -> Result<Option<u32>, Status> {
    let known = cleaning::cleaning_list(tx).await?.get(barcode).copied();
    Ok(known.or_else(|| cleaning::is_cleaning(barcode).then_some(cleaning::USES)))
}

/// A cartridge that data is to be written to, or that is to be read, must not be one for cleaning.
pub async fn for_data_on(tx: &Transaction<'_>, barcode: &str) -> Result<(), Status> {
    if cleanings_left_on(tx, barcode).await?.is_some() {
        return Err(status::precondition(
            "CLEANING_CARTRIDGE",
            format!("{barcode} is a cleaning cartridge: taf drive clean DRIVE uses it"),
        ));
    }
    Ok(())
}

/// A cartridge must be in a library.
pub async fn is_inside_on(tx: &Transaction<'_>, barcode: &str) -> Result<(), Status> {
    if libraries::library_holds(tx, barcode).await? {
        return Ok(());
    }
    Err(status::precondition(
        "CARTRIDGE_NOT_IN_LIBRARY",
        format!("no library shows a cartridge {barcode}: `taf library` shows what is in the slots"),
    ))
}

/// While the catalog is not trusted, nobody can say that a cartridge is free.
pub async fn is_catalog_trusted_on(tx: &Transaction<'_>) -> Result<(), Status> {
    let known = trust::trust_get(tx).await?;
    match known.as_ref().and_then(Trust::reason) {
        None => Ok(()),
        Some(why) => Err(status::precondition(
            "CATALOG_DISTRUSTED",
            format!(
                "the catalog may be older than the tapes ({why}): inspect the volumes first with `taf volume inspect --all`, or use --force"
            ),
        )),
    }
}

/// The same of one cartridge, which may have to be inspected although the catalog is trusted.
pub async fn is_trusted_on(tx: &Transaction<'_>, barcode: &str) -> Result<(), Status> {
    is_catalog_trusted_on(tx).await?;
    let volume = volumes::volume_get(tx, barcode).await?;
    if volume.is_some_and(|volume| volume.suspect_since.is_some()) {
        return Err(status::precondition(
            "VOLUME_SUSPECT",
            format!(
                "volume {barcode} may hold something else than the catalog says: inspect it first with `taf volume inspect {barcode}`, or use --force"
            ),
        ));
    }
    Ok(())
}

async fn erase_on(
    tx: &Transaction<'_>,
    barcode: &str,
    (format, thorough, force): (bool, bool, bool),
    actor: &str,
) -> Result<Vec<Made>, Status> {
    let volume = volumes::volume_get(tx, barcode).await?;
    match &volume {
        Some(volume) if !format && is_gone(volume) => return give_up_on(tx, volume, force).await,
        _ => is_inside_on(tx, barcode).await?,
    }
    for_data_on(tx, barcode).await?;
    if !force {
        is_trusted_on(tx, barcode).await?;
    }
    if let Some(job) =
        jobs::job_active_about_on(tx, &["erase", "format", "label"], Some(barcode), None).await?
    {
        return Err(status::precondition(
            "VOLUME_BUSY",
            format!(
                "{} is about to write {barcode} from its beginning: wait for it, or cancel it",
                names::job(job)
            ),
        ));
    }
    let mut lost = Vec::new();
    if let Some(volume) = &volume {
        lost = volumes::volume_living_on(tx, volume.id).await?.versions;
        if !force {
            let recording = volume.recording_uuid;
            let held = needed::recordings_held(tx, &[recording]).await?;
            if let Some(why) = keeps(volume, &lost, held.get(&recording)) {
                return Err(why);
            }
        }
    }
    let new = NewTask {
        kind: if format { "format" } else { "erase" },
        volume_id: volume.map(|v| v.id),
        cartridge: Some(barcode),
        task: Task {
            thorough,
            forced: force,
            ..Task::default()
        },
        ..NewTask::default()
    };
    let made = Made {
        barcode: barcode.to_owned(),
        lost,
        ..Made::default()
    };
    one_on(tx, &new, made, actor).await
}

/// Whether a living volume is nowhere, as far as is known.
fn is_gone(volume: &VolumeRow) -> bool {
    volume.library_id.is_none()
        && volume.reserved_by.is_none()
        && !matches!(volume.state.as_str(), "labelling" | "unlabelled")
}

/// A volume is lost, or was destroyed: what the catalog has of it is not there any more. If it turns up all the same, it is taken in
/// like a cartridge that the catalog does not know.
async fn give_up_on(
    tx: &Transaction<'_>,
    volume: &VolumeRow,
    force: bool,
) -> Result<Vec<Made>, Status> {
    let barcode = &volume.barcode;
    if !force {
        return Err(status::precondition(
            "CARTRIDGE_NOT_IN_LIBRARY",
            format!(
                "no library shows volume {barcode}: put it into a slot; if it is lost, `taf volume erase {barcode} --force` gives up what is on it"
            ),
        ));
    }
    let living = volumes::volume_living_on(tx, volume.id).await?;
    let gone = format!("volume {barcode} was given up as lost");
    versions::version_lost_on(tx, living.recording, &gone).await?;
    let reason = "given up as lost, while no library showed it";
    volumes::volume_erased_on(tx, volume.id, Uuid::new_v4(), reason).await?;
    jobs::job_cancel_of_volume_on(tx, volume.id).await?;
    let step = format!("give up volume {barcode}, which no library shows, and all that is on it");
    Ok(vec![Made {
        job: None,
        barcode: barcode.clone(),
        lost: living.versions,
        outlook: Some(Outlook {
            steps: vec![step],
            ..Outlook::default()
        }),
        ..Made::default()
    }])
}

async fn inspect_on(tx: &Transaction<'_>, barcode: &str, actor: &str) -> Result<Vec<Made>, Status> {
    let volume = volumes::volume_get(tx, barcode).await?;
    let volume = volume.ok_or_else(|| status::not_found(&names::volume(barcode)))?;
    let kinds = ["inspect", "erase", "format", "label"];
    if let Some(job) = jobs::job_active_about_on(tx, &kinds, Some(barcode), None).await? {
        return Err(status::precondition(
            "VOLUME_BUSY",
            format!(
                "{} inspects or writes {barcode} already: wait for it",
                names::job(job)
            ),
        ));
    }
    let new = NewTask {
        kind: "inspect",
        volume_id: Some(volume.id),
        ..NewTask::default()
    };
    let made = Made {
        barcode: barcode.to_owned(),
        ..Made::default()
    };
    one_on(tx, &new, made, actor).await
}

async fn rescan_on(tx: &Transaction<'_>, barcode: &str, actor: &str) -> Result<Vec<Made>, Status> {
    is_inside_on(tx, barcode).await?;
    for_data_on(tx, barcode).await?;
    let kinds = ["rescan", "erase", "format", "label"];
    if let Some(job) = jobs::job_active_about_on(tx, &kinds, Some(barcode), None).await? {
        return Err(status::precondition(
            "VOLUME_BUSY",
            format!(
                "{} reads or writes all of {barcode} already: wait for it",
                names::job(job)
            ),
        ));
    }
    let volume = volumes::volume_get(tx, barcode).await?;
    let new = NewTask {
        kind: "rescan",
        volume_id: volume.map(|volume| volume.id),
        cartridge: Some(barcode),
        ..NewTask::default()
    };
    let made = Made {
        barcode: barcode.to_owned(),
        ..Made::default()
    };
    one_on(tx, &new, made, actor).await
}

/// Why a volume is not erased without force.
fn keeps(volume: &VolumeRow, living: &[(i64, i64)], held: Option<&Held>) -> Option<Status> {
    let barcode = &volume.barcode;
    if let Some((line, version)) = living.first() {
        return Some(status::precondition(
            "VOLUME_HAS_PARTS",
            format!(
                "volume {barcode} holds parts of {} versions, {} among them: choose another, or give them up with --force",
                living.len(),
                names::version(*line, *version)
            ),
        ));
    }
    if let Some(kept) = held.and_then(|held| reuse::kept(barcode, held)) {
        let reuse::Kept { reason, what, next } = kept;
        let message = format!("volume {barcode} is not erased: {what}: {next}");
        return Some(status::precondition(reason, message));
    }
    (volume.state == "quarantined").then(|| {
        status::precondition(
            "VOLUME_QUARANTINED",
            format!(
                "volume {barcode} is quarantined ({}): look at it with `taf volume show {barcode}`; only --force erases it",
                volume.state_reason.as_deref().unwrap_or("no reason is known")
            ),
        )
    })
}

async fn load_on(
    tx: &Transaction<'_>,
    drive: &str,
    barcode: Option<&str>,
    actor: &str,
) -> Result<Vec<Made>, Status> {
    let drive = drive_on(tx, drive).await?;
    if let Some(barcode) = barcode {
        is_inside_on(tx, barcode).await?;
        for_data_on(tx, barcode).await?;
    } else if drive.library.is_some() && !drive.full {
        return Err(empty(&drive));
    }
    with_cartridge_on(tx, "drive-load", drive.id, barcode, actor).await
}

fn empty(drive: &DriveRow) -> Status {
    status::precondition(
        "DRIVE_EMPTY",
        format!(
            "there is no cartridge in drive {}: load one with `taf drive load {} BARCODE`",
            drive.serial, drive.serial
        ),
    )
}

async fn unload_on(tx: &Transaction<'_>, drive: &str, actor: &str) -> Result<Vec<Made>, Status> {
    let drive = drive_on(tx, drive).await?;
    let mut new = NewTask {
        kind: "drive-unload",
        drive_id: Some(drive.id),
        ..NewTask::default()
    };
    let mut made = Made::default();
    if let Some((id, ..)) = &drive.library {
        if !drive.full {
            return Err(empty(&drive));
        }
        let elements = libraries::library_elements(tx, *id).await?;
        let inside = elements
            .iter()
            .find(|e| e.drive_serial.as_deref() == Some(drive.serial.as_str()));
        new.task.from_address = inside.map(|e| e.address);
        made.barcode = inside.and_then(|e| e.barcode.clone()).unwrap_or_default();
    }
    one_on(tx, &new, made, actor).await
}

async fn clean_on(
    tx: &Transaction<'_>,
    drive: &str,
    barcode: Option<&str>,
    actor: &str,
) -> Result<Vec<Made>, Status> {
    let drive = drive_on(tx, drive).await?;
    if let Some(job) = jobs::job_active_about_on(tx, &["drive-clean"], None, Some(drive.id)).await?
    {
        return Err(status::precondition(
            "DRIVE_CLEANING",
            format!(
                "{} cleans drive {} already: wait for it",
                names::job(job),
                drive.serial
            ),
        ));
    }
    if let Some(barcode) = barcode {
        is_inside_on(tx, barcode).await?;
        if volumes::volume_get(tx, barcode).await?.is_some() {
            return Err(status::precondition(
                "NOT_A_CLEANING_CARTRIDGE",
                format!("{barcode} is a volume for data: name a cleaning cartridge"),
            ));
        }
        match cleanings_left_on(tx, barcode).await? {
            Some(0) => {
                return Err(status::precondition(
                    "CLEANING_EXPIRED",
                    format!(
                        "cleaning cartridge {barcode} is used up: export it with `taf library export {barcode}`, and import a new one"
                    ),
                ));
            }
            Some(_) => {}
            // From now on it is never taken for data.
            None => cleaning::cleaning_name_on(tx, barcode).await?,
        }
    }
    with_cartridge_on(tx, "drive-clean", drive.id, barcode, actor).await
}

fn element(elements: &[ElementRow], address: u32) -> Result<&ElementRow, Status> {
    elements
        .iter()
        .find(|e| i64::from(e.address) == i64::from(address))
        .ok_or_else(|| refused(&taf_core::carry::no_element(address)))
}

fn location(library: &LibraryRow, element: &ElementRow) -> String {
    match &element.drive_serial {
        Some(serial) if element.kind == "drive" => names::drive(serial),
        _ => names::slot(&library.serial, element.address as u32),
    }
}

async fn move_on(
    tx: &Transaction<'_>,
    library: &str,
    (from, to): (u32, u32),
    actor: &str,
) -> Result<Vec<Made>, Status> {
    let (library, elements) = library_on(tx, library).await?;
    let (source, target) = (element(&elements, from)?, element(&elements, to)?);
    if !source.occupied {
        return Err(status::precondition(
            "ELEMENT_EMPTY",
            format!("there is no cartridge in element {from}: `taf library` shows what is where"),
        ));
    }
    if target.kind == "drive" {
        return Err(status::precondition(
            "ELEMENT_IS_DRIVE",
            format!("element {to} is a drive: bring a cartridge into it with `taf drive load`"),
        ));
    }
    if target.occupied {
        return Err(status::precondition(
            "ELEMENT_FULL",
            format!("there is a cartridge in element {to} already: choose an empty one"),
        ));
    }
    let mut new = carrying(&library, source, "move");
    new.task.to_address = Some(target.address);
    if source.kind == "drive" && source.barcode.is_none() {
        return Err(status::precondition(
            "NO_BARCODE",
            format!(
                "what is in element {from} has no readable barcode: take it out with `taf drive unload`"
            ),
        ));
    }
    one_on(tx, &new, carried(&library, source), actor).await
}

fn carrying<'a>(library: &LibraryRow, source: &'a ElementRow, kind: &'a str) -> NewTask<'a> {
    NewTask {
        kind,
        library_id: Some(library.id),
        cartridge: source.barcode.as_deref(),
        task: Task {
            from_address: Some(source.address),
            ..Task::default()
        },
        ..NewTask::default()
    }
}

fn carried(library: &LibraryRow, source: &ElementRow) -> Made {
    Made {
        barcode: source.barcode.clone().unwrap_or_default(),
        location: location(library, source),
        ..Made::default()
    }
}

async fn import_on(
    tx: &Transaction<'_>,
    library: &str,
    addresses: &[u32],
    actor: &str,
) -> Result<Vec<Made>, Status> {
    let (library, elements) = library_on(tx, library).await?;
    let mut wanted = Vec::new();
    for &address in addresses {
        let place = element(&elements, address)?;
        if place.kind != "mail-slot" || !place.occupied {
            return Err(status::precondition(
                "NOTHING_TO_IMPORT",
                format!(
                    "element {address} is not a mail slot with a cartridge in it: `taf library` shows the mail slots"
                ),
            ));
        }
        wanted.push(place);
    }
    if addresses.is_empty() {
        wanted.extend(
            elements
                .iter()
                .filter(|e| e.kind == "mail-slot" && e.occupied),
        );
    }
    if wanted.is_empty() {
        return Err(status::precondition(
            "NOTHING_TO_IMPORT",
            format!(
                "the mail slots of library {} are empty: put a cartridge into one and ask again",
                library.serial
            ),
        ));
    }
    let mut made = Vec::new();
    for place in wanted {
        let new = carrying(&library, place, "import");
        let job = jobs::job_create_task_on(tx, &new, actor).await?;
        made.push(Made {
            job: Some(job),
            ..carried(&library, place)
        });
    }
    Ok(made)
}

async fn export_on(
    tx: &Transaction<'_>,
    barcodes: &[String],
    actor: &str,
) -> Result<Vec<Made>, Status> {
    let mut made = Vec::new();
    let libraries = libraries::library_list(tx, "", ALL).await?;
    let mut shown = Vec::new();
    for library in &libraries {
        let elements = libraries::library_elements(tx, library.id).await?;
        shown.extend(
            elements
                .into_iter()
                .filter(|e| e.occupied)
                .map(|e| (library, e)),
        );
    }
    // A library that is connected knows better what is in it.
    shown.sort_by_key(|(library, _)| !library.connected);
    for barcode in barcodes {
        let found = shown
            .iter()
            .find(|(_, e)| e.barcode.as_deref() == Some(barcode.as_str()));
        let Some((library, place)) = found else {
            is_inside_on(tx, barcode).await?;
            continue;
        };
        if place.kind == "mail-slot" {
            return Err(status::precondition(
                "ALREADY_EXPORTED",
                format!(
                    "{barcode} is in mail slot {} already: take it out",
                    place.address
                ),
            ));
        }
        let new = carrying(library, place, "export");
        let job = jobs::job_create_task_on(tx, &new, actor).await?;
        made.push(Made {
            job: Some(job),
            ..carried(library, place)
        });
    }
    Ok(made)
}
