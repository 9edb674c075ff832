//! The worker of one drive.

use std::collections::HashSet;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use taf_drive::Identity;
use taf_drive::watch::Command;
use taf_peer::config::Size;
use taf_peer::serve::{self, Limits};
use taf_peer::tls::{self, ClientAuth};
use taf_peer::{DATA_MESSAGE_LIMIT, session::Session};
use taf_proto::agent::transfer_service_server::TransferServiceServer;
use taf_proto::agent::{
    self, Assignment, AssignmentKey, DriveUnit, EraseMethod, Recording, assignment::Work, hello,
    result::Done,
};
use taf_proto::v1::Fault;
use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::{DEVICE_RETRY, file_name};
use crate::buffering::Buffering;
use crate::commit;
use crate::config::Config;
use crate::controller::Link;
use crate::device::Device;
use crate::door::Door;
use crate::fault::{drive_hung, fault, protocol};
use crate::gauge::Gauge;
use crate::journal::Journal;
use crate::keys::KeyFile;
use crate::mounts::Mounts;
use crate::reclaim::Hold;
use crate::ring;
use crate::seats::Seats;
use crate::spool::Spool;
use crate::transfer::Parking;
use crate::watch::Watch;
use crate::{indexing, inspect, labelling, medium, operate, read, reclaim, rescan, verify, write};

/// An idle drive is looked at so often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What drives buffer themselves, at most: LTO-7 and later have up to a gigabyte.
const DRIVE_BUFFER: u64 = 1 << 30;
/// The report of a mount gets so long to be there before the result is.
const REPORTED_WITHIN: Duration = Duration::from_secs(2);
/// Work gets so long to clean up when the process ends.
const DRAIN: Duration = Duration::from_secs(10);

/// All that work needs. Cheap to clone.
#[derive(Clone)]
pub struct Surroundings {
    /// The drive.
    pub device: Device,
    /// The way to the controller.
    pub link: Link,
    /// Where source agents come in.
    pub door: Door,
    /// What is shown of the drive.
    pub gauge: Gauge,
    /// Parts on their way to the controller.
    pub journal: Journal,
    /// Parts that no volume index has yet.
    pub spool: Spool,
    /// The health of drive and cartridge.
    pub watch: Watch,
    /// Reports of that on their way to the controller.
    pub mounts: Mounts,
    /// How what is on its way to the drive is buffered.
    pub buffering: Buffering,
    /// Where transfers wait for their next volume.
    pub parking: Parking,
    /// Who writes on the volume at the drive.
    pub seats: Seats,
    /// What was read from a volume that is reclaimed, and waits for another one.
    pub reclaim: Hold,
    /// A command that takes longer hangs.
    pub hung_after: Duration,
}

impl Surroundings {
    /// Work with a volume begins: it is mounted first. An assignment names it.
    pub fn begin(
        &self,
        key: AssignmentKey,
        recording: Option<Recording>,
    ) -> Result<Recording, Fault> {
        let recording = recording.ok_or_else(|| protocol("an assignment without a recording"))?;
        self.gauge.begin(key, &recording.barcode, "mounting");
        Ok(recording)
    }

    /// Runs what blocks on a thread of its own.
    pub async fn block<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        tokio::task::spawn_blocking(work)
            .await
            .unwrap_or_else(|error| {
                Err(fault(
                    "INTERNAL",
                    format!("the drive's thread died: {error}"),
                    "see the tape agent's log",
                ))
            })
    }
}

