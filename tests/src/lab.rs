//! The guest with Linux's own SCSI drivers, and a tape library behind them: one that is not ours, or our emulator's
//! (tests/lab).

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

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

/// What the guest has.
#[derive(Debug, Clone, Copy)]
pub struct Guest {
    /// Whose library.
    pub library: Library,
    /// Capacity of each of its cartridges in MiB.
    pub tape_mb: u32,
    /// Memory in MiB, which its folders are in.
    pub memory_mb: u32,
    /// Further options of our emulator.
    pub emulator: &'static str,
    /// Whether the kernel connects again when the target has died and comes back.
    pub reconnects: bool,
}

impl Guest {
    /// A small one.
    pub fn of(library: Library) -> Self {
        Self {
            library,
            tape_mb: match library {
                Library::Tgt => 16,
                Library::Emulator => 32,
            },
            memory_mb: 384,
            emulator: "",
            reconnects: false,
        }
    }
}

/// The library of tgt on this host, which runs as long as this lives.
pub struct Tgt {
    child: Child,
    /// `127.0.0.1:PORT`.
    pub portal: String,
    /// The target's name; units 1 and 2 are drives, 3 is the robot.
    pub target: String,
}

impl Drop for Tgt {
    fn drop(&mut self) {
        // The script ends the library when its input ends.
        drop(self.child.stdin.take());
        if let Err(error) = self.child.wait() {
            eprintln!("tests/lab/tgt.sh did not end: {error}");
        }
    }
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

    /// Its folder, which the guest has on /mnt.
    pub fn folder(&self) -> &Path {
        &self.folder
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

    /// Starts tgt's library on this host, for this user and secret alone.
    pub fn tgt(&self, user: &str, secret: &str) -> Result<Tgt> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut child = Command::new(self.scripts.join("tgt.sh"))
            .arg(&self.folder)
            .arg(port.to_string())
            .envs([("CHAP_USER", user), ("CHAP_SECRET", secret)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("tests/lab/tgt.sh can't be run")?;
        let said = child.stdout.take().context("it has no output")?;
        let mut tgt = Tgt {
            child,
            portal: format!("127.0.0.1:{port}"),
            target: String::new(),
        };
        BufReader::new(said).read_line(&mut tgt.target)?;
        tgt.target.truncate(tgt.target.trim_end().len());
        ensure!(!tgt.target.is_empty(), "tests/lab/tgt.sh failed; see above");
        Ok(tgt)
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
    pub fn run(&self, guest: Guest, command: &str) -> Result<String> {
        let output = Command::new(self.scripts.join("guest.sh"))
            .arg(&self.folder)
            .arg("--")
            .arg(command)
            .env(
                "LIBRARY",
                match guest.library {
                    Library::Tgt => "tgt",
                    Library::Emulator => "emulator",
                },
            )
            .env("TAPE_MB", guest.tape_mb.to_string())
            .env("MEMORY_MB", guest.memory_mb.to_string())
            .env("EMULATOR_OPTIONS", guest.emulator)
            .env("RECONNECT", if guest.reconnects { "yes" } else { "" })
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
