//! What operators do all day, in a call each.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;
use taf_emulator::control::{self, Order};

use super::{SOURCE_AGENT, START, System, below};
use crate::patience::until;
use crate::said;

impl System {
    /// Labels a cartridge for a pool.
    pub fn label(&self, barcode: &str, pool: &str) -> Result<()> {
        self.taf(&["volume", "label", barcode, "--pool", pool])?
            .expect(0)?;
        Ok(())
    }

    /// Makes a source of one folder and a plan, both of this name.
    pub fn plan(&self, name: &str, folder: &Path, pool: &str) -> Result<()> {
        let folder = folder.display().to_string();
        self.taf(&["source", "create", name, "--agent", SOURCE_AGENT, &folder])?
            .expect(0)?;
        self.taf(&["plan", "create", name, "--source", name, "--pool", pool])?
            .expect(0)?;
        Ok(())
    }

    /// Names of the published versions of a plan, newest first.
    pub fn versions(&self, plan: &str) -> Result<Vec<String>> {
        let list = self.json(&["versions", "--plan", plan])?;
        Ok(said::objects(&list, "number")
            .into_iter()
            .filter_map(|version| version.get("name")?.as_str().map(str::to_owned))
            .collect())
    }

    /// Restores a version or plan, or paths of it, into an empty folder, and gives where the path `origin` came to lie.
    pub fn restore(
        &self,
        what: &str,
        paths: &[&str],
        into: &str,
        origin: &Path,
    ) -> Result<PathBuf> {
        let folder = self.restored(into)?;
        let to = folder.display().to_string();
        let arguments = [&["restore", what], paths, &["--to", &to]].concat();
        let said = self.taf(&arguments)?;
        // The folders on the way down are root's: an ordinary user is warned of what is not his to give.
        let warned = said.stderr.matches("_NOT_PERMITTED)").count();
        let listed = said.stderr.lines().filter(|line| line.starts_with("  /"));
        if !nix::unistd::geteuid().is_root() && warned > 0 && warned == listed.count() {
            said.expect(3)?;
        } else {
            said.expect(0)?;
        }
        Ok(below(&folder, origin))
    }

    /// Gives an order to the virtual library.
    pub fn order(&self, order: &Order) -> Result<Value> {
        Ok(control::send(&self.home().join("library"), order)?)
    }

    /// Takes a cartridge out of the library, from wherever it is.
    pub fn take_out(&self, name: &str) -> Result<()> {
        let drives = self.json(&["drive", "list"])?;
        for drive in said::objects(&drives, "state") {
            let drive = drive["name"]
                .as_str()
                .and_then(|name| name.rsplit('/').next());
            // Nothing may be in it.
            self.taf(&["drive", "unload", drive.context("a drive without a name")?])?;
        }
        self.taf(&["library", "export", name])?.expect(0)?;
        let taken = Order::MailTake { name: name.into() };
        self.order(&taken)?;
        self.taf(&["library", "inventory"])?.expect(0)?;
        Ok(())
    }

    /// Brings it back.
    pub fn bring_in(&self, name: &str) -> Result<()> {
        let put = Order::MailPut { name: name.into() };
        self.order(&put)?;
        self.taf(&["library", "inventory"])?.expect(0)?;
        self.taf(&["library", "import", "--all"])?.expect(0)?;
        Ok(())
    }

    /// Takes back what was to go wrong, lets go of what hangs, puts drives up that went down for it, and waits until everything is
    /// of use again.
    pub fn calm(&mut self) -> Result<()> {
        self.order(&Order::FaultClear)?;
        self.order(&Order::Release { unit: None })?;
        let mut put_up = BTreeSet::new();
        until("drives that are not down", START, || {
            // The controller may just be coming back.
            let asked = self.taf(&["drive", "list", "--json"])?;
            if asked.status != Some(0) {
                return Ok(None);
            }
            let drives = asked.json()?;
            let down: Vec<String> = said::objects(&drives, "state")
                .into_iter()
                .filter(|drive| drive["state"] == "DRIVE_STATE_DOWN")
                .filter_map(|drive| {
                    drive["name"]
                        .as_str()?
                        .rsplit('/')
                        .next()
                        .map(str::to_owned)
                })
                .collect();
            for drive in &down {
                if self.taf(&["drive", "up", drive])?.status == Some(0) {
                    put_up.insert(drive.clone());
                }
            }
            Ok(down.is_empty().then_some(()))
        })
        .with_context(|| self.logs())?;
        if !put_up.is_empty() {
            println!("  put up again: {put_up:?}");
        }
        self.until_ready()
    }
}