/// Runs until shutdown.
pub async fn run(config: Config, device_name: &str) -> anyhow::Result<()> {
    let shutdown = super::shutdown()?;
    let link = Link::open(&config)?;
    let Some(_alone) = super::alone(&config.state, device_name, &shutdown)
        .await
        .context("the lock on the device can't be had")?
    else {
        return Ok(());
    };
    let device = Device::new(device_name, KeyFile::new(&config.state, device_name));
    let Some(identity) = identify(&device, device_name, &shutdown).await else {
        return Ok(());
    };
    // A worker that was killed at work has left its cartridge locked in, and the drive reserved.
    let left = device.clone();
    tokio::task::spawn_blocking(move || left.release())
        .await
        .context("letting go of the cartridge failed")?;
    let serial = identity.serial.clone().with_context(|| {
        format!("the drive {device_name} has no serial number, and TAF knows drives by it")
    })?;
    let spool = Spool::open(config.state.join("index-spool"), config.index_spool.0)
        .context("the index spool can't be opened")?;
    let folder = config.state.join("journal").join(file_name(&serial));
    let journal = Journal::open(folder, spool.clone()).context("the journal can't be opened")?;
    // What an earlier process left is delivered before the controller hears of this one: so it never has more to say of old
    // attempts once it is connected.
    if !deliver(&link, &journal, &shutdown).await? {
        return Ok(());
    }

    let mounts = Mounts::open(
        config.state.join("mounts").join(file_name(&serial)),
        link.clone(),
    )
    .context("the reports of mounts can't be kept")?;
    let reporting = tokio::spawn(mounts.clone().run(shutdown.clone()));

    let door = Door::default();
    let port = config.port(device_name);
    let listener = TcpListener::bind((config.listen.as_str(), port))
        .await
        .with_context(|| format!("can't listen on {} port {port}", config.listen))?;
    let port = listener.local_addr()?.port();
    let service = TransferServiceServer::new(door.clone())
        .max_decoding_message_size(DATA_MESSAGE_LIMIT)
        .max_encoding_message_size(DATA_MESSAGE_LIMIT);
    let tls = tls::server_config(link.own(), ClientAuth::Required)?;
    let limits = Limits {
        drain: Duration::from_secs(1),
        ..Limits::default()
    };
    let stop_serving = CancellationToken::new();
    let serving = tokio::spawn(serve::serve(
        listener,
        tls,
        Routes::new(service),
        limits,
        stop_serving.clone(),
    ));

    let unit = hello::Unit::Drive(DriveUnit {
        serial: serial.clone(),
        vendor: identity.vendor,
        product: identity.product,
        revision: identity.revision,
        addresses: config.advertised(port),
    });
    let generation = config
        .state
        .join(format!("generation-{}", file_name(&serial)));
    let session_stop = CancellationToken::new();
    let session = link.session(unit, generation, session_stop.clone());
    let around = Surroundings {
        device,
        link,
        door,
        gauge: Gauge::new(session.clone()),
        journal,
        spool,
        watch: Watch::new(&serial, mounts.clone()),
        mounts,
        buffering: Buffering::new(&config, &file_name(&serial)),
        parking: Parking::default(),
        seats: Seats::default(),
        reclaim: Hold::default(),
        hung_after: config.hung_after.0,
    };
    name_small_ring(config.ring.0);
    tracing::info!(drive = serial, port, "the drive's worker is ready");
    work(&around, &session, &shutdown).await;
    session_stop.cancel();
    stop_serving.cancel();
    let _ = serving.await;
    let _ = reporting.await;
    Ok(())
}

/// Says what a ring costs that is smaller than a drive's own buffer may be.
fn name_small_ring(ring: u64) {
    if ring < DRIVE_BUFFER {
        tracing::warn!(
            ring = %Size(ring),
            "a drive that buffers more than this ring, or can't tell how much it buffers, has to be flushed after every half of it \
             and stands still for about {:.0} % of the time; set `ring` to 2GiB or more if it is a real one",
            ring::flush_cost(ring) * 100.0
        );
    }
}

/// Opens the device, for as long as that takes. None at shutdown.
async fn identify(device: &Device, name: &str, shutdown: &CancellationToken) -> Option<Identity> {
    let mut said = String::new();
    loop {
        let opening = device.clone();
        match tokio::task::spawn_blocking(move || opening.identity()).await {
            Ok(Ok(identity)) => return Some(identity),
            Ok(Err(error)) => {
                if error.to_string() != said {
                    said = error.to_string();
                    tracing::warn!(device = name, %error, "the device does not answer; trying until it does");
                }
            }
            Err(error) => tracing::error!(%error, "opening the device failed"),
        }
        shutdown
            .run_until_cancelled(tokio::time::sleep(DEVICE_RETRY))
            .await?;
    }
}

