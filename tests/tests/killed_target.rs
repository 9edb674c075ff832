//! A library behind iSCSI whose target is killed while something is written: by the whole system with our own initiator; and in
//! the guest through the kernel's initiator and `/dev/sg*`, where the usual tools then read what was written, and write what the
//! emulator gives back. `TAF_TEST_LONG=1` runs the whole system in the guest, too.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use taf_drive::{Drive, Readiness, Sync};
use taf_emulator::control::{self, Order, Report};
use taf_scsi::host::{Device, Host, Kind};
use taf_tests::lab::{self, Guest, Lab};
use taf_tests::patience::until;
use taf_tests::said::{number, objects};
use taf_tests::system::{Devices, Options, Process, System};
use taf_tests::trees::{build_mixed, build_random, ensure_equal};

const CARTRIDGE: &str = "TAF001L8";
/// The block size of the pool.
const BLOCK: usize = 512 << 10;
const PATIENCE: Duration = Duration::from_mins(2);
/// Slow enough that a backup is seen while it is written.
const RATE: &str = "--rate 30MB";

/// Bytes that the drives of a library were given since it was switched on.
fn written(library: &Path) -> u64 {
    let report = control::send(library, &Order::Stat).unwrap();
    let report: Report = serde_json::from_value(report).unwrap();
    report
        .drives
        .iter()
        .map(|drive| drive.counters.bytes_written)
        .sum()
}

/// A backup during which the target dies; it is made nevertheless, at the latest by a second run, and comes back.
fn survives_the_targets_death(system: &mut System, library: &Path, die: impl FnOnce(&mut System)) {
    let tree = system.data().join("random");
    build_random(&tree, 11, 12, 3_000_000).unwrap();
    system.plan("random", &tree, "default").unwrap();
    let before = written(library);
    let mut run = system.start_taf(&["run", "random"]).unwrap();
    until("bytes on tape", PATIENCE, || {
        assert!(!run.ended().unwrap(), "the backup was over too early");
        Ok((written(library) > before + 10_000_000).then_some(()))
    })
    .unwrap();
    die(system);
    let first = run.wait(PATIENCE).unwrap();
    println!(
        "the run whose target died: {:?}\n{}",
        first.status, first.stderr
    );
    if first.status != Some(0) {
        // Nobody may believe that there is a version.
        assert_eq!(system.versions("random").unwrap().len(), 0);
        system.taf(&["run", "random"]).unwrap().expect(0).unwrap();
    }
    let restored = system.restore("random", &[], "random", &tree).unwrap();
    ensure_equal(&tree, &restored).unwrap();
}

#[test]
fn a_backup_survives_the_death_of_its_target_and_is_read_by_the_usual_tools() {
    let mut system = System::start(Options {
        devices: Devices::Iscsi,
        capacity: "200MB".into(),
        emulator: RATE.split(' ').map(str::to_owned).collect(),
        ..Options::default()
    })
    .unwrap();
    let (tree, part) = back_up(&system);
    let library = system.home().join("library");
    survives_the_targets_death(&mut system, &library, |system| {
        system.kill(Process::Emulator).unwrap();
        system.restart(Process::Emulator).unwrap();
    });

    let Some(lab) = Lab::open().unwrap() else {
        return;
    };
    // What is on this tape goes onto one of the guest's, with the tree to compare with.
    let shared = tempfile::tempdir_in(lab.folder()).unwrap();
    let cartridge = system.cartridge(CARTRIDGE).display().to_string();
    for file in 0..=part {
        let to = shared.path().join(format!("file-{file}"));
        let line = format!("taf tape cat {cartridge} {file} > {}", to.display());
        system
            .shell(system.home(), &line)
            .unwrap()
            .expect(0)
            .unwrap();
    }
    let tar = shared.path().join("tree.tar");
    let line = format!("tar -cf {} --xattrs -C / {}", tar.display(), tree.display());
    system
        .shell(system.home(), &line)
        .unwrap()
        .expect(0)
        .unwrap();
    let name = shared.path().file_name().unwrap().to_str().unwrap();
    let asked = format!("{INSIDE}=/mnt/{name} PART={part} TREE={}", tree.display());
    in_the_guest(&lab, &asked, "inside_the_guest");
}

/// The same by a whole system in the guest. Takes two minutes of processor time.
#[test]
fn the_whole_system_runs_on_the_kernels_drivers() {
    if std::env::var_os("TAF_TEST_LONG").is_none() {
        return;
    }
    if let Some(lab) = Lab::open().unwrap() {
        in_the_guest(&lab, &format!("{INSIDE}=/mnt"), "inside_the_guest_with_all");
    }
}

