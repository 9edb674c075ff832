//! The worker of one robot: shows the elements, and moves cartridges one at a time.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use taf_drive::changer::{self, Changer, Inventory};
use taf_drive::{Error, Identity};
use taf_peer::session::Session;
use taf_proto::agent::{
    self, AssignmentKey, Element, LibraryObservation, LibraryUnit, MoveWork, Observation,
    assignment::Work, element, hello, observation::Seen,
};
use taf_proto::v1::Fault;
use tokio_util::sync::CancellationToken;

use super::{DEVICE_RETRY, file_name};
use crate::config::Config;
use crate::controller::Link;
use crate::fault::fault;

/// The robot is asked for news so often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Elements are read at least so often; people open doors without telling.
const INVENTORY_EVERY: Duration = Duration::from_secs(5);

type Shared = Arc<Mutex<Robot>>;

/// The changer, opened anew after its path broke.
struct Robot {
    device: String,
    changer: Option<Box<dyn Changer>>,
}

impl Robot {
    fn with<T>(
        &mut self,
        work: impl FnOnce(&mut dyn Changer) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut changer = match self.changer.take() {
            Some(changer) => changer,
            None => changer::open(&self.device)?,
        };
        let outcome = changer.attentions().and_then(|_| work(changer.as_mut()));
        if !matches!(outcome, Err(Error::Unknown(_))) {
            self.changer = Some(changer);
        }
        outcome
    }
}

/// Runs until shutdown.
pub async fn run(config: Config, device: &str) -> anyhow::Result<()> {
    let shutdown = super::shutdown()?;
    let link = Link::open(&config)?;
    let Some(_alone) = super::alone(&config.state, device, &shutdown)
        .await
        .context("the lock on the device can't be had")?
    else {
        return Ok(());
    };
    let robot: Shared = Arc::new(Mutex::new(Robot {
        device: device.to_owned(),
        changer: None,
    }));
    let Some(identity) = identify(&robot, device, &shutdown).await else {
        return Ok(());
    };
    let serial = identity.serial.clone().with_context(|| {
        format!("the library {device} has no serial number, and TAF knows libraries by it")
    })?;
    let unit = hello::Unit::Library(LibraryUnit {
        serial: serial.clone(),
        vendor: identity.vendor,
        product: identity.product,
    });
    let session_stop = CancellationToken::new();
    let generation = config
        .state
        .join(format!("generation-{}", file_name(&serial)));
    let session = link.session(unit, generation, session_stop.clone());
    tracing::info!(library = serial, "the library's worker is ready");
    work(&robot, &session, &shutdown).await;
    session_stop.cancel();
    Ok(())
}

async fn identify(robot: &Shared, name: &str, shutdown: &CancellationToken) -> Option<Identity> {
    let mut said = String::new();
    loop {
        match blocking(robot, |robot| robot.with(|c| Ok(c.identity().clone()))).await {
            Ok(identity) => return Some(identity),
            Err(error) => {
                if error.to_string() != said {
                    said = error.to_string();
                    tracing::warn!(device = name, %error, "the library does not answer; trying until it does");
                }
            }
        }
        shutdown
            .run_until_cancelled(tokio::time::sleep(DEVICE_RETRY))
            .await?;
    }
}

async fn blocking<T: Send + 'static>(
    robot: &Shared,
    work: impl FnOnce(&mut Robot) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let robot = Arc::clone(robot);
    let run = move || work(&mut robot.lock().unwrap_or_else(PoisonError::into_inner));
    tokio::task::spawn_blocking(run)
        .await
        .unwrap_or(Err(Error::NotTaken("the robot's thread died")))
}