/// Delivers what the journal holds. False at shutdown.
async fn deliver(
    link: &Link,
    journal: &Journal,
    shutdown: &CancellationToken,
) -> anyhow::Result<bool> {
    for entry in journal.pending().context("the journal can't be read")? {
        tracing::info!(
            part = entry.header.part_number,
            "delivering a part of an earlier process"
        );
        match shutdown
            .run_until_cancelled(commit::deliver(link, &entry))
            .await
        {
            None => return Ok(false),
            Some(Ok(())) => {}
            Some(Err(fault)) => {
                tracing::error!(
                    reason = fault.reason,
                    message = fault.message,
                    "the controller does not take a part; its tape file is an orphan"
                );
            }
        }
    }
    Ok(true)
}

struct Running {
    key: AssignmentKey,
    /// Of work that others may write beside: the recording.
    writes: Option<Bytes>,
    stop: CancellationToken,
    task: JoinHandle<agent::Result>,
}

/// The recording that an assignment writes parts on.
fn writes(assignment: &Assignment) -> Option<Bytes> {
    match &assignment.work {
        Some(Work::Write(work)) => work.recording.as_ref().map(|r| r.recording_uuid.clone()),
        _ => None,
    }
}

/// Whether it may begin now: alone, or beside those that write on the same volume.
fn may_begin(next: &Assignment, running: &[Running]) -> bool {
    let wanted = writes(next);
    running
        .iter()
        .all(|running| wanted.is_some() && running.writes == wanted)
}

/// The next work that ends; never if there is none.
async fn next_ended(running: &mut [Running]) -> (usize, Result<agent::Result, JoinError>) {
    std::future::poll_fn(|context| {
        for (at, running) in running.iter_mut().enumerate() {
            if let Poll::Ready(result) = Pin::new(&mut running.task).poll(context) {
                return Poll::Ready((at, result));
            }
        }
        Poll::Pending
    })
    .await
}

