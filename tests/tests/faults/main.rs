//! Backups and restores while anything goes wrong, by chance: every run ends in an identical restore, or in a failure that says so,
//! with what is not on tape or which files are damaged. Nothing is lost silently: what was published is there, to the last file,
//! as soon as the trouble is over.
//!
//! In its short form two runs that are always the same. `TAF_FAULT_RUNS=200` makes it long; it then begins with the runs that once found something.
//! Each run has a seed, which is printed; `TAF_FAULT_SEEDS=1,2` repeats runs.
#![allow(clippy::unwrap_used, missing_docs)]

mod draw;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use draw::{Terms, Trouble};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;
use taf_emulator::control::Order;
use taf_tests::patience::until;
use taf_tests::said::{Running, Said, number, objects, values};
use taf_tests::system::{Options, System, below};
use taf_tests::trees::{build_random, differing, ensure_equal};

/// Runs that once found something.
const FOUND: [u64; 3] = [4_037_519_986, 3_913_489_191, 751_175_118];
/// Runs of the short form: volumes that fail while they are written, and a stretch that can't be read. Both fit one system.
const SHORT: [u64; 2] = [261_007_763, 4_268_707_006];
/// Within this time a job has ended, whatever went wrong.
const NO_HANG: Duration = Duration::from_secs(100);
/// Bytes of tar in a segment.
const SEGMENT: usize = 4 << 20;
/// Runs of one system.
const RUNS: usize = 25;
/// Cartridges of a run, at most.
const CARTRIDGES: usize = 10;

/// A run: its seed, and what that makes of it.
struct Drawn {
    seed: u64,
    terms: Terms,
}

fn drawn(seed: u64) -> Drawn {
    let terms = Terms::draw(&mut StdRng::seed_from_u64(seed));
    Drawn { seed, terms }
}

fn system(distance: usize) -> Result<System> {
    // Slow enough for something to happen meanwhile, with a buffer that has something to lose.
    let emulator = ["--rate", "20MB", "--buffer", "2MiB", "--early-warning"];
    System::start(Options {
        drives: 2,
        cartridges: 0,
        further_slots: (RUNS * CARTRIDGES) as u16,
        lease: "5s".into(),
        emulator: emulator
            .into_iter()
            .map(str::to_owned)
            .chain([distance.to_string()])
            .collect(),
        controller: "volume_wait = \"8s\"\nindex_after = \"2s\"\n".into(),
        tape_agent: "hung_after = \"3s\"\n".into(),
        ..Options::default()
    })
}

/// A run under way.
struct Run<'a> {
    system: &'a mut System,
    terms: &'a Terms,
    name: String,
    index: usize,
    /// How many it has so far.
    cartridges: usize,
    tree: PathBuf,
}

/// A job as it ended, and the exit status of the command that followed it.
struct Ended {
    said: Said,
    job: Value,
}

impl Ended {
    fn state(&self) -> &str {
        self.job["state"].as_str().unwrap_or_default()
    }

    fn number(&self) -> String {
        let name = self.job["name"].as_str().unwrap_or_default();
        name.rsplit('/').next().unwrap_or_default().to_owned()
    }

    /// A failure that helps nobody is none.
    fn ensure_clear_failure(&self) -> Result<String> {
        ensure!(self.state() == "JOB_STATE_FAILED", "{}", self.job);
        ensure!(self.said.status == Some(1), "{}", self.said);
        let error = &self.job["error"];
        for key in ["reason", "message", "next_step"] {
            ensure!(
                error[key].as_str().is_some_and(|text| !text.is_empty()),
                "no {key}: {}",
                self.job
            );
        }
        let message = error["message"].as_str().unwrap_or_default();
        if self.job["kind"] == "JOB_KIND_BACKUP" {
            ensure!(message.contains("on tape"), "what is on tape? {message}");
        }
        Ok(format!("{}: {message}", error["reason"]))
    }
}

