//! What operators do to drives, volumes and libraries, through the command line, on a whole system: labelling, loading, carrying out
//! and in, erasing, verifying; and what they see of a drive that waits for a slow source.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;
use taf_emulator::control::Order;
use taf_emulator::faults::{At, Fault};
use taf_scsi::sense::Key;
use taf_tests::patience::until;
use taf_tests::said::{Said, number, objects, values};
use taf_tests::system::{Options, PATIENCE, SOURCE_AGENT, System, below};
use taf_tests::trees::{build_random, differing};

const POOL: &str = "default";
const PLAN: &str = "files";
/// Holds the backup.
const WRITTEN: &str = "TAF001L8";
/// Goes out and in.
const CARRIED: &str = "TAF003L8";

/// Files of the tree, 500 KB each: some seconds' work.
const FILES: usize = 160;

struct Scene {
    system: System,
    tree: PathBuf,
}

impl Scene {
    fn set() -> Self {
        let system = System::start(Options {
            drives: 1,
            cartridges: 3,
            emulator: ["--mail-slots", "1"].map(str::to_owned).into(),
            // No source is so fast.
            drive_floor: "100GB".into(),
            ..Options::default()
        })
        .unwrap();
        let tree = system.data().join("tree");
        build_random(&tree, 5, FILES, 500_000).unwrap();
        Self { system, tree }
    }

    fn done(&self, arguments: &[&str]) -> Said {
        self.system.taf(arguments).unwrap().expect(0).unwrap()
    }

    fn refused(&self, arguments: &[&str], reason: &str) {
        let said = self.system.taf(&[arguments, &["--json"]].concat()).unwrap();
        assert_eq!(said.status, Some(1), "{said}");
        assert!(said.stderr.contains(reason), "{said}");
    }

    fn json(&self, arguments: &[&str]) -> Value {
        self.system.json(arguments).unwrap()
    }

    /// Everything that a dry run must leave as it is.
    fn state(&self) -> (Value, Value, usize) {
        let jobs = self.json(&["job", "list"]);
        let libraries = self.json(&["library", "list"]);
        (
            self.json(&["volume", "list"]),
            values(&libraries, "slots")[0].clone(),
            objects(&jobs, "kind").len(),
        )
    }

    /// A dry run says something and does nothing.
    fn dry(&self, arguments: &[&str]) -> Value {
        let before = self.state();
        let said = self.json(&[arguments, &["--dry-run"]].concat());
        assert_eq!(self.state(), before, "{arguments:?} --dry-run");
        said
    }

    fn volume(&self, barcode: &str) -> Value {
        self.json(&["volume", "show", barcode])
    }

    fn drive(&self) -> Value {
        let drives = self.json(&["drive", "list"]);
        objects(&drives, "state")[0].clone()
    }

    fn labels_all(&self) {
        let all = ["volume", "label", "--all", "--pool", POOL];
        let dry = self.dry(&all);
        let candidates = dry["cartridges"].as_array().unwrap();
        assert_eq!(candidates.len(), 3, "{dry}");
        assert!(candidates.iter().all(|c| c["refusal"].is_null()), "{dry}");
        let jobs = self.json(&all);
        assert_eq!(jobs["jobs"].as_array().unwrap().len(), 3);
        let volumes = self.json(&["volume", "list"]);
        let states = values(&volumes, "state");
        assert!(
            states.len() == 3 && states.iter().all(|s| *s == "VOLUME_STATE_APPENDABLE"),
            "{volumes}"
        );
        // Asked again there is nothing left.
        assert_eq!(self.json(&all)["jobs"], Value::Array(Vec::new()));
    }

