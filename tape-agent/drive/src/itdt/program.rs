//! Running IBM's `itdt`: one call, its limit, what it said, and whether it did it.
//!
//! Only success is documented: exit status 0 and a last line `Exit with code: 0`; tests of it add `Result: PASSED`. So all of
//! that is asked for, and everything else is a failure. Each call and all that it printed is in the log; it is told no secret.
//!
//! A call that takes too long is killed with all that it started. One that is not even killed by that sits in the kernel with a
//! command that does not come back; it is left there, and the drive's state is unknown.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use taf_scsi::transport;

use crate::error::Error;

/// More than it ever prints; the rest is not read.
const OUTPUT_MAX: u64 = 1 << 20;
/// A killed process is gone within this, unless the kernel holds it.
const DEATH: Duration = Duration::from_secs(5);
/// Between two looks, growing to the second.
const LOOK: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(100));
/// How much of the output a message repeats.
const LINE_MAX: usize = 200;

/// The program, for one drive.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub program: PathBuf,
    /// How it is to name the drive.
    pub device: String,
}

/// What a call is about, for its limit and for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Asks something, and is asked over and over.
    Poll,
    /// Asks something.
    Ask,
    /// Moves the tape.
    Motion,
    /// Threads it; a first load may calibrate the medium for hours.
    Load,
    /// Writes the whole tape.
    Whole,
}

impl Effort {
    fn limit(self) -> Duration {
        match self {
            Self::Poll | Self::Ask => Duration::from_mins(3),
            Self::Motion => Duration::from_hours(1),
            Self::Load => Duration::from_mins(150),
            Self::Whole => Duration::from_hours(24),
        }
    }
}

/// A call that ended.
struct Said {
    command: String,
    output: String,
    judged: Result<(), String>,
}

impl Program {
    /// Gives orders, several in one go, and returns all that was printed.
    pub(crate) fn run(&self, effort: Effort, orders: &[&str]) -> Result<String, Error> {
        let mut all = vec!["-force-generic-dd", "-f", &self.device];
        all.extend(orders);
        self.call(&all, effort, effort.limit())
    }

    /// Asks whether the drive is ready: if not, what it said.
    pub(crate) fn ready(&self) -> Result<Result<(), String>, Error> {
        let orders = ["-force-generic-dd", "-f", &self.device, "tur"];
        let said = self.say(&orders, Effort::Poll, Effort::Poll.limit())?;
        Ok(said.judged.map_err(|_| said.output))
    }

    /// Looks which devices there are.
    pub(crate) fn scan(&self) -> Result<String, Error> {
        let orders = ["-force-generic-dd", "scan", "-showallpaths"];
        self.call(&orders, Effort::Ask, Effort::Ask.limit())
    }

    pub(super) fn call(
        &self,
        arguments: &[&str],
        effort: Effort,
        limit: Duration,
    ) -> Result<String, Error> {
        let Said {
            command,
            output,
            judged,
        } = self.say(arguments, effort, limit)?;
        match judged {
            Ok(()) => Ok(output),
            Err(reason) => Err(Error::Program { command, reason }),
        }
    }

    fn say(&self, arguments: &[&str], effort: Effort, limit: Duration) -> Result<Said, Error> {
        let command = format!("{} {}", self.program.display(), arguments.join(" "));
        let begun = Instant::now();
        let (status, output) = self.execute(arguments, limit, &command)?;
        let seconds = begun.elapsed().as_secs_f32();
        let judged = judge(status, &output);
        if effort == Effort::Poll {
            tracing::debug!(command, %status, seconds, output, "itdt");
        } else {
            tracing::info!(command, %status, seconds, output, "itdt");
        }
        Ok(Said {
            command,
            output,
            judged,
        })
    }

    fn execute(
        &self,
        arguments: &[&str],
        limit: Duration,
        command: &str,
    ) -> Result<(ExitStatus, String), Error> {
        let lost = |reason: String| {
            Error::Unknown(transport::Error::Lost {
                device: self.device.clone(),
                reason,
            })
        };
        let failed = |error: std::io::Error| lost(format!("{command} can't be run: {error}"));
        // A file, and no pipe: whatever it leaves behind must not keep us waiting for the end of what it says.
        let mut said = tempfile::tempfile().map_err(failed)?;
        let mut order = Command::new(&self.program);
        order
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(said.try_clone().map_err(failed)?)
            .stderr(said.try_clone().map_err(failed)?)
            .process_group(0);
        // It looks for its own files there, such as the licence that was accepted.
        if let Some(folder) = self.program.parent().filter(|folder| folder.is_absolute()) {
            order.current_dir(folder);
        }
        let mut child = order.spawn().map_err(|error| {
            lost(format!(
                "{} can't be run: {error}; install IBM's ITDT, and name it: itdt:/PATH/OF/itdt@serial:NUMBER",
                self.program.display()
            ))
        })?;
        if let Some(status) = wait(&mut child, limit).map_err(failed)? {
            return Ok((status, text(&mut said).map_err(failed)?));
        }
        let output = text(&mut said).unwrap_or_default();
        tracing::error!(
            command,
            output,
            seconds = limit.as_secs(),
            "itdt takes too long and is killed"
        );
        kill(&child);
        match wait(&mut child, DEATH) {
            Ok(Some(_)) => Err(Error::Unknown(transport::Error::Timeout {
                device: self.device.clone(),
                seconds: limit.as_secs(),
            })),
            _ => Err(lost(format!(
                "{command} can't be ended: the kernel waits for the drive"
            ))),
        }
    }
}

/// Waits for its end; `None` if that does not come in time.
fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let begun = Instant::now();
    let mut pause = LOOK.0;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let left = limit.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Ok(None);
        }
        thread::sleep(pause.min(left));
        pause = (pause * 2).min(LOOK.1);
    }
}

/// It and all that it started, which are a group of processes.
fn kill(child: &Child) {
    let Ok(group) = i32::try_from(child.id()) else {
        return;
    };
    if let Err(error) = killpg(Pid::from_raw(group), Signal::SIGKILL) {
        tracing::warn!(%error, "itdt can't be killed");
    }
}

fn text(said: &mut File) -> std::io::Result<String> {
    said.rewind()?;
    let mut bytes = Vec::new();
    said.take(OUTPUT_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether it did what it was told, or why it is not believed.
fn judge(status: ExitStatus, output: &str) -> Result<(), String> {
    let mut words = output.lines().map(str::trim);
    let bad = |line: &&str| {
        line.split_once(':').is_some_and(|(key, value)| {
            key.eq_ignore_ascii_case("Result")
                && ["FAILED", "ABORTED"]
                    .iter()
                    .any(|word| value.trim().starts_with(word))
        })
    };
    let code = words
        .clone()
        .rev()
        .find_map(|line| line.strip_prefix("Exit with code:").map(str::trim));
    let why = if !status.success() {
        status.to_string()
    } else if let Some(line) = words.clone().find(bad) {
        line.to_owned()
    } else {
        match code {
            Some("0") => return Ok(()),
            Some(code) => format!("exit code {code}"),
            None => "it ended without \"Exit with code: 0\"".to_owned(),
        }
    };
    // What it said last tells most.
    let last = words
        .rfind(|line| !line.is_empty() && !line.starts_with("Exit with code:"))
        .unwrap_or_default();
    let last: String = last.chars().take(LINE_MAX).collect();
    Err(if last.is_empty() || last == why {
        why
    } else {
        format!("{why}: {last}")
    })
}

/// Whether such a program can be found: for who looks what this host has.
pub(crate) fn is_there(program: &Path) -> bool {
    if program.is_absolute() {
        return program.is_file();
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests;