impl<'a> Run<'a> {
    /// Blank cartridges, a pool of them, a tree and a plan.
    fn set(system: &'a mut System, index: usize, drawn: &'a Drawn) -> Result<Self> {
        let name = format!("run-{index}");
        let terms = &drawn.terms;
        let block = terms.block.to_string();
        let pool = [
            "pool",
            "create",
            &name,
            "--block-size",
            &block,
            "--part-size",
            terms.part,
        ];
        system.taf(&pool)?.expect(0)?;
        let tree = system.data().join(&name);
        // Many small files in a segment, some that go through several, and one through many.
        build_random(&tree, drawn.seed, 150, terms.tree / 600)?;
        build_random(&tree.join("larger"), drawn.seed ^ 1, 12, terms.tree / 24)?;
        build_random(&tree.join("largest"), drawn.seed ^ 2, 1, terms.tree / 4)?;
        system.plan(&name, &tree, &name)?;
        let mut run = Self {
            system,
            terms,
            name,
            index,
            cartridges: 0,
            tree,
        };
        run.add_volumes(1)?;
        Ok(run)
    }

    /// Volumes for the whole of a backup, and some more.
    fn add_volumes(&mut self, spare: usize) -> Result<()> {
        // Whole segments, and room for label, first block and index.
        let room = (self.terms.capacity - self.terms.distance - (2 << 20)) / SEGMENT * SEGMENT;
        let first = self.cartridges;
        self.cartridges += self.terms.tree / room + 1 + spare;
        let mut add = self.system.command("taf-emulator");
        let library = self.system.path("library");
        let capacity = self.terms.capacity.to_string();
        add.args(["add", "--dir", &library, "--capacity", &capacity]);
        add.args((first..self.cartridges).map(|number| format!("F{:03}{number:02}L8", self.index)));
        Running::start(add)?.wait(NO_HANG)?.expect(0)?;
        self.system.taf(&["library", "inventory"])?.expect(0)?;
        let all = ["volume", "label", "--all", "--pool", &self.name];
        self.system.taf(&all)?.expect(0)?;
        Ok(())
    }

    /// What `taf` ends with while all this goes wrong.
    fn amid(&mut self, arguments: &[&str], troubles: &[Trouble]) -> Result<Ended> {
        for trouble in troubles {
            if let Trouble::Fault(fault) = trouble {
                let fault = (**fault).clone();
                self.system.order(&Order::FaultAdd { fault })?;
            }
        }
        let begun = Instant::now();
        let mut running = self.system.start_taf(&[arguments, &["--json"]].concat())?;
        self.meanwhile(&mut running, troubles)?;
        let said = running
            .wait(NO_HANG.saturating_sub(begun.elapsed()))
            .with_context(|| self.jobs())?;
        // Followed or not: the job is what counts.
        let name = match said.json() {
            Ok(job) => job["name"].as_str().unwrap_or_default().to_owned(),
            Err(_) => bail!("nothing became of it: {said}"),
        };
        // Controller or database may just be coming back.
        let job = until("the job to be shown", NO_HANG, || {
            let shown = self.system.taf(&["job", "show", &name, "--json"])?;
            (shown.status == Some(0)).then(|| shown.json()).transpose()
        })?;
        Ok(Ended { said, job })
    }

    /// What happens at its time, once bytes flow.
    fn meanwhile(&mut self, running: &mut Running, troubles: &[Trouble]) -> Result<()> {
        let mut timed: Vec<(Duration, &Trouble)> = troubles
            .iter()
            .filter_map(|trouble| match trouble {
                Trouble::Fault(_) => None,
                Trouble::Kill(_, after) | Trouble::Order(_, after) => Some((*after, trouble)),
            })
            .collect();
        timed.sort_by_key(|(after, _)| *after);
        if timed.is_empty() {
            return Ok(());
        }
        until("bytes to flow", NO_HANG, || {
            if running.ended()? {
                return Ok(Some(()));
            }
            let asked = self.system.taf(&["job", "list", "--active", "--json"])?;
            if asked.status != Some(0) {
                return Ok(None);
            }
            let jobs = asked.json()?;
            let flowed = values(&jobs, "byte_count").into_iter().map(number).max();
            Ok((flowed > Some(0)).then_some(()))
        })
        .with_context(|| self.jobs())?;
        let begun = Instant::now();
        for (after, trouble) in timed {
            until("the moment", NO_HANG, || {
                Ok((begun.elapsed() >= after || running.ended()?).then_some(()))
            })?;
            match trouble {
                Trouble::Order(order, _) => {
                    self.system.order(order)?;
                }
                Trouble::Kill(process, _) => {
                    self.system.kill(*process)?;
                    self.system.restart(*process)?;
                }
                Trouble::Fault(_) => {}
            }
        }
        Ok(())
    }

