//! The guest with Linux's own SCSI drivers and a tape library that is not ours (tests/lab).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// What `setup.sh` says where it can't be done at all.
const IMPOSSIBLE: i32 = 3;

/// A lab that is ready.
pub struct Lab {
    folder: PathBuf,
    scripts: PathBuf,
}

impl Lab {
    /// Makes the lab ready, which downloads packages the first time. `None` where this host can't have one: the reason is
    /// said.
    pub fn open() -> Result<Option<Self>> {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("lab");
        // In the build folder, TARGET/debug/deps/PROGRAM, so that it is kept and cleaned with it.
        let folder = std::env::current_exe()?
            .ancestors()
            .nth(3)
            .context("this program is not in a build folder")?
            .join("lab");
        let status = Command::new(scripts.join("setup.sh"))
            .arg(&folder)
            .stdin(Stdio::null())
            .status()
            .context("tests/lab/setup.sh can't be run")?;
        match status.code() {
            Some(0) => Ok(Some(Self { folder, scripts })),
            Some(IMPOSSIBLE) => {
                println!("SKIPPED: no guest with the kernel's drivers here; see above for why");
                Ok(None)
            }
            _ => bail!("tests/lab/setup.sh failed: {status}"),
        }
    }

    /// Runs a shell command as root in a fresh guest, and returns what it printed. Fails if the command does.
    pub fn run(&self, command: &str) -> Result<String> {
        let output = Command::new(self.scripts.join("guest.sh"))
            .arg(&self.folder)
            .arg("--")
            .arg(command)
            .envs([("DRIVES", "2"), ("TAPE_MB", "16")])
            .stdin(Stdio::null())
            .output()
            .context("tests/lab/guest.sh can't be run")?;
        let text = String::from_utf8_lossy(&output.stdout).replace('\r', "");
        if output.status.success() {
            return Ok(text);
        }
        let talk = String::from_utf8_lossy(&output.stderr);
        bail!("the guest ended with {}:\n{text}\n{talk}", output.status);
    }
}
