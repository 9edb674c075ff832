//! `taf dump`: what comes out of it is what a restore writes; and it never ends well if not everything came.
#![allow(clippy::unwrap_used, missing_docs)]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{RngCore as _, SeedableRng as _};
use taf_emulator::control::{Order, Report};
use taf_emulator::faults::{At, Do, Fault};
use taf_scsi::sense::Key;
use taf_tests::patience::until;
use taf_tests::said::{Running, Said, number, objects};
use taf_tests::system::{Options, PATIENCE, Process, System, below};
use taf_tests::trees::ensure_equal;

/// Apparent bytes of the file that is nearly all hole.
const HOLE: u64 = 200 << 20;
const FILES: usize = 60;

struct Scene {
    system: System,
    tree: PathBuf,
}

impl Scene {
    /// Two versions, in two archives: of the second one some directories come behind what is in them.
    fn set() -> Self {
        let system = System::start(Options {
            drives: 1,
            emulator: ["--mail-slots", "1"].map(str::to_owned).into(),
            ..Options::default()
        })
        .unwrap();
        let tree = system.data().join("work");
        let mut random = StdRng::seed_from_u64(7);
        for folder in ["files", "links", "odd"] {
            fs::create_dir_all(tree.join(folder)).unwrap();
        }
        let mut content = vec![0; 100_000];
        for n in 0..FILES {
            random.fill_bytes(&mut content);
            fs::write(tree.join(format!("files/f{n:02}")), &content).unwrap();
        }
        fs::write(tree.join("links/one"), "one file").unwrap();
        fs::hard_link(tree.join("links/one"), tree.join("links/two")).unwrap();
        symlink("one", tree.join("links/soft")).unwrap();
        let odd = OsStr::from_bytes(b"any \xff\n bytes");
        fs::write(tree.join("odd").join(odd), "odd").unwrap();
        let long = tree.join("odd").join("l".repeat(200)).join("m".repeat(200));
        fs::create_dir_all(&long).unwrap();
        fs::write(long.join("deep"), "deep").unwrap();
        fs::set_permissions(&long, fs::Permissions::from_mode(0o2750)).unwrap();
        let hole = fs::File::create(tree.join("hole")).unwrap();
        random.fill_bytes(&mut content);
        hole.write_all_at(&content, HOLE - 100_000).unwrap();
        system.label("TAF001L8", "default").unwrap();
        system.plan("work", &tree, "default").unwrap();
        system.taf(&["run", "work"]).unwrap().expect(0).unwrap();
        fs::write(tree.join("files/new"), "new").unwrap();
        fs::hard_link(tree.join("links/one"), tree.join("files/late")).unwrap();
        let run = ["run", "work", "--type", "incremental"];
        system.taf(&run).unwrap().expect(0).unwrap();
        Self { system, tree }
    }

    fn path(&self, below: &str) -> String {
        self.tree.join(below).display().to_string()
    }

    /// Runs a line of shell in the home folder, with the tree as `$1`; the status is that of the first program that failed.
    fn begin(&self, line: &str) -> Running {
        let mut command = self.system.command("bash");
        command.args(["-o", "pipefail", "-c", line, "bash"]);
        command.arg(&self.tree);
        Running::start(command).unwrap()
    }

    fn shell(&self, line: &str) -> Said {
        self.begin(line).wait(PATIENCE).unwrap()
    }

    /// Waits until the newest job has ended.
    fn newest_job(&self) -> serde_json::Value {
        until("the end of the newest job", PATIENCE, || {
            let list = self.system.json(&["job", "list"])?;
            let newest = list["jobs"][0].clone();
            Ok(newest["end_time"].is_string().then_some(newest))
        })
        .unwrap()
    }

    fn what_comes_is_what_is_restored(&self) {
        let tree = self.tree.display().to_string();
        let restored = self
            .system
            .restore("work", &[&tree], "restored", &self.tree);
        let said = self
            .shell("mkdir unpacked && taf dump work \"$1\" | tar xp --numeric-owner -C unpacked");
        said.expect(0).unwrap();
        let unpacked = below(&self.system.home().join("unpacked"), &self.tree);
        ensure_equal(&restored.unwrap(), &unpacked).unwrap();
        ensure_equal(&self.tree, &unpacked).unwrap();
        assert_eq!(self.newest_job()["kind"], "JOB_KIND_DUMP");
    }

