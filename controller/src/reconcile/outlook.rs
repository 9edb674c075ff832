//! What a job that was only just asked for would do, as things are now: for dry runs, which are then undone.

use std::time::Duration;

use taf_core::Fault;
use taf_core::attempt::{self, Stage};
use taf_core::mount::{Element, ElementKind, Medium, Step};
use taf_core::plan::{self, Decision, Grant};

use super::facts::{self, State};
use super::stage;
use crate::store::jobs::QueuedJob;
use crate::store::{Error, Transaction};

/// What a job would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outlook {
    /// Steps, for people.
    pub steps: Vec<String>,
    /// What it would wait for first.
    pub waiting_for: Option<String>,
    /// Why it would fail.
    pub fault: Option<Fault>,
}

/// Looks at a job that has its row in this transaction.
pub async fn outlook_on(tx: &Transaction<'_>, job: i64) -> Result<Outlook, Error> {
    let state = facts::load_on(tx, Duration::ZERO).await?;
    let Some(queued) = state.queued_job(job) else {
        return Ok(Outlook::default());
    };
    let (jobs, mut world) = state.planning();
    // Alone: what others do first is what it waits for.
    let alone: Vec<plan::Job> = jobs.into_iter().filter(|j| j.id == job).collect();
    match plan::plan(&alone, &world).pop() {
        Some(Decision::Start { grant, .. }) => Ok(steps(&state, queued, &grant)),
        Some(Decision::Fail { fault, .. }) => Ok(Outlook {
            fault: Some(fault),
            ..Outlook::default()
        }),
        Some(Decision::Wait { why, .. }) => {
            // What it would do when that is over.
            for drive in &mut world.drives {
                drive.busy = false;
                drive.working = false;
                drive.shared = None;
            }
            for cartridge in &mut world.cartridges {
                cartridge.reserved = false;
            }
            let later = match plan::plan(&alone, &world).pop() {
                Some(Decision::Start { grant, .. }) => steps(&state, queued, &grant).steps,
                _ => Vec::new(),
            };
            Ok(Outlook {
                steps: later,
                waiting_for: Some(why),
                fault: None,
            })
        }
        _ => Ok(Outlook::default()),
    }
}

fn steps(state: &State, job: &QueuedJob, grant: &Grant) -> Outlook {
    let drive = grant.drive.and_then(|id| state.drives.get(&id));
    let elements = grant
        .library
        .and_then(|id| state.elements.get(&id))
        .map_or(&[][..], Vec::as_slice);
    let well = attempt::Unit {
        same_incarnation: true,
        silent_millis: 0,
    };
    let facts = attempt::Facts {
        kind: stage::kind_of(&job.kind, &job.task, grant.library.is_some()),
        stage: Stage::Between,
        steps: 1,
        beside: grant.beside.is_some(),
        cancel_asked: false,
        barcode: grant.barcode.as_deref().unwrap_or_default(),
        waiting_for: "",
        volume_wait_millis: 0,
        from: job.task.from_address.map(|a| a as u32),
        worked: false,
        drive_serial: drive.map_or("", |d| d.serial.as_str()),
        medium: drive.map_or(Medium::Unknown, stage::medium),
        drive: drive.map(|_| well),
        source: None,
        source_name: "",
        robot: Some(well),
        robot_busy: false,
        robot_pause: None,
        library_serial: "",
        elements,
        drive_outcome: None,
        source_outcome: None,
        reported_millis: 0,
        parts_complete: false,
        unchanged: false,
        source_bound: false,
        share: attempt::Share::ALONE,
        lease_millis: 0,
    };
    match attempt::foresee(&facts) {
        Ok(steps) => {
            let serial = facts.drive_serial;
            let words = steps
                .iter()
                .map(|step| words(step, job, grant, serial, elements));
            Outlook {
                steps: words.collect(),
                ..Outlook::default()
            }
        }
        Err(fault) => Outlook {
            fault: Some(fault),
            ..Outlook::default()
        },
    }
}

fn words(step: &Step, job: &QueuedJob, grant: &Grant, drive: &str, elements: &[Element]) -> String {
    let place = |address: u32| match elements.iter().find(|e| e.address == address) {
        Some(e) if e.kind == ElementKind::Drive => {
            format!("drive {}", e.drive_serial.as_deref().unwrap_or_default())
        }
        Some(e) if e.kind == ElementKind::MailSlot => format!("mail slot {address}"),
        _ => format!("slot {address}"),
    };
    let barcode = grant.barcode.as_deref().unwrap_or("what is in it");
    match step {
        Step::Unload => format!("drive {drive} unloads what is in it"),
        Step::Clear(m) | Step::Mount(m) | Step::Carry(m) => {
            let what = match m.barcode.as_str() {
                "" => "the cartridge",
                barcode => barcode,
            };
            format!("move {what} from {} to {}", place(m.from), place(m.to))
        }
        Step::Clean => format!("drive {drive} cleans itself with {barcode}"),
        Step::Scan => "the library looks at all its elements".to_owned(),
        Step::Work => match job.kind.as_str() {
            "label" => format!("label {barcode} if it is blank"),
            "inspect" => format!("compare {barcode} with the catalog"),
            "rescan" => format!("read {barcode} and take what is on it into the catalog"),
            "erase" if job.task.thorough => format!("erase the whole of {barcode}"),
            "erase" => format!("erase {barcode}"),
            "format" => format!("format {barcode}"),
            "drive-load" => format!("drive {drive} threads {barcode}"),
            "drive-rewind" => format!("drive {drive} rewinds {barcode}"),
            "drive-unload" => format!("drive {drive} unloads {barcode}"),
            kind => kind.to_owned(),
        },
    }
}
