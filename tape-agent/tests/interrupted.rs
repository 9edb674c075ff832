//! News of the drive at every command of a labelling, an append with its search for the end, a reading and an unloading.
//!
//! Each command brings them once, in runs of their own. What may come of it: it is done all the same, because the volume was
//! proved anew; or the work ends with the drive's news for its reason. What is on tape is never changed, and the next run does it.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../src/rig.rs"]
#[allow(dead_code)]
mod rig;
mod site;

use std::result::Result;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use rig::{BARCODE, Rig};
use site::{Segments, archive};
use taf_drive::{Drive, ScsiDrive};
use taf_proto::agent::*;
use taf_proto::v1::Fault;
use taf_scsi::cdb::opcode;
use taf_scsi::sense::{Key, Sense};
use taf_scsi::status;
use taf_scsi::transport::in_process::InProcess;
use taf_scsi::transport::{Completion, Data, Error, Transport};
use taf_tape_agent::append::{self, Refused};
use taf_tape_agent::fault::is_news;
use taf_tape_agent::journal::{Entry, Journal};
use taf_tape_agent::parts::{Archive, Failure, Progress, Writer};
use taf_tape_agent::reader::Reader;
use taf_tape_agent::spool::Spool;
use taf_tape_agent::{labelling, medium, ring};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const BLOCK: u32 = 16 << 10;

/// Medium changed, reset, mode parameters changed, microcode changed; and at every how manieth command.
const NEWS: [((u8, u8), usize); 4] = [
    ((0x28, 0), 1),
    ((0x29, 0), 1),
    ((0x2a, 1), 5),
    ((0x3f, 1), 7),
];

/// When a command brings news instead of running.
#[derive(Clone, Copy)]
struct Interruption {
    /// Number of the command, from 0.
    command: usize,
    news: (u8, u8),
}

/// A path on which one command brings news.
struct Interrupted {
    inner: Box<dyn Transport>,
    interruption: Option<Interruption>,
    seen: Arc<AtomicUsize>,
    /// Resets the drive.
    reset: Arc<dyn Fn() + Send + Sync>,
}

impl Transport for Interrupted {
    fn execute(
        &mut self,
        cdb: &[u8],
        data: Data<'_>,
        limit: Duration,
    ) -> Result<Completion, Error> {
        // These run whatever the news.
        if ![opcode::INQUIRY, opcode::REQUEST_SENSE].contains(&cdb[0]) {
            let number = self.seen.fetch_add(1, Ordering::SeqCst);
            if let Some(interruption) = self.interruption.filter(|i| i.command == number) {
                if interruption.news.0 == 0x29 {
                    // It brings the news itself, to this very command.
                    (self.reset)();
                } else {
                    return Ok(Completion {
                        status: status::CHECK_CONDITION,
                        sense: Sense::new(Key::UnitAttention, interruption.news).to_fixed(),
                        transferred: 0,
                    });
                }
            }
        }
        self.inner.execute(cdb, data, limit)
    }

    fn max_transfer(&self) -> usize {
        self.inner.max_transfer()
    }

    fn name(&self) -> &str {
        self.inner.name()
    }
}

struct Bench {
    rig: Arc<Rig>,
    folder: tempfile::TempDir,
    recording: Recording,
    segments: Segments,
    force: bool,
    /// Bytes of the parts on tape, by their first block.
    parts: Mutex<Vec<PartHeader>>,
}

impl Bench {
    fn new() -> Bench {
        let uuid = || Bytes::copy_from_slice(Uuid::new_v4().as_bytes());
        Bench {
            rig: Arc::new(Rig::new()),
            folder: tempfile::tempdir().unwrap(),
            recording: Recording {
                barcode: BARCODE.into(),
                volume_uuid: uuid(),
                recording_uuid: uuid(),
                installation_uuid: uuid(),
                pool: "default".into(),
                block_size: BLOCK,
                next_tape_file: 1,
                ..Recording::default()
            },
            segments: Segments::new(5, 3, 40 << 10),
            force: false,
            parts: Mutex::default(),
        }
    }

    /// A drive that brings news, and how many commands it was sent.
    fn drive(&self, interruption: Option<Interruption>) -> (ScsiDrive, Arc<AtomicUsize>) {
        let target = self.rig.library.drive_target(0).unwrap();
        let rig = Arc::clone(&self.rig);
        let seen = Arc::new(AtomicUsize::new(0));
        let transport = Interrupted {
            inner: Box::new(InProcess::new("drive", target)),
            interruption,
            seen: Arc::clone(&seen),
            reset: Arc::new(move || {
                let drive = &rig.library.drives()[0];
                drive.lock().power_cut(0).unwrap();
            }),
        };
        (ScsiDrive::new(Box::new(transport)).unwrap(), seen)
    }

