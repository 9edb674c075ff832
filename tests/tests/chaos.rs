//! Kill -9 of any one process during a backup, then restart it: no hang, the truth in `taf status`, every published
//! version restores, and the next run works.
//!
//! In its short form every process dies once, early in the backup. `TAF_CHAOS_ROUNDS=100` makes it long: that many
//! processes, and moments, by chance. `TAF_CHAOS_SEED` repeats a run.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use taf_tests::patience::until;
use taf_tests::said::{number, objects, values};
use taf_tests::system::{Options, Process, System};
use taf_tests::trees::{build_random, ensure_equal};

const CARTRIDGE: &str = "TAF001L8";
const PLAN: &str = "chaos";
/// Within this time after the restart the job has ended.
const NO_HANG: Duration = Duration::from_mins(1);
/// Files of the tree, and bytes of each.
const TREE: (usize, usize) = (160, 100_000);

struct Scene {
    system: System,
    tree: PathBuf,
    /// Copies of the tree as each version should be, by the version's name.
    versions: Vec<(String, PathBuf)>,
}

impl Scene {
    fn set(seed: u64) -> Result<Self> {
        // Slow enough for something to happen meanwhile, with a buffer that does not hide it.
        let emulator = ["--rate", "10MB", "--buffer", "1MiB"].map(str::to_owned);
        let system = System::start(Options {
            drives: 1,
            lease: "5s".into(),
            emulator: emulator.into(),
            ..Options::default()
        })?;
        let tree = system.data().join("tree");
        build_random(&tree, seed, TREE.0, TREE.1)?;
        system.label(CARTRIDGE, "default")?;
        system.plan(PLAN, &tree, "default")?;
        Ok(Self {
            system,
            tree,
            versions: Vec::new(),
        })
    }

    /// The tree gets a file of this round, so that no two versions are the same.
    fn change(&self, round: usize) -> Result<()> {
        Ok(fs::write(
            self.tree.join("round"),
            format!("this is round {round}"),
        )?)
    }

    /// Notes a version that was published since, with what it must hold.
    fn note_new_version(&mut self) -> Result<bool> {
        let published = self.system.versions(PLAN)?;
        ensure!(
            published.len() == self.versions.len() || published.len() == self.versions.len() + 1,
            "{published:?}"
        );
        if published.len() == self.versions.len() {
            return Ok(false);
        }
        let copy = self.system.home().join(format!("copy-{}", published.len()));
        let made = self.system.shell(
            self.system.home(),
            &format!("cp -a '{}' '{}'", self.tree.display(), copy.display()),
        )?;
        made.expect(0)?;
        self.versions.push((published[0].clone(), copy));
        Ok(true)
    }

    fn restore(&self, index: usize, round: usize) -> Result<()> {
        let (version, copy) = &self.versions[index];
        let into = format!("round-{round}-{index}");
        let restored = self.system.restore(version, &[], &into, &self.tree)?;
        ensure_equal(copy, &restored)?;
        Ok(fs::remove_dir_all(self.system.restored(&into)?)?)
    }

    fn status(&self) -> Result<Option<Value>> {
        let said = self.system.taf(&["status", "--json"])?;
        (said.status == Some(0)).then(|| said.json()).transpose()
    }

    /// One backup during which `victim` dies `after` bytes flow, and one undisturbed.
    fn round(&mut self, round: usize, victim: Process, after: Duration) -> Result<()> {
        self.change(round)?;
        let mut run = self.system.start_taf(&["run", PLAN])?;
        let what = "bytes to flow";
        until(what, NO_HANG, || {
            ensure!(!run.ended()?, "the backup was over too early");
            let jobs = self.system.json(&["job", "list"])?;
            let written = values(&jobs, "stored_byte_count").into_iter().map(number);
            Ok((is_running(&jobs) && written.max() > Some(0)).then_some(()))
        })?;
        let moment = Instant::now();
        until("the moment", NO_HANG, || {
            Ok((moment.elapsed() >= after).then_some(()))
        })?;
        self.system.kill(victim)?;
        self.system.restart(victim)?;
        let begun = Instant::now();
        let status = until("the job to end", NO_HANG, || {
            let Some(status) = self.status()? else {
                return Ok(None);
            };
            Ok(values(&status, "active_jobs")
                .iter()
                .all(|jobs| jobs.as_array().is_none_or(Vec::is_empty))
                .then_some(status))
        })?;
        let ended = begun.elapsed();
        let said = run.wait(NO_HANG)?;
        let published = self.note_new_version()?;
        // The truth: the newest backup is published, or it is listed as failed with a reason.
        let jobs = self.system.json(&["job", "list"])?;
        let newest = objects(&jobs, "state")
            .into_iter()
            .find(|job| job["kind"] == "JOB_KIND_BACKUP")
            .context("no backup is listed")?;
        let state = newest["state"].as_str().unwrap_or_default();
        ensure!(
            published == (state == "JOB_STATE_SUCCEEDED"),
            "published: {published}, but the job is {newest}"
        );
        if !published {
            ensure!(state == "JOB_STATE_FAILED", "{newest}");
            ensure!(
                values(newest, "reason")
                    .iter()
                    .any(|reason| reason.as_str() != Some("")),
                "{newest}"
            );
            let name = newest["name"].as_str().unwrap_or_default();
            ensure!(
                values(&status, "failed_jobs")
                    .iter()
                    .any(|jobs| jobs.to_string().contains(name)),
                "{status}"
            );
            ensure!(said.status != Some(0), "{said}");
        }
        println!(
            "round {round}: {victim:?} killed; {state} within {:.1} s, taf run ended with {:?}; {}",
            ended.as_secs_f32(),
            said.status,
            values(newest, "message")
                .first()
                .map_or(String::new(), ToString::to_string)
        );
        self.system.until_ready()?;
        self.system.taf(&["run", PLAN])?.expect(0)?;
        ensure!(self.note_new_version()?, "the next run published nothing");
        self.restore(self.versions.len() - 1, round)
    }
}

fn is_running(jobs: &Value) -> bool {
    values(jobs, "state")
        .iter()
        .any(|state| state.as_str() == Some("JOB_STATE_RUNNING"))
}

#[test]
fn whatever_is_killed_comes_back() {
    let rounds: Option<usize> = std::env::var("TAF_CHAOS_ROUNDS")
        .ok()
        .map(|text| text.parse().expect("TAF_CHAOS_ROUNDS is a number"));
    let seed = std::env::var("TAF_CHAOS_SEED").map_or_else(
        |_| rand::rng().random(),
        |text| text.parse().expect("TAF_CHAOS_SEED is a number"),
    );
    println!("TAF_CHAOS_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let victims: Vec<(Process, Duration)> = match rounds {
        None => Process::ALL
            .into_iter()
            .map(|process| (process, Duration::ZERO))
            .collect(),
        Some(rounds) => (0..rounds)
            .map(|_| {
                let process = Process::ALL[random.random_range(0..Process::ALL.len())];
                (process, Duration::from_millis(random.random_range(0..2500)))
            })
            .collect(),
    };
    let mut scene = Scene::set(seed).unwrap();
    for (round, (victim, after)) in victims.into_iter().enumerate() {
        scene
            .round(round, victim, after)
            .with_context(|| format!("round {round}: {victim:?} killed after {after:?}"))
            .unwrap();
    }
    for index in 0..scene.versions.len() {
        scene.restore(index, 1000).unwrap();
    }
    let checked = scene.system.taf(&["catalog", "check"]).unwrap();
    checked.expect(0).unwrap();
}
