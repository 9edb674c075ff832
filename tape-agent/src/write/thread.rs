//! The drive's side of a write assignment: a thread that blocks.

use taf_proto::agent::report_volume_request::Verdict;
use taf_proto::agent::{AssignmentKey, ReportOrphanRequest, WriteWork};
use taf_proto::v1::Fault;
use tokio::sync::{mpsc, oneshot};

use super::{COMMIT_REFUSED, Ending, Proved};
use crate::fault::{drive_reset, fault};
use crate::journal::Entry;
use crate::parts::{Archive, Failure, Progress, Writer};
use crate::ring::Outlet;
use crate::worker::drive::Surroundings;

/// What the drive's thread leaves behind.
pub(super) struct Written {
    pub load: (Archive, Outlet),
    /// None if the source agent sends no more, though it is not at its end.
    pub outcome: Result<Option<Ending>, Fault>,
    pub orphan: Option<ReportOrphanRequest>,
    /// What the volume is like now.
    pub verdict: Option<(Verdict, String)>,
    /// Whether drive or medium failed.
    pub failed: bool,
    /// A part that is on tape, for which the way to the controller was closed already.
    pub left: Option<Entry>,
}

/// Begins to write on one volume; parts go out on the way, and the end is told first.
pub(super) fn spawn(
    around: &Surroundings,
    key: AssignmentKey,
    work: WriteWork,
    proved: Proved,
    load: (Archive, Outlet),
    (parts, ended): (mpsc::Sender<Entry>, oneshot::Sender<()>),
) -> tokio::task::JoinHandle<Written> {
    let around = around.clone();
    tokio::task::spawn_blocking(move || {
        let mut written = Written {
            load,
            outcome: Ok(None),
            orphan: None,
            verdict: None,
            failed: false,
            left: None,
        };
        let outcome = around.device.work(|drive| {
            // Whoever took the drive's news before us has also taken the only warning.
            if around.device.changes() != proved.changes {
                return Err(drive_reset(
                    "it was reset, or its cartridge changed, since the volume was proved",
                ));
            }
            let (archive, ring) = &mut written.load;
            ring.set_floor(proved.floor);
            let writer = Writer::new(
                drive,
                &around.journal,
                key,
                &work,
                proved.end,
                (archive, ring),
            )?;
            let mut desk = Desk {
                parts,
                orphan: &mut written.orphan,
                verdict: &mut written.verdict,
                failed: &mut written.failed,
                left: &mut written.left,
            };
            take_all(&around, writer, &mut desk)
        });
        written.outcome = outcome;
        let _ = ended.send(());
        written
    })
}

/// Where the drive's thread puts what it has to say.
struct Desk<'a> {
    parts: mpsc::Sender<Entry>,
    orphan: &'a mut Option<ReportOrphanRequest>,
    verdict: &'a mut Option<(Verdict, String)>,
    failed: &'a mut bool,
    left: &'a mut Option<Entry>,
}

impl Desk<'_> {
    fn hand_over(&mut self, entry: Entry) -> Result<(), Fault> {
        self.parts.blocking_send(entry).map_err(|unsent| {
            *self.left = Some(unsent.0);
            fault(
                COMMIT_REFUSED,
                "the controller refused a part of this archive",
                "the controller's log says why",
            )
        })
    }

    fn full(&mut self, barcode: &str) -> Ending {
        let near_end = "early warning: the end of the medium is near";
        *self.verdict = Some((Verdict::Full, near_end.to_owned()));
        Ending::NextVolume(format!("volume {barcode} is full"))
    }
}

/// Writes what comes, until the archive or the volume is at its end.
fn take_all(
    around: &Surroundings,
    mut writer: Writer<'_>,
    desk: &mut Desk<'_>,
) -> Result<Option<Ending>, Fault> {
    let barcode = writer.barcode().to_owned();
    loop {
        let taken = match writer.next_blocking() {
            Ok(Some(segment)) => {
                let length = segment.bytes.len() as u64;
                writer.segment(&segment).map(|progress| (progress, length))
            }
            Ok(None) => {
                if writer.near_end() {
                    desk.full(&barcode);
                }
                let whole = writer.is_whole();
                *desk.orphan = writer.abandon("the source agent stopped");
                return Ok(whole.then_some(Ending::Whole));
            }
            Err(failure) => Err(failure),
        };
        let (progress, length) = match taken {
            Ok(taken) => taken,
            Err(Failure::Fault(fault)) => {
                *desk.orphan = writer.abandon(&fault.reason);
                return Err(fault);
            }
            Err(Failure::Drive(error)) => {
                around.watch.failed(&error);
                let rescued = writer.rescue(&error);
                *desk.orphan = rescued.orphan;
                *desk.verdict = rescued.verdict;
                *desk.failed = rescued.failed;
                if let Some(entry) = rescued.entry {
                    desk.hand_over(entry)?;
                }
                return Ok(Some(match rescued.outcome? {
                    None => Ending::Whole,
                    Some(why) => Ending::NextVolume(why),
                }));
            }
        };
        around.gauge.flowed(length);
        match progress {
            Progress::Buffered => {}
            Progress::Part(entry) => {
                desk.hand_over(*entry)?;
                if writer.is_whole() {
                    if writer.near_end() {
                        desk.full(&barcode);
                    }
                    return Ok(Some(Ending::Whole));
                }
                // What comes up with the last part stops nothing any more; it is reported with the mount.
                if let Err(fault) = writer.check(&around.watch) {
                    *desk.orphan = writer.abandon(&fault.reason);
                    return Err(fault);
                }
            }
            Progress::Full(entry) => {
                desk.hand_over(*entry)?;
                return Ok(Some(desk.full(&barcode)));
            }
            Progress::NoRoom => return Ok(Some(desk.full(&barcode))),
        }
    }
}
