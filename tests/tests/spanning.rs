//! Backups larger than a cartridge, end to end: identical restores by TAF, by TAF with nothing but the cartridges, and by the
//! standard tools; a file that crosses cartridges alone; only the volumes that are needed are asked for.
//!
//! The long form: `TAF_SPANNING_ROUNDS=20 cargo test -p taf-tests --test spanning` backs up 500 MB over cartridges of 200 MB each
//! time. `TAF_SPANNING_SEED` repeats a course.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use taf_tests::said::{objects, values};
use taf_tests::system::{Options, System, below};
use taf_tests::tools;
use taf_tests::trees::{build_random, ensure_equal};

const MB: usize = 1_000_000;
/// The label, a filemark, and what a cartridge holds of other things.
const OVERHEAD: usize = 64 << 10;

/// What a backup is made under.
#[derive(Debug)]
struct Terms {
    /// Bytes of a cartridge.
    capacity: usize,
    /// Bytes of the tree, a third of them in one file.
    tree: usize,
    block_size: &'static str,
    /// From early warning to the hard end, bytes.
    distance: usize,
    part_size: &'static str,
}

impl Terms {
    fn draw(dice: &mut StdRng, large: bool) -> Self {
        let unit = if large { 200 * MB } else { 24 * MB };
        let of =
            |dice: &mut StdRng, words: &[&'static str]| words[dice.random_range(0..words.len())];
        Self {
            capacity: unit,
            tree: unit / 2 * 5,
            block_size: of(dice, &["64KiB", "128KiB", "256KiB", "512KiB", "1MiB"]),
            // None, less than a block, a few blocks, and more than a segment.
            distance: *[0, 1, 50_000, 700_000, 3 * MB, 8 * MB]
                .get(dice.random_range(0..6))
                .unwrap(),
            part_size: of(dice, &["16MiB", "40MiB", "1GiB"]),
        }
    }
}

struct Scene {
    system: System,
    tree: PathBuf,
    /// The volumes of the version, in order.
    volumes: Vec<String>,
    version: String,
}

impl Scene {
    /// Everything backed up.
    fn set(terms: &Terms, seed: u64) -> Self {
        let cartridges = (terms.tree / (terms.capacity - OVERHEAD - terms.distance) + 3) as u16;
        let system = System::start(Options {
            // Some of the volumes rest in the one that is not used.
            drives: 2,
            cartridges,
            capacity: terms.capacity.to_string(),
            emulator: ["--buffer", "2MiB", "--early-warning"]
                .into_iter()
                .map(str::to_owned)
                .chain([terms.distance.to_string()])
                .collect(),
            controller: "volume_wait = \"5s\"\n".into(),
            ..Options::default()
        })
        .unwrap();
        let tree = system.data().join("tree");
        let small = terms.tree / 60;
        build_random(&tree, seed, 40, small).unwrap();
        build_random(&tree.join("large"), seed + 1, 1, terms.tree / 3).unwrap();
        let pool = [
            "pool",
            "create",
            "spanning",
            "--block-size",
            terms.block_size,
            "--part-size",
            terms.part_size,
        ];
        system.taf(&pool).unwrap().expect(0).unwrap();
        for cartridge in 1..=cartridges {
            system
                .label(&format!("TAF{cartridge:03}L8"), "spanning")
                .unwrap();
        }
        system.plan("whole", &tree, "spanning").unwrap();
        let said = system.taf(&["run", "whole"]).unwrap();
        println!("{}", said.stderr.lines().last().unwrap_or_default());
        said.expect(0).unwrap();
        let versions = system.json(&["versions", "--plan", "whole"]).unwrap();
        let version = objects(&versions, "number")[0];
        let volumes = names(&version["volumes"]);
        let version = version["name"].as_str().unwrap().to_owned();
        assert!(volumes.len() >= 3, "{volumes:?}");
        Self {
            system,
            tree,
            volumes,
            version,
        }
    }

    fn large(&self) -> PathBuf {
        self.tree.join("large/folder-00000/file-0000000")
    }