    fn step(&mut self, step: Step, drive: &mut dyn Drive) -> Result<(), Fault> {
        let stop = CancellationToken::new();
        match step {
            Step::Label => {
                let work = LabelWork {
                    recording: Some(self.recording.clone()),
                    force: self.force,
                    ..LabelWork::default()
                };
                let done = labelling::label(drive, &work, &stop, &|_| {})?;
                self.recording.next_block = done.next_block;
                Ok(())
            }
            Step::Append => self.append(drive, &stop),
            Step::Read => self.read(drive, &stop),
            Step::Unload => medium::unload(drive, &stop, &|_| {}),
        }
    }

    fn proved(&self, drive: &mut dyn Drive, stop: &CancellationToken) -> Result<(), Fault> {
        medium::steadily(
            |fault| fault,
            || {
                medium::mount(drive, BARCODE, stop)?;
                medium::prove(drive, &self.recording)
                    .map(|_| ())
                    .map_err(|wrong| {
                        assert!(!wrong.contradicts, "{:?}", wrong.fault);
                        wrong.fault
                    })
            },
        )
    }

    fn append(&mut self, drive: &mut dyn Drive, stop: &CancellationToken) -> Result<(), Fault> {
        let (end, strays) = medium::steadily(
            |fault| fault,
            || {
                self.proved(drive, stop)?;
                append::find_end(drive, &self.recording).map_err(|refused| match refused {
                    Refused::Fault(fault) => fault,
                    Refused::Truncated(fault) => panic!("{fault:?}"),
                })
            },
        )?;
        // Whatever comes of the rest, the catalog has the orphans.
        for orphan in strays.into_iter().map(|stray| stray.orphan) {
            assert_eq!(orphan.first_block, self.recording.next_block);
            self.recording.next_block = orphan.next_block;
            self.recording.next_tape_file = orphan.next_tape_file;
        }
        assert_eq!(end.block, self.recording.next_block);
        let archive = archive(Uuid::nil(), 1);
        let work = WriteWork {
            recording: Some(self.recording.clone()),
            archive: Some(archive.clone()),
            part_size: 1 << 30,
            ..WriteWork::default()
        };
        let spool = Spool::open(self.folder.path().join("spool"), 1 << 20).unwrap();
        let journal = Journal::open(self.folder.path().join("journal"), spool).unwrap();
        let (inlet, mut outlet) = ring::ring(ring::Plan {
            memory: 1 << 30,
            disk: None,
            terms: ring::gate::Terms {
                floor: 0,
                wait: std::time::Duration::from_secs(1),
            },
            clock: ring::clock(),
        });
        let sealed = self.segments.seal(&archive);
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(async {
                for segment in sealed {
                    let (header, bytes) = (segment.header, segment.bytes);
                    inlet.put(ring::Segment { header, bytes }).await.unwrap();
                }
            });
        drop(inlet);
        let mut state = Archive::new(Uuid::from_slice(&archive.archive_uuid).unwrap());
        let load = (&mut state, &mut outlet);
        let mut writer = Writer::new(drive, &journal, AssignmentKey::default(), &work, end, load)?;
        loop {
            let step = match writer.next_blocking() {
                Ok(ring::Next::Segment(segment)) => writer.segment(&segment),
                Ok(_) => break,
                Err(failure) => Err(failure),
            };
            match step {
                Ok(Progress::Buffered) => {}
                Ok(Progress::Part(entry) | Progress::Full(entry)) => self.keep(&entry),
                Ok(Progress::NoRoom) => panic!("there is room"),
                Err(Failure::Fault(fault)) => {
                    if let Some(orphan) = writer.abandon(&fault.reason) {
                        self.recording.next_block = orphan.next_block;
                        self.recording.next_tape_file = orphan.next_tape_file;
                    }
                    return Err(fault);
                }
                Err(Failure::Drive(error)) => {
                    let rescued = writer.rescue(&error);
                    if let Some(entry) = &rescued.entry {
                        self.keep(entry);
                    }
                    if let Some(orphan) = rescued.orphan {
                        self.recording.next_block = orphan.next_block;
                        self.recording.next_tape_file = orphan.next_tape_file;
                    }
                    return rescued.outcome.map(|_| ());
                }
            }
        }
        Ok(())
    }

