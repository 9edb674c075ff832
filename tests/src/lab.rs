//! The guest with Linux's own SCSI drivers, and a tape library behind them: one that is not ours, or our emulator's
//! (tests/lab).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

/// What `setup.sh` says where it can't be done at all.
const IMPOSSIBLE: i32 = 3;

/// Whose library the guest has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    /// That of tgt, which is not ours and lacks much.
    Tgt,
    /// That of our emulator's program, which the guest's kernel reaches as an iSCSI target.
    Emulator,
}

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

    /// A program of ours, which must have been built.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        let folder = std::env::current_exe()?;
        let folder = folder.ancestors().nth(2);
        let program = folder
            .context("this program is not in a build folder")?
            .join(name);
        ensure!(
            program.exists(),
            "{} is not built: cargo build --workspace --bins",
            program.display()
        );
        Ok(program)
    }

    /// A tool that came with the lab, such as `iscsi-ls`.
    pub fn tool(&self, name: &str) -> Command {
        let root = self.folder.join("root");
        let places =
            ["usr/bin", "usr/sbin", "bin", "sbin"].map(|place| root.join(place).join(name));
        let tool = places.iter().find(|tool| tool.exists());
        let mut command = Command::new(tool.map_or(Path::new(name), PathBuf::as_path));
        let libraries =
            ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|one| root.join(one));
        command.env(
            "LD_LIBRARY_PATH",
            std::env::join_paths(libraries).unwrap_or_default(),
        );
        command.stdin(Stdio::null());
        command
    }

    /// Runs a shell command as root in a fresh guest, and returns what it printed. Fails if the command does.
    pub fn run(&self, library: Library, command: &str) -> Result<String> {
        let output = Command::new(self.scripts.join("guest.sh"))
            .arg(&self.folder)
            .arg("--")
            .arg(command)
            .envs(match library {
                Library::Tgt => [("LIBRARY", "tgt"), ("TAPE_MB", "16")],
                Library::Emulator => [("LIBRARY", "emulator"), ("TAPE_MB", "32")],
            })
            .env("DRIVES", "2")
            .env("EMULATOR", self.program("taf-emulator")?)
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