    fn loads_and_unloads(&self) {
        let serial = self.drive()["name"]
            .as_str()
            .unwrap()
            .rsplit('/')
            .next()
            .unwrap()
            .to_owned();
        let dry = self.dry(&["drive", "load", &serial, WRITTEN]);
        assert!(
            !values(&dry, "steps")[0].as_array().unwrap().is_empty(),
            "{dry}"
        );
        self.done(&["drive", "load", &serial, WRITTEN]);
        let seen = self.json(&["drive", "status", &serial]);
        assert_eq!(
            (&seen["state"], &seen["barcode"]),
            (&"DRIVE_STATE_LOADED".into(), &WRITTEN.into()),
            "{seen}"
        );
        let text = self.done(&["drive", "status", &serial]).text();
        assert!(text.contains(WRITTEN) && text.contains("loaded"), "{text}");
        self.dry(&["drive", "unload", &serial]);
        self.done(&["drive", "unload", &serial]);
        // What the drive sees comes a moment after what the robot did.
        until("an empty drive", PATIENCE, || {
            let seen = self.json(&["drive", "status", &serial]);
            Ok((seen["state"] == "DRIVE_STATE_EMPTY").then_some(()))
        })
        .unwrap();
        self.refused(&["drive", "load", &serial, "NOSUCHL8"], "CARTRIDGE");
    }

    fn carries_out_and_in(&self) {
        let dry = self.dry(&["library", "export", CARRIED]);
        assert_eq!(values(&dry, "barcode"), [CARRIED], "{dry}");
        self.done(&["library", "export", CARRIED]);
        let taken = Order::MailTake {
            name: CARRIED.into(),
        };
        self.system.order(&taken).unwrap();
        // What a person took out is outside, once the library has been looked at.
        self.done(&["library", "inventory"]);
        let gone = self.volume(CARRIED)["volume"].clone();
        assert_eq!(gone["location"], "", "{gone}");
        assert_ne!(gone["last_location"], "", "{gone}");
        self.system
            .order(&Order::MailPut {
                name: CARRIED.into(),
            })
            .unwrap();
        self.done(&["library", "inventory"]);
        let dry = self.dry(&["library", "import", "--all"]);
        assert_eq!(values(&dry, "barcode"), [CARRIED], "{dry}");
        self.done(&["library", "import", "--all"]);
        let back = self.volume(CARRIED)["volume"].clone();
        assert!(
            back["location"].as_str().unwrap().contains("/slots/"),
            "{back}"
        );
    }

    /// The source is slower than the drive streams: a part is collected first, and that is shown.
    fn backs_up_below_the_floor(&self) {
        let tree = self.tree.display().to_string();
        self.done(&["source", "create", PLAN, "--agent", SOURCE_AGENT, &tree]);
        // Compressed so hard it takes some seconds, in which it can be seen.
        let plan = ["plan", "create", PLAN, "--source", PLAN, "--pool", POOL];
        self.done(&[&plan[..], &["--level", "17", "--threads", "1"]].concat());
        let mut run = self.system.start_taf(&["run", PLAN]).unwrap();
        let (mut seen, mut full) = (false, 0);
        until("the backup", PATIENCE, || {
            let drive = self.drive();
            let flow = &drive["flow"];
            if flow["collecting"] == true && drive["phase"] == "collecting" {
                seen = true;
                full = full.max(number(&flow["ring_byte_count"]));
            }
            Ok(run.ended()?.then_some(()))
        })
        .unwrap();
        let said = run.wait(PATIENCE).unwrap().expect(0).unwrap();
        assert!(seen && full > 0, "nobody saw it collect: {said}");
        let jobs = self.json(&["job", "list"]);
        let backup = objects(&jobs, "kind")
            .into_iter()
            .find(|job| job["kind"] == "JOB_KIND_BACKUP")
            .unwrap();
        let flow = &values(backup, "drive_flow")[0];
        assert!(number(&flow["floor_bytes_per_second"]) > 0, "{flow}");
        assert_eq!(number(&flow["starved_count"]), 0, "{flow}");
    }

    fn verifies_what_is_whole(&self) {
        self.dry(&["volume", "verify", WRITTEN]);
        let job = self.json(&["volume", "verify", WRITTEN]);
        assert_eq!(job["state"], "JOB_STATE_SUCCEEDED", "{job}");
        let progress = &job["progress"];
        assert_eq!(
            progress["byte_count"], progress["estimated_byte_count"],
            "{job}"
        );
        assert_eq!(number(&progress["file_count"]), FILES as u64, "{job}");
        let part = self.part();
        assert!(
            part["verify_time"].is_string() && part["damage"] == "",
            "{part}"
        );
    }