    /// Other people's programs find the same in it.
    fn other_programs_list_the_same(&self) {
        let listed = |program: &str| {
            let line = format!("taf dump work \"$1\" | {program} tf - | sort");
            let said = self.shell(&line).expect(0).unwrap();
            assert!(
                !said.stdout.is_empty() && !said.stderr.contains("tar:"),
                "{said}"
            );
            said.stdout
        };
        if self.shell("bsdtar --version").status != Some(0) {
            eprintln!("SKIPPED: there is no bsdtar here; libarchive-tools has it");
            return;
        }
        assert!(listed("tar") == listed("bsdtar"));
    }

    fn one_file(&self) {
        let file = self.path("files/f07");
        let said = self.system.taf(&["dump", "work", &file]).unwrap();
        assert!(said.expect(0).unwrap().stdout == fs::read(&file).unwrap());
        let plan = ["dump", "work", &file, "--dry-run"];
        let plan = self.system.json(&plan).unwrap();
        assert_eq!(plan["format"], "DUMP_FORMAT_FILE");
        assert_eq!(
            (number(&plan["plan"]["entry_count"]), &plan["plan"]["job"]),
            (1, &"".into())
        );
        let words = ["dump", "work", &self.path("files"), "--format", "file"];
        let said = self.system.taf(&words).unwrap().expect(1).unwrap();
        assert!(said.stderr.contains("NOT_ONE_FILE"), "{said}");

        // Into a file, which is there when all is; and standard output then has room for what came of it.
        let words = [
            "dump", "work", &file, "--format", "tar", "--output", "one.tar",
        ];
        let job = self.system.json(&words).unwrap();
        assert_eq!(number(&job["progress"]["file_count"]), 1);
        self.shell("tar xOf one.tar | cmp - \"$1/files/f07\"")
            .expect(0)
            .unwrap();
        let said = self.system.taf(&words).unwrap().expect(2).unwrap();
        assert!(said.stderr.contains("exists"), "{said}");
        self.system
            .taf(&["dump", "work", &file, "--json"])
            .unwrap()
            .expect(2)
            .unwrap();
    }

    fn a_reader_that_leaves_cancels_it(&self) {
        let said = self
            .shell("taf dump work \"$1/hole\" | head -c 1000 > /dev/null; exit ${PIPESTATUS[0]}");
        let said = said.expect(1).unwrap();
        assert!(said.stderr.contains("DUMP_NOT_TAKEN"), "{said}");
        assert_eq!(self.newest_job()["state"], "JOB_STATE_CANCELLED");
    }

    fn an_agent_that_is_killed_is_no_good_end(&mut self) {
        let running = self.begin(
            "taf dump work \"$1/hole\" | { head -c 1000000 > got; until [ -e go ]; do sleep 0.05; done; cat >> got; }",
        );
        let got = self.system.home().join("got");
        let length = |path: &Path| fs::metadata(path).map_or(0, |meta| meta.len());
        until("some bytes", PATIENCE, || {
            Ok((length(&got) == 1_000_000).then_some(()))
        })
        .unwrap();
        self.system.kill(Process::SourceAgent).unwrap();
        fs::write(self.system.home().join("go"), "").unwrap();
        let said = running.wait(PATIENCE).unwrap().expect(1).unwrap();
        assert!(said.stderr.contains("AGENT_LOST"), "{said}");
        assert!(length(&got) < HOLE);
        self.system.restart(Process::SourceAgent).unwrap();
        assert_eq!(self.newest_job()["state"], "JOB_STATE_FAILED");
        self.system.until_ready().unwrap();
    }

    /// The block behind the first segment.
    fn second_segment(&self) -> Fault {
        let volume = self.system.json(&["volume", "show", "TAF001L8"]).unwrap();
        let mut files = objects(&volume, "number").into_iter();
        let part = files.find(|file| file["kind"] == "part").unwrap();
        Fault {
            barcode: Some("TAF001L8".into()),
            object: Some(number(&part["first_block"]) + 10),
            objects: 1,
            ..Fault::doing(At::Read, Do::Hang)
        }
    }