    fn jobs(&self) -> String {
        let shown = self.system.taf(&["job", "list"]);
        shown.map_or_else(|error| error.to_string(), |said| said.to_string())
    }

    /// The backup: whether it was published amid the trouble. If not it is made afterwards, in peace.
    fn back_up(&mut self) -> Result<()> {
        let name = self.name.clone();
        let troubles = &self.terms.writing;
        let ended = self.amid(&["run", &name], troubles)?;
        let published = self.system.versions(&name)?;
        let well = ended.state() == "JOB_STATE_SUCCEEDED";
        ensure!(
            well == (published.len() == 1),
            "published {published:?}, but {}",
            ended.job
        );
        if well {
            ensure!(ended.said.status == Some(0), "{}", ended.said);
            println!("  backup: published");
            return self.system.calm();
        }
        println!("  backup: {}", ended.ensure_clear_failure()?);
        self.system.calm()?;
        // What went wrong may have cost some.
        self.add_volumes(0)?;
        let again = self.amid(&["run", &name], &[])?;
        ensure!(
            again.said.status == Some(0),
            "once the trouble is over: {}\n{}",
            again.said,
            self.volumes()
        );
        Ok(())
    }

    fn volumes(&self) -> String {
        let shown = self.system.taf(&["volume", "list", "--pool", &self.name]);
        shown.map_or_else(|error| error.to_string(), |said| said.text())
    }

    /// A restore amid trouble, and one in peace.
    fn restore(&mut self) -> Result<()> {
        let troubles = &self.terms.reading;
        if !troubles.is_empty() {
            let into = format!("{}-amid", self.name);
            let folder = self.system.restored(&into)?;
            let ended = self.restored_to(&folder, troubles)?;
            self.judge(&ended, &folder)?;
            self.system.calm()?;
            fs::remove_dir_all(&folder)?;
        }
        let folder = self.system.restored(&format!("{}-peace", self.name))?;
        let ended = self.restored_to(&folder, &[])?;
        ensure!(
            ended.said.status == Some(0),
            "once the trouble is over: {}\n{}",
            ended.said,
            self.volumes()
        );
        ensure_equal(&self.tree, &below(&folder, &self.tree))?;
        Ok(fs::remove_dir_all(&folder)?)
    }

    fn restored_to(&mut self, folder: &Path, troubles: &[Trouble]) -> Result<Ended> {
        let (name, to) = (self.name.clone(), folder.display().to_string());
        self.amid(&["restore", &name, "--to", &to], troubles)
    }

