//! The drive's side of a write assignment: a thread that blocks. It waits until there is a part to write, takes its turn at the
//! drive, writes that part, and gives the turn back.

use std::sync::Arc;

use taf_proto::agent::report_volume_request::Verdict;
use taf_proto::agent::{AssignmentKey, ReportOrphanRequest, WriteWork};
use taf_proto::v1::Fault;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::Ending;
use crate::fault::{drive_reset, is_news};
use crate::journal::Entry;
use crate::ledger::Book;
use crate::parts::{Archive, Failure, Progress, Stand, Writer, part_bytes};
use crate::ring::{Next, Outlet, Ready};
use crate::seats::{Closed, Seat, Turn};
use crate::worker::drive::Surroundings;

/// A drive that loses its place so often in a row, before anything could be written, is not tried again.
const PROOFS_MAX: u32 = 3;

/// What the drive's thread leaves behind.
pub(super) struct Written {
    pub load: (Archive, Outlet),
    /// None if the source agent sends no more, though it is not at its end.
    pub outcome: Result<Option<Ending>, Fault>,
    /// What the volume is like now, if it became so here.
    pub verdict: Option<(Verdict, String)>,
    /// Whether drive or medium failed.
    pub failed: bool,
}

/// One that writes on the volume.
pub(super) struct Hand {
    pub around: Surroundings,
    pub key: AssignmentKey,
    pub work: WriteWork,
    pub seat: Arc<Seat>,
    pub book: Arc<Book>,
    pub stop: CancellationToken,
}

/// Begins to write on one volume; parts go to the ledger on the way, and the end is told first.
pub(super) fn spawn(
    hand: Hand,
    load: (Archive, Outlet),
    ended: oneshot::Sender<()>,
) -> tokio::task::JoinHandle<Written> {
    tokio::task::spawn_blocking(move || {
        let mut written = Written {
            load,
            outcome: Ok(None),
            verdict: None,
            failed: false,
        };
        hand.seat.sit_down();
        written.outcome = hand.write(&mut written);
        written.load.1.keep_company(None);
        hand.seat.stand_up();
        let _ = ended.send(());
        written
    })
}

/// What a turn came to.
enum Took {
    /// The archive goes on.
    Part,
    /// The volume is to be proved before anything is written.
    Unproved,
    /// There is nothing more to do here.
    Done(Option<Ending>),
}

impl Hand {
    /// Part after part, until the archive or the volume is at its end.
    fn write(&self, written: &mut Written) -> Result<Option<Ending>, Fault> {
        written.load.1.keep_company(Some(self.seat.company()));
        written.load.1.part_begins(part_bytes(&self.work));
        loop {
            let ring = &mut written.load.1;
            if ring.ready_blocking(|| self.seat.closed().is_some()) == Ready::Ended {
                return Ok(written.load.0.is_whole().then_some(Ending::Whole));
            }
            let gauge = &self.around.gauge;
            let waits = || gauge.phase("waiting for its turn");
            match self.seat.turn_blocking(waits, || ring.is_halted()) {
                Turn::GivenUp => return Ok(None),
                Turn::Closed(Closed::NextVolume(why)) => return Ok(Some(Ending::NextVolume(why))),
                Turn::Closed(Closed::Fault(fault)) => return Err(fault),
                Turn::Ours => {}
            }
            gauge.phase("writing");
            let took = self.turn(written);
            self.seat.done();
            if let Took::Done(ending) = took? {
                return Ok(ending);
            }
        }
    }

    /// Writes a part, on a volume that is proved.
    fn turn(&self, written: &mut Written) -> Result<Took, Fault> {
        for _ in 0..2 * PROOFS_MAX {
            let Some((proved, near_end)) = self.seat.ground() else {
                self.prove()?;
                continue;
            };
            let took = self.around.device.work(|drive| {
                // Whoever took the drive's news before us has also taken the only warning.
                if self.around.device.changes() != proved.changes {
                    self.seat.stands(None);
                    return Ok(Took::Unproved);
                }
                let (archive, ring) = &mut written.load;
                ring.set_floor(proved.floor);
                let load = (archive, ring);
                let (journal, key, work) = (&self.around.journal, self.key, &self.work);
                let writer = Writer::new(drive, journal, key, work, proved.end, load)?;
                let mut desk = Desk {
                    hand: self,
                    verdict: &mut written.verdict,
                    failed: &mut written.failed,
                };
                desk.write(writer.warned(near_end))
            });
            match took {
                Ok(Took::Unproved) => {}
                Err(fault) if is_news(&fault) => {
                    self.seat.stands(None);
                    return Err(fault);
                }
                // The path to the drive broke.
                Err(fault) if fault.reason == "DRIVE_UNREACHABLE" => {
                    self.seat.stands(None);
                    return Err(fault);
                }
                took => return took,
            }
        }
        Err(drive_reset(format!(
            "it had news {PROOFS_MAX} times before anything could be written"
        )))
    }