    fn a_worker_that_is_killed_is_no_good_end(&mut self) {
        let fault = self.second_segment();
        self.system.order(&Order::FaultAdd { fault }).unwrap();
        let running = self.begin("taf dump work \"$1\" > torn.tar");
        let torn = self.system.home().join("torn.tar");
        let length = || fs::metadata(&torn).map_or(0, |meta| meta.len());
        until("some bytes, and a command that hangs", PATIENCE, || {
            let report = self.system.order(&Order::Stat)?;
            let report: Report = serde_json::from_value(report)?;
            Ok((length() > 0 && report.drives[0].hangs).then_some(()))
        })
        .unwrap();
        self.system.kill_worker(0).unwrap();
        let said = running.wait(PATIENCE).unwrap().expect(1).unwrap();
        // Whoever notices first.
        let why = ["PEER_LOST", "DRIVE_LOST"].iter();
        assert!(why.clone().any(|why| said.stderr.contains(why)), "{said}");
        assert!(length() < 100_000 * FILES as u64);
        assert_eq!(self.newest_job()["state"], "JOB_STATE_FAILED");
        self.system.calm().unwrap();
    }

    fn a_volume_that_is_missing_is_waited_for(&self) {
        self.system.take_out("TAF001L8").unwrap();
        let file = self.path("files/f07");
        let running = self.system.start_taf(&["dump", "work", &file]).unwrap();
        until("a wait for the volume", PATIENCE, || {
            let list = self.system.json(&["job", "list", "--active"])?;
            let why = list["jobs"][0]["waiting_for"].as_str();
            Ok(why
                .is_some_and(|why| why.contains("TAF001L8"))
                .then_some(()))
        })
        .unwrap();
        self.system.bring_in("TAF001L8").unwrap();
        let said = running.wait(PATIENCE).unwrap().expect(0).unwrap();
        assert!(said.stdout == fs::read(&file).unwrap());
    }

    fn damage_is_named(&self) {
        let fault = Fault {
            times: 0,
            ..Fault::sense(At::Read, Key::MediumError, (0x11, 0x00))
        };
        let hangs = self.second_segment();
        let fault = Fault {
            barcode: hangs.barcode,
            object: hangs.object,
            objects: hangs.objects,
            ..fault
        };
        self.system.order(&Order::FaultAdd { fault }).unwrap();
        let words = ["dump", "work", "--output", "damaged.tar", "--json"];
        let said = self.system.taf(&words).unwrap().expect(3).unwrap();
        let job = said.json().unwrap();
        let counts = &job["progress"]["issue_counts"][0];
        assert_eq!(counts["reason"], "DAMAGED", "{job}");
        let id = job["name"].as_str().unwrap().replace("jobs/", "");
        let issues = self.system.json(&["job", "issues", &id]).unwrap();
        let lost: Vec<String> = objects(&issues, "reason")
            .iter()
            .map(|issue| issue["path"]["display"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(lost.len() as u64, number(&counts["count"]));
        assert!(!lost.is_empty() && lost.len() < FILES, "{lost:?}");
        let listed = self.shell("tar tf damaged.tar").expect(0).unwrap().text();
        let present = |path: &str| listed.lines().any(|line| line == &path[1..]);
        for n in 0..FILES {
            let path = self.path(&format!("files/f{n:02}"));
            assert_eq!(present(&path), !lost.contains(&path), "{path}");
        }
        let file = lost.iter().find(|path| path.contains("/files/f")).unwrap();
        let said = self.system.taf(&["dump", "work", file]).unwrap();
        let said = said.expect(1).unwrap();
        assert!(said.stderr.contains("FILE_DAMAGED"), "{said}");
        assert!(said.stdout.is_empty());
        self.system.order(&Order::FaultClear).unwrap();
    }
}

#[test]
fn a_dump_is_whole_or_says_that_it_is_not() {
    let mut scene = Scene::set();
    scene.what_comes_is_what_is_restored();
    scene.other_programs_list_the_same();
    scene.one_file();
    scene.a_reader_that_leaves_cancels_it();
    scene.an_agent_that_is_killed_is_no_good_end();
    scene.a_worker_that_is_killed_is_no_good_end();
    scene.a_volume_that_is_missing_is_waited_for();
    scene.damage_is_named();
}