    /// Identical, or damaged where it says so, or failed as it says.
    fn judge(&self, ended: &Ended, folder: &Path) -> Result<()> {
        match ended.state() {
            "JOB_STATE_SUCCEEDED" => {
                ensure!(ended.said.status == Some(0), "{}", ended.said);
                println!("  restore: identical");
                ensure_equal(&self.tree, &below(folder, &self.tree))
            }
            "JOB_STATE_SUCCEEDED_WITH_ISSUES" => {
                ensure!(ended.said.status == Some(3), "{}", ended.said);
                let issues = self.system.json(&["job", "issues", &ended.number()])?;
                let named: BTreeSet<PathBuf> = objects(&issues, "reason")
                    .into_iter()
                    .filter_map(|issue| issue["path"]["display"].as_str().map(PathBuf::from))
                    .collect();
                let restored = below(folder, &self.tree);
                // There may be nothing at all.
                fs::create_dir_all(&restored)?;
                let differing = differing(&self.tree, &restored)?;
                println!(
                    "  restore: {} named, {} differ",
                    named.len(),
                    differing.len()
                );
                for (path, what) in &differing {
                    ensure!(
                        named.contains(&restored.join(path)),
                        "not named: {what}; named are {named:?}"
                    );
                }
                // Damage stays small: what is named is not there as it was.
                for path in &named {
                    // The directories on the way to the tree are restored, too, but there is nothing to compare them with.
                    let Ok(path) = path.strip_prefix(&restored) else {
                        continue;
                    };
                    ensure!(
                        differing.contains_key(path),
                        "named, but there: {}",
                        path.display()
                    );
                }
                Ok(())
            }
            _ => {
                println!("  restore: {}", ended.ensure_clear_failure()?);
                Ok(())
            }
        }
    }

    /// What no run needs any more.
    fn clear(self) -> Result<()> {
        Ok(fs::remove_dir_all(&self.tree)?)
    }
}

fn one(system: &mut System, index: usize, drawn: &Drawn) -> Result<()> {
    let begun = Instant::now();
    let Terms {
        capacity,
        tree,
        block,
        part,
        distance,
        ..
    } = &drawn.terms;
    println!(
        "run {index}, seed {}: {tree} B over {capacity} B, blocks of {block} B, parts of {part}, warning {distance} B",
        drawn.seed
    );
    for trouble in &drawn.terms.writing {
        println!("  writing: {trouble}");
    }
    for trouble in &drawn.terms.reading {
        println!("  reading: {trouble}");
    }
    let mut run = Run::set(system, index, drawn)?;
    let set = begun.elapsed();
    run.back_up()?;
    run.restore()?;
    run.clear()?;
    println!(
        "  {:.1} s, {:.1} s of them to set it up",
        begun.elapsed().as_secs_f32(),
        set.as_secs_f32()
    );
    Ok(())
}

fn seeds() -> Vec<u64> {
    if let Ok(text) = std::env::var("TAF_FAULT_SEEDS") {
        return text
            .split(',')
            .map(|seed| seed.trim().parse().expect("TAF_FAULT_SEEDS are numbers"))
            .collect();
    }
    let long: Option<usize> = std::env::var("TAF_FAULT_RUNS")
        .ok()
        .map(|text| text.parse().expect("TAF_FAULT_RUNS is a number"));
    let Some(runs) = long else {
        return SHORT.into();
    };
    let mut chance = rand::rng();
    let chosen = (0..runs).map(|_| u64::from(chance.random::<u32>()));
    FOUND.into_iter().chain(chosen).collect()
}

#[test]
fn whatever_goes_wrong_nothing_is_lost_silently() {
    let mut runs: Vec<Drawn> = seeds().into_iter().map(drawn).collect();
    // A system has one distance.
    runs.sort_by_key(|run| run.terms.distance);
    let keep_going = std::env::var_os("TAF_FAULT_KEEP_GOING").is_some();
    let mut failed = Vec::new();
    let mut current: Option<(System, usize, usize)> = None;
    for (index, run) in runs.iter().enumerate() {
        let fits = |(_, distance, runs): &(System, usize, usize)| {
            *distance == run.terms.distance && *runs < RUNS
        };
        current = current.take().filter(fits);
        if current.is_none() {
            current = Some((system(run.terms.distance).unwrap(), run.terms.distance, 0));
        }
        let (system, _, runs) = current.as_mut().unwrap();
        *runs += 1;
        let outcome = one(system, index % 1000, run);
        if let Err(error) = outcome {
            let told = format!("TAF_FAULT_SEEDS={}: {error:?}", run.seed);
            assert!(keep_going, "{told}");
            println!("FAILED {told}\n{}", system.logs());
            failed.push(run.seed);
            current = None;
        }
    }
    assert!(failed.is_empty(), "failed: {failed:?}");
}