/// Keeps the work as the newest set of assignments says.
async fn work(around: &Surroundings, session: &Session, shutdown: &CancellationToken) {
    let mut assignments = session.assignments();
    let mut running: Vec<Running> = Vec::new();
    let mut done: HashSet<AssignmentKey> = HashSet::new();
    let mut look = tokio::time::interval(LOOK_EVERY.min(around.hung_after));
    let mut hung: Option<Command> = None;
    loop {
        let set = assignments.borrow_and_update().clone();
        let wanted = |key: &AssignmentKey| set.iter().any(|a| a.key.as_ref() == Some(key));
        done.retain(|key| wanted(key));
        for running in running.iter().filter(|running| !wanted(&running.key)) {
            running.stop.cancel();
        }
        // A drive that hangs is left alone. Its thread has it, and whatever else is sent would wait behind.
        if hung.is_none() {
            for next in &set {
                let is_new = |key: &AssignmentKey| {
                    !done.contains(key)
                        && !session.is_finished(key)
                        && running.iter().all(|running| running.key != *key)
                };
                if next.key.as_ref().is_some_and(is_new) && may_begin(next, &running) {
                    running.extend(start(around, next.clone()));
                }
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            changed = assignments.changed() => if changed.is_err() { break },
            (at, result) = next_ended(&mut running) => {
                let Running { key, .. } = running.swap_remove(at);
                finish(around, session, key, result, running.is_empty()).await;
                done.insert(key);
            }
            _ = look.tick() => {
                let before = hung;
                hung = around.device.hung(around.hung_after);
                if hung != before {
                    around.gauge.hung(hung.as_ref());
                }
                match &hung {
                    Some(command) if running.is_empty() => {
                        tracing::debug!(command = command.name(), "the drive still hangs");
                        around.device.give_up();
                    }
                    Some(command) => {
                        around.seats.clear();
                        for Running { key, task, .. } in running.drain(..) {
                            task.abort();
                            give_up(around, session, key, command);
                            done.insert(key);
                        }
                    }
                    None if running.is_empty() => show_medium(around).await,
                    None => around.gauge.refresh(),
                }
            }
        }
    }
    for running in &running {
        running.stop.cancel();
    }
    let keys: Vec<AssignmentKey> = running.iter().map(|running| running.key).collect();
    let drained = async {
        while !running.is_empty() {
            let (at, result) = next_ended(&mut running).await;
            let Running { key, .. } = running.swap_remove(at);
            finish(around, session, key, result, running.is_empty()).await;
        }
    };
    if !keys.is_empty() && tokio::time::timeout(DRAIN, drained).await.is_ok() {
        // The session's task sends it; what is not heard in time the journal and the lease settle.
        let mut connected = session.connected();
        let sent = async {
            while keys.iter().any(|key| session.is_finished(key)) && *connected.borrow() {
                tokio::select! {
                    _ = connected.changed() => {}
                    () = tokio::time::sleep(Duration::from_millis(50)) => {}
                }
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(3), sent).await;
    }
}

/// Ends work whose drive hangs. Its thread goes on waiting, and sends nothing more when it comes back.
fn give_up(around: &Surroundings, session: &Session, key: AssignmentKey, command: &Command) {
    around.device.give_up();
    let fault = drive_hung(command, &around.gauge.barcode());
    tracing::error!(
        attempt = key.attempt,
        command = command.name(),
        message = fault.message,
        "the drive hangs"
    );
    session.finish(agent::Result {
        key: Some(key),
        fault: Some(fault),
        done: None,
    });
}

/// Work has ended; with the `last` one the drive lets go of the cartridge.
async fn finish(
    around: &Surroundings,
    session: &Session,
    key: AssignmentKey,
    result: Result<agent::Result, JoinError>,
    last: bool,
) {
    around.gauge.of(key).end();
    if last {
        let outcome = result.as_ref().ok().and_then(|result| result.fault.clone());
        end_mount(around, outcome).await;
        release(around).await;
        // What is in the drive is shown before the result: the controller decides by it.
        show_medium(around).await;
    }
    session.finish(result.unwrap_or_else(|error| agent::Result {
        key: Some(key),
        fault: Some(fault(
            "INTERNAL",
            format!("the work died: {error}"),
            "see the tape agent's log",
        )),
        done: None,
    }));
}

/// Takes the last counters of the mount. The controller has them before it has the result, if it can be had.
async fn end_mount(around: &Surroundings, outcome: Option<Fault>) {
    let (watch, device) = (around.watch.clone(), around.device.clone());
    unless_it_hangs(around, move || watch.end(&device, outcome.as_ref())).await;
    around.mounts.settle(REPORTED_WITHIN).await;
}

async fn release(around: &Surroundings) {
    let device = around.device.clone();
    unless_it_hangs(around, move || device.release()).await;
}

async fn show_medium(around: &Surroundings) {
    let device = around.device.clone();
    if let Some(medium) = unless_it_hangs(around, move || device.medium()).await {
        around.gauge.medium(medium);
    }
}

/// Asks the drive something. A drive that hangs must not hold up the worker: others want to be told of it.
async fn unless_it_hangs<T: Send + 'static>(
    around: &Surroundings,
    ask: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let mut asking = tokio::task::spawn_blocking(ask);
    loop {
        match tokio::time::timeout(LOOK_EVERY.min(around.hung_after), &mut asking).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => {
                tracing::error!(%error, "asking the drive failed");
                return None;
            }
            Err(_) if around.device.hung(around.hung_after).is_some() => return None,
            Err(_) => {}
        }
    }
}

fn start(around: &Surroundings, assignment: Assignment) -> Option<Running> {
    let writes = writes(&assignment);
    let (key, work) = (assignment.key?, assignment.work?);
    let stop = CancellationToken::new();
    let (mut around, stopping) = (around.clone(), stop.clone());
    around.gauge = around.gauge.of(key);
    let task = tokio::spawn(async move {
        let outcome = perform(&around, key, work, &stopping).await;
        let (fault, done) = match outcome {
            Ok(done) => (None, done),
            Err(fault) => {
                tracing::warn!(
                    attempt = key.attempt,
                    reason = fault.reason,
                    message = fault.message,
                    "work failed"
                );
                (Some(fault), None)
            }
        };
        agent::Result {
            key: Some(key),
            fault,
            done,
        }
    });
    Some(Running {
        key,
        writes,
        stop,
        task,
    })
}

