//! The processes of a system: which there are, finding, killing and ending them.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{MARK, System};
use crate::patience::until;

/// How long a process may take to end after SIGTERM.
const END: Duration = Duration::from_secs(30);

/// A process of a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Process {
    /// The virtual library.
    Emulator,
    /// The controller.
    Controller,
    /// The controller's private database.
    Postgres,
    /// The tape agent's supervisor.
    TapeAgent,
    /// The worker of the first drive.
    DriveWorker,
    /// The worker of the robot.
    LibraryWorker,
    /// The source agent.
    SourceAgent,
}

impl Process {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Emulator,
        Self::Controller,
        Self::Postgres,
        Self::TapeAgent,
        Self::DriveWorker,
        Self::LibraryWorker,
        Self::SourceAgent,
    ];
}

impl System {
    /// Its process id; fails if it does not run.
    pub fn pid(&self, process: Process) -> Result<Pid> {
        let found = match process {
            Process::Postgres => self.postmaster(),
            Process::DriveWorker => self.worker(&self.devices().0[0])?,
            Process::LibraryWorker => self.worker(&self.devices().1)?,
            _ => self
                .running
                .get(&process)
                .map(|child| Pid::from_raw(child.id() as i32)),
        };
        found.with_context(|| format!("there is no process {process:?}"))
    }

    /// Kills it, with no chance to say anything, and waits until it is gone.
    pub fn kill(&mut self, process: Process) -> Result<()> {
        let pid = self.pid(process)?;
        kill(pid, Signal::SIGKILL)?;
        if let Some(mut child) = self.running.remove(&process) {
            child.wait()?;
            return Ok(());
        }
        until("the death of a process", END, || {
            Ok((!is_alive(pid)).then_some(()))
        })
    }

    /// Kills the worker of a drive by the drive's number, and waits until it is gone.
    pub fn kill_worker(&self, drive: usize) -> Result<()> {
        let worker = self.worker(&self.devices().0[drive])?;
        let pid = worker.with_context(|| format!("drive {drive} has no worker"))?;
        kill(pid, Signal::SIGKILL)?;
        until("the death of a worker", END, || {
            Ok((!is_alive(pid)).then_some(()))
        })
    }

    /// Asks one that we started to end, and waits until it has. Fails if it does not end well.
    pub fn end_process(&mut self, process: Process) -> Result<()> {
        let Some(mut child) = self.running.remove(&process) else {
            return Ok(());
        };
        kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM)?;
        let ended = until("an orderly end", END, || Ok(child.try_wait()?));
        if ended.is_err() {
            child.kill()?;
            child.wait()?;
        }
        let status = ended.with_context(|| format!("{process:?} does not end at SIGTERM"))?;
        ensure!(status.success(), "{process:?} ended with {status}");
        Ok(())
    }

    /// Brings back what was killed, and what does not come back by itself.
    pub fn restart(&mut self, process: Process) -> Result<()> {
        match process {
            // Each is started again by the process that owns it.
            Process::DriveWorker | Process::LibraryWorker | Process::Postgres => Ok(()),
            other => self.begin(other),
        }
    }

    /// The postmaster of the private database, if it has one.
    fn postmaster(&self) -> Option<Pid> {
        let file = self.home().join("controller/database/data/postmaster.pid");
        let text = fs::read_to_string(file).ok()?;
        let pid = text.lines().next()?.trim().parse().ok()?;
        Some(Pid::from_raw(pid))
    }

    /// The process of the tape agent, other than the supervisor, that was given this device.
    fn worker(&self, device: &str) -> Result<Option<Pid>> {
        let supervisor = self.pid(Process::TapeAgent)?;
        for pid in self.ours() {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if pid != supervisor && String::from_utf8_lossy(&line).contains(device) {
                return Ok(Some(pid));
            }
        }
        Ok(None)
    }

    /// Every living process that has our mark in its environment, but not ourselves.
    pub fn ours(&self) -> Vec<Pid> {
        let mark = [MARK.as_bytes(), b"=", self.home().as_os_str().as_bytes()].concat();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            if environment.split(|byte| *byte == 0).any(|set| set == mark) {
                found.push(Pid::from_raw(pid));
            }
        }
        found
    }

    /// Name and id of every process of the system.
    pub fn listing(&self) -> Vec<(String, Pid)> {
        let mut found = Vec::new();
        for process in Process::ALL {
            if let Ok(pid) = self.pid(process) {
                found.push((format!("{process:?}"), pid));
            }
        }
        found
    }

    /// Ends everything: agents first, the library last, the database by its own file. Best effort, for `drop`.
    pub(super) fn end(&mut self) {
        for process in [
            Process::SourceAgent,
            Process::TapeAgent,
            Process::Controller,
            Process::Emulator,
        ] {
            if let Err(error) = self.end_process(process) {
                eprintln!("{error:#}");
            }
        }
        for pid in self.ours() {
            let _ = kill(pid, Signal::SIGKILL);
        }
        if let Some(pid) = self.postmaster()
            && is_alive(pid)
        {
            let _ = kill(pid, Signal::SIGQUIT);
            let _ = until("the end of the database", END, || {
                Ok((!is_alive(pid)).then_some(()))
            });
        }
    }

    /// Deletes what the controller and the agents know, once they are ended. Cartridges stay.
    pub fn forget_everything(&mut self) -> Result<()> {
        for process in [
            Process::SourceAgent,
            Process::TapeAgent,
            Process::Controller,
        ] {
            self.end_process(process)?;
        }
        for folder in ["controller", "tape-agent", "source-agent"] {
            let folder: PathBuf = self.home().join(folder);
            fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        Ok(())
    }
}

/// Whether it lives; the dead that nobody has waited for do not.
pub(super) fn is_alive(pid: Pid) -> bool {
    if kill(pid, None) == Err(Errno::ESRCH) {
        return false;
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name, which is in parentheses.
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