async fn work(robot: &Shared, session: &Session, shutdown: &CancellationToken) {
    let mut assignments = session.assignments();
    let mut done: HashSet<AssignmentKey> = HashSet::new();
    let mut look = tokio::time::interval(LOOK_EVERY);
    let mut read_at: Option<Instant> = None;
    let mut shown = LibraryObservation::default();
    loop {
        let set = assignments.borrow_and_update().clone();
        done.retain(|key| set.iter().any(|a| a.key.as_ref() == Some(key)));
        for assignment in set {
            let (Some(key), Some(work)) = (assignment.key, assignment.work) else {
                continue;
            };
            if done.contains(&key) || session.is_finished(&key) {
                continue;
            }
            let outcome = match work {
                Work::Move(work) => carry(robot, work).await,
                _ => Err(fault(
                    "WRONG_UNIT",
                    "a robot was given work of another unit",
                    "see that controller and tape agent have the same version",
                )),
            };
            // What the elements hold now is shown before the result: the controller decides by it.
            read_at = None;
            show(robot, session, &mut shown).await;
            session.finish(agent::Result {
                key: Some(key),
                fault: outcome.err(),
                done: None,
            });
            done.insert(key);
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = assignments.changed() => if changed.is_err() { return },
            _ = look.tick() => {
                let due = read_at.is_none_or(|at| at.elapsed() > INVENTORY_EVERY);
                let news = blocking(robot, |robot| match &mut robot.changer {
                    Some(changer) => changer.attentions().map(|list| !list.is_empty()),
                    None => Ok(true),
                }).await.unwrap_or(true);
                if (due || news) && show(robot, session, &mut shown).await {
                    read_at = Some(Instant::now());
                }
            }
        }
    }
}

/// Reads the elements and shows them if they have changed.
async fn show(robot: &Shared, session: &Session, shown: &mut LibraryObservation) -> bool {
    match blocking(robot, |robot| robot.with(|c| c.inventory())).await {
        Ok(inventory) => {
            let now = observation(&inventory);
            if now != *shown {
                *shown = now.clone();
                session.observe(Observation {
                    key: None,
                    seen: Some(Seen::Library(now)),
                });
            }
            true
        }
        Err(error) => {
            tracing::warn!(%error, "the elements of the library can't be read");
            false
        }
    }
}

fn observation(inventory: &Inventory) -> LibraryObservation {
    let slots = [
        (element::Type::Slot, &inventory.slots),
        (element::Type::MailSlot, &inventory.mail_slots),
    ];
    let mut elements = Vec::new();
    for (kind, list) in slots {
        elements.extend(list.iter().map(|slot| Element {
            r#type: kind.into(),
            address: u32::from(slot.address),
            full: slot.full,
            barcode: slot.barcode.clone().unwrap_or_default(),
            ..Element::default()
        }));
    }
    elements.extend(inventory.drives.iter().map(|drive| Element {
        r#type: element::Type::Drive.into(),
        address: u32::from(drive.address),
        full: drive.full,
        barcode: drive.barcode.clone().unwrap_or_default(),
        drive_serial: drive.serial.clone().unwrap_or_default(),
        source_address: drive.source_slot.map_or(0, u32::from),
    }));
    LibraryObservation { elements }
}

/// Moves a cartridge, if it is where the controller thinks.
async fn carry(robot: &Shared, work: MoveWork) -> Result<(), Fault> {
    let barcode = work.barcode.clone();
    let moved = blocking(robot, move |robot| {
        let inventory = robot.with(|c| c.inventory())?;
        let elements = observation(&inventory).elements;
        let holds = |address: u32| {
            elements.iter().any(|e| {
                e.address == address
                    && e.full
                    && (work.barcode.is_empty() || e.barcode == work.barcode)
            })
        };
        // A move that was done by a process that died before it could say so.
        if holds(work.to_address) && !holds(work.from_address) {
            return Ok(true);
        }
        if !holds(work.from_address) {
            return Ok(false);
        }
        let (from, to) = (work.from_address as u16, work.to_address as u16);
        robot.with(|c| c.move_medium(from, to)).map(|()| true)
    })
    .await;
    match moved {
        Ok(true) => Ok(()),
        Ok(false) => Err(fault(
            "CARTRIDGE_MOVED",
            format!("cartridge {barcode} is not where it was"),
            "run again; `taf library` shows where everything is",
        )),
        Err(error) => Err(fault(
            "MOVE_FAILED",
            format!("the robot could not move cartridge {barcode}: {error}"),
            "look at the library's own panel",
        )),
    }
}