fn in_the_guest(lab: &Lab, environment: &str, test: &str) {
    let own = std::env::current_exe().unwrap();
    let command = format!(
        "{environment} RUST_BACKTRACE=0 {} --exact {test} --nocapture",
        own.display()
    );
    let guest = Guest {
        tape_mb: 200,
        memory_mb: 768,
        emulator: RATE,
        reconnects: true,
        ..Guest::of(lab::Library::Emulator)
    };
    let text = lab.run(guest, &command).unwrap();
    println!("{text}");
    assert!(text.contains("1 passed"));
}

/// Labels a cartridge and backs up a tree onto it: the tree, and the tape file of its one part.
fn back_up(system: &System) -> (PathBuf, u64) {
    let tree = system.data().join("mixed");
    build_mixed(&tree, 7, 8_000_000).unwrap();
    system.label(CARTRIDGE, "default").unwrap();
    system.plan("mixed", &tree, "default").unwrap();
    system.taf(&["run", "mixed"]).unwrap().expect(0).unwrap();
    let volume = system.json(&["volume", "show", CARTRIDGE]).unwrap();
    let files = objects(&volume, "number").into_iter();
    let parts: Vec<u64> = files
        .filter(|file| file["kind"] == "part")
        .map(|file| number(&file["number"]))
        .collect();
    let [part] = parts[..] else {
        panic!("one part is enough for this tree: {volume}");
    };
    (tree, part)
}

/// The guest's robot and drives, in the order of the robot's elements.
struct Site {
    robot: Device,
    drives: Vec<Device>,
    library: PathBuf,
}

impl Site {
    /// None if this is not the guest.
    fn find() -> Option<Self> {
        std::env::var_os(INSIDE)?;
        let mut devices = Host::this().devices().unwrap();
        devices.sort_by_key(|device| device.serial.clone());
        let (drives, robots): (Vec<_>, Vec<_>) = devices
            .into_iter()
            .partition(|device| device.kind == Kind::Drive);
        Some(Self {
            robot: robots.into_iter().next().unwrap(),
            drives,
            library: PathBuf::from(std::env::var("LIBRARY_DIR").unwrap()).join("it"),
        })
    }

    fn nst(&self, drive: usize) -> String {
        let node = self.drives[drive].st_node.as_ref().unwrap();
        node.display().to_string()
    }

    /// Kills the target and brings it back.
    fn die(&self) {
        let pid = fs::read_to_string(self.library.parent().unwrap().join("pid")).unwrap();
        kill(Pid::from_raw(pid.trim().parse().unwrap()), Signal::SIGKILL).unwrap();
        shell(Path::new("/"), "library_start");
    }

    /// Has `mtx` bring a cartridge into a drive, wherever it is.
    fn bring(&self, barcode: &str, drive: usize) {
        let robot = self.robot.node.display();
        let status = shell(Path::new("/"), &format!("mtx -f {robot} status"));
        println!("{status}");
        let line = status
            .lines()
            .find(|line| line.contains(barcode))
            .unwrap()
            .trim();
        if line.starts_with(&format!("Data Transfer Element {drive}:")) {
            return;
        }
        assert!(line.starts_with("Storage Element "), "{line}");
        let slot = line["Storage Element ".len()..].split(':').next().unwrap();
        shell(
            Path::new("/"),
            &format!("mtx -f {robot} load {slot} {drive}"),
        );
    }
}

/// Set in the guest: the folder that it shares with the host.
const INSIDE: &str = "TAF_INSIDE_THE_GUEST";

/// What the guest does. Passes at once elsewhere.
#[test]
fn inside_the_guest() {
    let Some(site) = Site::find() else { return };
    let shared = PathBuf::from(std::env::var(INSIDE).unwrap());
    let part: u64 = std::env::var("PART").unwrap().parse().unwrap();
    site.bring(CARTRIDGE, 0);
    let sg = site.drives[0].node.display();
    let said = shell(
        &shared,
        &format!(
            "sg_luns {sg} && sg_inq {sg} && sg_vpd -p sn {sg} && {{ for news in 1 2 3 4; do sg_turs {sg} && break; done; }} && sg_logs -p 0x2e {sg}"
        ),
    );
    println!("{said}");
    let serial = site.drives[0].serial.as_deref().unwrap();
    assert!(said.contains(serial) && said.contains("ULTRIUM-EMU8"));
    write_by_sg(&site, &shared, part);
    shell(
        Path::new("/"),
        &format!("tar -xf {}/tree.tar", shared.display()),
    );
    let tree = PathBuf::from(std::env::var("TREE").unwrap());
    site.bring("TAF003L8", 1);
    let work = tempfile::tempdir().unwrap();
    read_by_the_printed_command(work.path(), &site.nst(0), part, &tree);
    write_by_tar(work.path(), &site.nst(1), &site.library, &tree);
}

