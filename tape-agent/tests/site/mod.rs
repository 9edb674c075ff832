//! A host with a virtual library, a controller that keeps everything in memory, and source agents that dial in; all over
//! real TLS, with the workers as the processes that they are.
#![allow(dead_code, unused_imports)]

mod controller;
mod source;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use std::result::Result;
use taf_drive::{Changer as _, Drive as _, ScsiChanger, ScsiDrive};
use taf_emulator::cartridge::Reader;
use taf_emulator::library::{self, Library, NewCartridge, Spec};
use taf_emulator::server;
use taf_format::index::{Head, IndexPart, IndexVolume, Summary};
use taf_peer::authority::Authority;
use taf_peer::identity::{Identity, Role};
use taf_peer::material::Material;
use taf_proto::agent::{self, assignment::Work, *};
use taf_scsi::transport::in_process::InProcess;
use tempfile::TempDir;
use uuid::Uuid;

pub use controller::{Committed, Controller, Event, Scanned};
pub use source::{Reading, Segments, Writing, archive};

/// Every wait ends within this.
pub const PATIENCE: Duration = Duration::from_mins(1);
pub const BARCODE: &str = "TAF001L8";
pub const BLOCK: u32 = 16 << 10;

pub struct Site {
    pub folder: TempDir,
    pub library: Library,
    pub devices: Vec<String>,
    pub controller: Controller,
    authority: Authority,
    next_attempt: u64,
}