    /// Proves the volume anew.
    fn prove(&self) -> Result<(), Fault> {
        let Some(recording) = &self.work.recording else {
            return Ok(());
        };
        tracing::info!(
            volume = recording.barcode,
            "the drive had news: the volume is proved anew"
        );
        let (around, seat) = (&self.around, &self.seat);
        let proving = seat.prove(around, self.key, recording, &self.stop);
        tokio::runtime::Handle::current().block_on(proving)?;
        around.gauge.phase("writing");
        Ok(())
    }
}

/// Where the drive's thread puts what it has to say.
struct Desk<'a> {
    hand: &'a Hand,
    verdict: &'a mut Option<(Verdict, String)>,
    failed: &'a mut bool,
}

impl Desk<'_> {
    fn part(&self, entry: Entry, stand: Option<Stand>) {
        self.hand
            .seat
            .ledger()
            .part_blocking(entry, &self.hand.book);
        self.hand.seat.stands(stand);
    }

    /// The part that was open is given up.
    fn torn(&self, orphan: Option<ReportOrphanRequest>, stand: Option<Stand>) {
        if let Some(orphan) = orphan {
            let ledger = self.hand.seat.ledger();
            ledger.orphan_blocking(orphan, &self.hand.book);
        }
        self.hand.seat.stands(stand);
    }

    fn full(&mut self, barcode: &str) -> Ending {
        let near_end = "early warning: the end of the medium is near";
        *self.verdict = Some((Verdict::Full, near_end.to_owned()));
        let why = format!("volume {barcode} is full");
        self.hand.seat.close(Closed::NextVolume(why.clone()));
        Ending::NextVolume(why)
    }

    /// Writes what comes, until a part ends.
    fn write(&mut self, mut writer: Writer<'_>) -> Result<Took, Fault> {
        let barcode = writer.barcode().to_owned();
        let around = &self.hand.around;
        loop {
            let taken = match writer.next_blocking() {
                Ok(Next::Segment(segment)) => {
                    let length = segment.bytes.len() as u64;
                    writer.segment(&segment).map(|progress| (progress, length))
                }
                // Another one has something for the drive, and we have not.
                Ok(Next::Yield | Next::Starved) if writer.is_open() => {
                    writer.end_part().map(|progress| (progress, 0))
                }
                Ok(Next::Yield | Next::Starved) => return Ok(Took::Part),
                Ok(Next::Ended) => {
                    let whole = writer.is_whole();
                    let orphan = writer.abandon("the source agent stopped");
                    self.torn(orphan, writer.stand());
                    if writer.near_end() {
                        self.full(&barcode);
                    }
                    return Ok(Took::Done(whole.then_some(Ending::Whole)));
                }
                Err(failure) => Err(failure),
            };
            let (progress, length) = match taken {
                Ok(taken) => taken,
                Err(Failure::Fault(fault)) => {
                    let orphan = writer.abandon(&fault.reason);
                    self.torn(orphan, writer.stand());
                    if fault.reason == "POSITION_UNEXPECTED" {
                        let why = Closed::NextVolume(fault.message.clone());
                        self.hand.seat.close(why);
                    }
                    return Err(fault);
                }
                Err(Failure::Drive(error)) => {
                    around.watch.failed(&error);
                    let rescued = writer.rescue(&error);
                    let lost = writer.stand().is_none();
                    *self.verdict = rescued.verdict;
                    *self.failed = rescued.failed;
                    if let Some(entry) = rescued.entry {
                        self.part(entry, writer.stand());
                    }
                    self.torn(rescued.orphan, writer.stand());
                    if !lost {
                        let why = match &rescued.outcome {
                            Ok(Some(why)) => why.clone(),
                            Ok(None) => format!("writing to volume {barcode} failed: {error}"),
                            Err(fault) => fault.message.clone(),
                        };
                        self.hand.seat.close(Closed::NextVolume(why));
                    }
                    return Ok(Took::Done(Some(match rescued.outcome? {
                        None => Ending::Whole,
                        Some(why) => Ending::NextVolume(why),
                    })));
                }
            };
            around.gauge.flowed(length);
            match progress {
                Progress::Buffered => {}
                Progress::Part(entry) => {
                    self.part(*entry, writer.stand());
                    if writer.is_whole() {
                        if writer.near_end() {
                            self.full(&barcode);
                        }
                        return Ok(Took::Done(Some(Ending::Whole)));
                    }
                    // What comes up with the last part stops nothing any more; it is reported with the mount.
                    if let Err(fault) = writer.check(&around.watch) {
                        // It speaks of the drive, or of the volume, whose ever the part was.
                        self.hand.seat.close(Closed::Fault(fault.clone()));
                        return Err(fault);
                    }
                    return Ok(Took::Part);
                }
                Progress::Full(entry) => {
                    self.part(*entry, writer.stand());
                    return Ok(Took::Done(Some(self.full(&barcode))));
                }
                Progress::NoRoom => return Ok(Took::Done(Some(self.full(&barcode)))),
            }
        }
    }
}