    fn keep(&mut self, entry: &Entry) {
        self.recording.next_block = entry.header.next_block;
        self.recording.next_tape_file = entry.header.next_tape_file;
        self.parts.lock().unwrap().push(entry.header.clone());
    }

    fn read(&self, drive: &mut dyn Drive, stop: &CancellationToken) -> Result<(), Fault> {
        self.proved(drive, stop)?;
        let again = |drive: &mut dyn Drive, _: &taf_drive::Error| self.proved(drive, stop);
        let part = self.parts.lock().unwrap().first().cloned().unwrap();
        let mut reader = Reader::new(drive, BARCODE, BLOCK, &again);
        let range = ReadRange {
            id: 1,
            tape_file: part.tape_file,
            first_block: part.first_block,
            byte_offset: 0,
            length: part.byte_count,
        };
        let mut bytes = Vec::new();
        reader.range(&range, &mut |piece| {
            match piece.message.unwrap() {
                read_response::Message::Chunk(chunk) => bytes.extend_from_slice(&chunk.data),
                other => panic!("{other:?}"),
            }
            true
        })?;
        assert!(bytes == self.on_tape(part.tape_file), "other bytes");
        Ok(())
    }

    fn on_tape(&self, file: u64) -> Vec<u8> {
        let shelf = taf_emulator::library::cartridges(self.rig.library.dir());
        let file_name = shelf.join(format!("{BARCODE}.tape"));
        let cartridge = taf_emulator::cartridge::Reader::open(&file_name).unwrap();
        let blocks = cartridge.blocks(file).unwrap();
        blocks.flat_map(Result::unwrap).collect()
    }

    /// What the catalog has on this tape, byte by byte.
    fn kept(&self) -> Vec<Vec<u8>> {
        let parts = self.parts.lock().unwrap();
        parts
            .iter()
            .map(|part| self.on_tape(part.tape_file))
            .collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    Label,
    Append,
    Read,
    Unload,
}

/// Does the steps before without interruption.
fn before(step: Step) -> Bench {
    let mut bench = Bench::new();
    let (mut drive, _) = bench.drive(None);
    let steps: &[Step] = match step {
        Step::Label => &[],
        Step::Append | Step::Read => &[Step::Label, Step::Append],
        Step::Unload => &[Step::Label],
    };
    for step in steps {
        bench.step(*step, &mut drive).unwrap();
    }
    // As a worker does when its work has ended.
    drive.attentions().unwrap();
    drive.prevent_removal(false).unwrap();
    bench
}

fn interrupt_every_command_of(step: Step) {
    let mut bench = before(step);
    let (mut drive, seen) = bench.drive(None);
    bench.step(step, &mut drive).unwrap();
    let commands = seen.load(Ordering::SeqCst);
    assert!(commands > 2);
    for (news, every) in NEWS {
        for command in (0..commands).step_by(every) {
            let at = format!("{step:?}, news {news:02x?} at command {command}");
            let mut bench = before(step);
            let kept = bench.kept();
            let (mut drive, _) = bench.drive(Some(Interruption { command, news }));
            match bench.step(step, &mut drive) {
                Ok(()) => {}
                Err(fault) => assert!(is_news(&fault), "{at}: {fault:?}"),
            }
            assert!(bench.kept()[..kept.len()] == kept, "{at}");
            // Another process, as after the failure of the job.
            let (mut drive, _) = bench.drive(None);
            let mut again = bench.step(step, &mut drive);
            // A label that was cut off within says no longer whose it is: only a person gives it up.
            if step == Step::Label
                && again
                    .as_ref()
                    .is_err_and(|f| f.message.contains("without a filemark"))
            {
                bench.force = true;
                again = bench.step(step, &mut drive);
            }
            again.unwrap_or_else(|fault| panic!("{at}, then again: {fault:?}"));
            assert!(bench.kept()[..kept.len()] == kept, "{at}, then again");
        }
    }
}

#[test]
fn of_a_labelling() {
    interrupt_every_command_of(Step::Label);
}

#[test]
fn of_an_append() {
    interrupt_every_command_of(Step::Append);
}

#[test]
fn of_a_reading() {
    interrupt_every_command_of(Step::Read);
}

#[test]
fn of_an_unloading() {
    interrupt_every_command_of(Step::Unload);
}