/// A process of the tape agent. Its input ends, and it is killed, with the value.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Looks until there is something.
pub async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Site {
    /// A library of one drive, ten slots and these blank cartridges.
    pub async fn start(spec: impl FnOnce(&mut Spec), cartridges: &[(&str, NewCartridge)]) -> Site {
        let folder = tempfile::tempdir().unwrap();
        let shelf = folder.path().join("library");
        let mut made = Spec::new(1, 10, 256 << 20);
        spec(&mut made);
        Library::create(&shelf, &made).unwrap();
        for (barcode, new) in cartridges {
            library::add(&shelf, barcode, new).unwrap();
        }
        let library = Library::open(&shelf).unwrap();
        let devices = server::serve(&library).unwrap();
        let authority = Authority::create(Uuid::new_v4()).unwrap();
        let own = issue(&authority, Role::Controller, "main");
        let controller = Controller::start(&own, "127.0.0.1:0").await;
        issue(&authority, Role::TapeAgent, "tapes")
            .store(&folder.path().join("state"))
            .unwrap();
        let site = Site {
            devices: devices.into_iter().map(|served| served.device).collect(),
            folder,
            library,
            controller,
            authority,
            next_attempt: 1,
        };
        site.configure("");
        site
    }

    /// One blank cartridge, in the drive.
    pub async fn with_blank() -> Site {
        let site = Site::start(|_| {}, &[(BARCODE, NewCartridge::default())]).await;
        site.insert();
        site
    }

    /// The drive takes everything at once, unless `further` says at which speed it streams.
    pub fn configure(&self, further: &str) {
        let floor = if further.contains("drive_floor") {
            ""
        } else {
            "drive_floor = \"0\""
        };
        let path = self.path("tape-agent.toml");
        let text = format!(
            "controller = {:?}\nstate = \"{}\"\ndrives = [{:?}]\nlibraries = [{:?}]\n{floor}\n{further}",
            self.controller.address,
            self.path("state").display(),
            self.devices[1],
            self.devices[0],
        );
        std::fs::File::create(path)
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    pub fn installation(&self) -> Uuid {
        self.authority.installation()
    }

    pub fn source_agent(&self, id: &str) -> Material {
        issue(&self.authority, Role::SourceAgent, id)
    }

    fn program() -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_taf-tape-agent"));
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        if std::env::var_os("TAF_TEST_LOGS").is_none() {
            command.stderr(Stdio::null());
        }
        command
    }

    /// The supervisor.
    pub fn agent(&self) -> Process {
        let mut command = Self::program();
        command.args(["run", "--config"]);
        Process(command.arg(self.path("tape-agent.toml")).spawn().unwrap())
    }

    /// A worker of the robot ("library") or the drive ("drive"), by itself.
    pub fn worker(&self, kind: &str) -> Process {
        let device = &self.devices[usize::from(kind == "drive")];
        let mut command = Self::program();
        command.args(["worker", kind, "--device", device, "--config"]);
        Process(command.arg(self.path("tape-agent.toml")).spawn().unwrap())
    }

    /// The worker of the drive, once it has introduced itself.
    pub async fn drive_worker(&mut self) -> Process {
        let before = self.controller.hellos().len();
        let worker = self.worker("drive");
        until("hello", || {
            (self.controller.hellos().len() > before).then_some(())
        })
        .await;
        worker
    }

    /// Where the worker of the drive takes data.
    pub fn addresses(&self) -> Vec<String> {
        self.controller
            .hellos()
            .iter()
            .rev()
            .find_map(|hello| match &hello.unit {
                Some(hello::Unit::Drive(drive)) => Some(drive.addresses.clone()),
                _ => None,
            })
            .unwrap()
    }

    pub fn changer(&self) -> ScsiChanger {
        let transport = InProcess::new("robot", self.library.changer_target());
        let mut changer = ScsiChanger::new(Box::new(transport)).unwrap();
        changer.attentions().unwrap();
        changer
    }

    /// A way to the drive of our own, past the worker: somebody else's program.
    pub fn behind(&self) -> ScsiDrive {
        let target = self.library.drive_target(0).unwrap();
        let mut drive = ScsiDrive::new(Box::new(InProcess::new("theirs", target))).unwrap();
        drive.attentions().unwrap();
        drive.prepare().unwrap();
        drive
    }

    /// Puts what is in the first slot into the drive.
    pub fn insert(&self) {
        let mut changer = self.changer();
        let inventory = changer.inventory().unwrap();
        let (slot, drive) = (inventory.slots[0].address, inventory.drives[0].address);
        changer.move_medium(slot, drive).unwrap();
    }

    /// Has the drive unload, takes out what is in it, and puts this cartridge in.
    pub async fn exchange(&mut self, barcode: &str) {
        let key = self.assign(Work::Unload(UnloadWork {}));
        assert_eq!(self.result(key).await.fault, None);
        self.carry(barcode);
    }

    /// Takes out what the drive has unloaded, and puts this cartridge in.
    pub fn carry(&self, barcode: &str) {
        let mut changer = self.changer();
        let inventory = changer.inventory().unwrap();
        let drive = inventory.drives[0].address;
        let mut slots = inventory.slots.iter();
        let empty = slots.find(|slot| !slot.full).unwrap();
        changer.move_medium(drive, empty.address).unwrap();
        let mut slots = inventory.slots.iter();
        let wanted = |slot: &&_| {
            let slot: &taf_drive::changer::SlotElement = slot;
            slot.barcode.as_deref() == Some(barcode)
        };
        let slot = slots.find(wanted).unwrap();
        changer.move_medium(slot.address, drive).unwrap();
    }

    pub fn cartridge(&self) -> Reader {
        self.cartridge_of(BARCODE)
    }

    pub fn cartridge_of(&self, barcode: &str) -> Reader {
        let path = library::cartridges(self.library.dir()).join(format!("{barcode}.tape"));
        Reader::open(&path).unwrap()
    }

    /// All bytes of a tape file.
    pub fn tape_file(&self, file: u64) -> Vec<u8> {
        let cartridge = self.cartridge();
        let blocks = cartridge.blocks(file).unwrap();
        blocks.flat_map(Result::unwrap).collect()
    }

    pub fn recording(&self) -> Recording {
        let uuid = |uuid: Uuid| Bytes::copy_from_slice(uuid.as_bytes());
        Recording {
            barcode: BARCODE.into(),
            volume_uuid: uuid(Uuid::new_v4()),
            recording_uuid: uuid(Uuid::new_v4()),
            installation_uuid: uuid(self.installation()),
            pool: "default".into(),
            block_size: BLOCK,
            next_tape_file: 1,
            next_block: 0,
            medium_serial: String::new(),
        }
    }

    /// Gives the unit this work and nothing else.
    pub fn assign(&mut self, work: Work) -> AssignmentKey {
        let key = self.next_key();
        let assignment = Assignment {
            key: Some(key),
            work: Some(work),
        };
        self.controller.assign(vec![assignment]);
        key
    }

    /// The attempt goes on with its next step.
    pub fn assign_next(&mut self, before: AssignmentKey, work: Work) -> AssignmentKey {
        let key = AssignmentKey {
            step: before.step + 1,
            ..before
        };
        let assignment = Assignment {
            key: Some(key),
            work: Some(work),
        };
        self.controller.assign(vec![assignment]);
        key
    }

    /// Why the archive goes on with another volume, which the assignment must end with.
    pub async fn next_volume(&self, key: AssignmentKey) -> String {
        let result = self.result(key).await;
        assert_eq!(result.fault, None);
        let Some(result::Done::Write(done)) = result.done else {
            panic!("{result:?}")
        };
        assert!(!done.next_volume_reason.is_empty(), "{done:?}");
        done.next_volume_reason
    }

    pub async fn result(&self, key: AssignmentKey) -> agent::Result {
        until("a result", || self.controller.result(key)).await
    }

    /// The reason of the fault that the assignment ends with.
    pub async fn fault(&self, key: AssignmentKey) -> String {
        self.result(key).await.fault.expect("a fault").reason
    }

    pub async fn label(&mut self, recording: &Recording) -> agent::Result {
        let work = LabelWork {
            recording: Some(recording.clone()),
            ..LabelWork::default()
        };
        self.label_as(work).await
    }

    pub async fn label_as(&mut self, work: LabelWork) -> agent::Result {
        let key = self.assign(Work::Label(work));
        self.result(key).await
    }

    /// A label on the blank cartridge; the recording then says where its end is.
    pub async fn labelled(&mut self) -> Recording {
        let mut recording = self.recording();
        let result = self.label(&recording).await;
        let Some(result::Done::Label(done)) = result.done else {
            panic!("{result:?}");
        };
        recording.next_block = done.next_block;
        recording.medium_serial = done.medium_serial;
        recording
    }

    /// The same of a further cartridge, which is in the drive.
    pub async fn labelled_as(&mut self, barcode: &str) -> Recording {
        let mut recording = Recording {
            barcode: barcode.into(),
            recording_uuid: recording_uuid_of(barcode),
            ..self.recording()
        };
        let result = self.label(&recording).await;
        let Some(result::Done::Label(done)) = result.done else {
            panic!("{result:?}");
        };
        recording.next_block = done.next_block;
        recording.medium_serial = done.medium_serial;
        recording
    }

    /// Assigns a write of an archive by source agent "files".
    pub fn assign_write(
        &mut self,
        recording: &Recording,
        part_size: u64,
    ) -> (AssignmentKey, Archive) {
        let (assignment, archive) = self.write_of("files", recording, part_size);
        let key = assignment.key.unwrap();
        self.controller.assign(vec![assignment]);
        (key, archive)
    }

    /// A write of an archive by this source agent, to be assigned beside others.
    pub fn write_of(
        &mut self,
        agent: &str,
        recording: &Recording,
        part_size: u64,
    ) -> (Assignment, Archive) {
        let archive = archive(self.installation(), self.next_attempt);
        let work = WriteWork {
            recording: Some(recording.clone()),
            archive: Some(archive.clone()),
            peer_agent_id: agent.into(),
            part_size,
            continues: false,
            beside: Vec::new(),
        };
        let assignment = Assignment {
            key: Some(self.next_key()),
            work: Some(Work::Write(work)),
        };
        (assignment, archive)
    }

    fn next_key(&mut self) -> AssignmentKey {
        let counter = self.next_attempt;
        self.next_attempt += 1;
        AssignmentKey {
            attempt: counter,
            generation: Some(Generation { epoch: 1, counter }),
            step: 1,
        }
    }

    /// Assigns an index that is to tell of these parts and further things.
    pub fn assign_index(
        &mut self,
        recording: &Recording,
        parts: &[Committed],
        further: Vec<fetch_index_response::Message>,
    ) -> AssignmentKey {
        let mut messages = vec![fetch_index_response::Message::Volume(index_volume(
            recording,
        ))];
        for part in parts {
            messages.push(fetch_index_response::Message::Part(index_part(part)));
        }
        messages.extend(further);
        self.controller.tell(messages);
        self.assign(Work::Index(IndexWork {
            recording: Some(recording.clone()),
        }))
    }

    /// What an index on tape holds.
    pub fn index(&self, tape_file: u64) -> (Head, Summary) {
        let bytes = self.tape_file(tape_file);
        let (head, pieces) = bytes.split_at(BLOCK as usize);
        let head = Head::decode(head).unwrap();
        let mut reader = taf_format::index::Reader::new(Some(head.index_uuid), u64::from(BLOCK));
        for block in pieces.chunks(BLOCK as usize) {
            reader.push_block(block);
        }
        reader.finish();
        let mut summary = Summary::default();
        while let Some(event) = reader.next_event() {
            summary.take(&event);
        }
        (head, summary)
    }

    pub fn assign_read(&mut self, recording: &Recording) -> AssignmentKey {
        self.assign(Work::Read(ReadWork {
            recording: Some(recording.clone()),
            peer_agent_id: "files".into(),
        }))
    }

    pub async fn writing(&self, key: AssignmentKey) -> Writing {
        self.writing_of("files", key).await
    }

    pub async fn writing_of(&self, agent: &str, key: AssignmentKey) -> Writing {
        Writing::open(&self.source_agent(agent), &self.addresses(), key).await
    }

    pub async fn reading(&self, key: AssignmentKey) -> Reading {
        Reading::open(&self.source_agent("files"), &self.addresses(), key).await
    }

    /// A whole backup. Moves the recording's end behind its parts.
    pub async fn back_up(
        &mut self,
        recording: &mut Recording,
        segments: &Segments,
        part_size: u64,
    ) -> Vec<Committed> {
        let (key, archive) = self.assign_write(recording, part_size);
        let mut writing = self.writing(key).await;
        let sealed = segments.seal(&archive);
        for segment in &sealed {
            writing.segment(segment).await;
        }
        writing.finish(sealed.last().unwrap().header.sequence).await;
        let parts = writing.committed().await.expect("committed");
        let result = self.result(key).await;
        assert_eq!(result.fault, None);
        assert_eq!(
            result.done,
            Some(result::Done::Write(WriteDone {
                part_count: parts,
                ..WriteDone::default()
            }))
        );
        let committed: Vec<Committed> = self
            .controller
            .parts()
            .into_iter()
            .filter(|part| part.header.archive_uuid == archive.archive_uuid)
            .collect();
        assert_eq!(committed.len(), parts as usize);
        follow(recording, &committed);
        committed
    }
}