    /// The first part of the volume.
    fn part(&self) -> Value {
        let volume = self.volume(WRITTEN);
        let mut files = objects(&volume, "number").into_iter();
        files.find(|file| file["kind"] == "part").unwrap().clone()
    }

    fn issues(&self, job: &Value) -> BTreeSet<PathBuf> {
        let name = job["name"].as_str().unwrap();
        let issues = self.json(&["job", "issues", name]);
        let paths = objects(&issues, "reason").into_iter();
        paths
            .map(|issue| issue["path"]["display"].as_str().unwrap().into())
            .collect()
    }

    /// A stretch of the medium that can't be read: a verification names the files in it, and a restore brings all others.
    fn names_what_is_damaged(&self) {
        let verified_before = self.part()["verify_time"].clone();
        let fault = Fault {
            barcode: Some(WRITTEN.into()),
            object: Some(number(&self.part()["first_block"]) + 20),
            objects: 3,
            times: 0,
            ..Fault::sense(At::Read, Key::MediumError, (0x11, 0x00))
        };
        self.system.order(&Order::FaultAdd { fault }).unwrap();
        let said = self
            .system
            .taf(&["volume", "verify", WRITTEN, "--json"])
            .unwrap();
        let job = said.expect(3).unwrap().json().unwrap();
        assert_eq!(job["state"], "JOB_STATE_SUCCEEDED_WITH_ISSUES", "{job}");
        let verified = self.issues(&job);
        let part = self.part();
        assert_ne!(part["damage"], "", "{part}");
        assert_ne!(part["verify_time"], verified_before, "{part}");

        let folder = self.system.restored("damaged").unwrap();
        let to = folder.display().to_string();
        let said = self
            .system
            .taf(&["restore", PLAN, "--to", &to, "--json"])
            .unwrap();
        let job = said.expect(3).unwrap().json().unwrap();
        let missed = self.issues(&job);
        let restored = below(&folder, &self.tree);
        let differing = differing(&self.tree, &restored).unwrap();
        let at = |top: &Path| -> BTreeSet<PathBuf> {
            differing.keys().map(|path| top.join(path)).collect()
        };
        assert!(!missed.is_empty() && missed.len() < FILES / 4, "{missed:?}");
        assert_eq!(missed, at(&restored));
        let lost = at(&self.tree);
        assert!(
            lost.is_subset(&verified),
            "{lost:?} are not all among {verified:?}"
        );
        self.system.order(&Order::FaultClear).unwrap();
        self.done(&["volume", "verify", WRITTEN]);
        assert_eq!(self.part()["damage"], "");
    }

    fn erases(&self) {
        let forced = self.dry(&["volume", "erase", WRITTEN, "--force"]);
        assert_eq!(
            values(&forced, "lost_versions")[0]
                .as_array()
                .unwrap()
                .len(),
            1,
            "{forced}"
        );
        self.refused(&["volume", "erase", WRITTEN], "VOLUME");
        self.dry(&["volume", "erase", CARRIED]);
        self.done(&["volume", "erase", CARRIED]);
        let volumes = self.json(&["volume", "list"]);
        let erased = objects(&volumes, "barcode")
            .into_iter()
            .find(|v| v["barcode"] == CARRIED);
        assert!(
            erased.is_none_or(|v| v["state"] == "VOLUME_STATE_UNLABELLED"),
            "{volumes}"
        );
        assert_eq!(self.part()["damage"], "", "it is still there");
        self.system.label(CARRIED, POOL).unwrap();
        assert_eq!(
            self.volume(CARRIED)["volume"]["state"],
            "VOLUME_STATE_APPENDABLE"
        );
    }
}

#[test]
fn an_operators_day() {
    let scene = Scene::set();
    scene.labels_all();
    scene.loads_and_unloads();
    scene.carries_out_and_in();
    scene.backs_up_below_the_floor();
    scene.verifies_what_is_whole();
    scene.names_what_is_damaged();
    scene.erases();
}
