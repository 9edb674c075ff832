//! What operators order of drives and libraries: checked against the catalog and made into jobs, one for each cartridge. For a
//! dry run the same is done, looked at, and undone.

mod drive;
mod library;
mod media;

use prost::Message;
use taf_core::Fault;
use taf_proto::v1;
use tonic::Status;

use super::mutation::Mutation;
use super::{names, status};
use crate::app::App;
use crate::reconcile::{self, Outlook};
use crate::session::Registry;
use crate::store::jobs::{self, NewTask};
use crate::store::libraries;
use crate::store::trust::{self, Trust};
use crate::store::volumes;
use crate::store::{self, Transaction, cleaning};

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
        } => media::erase_on(tx, barcode, (format, thorough, force), actor).await,
        Order::Inspect { barcode } => media::inspect_on(tx, barcode, actor).await,
        Order::Rescan { barcode } => media::rescan_on(tx, barcode, actor).await,
        Order::Load { drive, barcode } => drive::load_on(tx, drive, barcode, actor).await,
        Order::Unload { drive } => drive::unload_on(tx, drive, actor).await,
        Order::Rewind { drive } => {
            let drive = drive::drive_on(tx, drive).await?;
            let new = NewTask {
                kind: "drive-rewind",
                drive_id: Some(drive.id),
                ..NewTask::default()
            };
            one_on(tx, &new, Made::default(), actor).await
        }
        Order::Clean { drive, barcode } => drive::clean_on(tx, drive, barcode, actor).await,
        Order::Inventory { library } => {
            let (library, _) = library::library_on(tx, library).await?;
            let new = NewTask {
                kind: "inventory",
                library_id: Some(library.id),
                ..NewTask::default()
            };
            one_on(tx, &new, Made::default(), actor).await
        }
        Order::Move { library, from, to } => library::move_on(tx, library, (from, to), actor).await,
        Order::Import { library, addresses } => {
            library::import_on(tx, library, addresses, actor).await
        }
        Order::Export { barcodes } => library::export_on(tx, barcodes, actor).await,
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

/// No job of these kinds may be about to write the cartridge from its beginning.
pub async fn is_kept_on(tx: &Transaction<'_>, barcode: &str, kinds: &[&str]) -> Result<(), Status> {
    match jobs::job_active_about_on(tx, kinds, Some(barcode), None).await? {
        None => Ok(()),
        Some(job) => Err(status::precondition(
            "VOLUME_BUSY",
            format!(
                "{} is about to write {barcode} from its beginning: wait for it, or cancel it",
                names::job(job)
            ),
        )),
    }
}