/// The recording that [`Site::labelled_as`] gives this cartridge.
pub fn recording_uuid_of(barcode: &str) -> Bytes {
    let digest = blake3::hash(barcode.as_bytes());
    Bytes::copy_from_slice(&digest.as_bytes()[..16])
}

pub fn index_volume(recording: &Recording) -> IndexVolume {
    IndexVolume {
        recording_uuid: recording.recording_uuid.clone(),
        volume_uuid: recording.volume_uuid.clone(),
        barcode: recording.barcode.clone(),
    }
}

/// A committed part as the controller tells of it.
pub fn index_part(part: &Committed) -> IndexPart {
    let header = part.header.clone();
    let digest = blake3::Hasher::new()
        .update(&part.records)
        .update(&header.segment_table)
        .finalize();
    IndexPart {
        archive_uuid: header.archive_uuid,
        version: 1,
        archive_ordinal: 1,
        part_number: header.part_number,
        tape_file: header.tape_file,
        first_block: header.first_block,
        block_count: header.block_count,
        byte_count: header.byte_count,
        first_sequence: header.first_sequence,
        last_sequence: header.last_sequence,
        first_tar_offset: header.first_tar_offset,
        end_tar_offset: header.end_tar_offset,
        last: header.last,
        digest: Bytes::copy_from_slice(digest.as_bytes()),
        plan: "nightly".into(),
        source: "files".into(),
        ..IndexPart::default()
    }
}

/// Moves the recording's end behind these parts, as the catalog would.
pub fn follow(recording: &mut Recording, parts: &[Committed]) {
    for part in parts {
        assert_eq!(part.header.tape_file, recording.next_tape_file);
        assert_eq!(part.header.first_block, recording.next_block);
        recording.next_tape_file = part.header.next_tape_file;
        recording.next_block = part.header.next_block;
    }
}

fn issue(authority: &Authority, role: Role, id: &str) -> Material {
    let identity = Identity::new(authority.installation(), role, id).unwrap();
    authority.issue(&identity, Duration::from_hours(1)).unwrap()
}

/// What `zstd -dc` makes of these bytes.
pub fn unzstd(bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new("zstd")
        .args(["-dc", "-q"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = bytes.to_vec();
    let feeding = std::thread::spawn(move || stdin.write_all(&input).unwrap());
    let output = child.wait_with_output().unwrap();
    feeding.join().unwrap();
    assert!(output.status.success());
    output.stdout
}