async fn perform(
    around: &Surroundings,
    key: AssignmentKey,
    work: Work,
    stop: &CancellationToken,
) -> Result<Option<Done>, Fault> {
    match &work {
        Work::Write(work) => around.parking.leave_to(key, &work.beside),
        // Whatever comes behind this says who shares the drive.
        Work::Unload(_) => {}
        _ => around.parking.leave_to(key, &[]),
    }
    if !matches!(work, Work::Store(_) | Work::Unload(_)) {
        around.reclaim.clear();
    }
    match work {
        Work::Collect(work) => Ok(Some(Done::Reclaim(
            reclaim::collect(around, key, work, stop).await?,
        ))),
        Work::Store(work) => Ok(Some(Done::Reclaim(
            reclaim::store(around, key, work, stop).await?,
        ))),
        Work::Write(work) => Ok(Some(Done::Write(
            write::run(around, key, work, stop).await?,
        ))),
        Work::Read(work) => Ok(Some(Done::Read(read::run(around, key, work, stop).await?))),
        Work::Label(work) => {
            let barcode = work.recording.as_ref().map_or("", |r| r.barcode.as_str());
            around.gauge.begin(key, barcode, "labelling");
            let (device, watch, stop) = (around.device.clone(), around.watch.clone(), stop.clone());
            let gauge = around.gauge.clone();
            let barcode = barcode.to_owned();
            let done = around
                .block(move || {
                    device.work(|drive| {
                        let show = |phase: &str| gauge.phase(phase);
                        medium::mount_shown(drive, &barcode, &stop, &show)?;
                        watch.begin(drive, key, &barcode, true)?;
                        labelling::label(drive, &work, &stop, &show)
                    })
                })
                .await?;
            Ok(Some(Done::Label(done)))
        }
        Work::Inspect(work) => {
            around.gauge.begin(key, &work.barcode, "mounting");
            let (device, gauge) = (around.device.clone(), around.gauge.clone());
            let stop = stop.clone();
            let found = around
                .block(move || {
                    let show = |phase: &str| gauge.phase(phase);
                    device.work(|drive| inspect::inspect(drive, &work, &stop, &show))
                })
                .await?;
            Ok(Some(Done::Inspect(found)))
        }
        Work::Verify(work) => Ok(Some(Done::Verify(
            verify::run(around, key, work, stop).await?,
        ))),
        Work::Rescan(work) => Ok(Some(Done::Rescan(
            rescan::run(around, key, work, stop).await?,
        ))),
        Work::Index(work) => Ok(Some(Done::Index(
            indexing::run(around, key, work, stop).await?,
        ))),
        Work::Unload(_) => {
            around.gauge.begin(key, "", "unloading");
            let (device, gauge) = (around.device.clone(), around.gauge.clone());
            let stop = stop.clone();
            around
                .block(move || {
                    device.work(|drive| medium::unload(drive, &stop, &|phase| gauge.phase(phase)))
                })
                .await
                .map(|()| None)
        }
        Work::Erase(work) => {
            let phase = match work.method() {
                EraseMethod::Format => "formatting",
                _ => "erasing",
            };
            around.gauge.begin(key, &work.barcode, phase);
            let (device, stop, gauge) = (around.device.clone(), stop.clone(), around.gauge.clone());
            let show = move |percent| gauge.phase(&format!("{phase}, {percent} %"));
            around
                .block(move || device.work(|drive| operate::erase(drive, &work, &stop, &show)))
                .await
                .map(|()| None)
        }
        Work::Load(work) => {
            around.gauge.begin(key, &work.barcode, "loading");
            let (device, stop) = (around.device.clone(), stop.clone());
            around
                .block(move || device.work(|drive| operate::load(drive, &work.barcode, &stop)))
                .await
                .map(|()| None)
        }
        Work::Rewind(_) => {
            around.gauge.begin(key, "", "rewinding");
            let (device, stop) = (around.device.clone(), stop.clone());
            around
                .block(move || device.work(|drive| operate::rewind(drive, &stop)))
                .await
                .map(|()| None)
        }
        Work::Clean(work) => {
            around.gauge.begin(key, &work.barcode, "cleaning");
            let (device, stop) = (around.device.clone(), stop.clone());
            around
                .block(move || device.work(|drive| operate::clean(drive, &work.barcode, &stop)))
                .await
                .map(|()| None)
        }
        Work::Backup(_)
        | Work::Restore(_)
        | Work::Remove(_)
        | Work::RemoveExtra(_)
        | Work::Feed(_)
        | Work::Move(_)
        | Work::Scan(_) => Err(fault(
            "WRONG_UNIT",
            "a drive was given work of another unit",
            "see that controller and tape agent have the same version",
        )),
    }
}