/// The tape files of the host's cartridge, written by our driver through `/dev/sg*`; the target dies in the midst of it.
fn write_by_sg(site: &Site, shared: &Path, part: u64) {
    let name = site.drives[0].name();
    let mut drive = ready(&name);
    let files = (0..=part).map(|file| fs::read(shared.join(format!("file-{file}"))).unwrap());
    let files: Vec<Vec<u8>> = files.collect();
    let (last, before) = files.split_last().unwrap();
    let write = |drive: &mut dyn Drive, bytes: &[u8]| {
        bytes
            .chunks(BLOCK)
            .try_for_each(|block| drive.write_block(block).map(drop))
    };
    for file in before {
        write(drive.as_mut(), file).unwrap();
        drive.write_filemarks(1, Sync::Synchronous).unwrap();
    }
    let safe = drive.position().unwrap().block;
    write(drive.as_mut(), &last[..last.len() / 2]).unwrap();
    site.die();
    // Whatever the kernel makes of it, nobody is told that all is well.
    let flushed = drive.flush();
    println!("after the target's death: {flushed:?}");
    assert!(flushed.is_err());
    drop(drive);
    let mut drive = ready(&name);
    drive.locate_end_of_data().unwrap();
    assert!(
        drive.position().unwrap().block >= safe,
        "what was flushed is there"
    );
    drive.locate(safe).unwrap();
    write(drive.as_mut(), last).unwrap();
    drive.write_filemarks(1, Sync::Synchronous).unwrap();
    drive.rewind().unwrap();
}

/// A drive that is open and ready; the kernel may still be connecting.
fn ready(name: &str) -> Box<dyn Drive> {
    until("the drive", PATIENCE, || {
        let Ok(mut drive) = taf_drive::open(name) else {
            return Ok(None);
        };
        let news = drive.attentions();
        println!("{name}: {news:?}");
        let is_ready = matches!(drive.ready(), Ok(Readiness::Ready));
        Ok((news.is_ok() && is_ready && drive.prepare().is_ok()).then_some(drive))
    })
    .unwrap()
}

/// The whole system in the guest. Passes at once elsewhere.
#[test]
fn inside_the_guest_with_all() {
    let Some(site) = Site::find() else { return };
    let mut system = System::start(Options {
        devices: Devices::Named {
            drives: site.drives.iter().map(Device::name).collect(),
            library: site.robot.name(),
        },
        ..Options::default()
    })
    .unwrap();
    let (tree, part) = back_up(&system);
    survives_the_targets_death(&mut system, &site.library, |_| site.die());
    // From here on the kernel's own tape driver has the drives.
    system.end_process(Process::TapeAgent).unwrap();
    let work = system.restored("work").unwrap();
    site.bring(CARTRIDGE, 0);
    read_by_the_printed_command(&work, &site.nst(0), part, &tree);
    site.bring("TAF003L8", 1);
    write_by_tar(&work, &site.nst(1), &site.library, &tree);
}

/// Runs a line of shell, which must not fail; what it prints.
fn shell(folder: &Path, line: &str) -> String {
    let output = Command::new("bash")
        .args(["-o", "pipefail", "-c", line])
        .current_dir(folder)
        .output()
        .unwrap();
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}\n{talk}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `mt`, `dd`, `zstd` and GNU tar alone, by the command that stands in the first block of the part.
fn read_by_the_printed_command(work: &Path, nst: &str, part: u64, tree: &Path) {
    let folder = work.join("by-hand");
    fs::create_dir(&folder).unwrap();
    let first = format!(
        "mt -f {nst} load; mt -f {nst} setblk 0 && mt -f {nst} rewind && mt -f {nst} fsf {part} && dd if={nst} bs=1M count=1 status=none"
    );
    let block0 = shell(&folder, &format!("{first} | strings -n 1 || true"));
    let printed = block0
        .lines()
        .find(|line| line.trim_start().starts_with("( mt "))
        .unwrap_or_else(|| panic!("block 0 prints no command: {block0}"))
        .trim();
    println!("block 0 says: {printed}");
    shell(&folder, &printed.replace("/dev/nst0", nst));
    ensure_equal(tree, &taf_tests::system::below(&folder, tree)).unwrap();
}

/// What GNU tar writes by `st` comes back from the emulator byte for byte.
fn write_by_tar(work: &Path, nst: &str, library: &Path, tree: &Path) {
    let tar = format!("tar -b 1024 -C {}", tree.display());
    shell(
        work,
        &format!(
            "mt -f {nst} setblk 0 && mt -f {nst} rewind && {tar} -cf {nst} . && {tar} -cf by-tar.tar . && mt -f {nst} rewind && {tar} -df {nst}"
        ),
    );
    let cartridge = library.join("cartridges/TAF003L8.tape");
    shell(
        work,
        &format!(
            "mt -f {nst} rewind && $EMULATOR cat {} 0 | cmp - by-tar.tar",
            cartridge.display()
        ),
    );
}