    fn restores_whole(&self) {
        let restored = self
            .system
            .restore("whole", &[], "whole", &self.tree)
            .unwrap();
        ensure_equal(&self.tree, &restored).unwrap();
        assert_eq!(self.last_restore_used(), self.volumes);
    }

    /// The large file alone, which lies on more than one volume and not on all.
    fn restores_what_crosses(&self) {
        let path = self.large().display().to_string();
        let to = self
            .system
            .restored("unused")
            .unwrap()
            .display()
            .to_string();
        let plan = self
            .system
            .json(&["restore", "whole", &path, "--to", &to, "--dry-run"])
            .unwrap();
        let needed = names(&plan["volumes"]);
        assert!(
            needed.len() >= 2 && needed.len() < self.volumes.len(),
            "{needed:?}"
        );
        let restored = self
            .system
            .restore("whole", &[&path], "large", &self.large())
            .unwrap();
        assert!(same(&restored, &self.large()));
        assert_eq!(self.last_restore_used(), needed);
    }

    /// The volumes of the newest restore. Volume indexes are jobs too, and may be newer.
    fn last_restore_used(&self) -> Vec<String> {
        let jobs = self.system.json(&["job", "list"]).unwrap();
        let jobs = values(&jobs, "jobs")[0].as_array().unwrap().clone();
        let restore = jobs.iter().find(|job| job["kind"] == "JOB_KIND_RESTORE");
        names(&restore.unwrap()["volumes"])
    }

    /// Gives how many parts were cut off.
    fn standard_tools(&self) -> usize {
        let folder = self.system.restored("tools").unwrap();
        let files = tools::tape_files(&self.system, &self.version, &self.volumes).unwrap();
        let cut = tools::unpack(&self.system, &files, &folder).unwrap();
        ensure_equal(&self.tree, &below(&folder, &self.tree)).unwrap();
        cut
    }

    /// No database, no controller: only the cartridges, in any order.
    fn extracts(&mut self) {
        self.system.forget_everything().unwrap();
        let folder = self.system.restored("extracted").unwrap();
        let to = folder.display().to_string();
        let mut volumes = self.volumes.clone();
        volumes.reverse();
        tools::extract(&self.system, &volumes, "latest", &folder).unwrap();
        ensure_equal(&self.tree, &below(&folder, &self.tree)).unwrap();
        // One that is missing is missed.
        let last = self.system.cartridge(&volumes[0]).display().to_string();
        let without = ["tape", "extract", &last, "--to", &to];
        let said = self.system.taf(&without).unwrap().expect(1).unwrap();
        assert!(said.stderr.contains("--next"), "{said}");
    }
}

fn names(list: &serde_json::Value) -> Vec<String> {
    let id = |name: &serde_json::Value| {
        name.as_str()
            .unwrap()
            .rsplit('/')
            .next()
            .unwrap()
            .to_owned()
    };
    list.as_array()
        .map_or_else(Vec::new, |list| list.iter().map(id).collect())
}

fn same(a: &Path, b: &Path) -> bool {
    fs::read(a).unwrap() == fs::read(b).unwrap()
}

#[test]
fn what_is_larger_than_a_cartridge_comes_back() {
    let rounds: Option<usize> = std::env::var("TAF_SPANNING_ROUNDS")
        .ok()
        .map(|text| text.parse().expect("TAF_SPANNING_ROUNDS is a number"));
    let seed = std::env::var("TAF_SPANNING_SEED").map_or_else(
        |_| rand::rng().random(),
        |text| text.parse().expect("TAF_SPANNING_SEED is a number"),
    );
    println!("TAF_SPANNING_SEED={seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    let mut cut = 0;
    for round in 0..rounds.unwrap_or(2) {
        let mut terms = Terms::draw(&mut dice, rounds.is_some());
        // Once without any warning, in a part that fills the cartridge: so that one is cut off with certainty.
        if round == 0 {
            terms.distance = 0;
            terms.part_size = "1GiB";
        }
        println!("round {round}: {terms:?}");
        let mut scene = Scene::set(&terms, u64::from(dice.random::<u32>()));
        scene.restores_whole();
        scene.restores_what_crosses();
        cut += scene.standard_tools();
        scene.extracts();
    }
    assert!(cut > 0, "no part was cut off");
}
