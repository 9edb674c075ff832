//! The worker of one robot: shows the elements, and moves cartridges one at a time.
//!
//! While the robot does not take commands (its door is open) it says so, moves nothing, and keeps what it is to do.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use taf_drive::changer::{self, Changer};
use taf_drive::{Error, Identity};
use taf_peer::session::Session;
use taf_proto::agent::{
    self, AssignmentKey, LibraryObservation, LibraryUnit, MoveWork, Observation, assignment::Work,
    hello, observation::Seen,
};
use taf_proto::v1::Fault;
use tokio_util::sync::CancellationToken;

use super::{DEVICE_RETRY, file_name};
use crate::config::Config;
use crate::controller::Link;
use crate::fault::fault;
use crate::robot::{self, Seat};

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
    let mut view = View {
        robot,
        session: session.clone(),
        seats: config.drive_elements,
        shown: LibraryObservation::default(),
    };
    work(&mut view, &shutdown).await;
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

/// What became of an assignment.
enum End {
    Done,
    Failed(Fault),
    /// The robot does not take commands now; nothing was done.
    Later,
}

/// What is shown of the library.
struct View {
    robot: Shared,
    session: Session,
    /// Element addresses of drives by serial number, where the library does not tell.
    seats: BTreeMap<String, u16>,
    shown: LibraryObservation,
}

async fn work(view: &mut View, shutdown: &CancellationToken) {
    let mut assignments = view.session.assignments();
    let mut done: HashSet<AssignmentKey> = HashSet::new();
    let mut look = tokio::time::interval(LOOK_EVERY);
    let mut read_at: Option<Instant> = None;
    loop {
        let set = assignments.borrow_and_update().clone();
        done.retain(|key| set.iter().any(|a| a.key.as_ref() == Some(key)));
        for assignment in set {
            let (Some(key), Some(work)) = (assignment.key, assignment.work) else {
                continue;
            };
            if done.contains(&key) || view.session.is_finished(&key) {
                continue;
            }
            let end = match work {
                Work::Move(work) => carry(&view.robot, work).await,
                Work::Scan(_) => scan(&view.robot).await,
                _ => End::Failed(fault(
                    "WRONG_UNIT",
                    "a robot was given work of another unit",
                    "see that controller and tape agent have the same version",
                )),
            };
            // What the elements hold now is shown before the result: the controller decides by it.
            read_at = None;
            view.show().await;
            let fault = match end {
                End::Later => continue,
                End::Done => None,
                End::Failed(fault) => Some(fault),
            };
            view.session.finish(agent::Result {
                key: Some(key),
                fault,
                done: None,
            });
            done.insert(key);
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = assignments.changed() => if changed.is_err() { return },
            _ = look.tick() => {
                let paused = !view.shown.pause.is_empty();
                let due = paused || read_at.is_none_or(|at| at.elapsed() > INVENTORY_EVERY);
                let news = blocking(&view.robot, |robot| match &mut robot.changer {
                    // A door that was opened: it is a reason to look at all of it again.
                    Some(changer) => Ok(!changer.attentions()?.is_empty() || changer.ready().is_err()),
                    None => Ok(true),
                }).await.unwrap_or(true);
                if (due || news) && view.show().await {
                    read_at = Some(Instant::now());
                }
            }
        }
    }
}

impl View {
    /// Reads the elements and shows them if they have changed. While the robot does not take commands, what was seen before is
    /// shown with the reason.
    async fn show(&mut self) -> bool {
        let seats = self.seats.clone();
        let looked = blocking(&self.robot, move |robot| {
            robot.with(|changer| match robot::pause(changer)? {
                Some(why) => Ok(Err(why)),
                None => Ok(Ok(changer.inventory()?)),
            })
        })
        .await;
        let now = match looked {
            Ok(Ok(inventory)) => robot::observation(&inventory, &Seat::list(&seats)),
            Ok(Err(pause)) => LibraryObservation {
                pause,
                ..self.shown.clone()
            },
            Err(error) => {
                tracing::warn!(%error, "the elements of the library can't be read");
                return false;
            }
        };
        if now.pause != self.shown.pause {
            if now.pause.is_empty() {
                tracing::info!("the robot moves again");
            } else {
                tracing::warn!(why = now.pause, "the robot moves nothing");
            }
        }
        if now != self.shown {
            self.shown = now.clone();
            self.session.observe(Observation {
                key: None,
                seen: Some(Seen::Library(now)),
            });
        }
        true
    }
}

/// Has the robot look at all its elements.
async fn scan(robot: &Shared) -> End {
    let scanned = blocking(robot, |robot| {
        robot.with(|changer| match robot::pause(changer)? {
            Some(_) => Ok(false),
            None => changer.scan().map(|()| true),
        })
    });
    match scanned.await {
        Ok(true) => End::Done,
        Ok(false) | Err(Error::NotReady(_) | Error::UnitAttention(_)) => End::Later,
        Err(error) => End::Failed(fault(
            "INVENTORY_FAILED",
            format!("the library could not look at its elements: {error}"),
            "look at the library's own panel",
        )),
    }
}

/// Moves a cartridge, if it is where the controller thinks.
async fn carry(robot: &Shared, work: MoveWork) -> End {
    let barcode = work.barcode.clone();
    let moved = blocking(robot, move |robot| {
        robot.with(|changer| robot::carry(changer, &work))
    });
    match moved.await {
        Ok(robot::Moved::Done) => End::Done,
        Ok(robot::Moved::Later) | Err(Error::NotReady(_) | Error::UnitAttention(_)) => End::Later,
        Ok(robot::Moved::No(fault)) => End::Failed(fault),
        Err(error) => End::Failed(fault(
            "MOVE_FAILED",
            format!("the robot could not move cartridge {barcode}: {error}"),
            "look at the library's own panel",
        )),
    }
}
