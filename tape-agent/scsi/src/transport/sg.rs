//! A path through the kernel's `sg` driver to a device of this host: `/dev/sgN`.
//!
//! Data go to a drive by `sg` alone, never by the kernel's own tape driver `st`, which retries, moves and closes
//! tapes as it thinks best. While a path to a drive is open, its `st` device is held open too and not used: a stray
//! `mt` then gets *busy* instead of rewinding the tape under a backup, and so does a second program of ours.
//!
//! A command is sent once. Where the kernel refuses it before it is sent, that is told apart from a command whose
//! outcome is unknown; after the latter the path stays lost.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;

use self::aligned::Aligned;
use self::status::Phase;
use super::ioctl::{self, Answer};
use super::{Completion, Data, Error, TRANSFER_MAX, Transport};
use crate::cdb;
use crate::page::inquiry;

mod aligned;
mod guard;
mod node;
mod status;

pub use guard::Guard;

/// What is measured comes in steps of this many bytes; a path that carries less is of no use for tape.
const STEP: usize = 64 << 10;
/// Memory that the kernel keeps for this path, so that a block of the usual sizes never fails for want of it.
const RESERVED: usize = 1 << 20;
/// For the commands that measure: no device needs longer to say who it is.
const MEASURING: Duration = Duration::from_mins(2);

/// The kernel's side: a device that is open.
trait Kernel: Send {
    fn run(&mut self, cdb: &[u8], data: Data<'_>, timeout_ms: u32) -> io::Result<Answer>;
    fn reserve(&mut self, bytes: usize);
}

impl Kernel for File {
    fn run(&mut self, cdb: &[u8], data: Data<'_>, timeout_ms: u32) -> io::Result<Answer> {
        ioctl::sg_io(self.as_fd(), cdb, data, timeout_ms)
    }

    fn reserve(&mut self, bytes: usize) {
        // Without it every transfer asks for memory anew: slower, not wrong.
        let _ = ioctl::reserve(self.as_fd(), bytes);
    }
}

/// See the module.
pub struct Sg {
    name: String,
    kernel: Box<dyn Kernel>,
    bounce: Aligned,
    /// What is known of the largest transfer: measured, or found out by a refusal.
    largest: usize,
    lost: bool,
    /// Held, never used.
    _guard: Guard,
}

impl Sg {
    /// Opens the node of a device, called `name` in messages, keeps others from its tape, and measures the path.
    pub fn open(node: &Path, name: impl Into<String>) -> Result<Self, Error> {
        let name = name.into();
        let lost = |reason| Error::Lost {
            device: name.clone(),
            reason,
        };
        let file = node::open(node).map_err(lost)?;
        let guard = Guard::of(node).map_err(lost)?;
        let mut path = Self::with(name, Box::new(file), guard);
        path.measure()?;
        Ok(path)
    }

    /// Opens the node of a device to ask it who it is, and what it carries, and nothing else: its tape is not guarded, and may
    /// be in use.
    pub fn open_to_ask(node: &Path) -> Result<Self, Error> {
        let name = node.display().to_string();
        match node::open(node) {
            Ok(file) => Ok(Self::with(name, Box::new(file), Guard::none())),
            Err(reason) => Err(Error::Lost {
                device: name,
                reason,
            }),
        }
    }

    fn with(name: String, kernel: Box<dyn Kernel>, guard: Guard) -> Self {
        Self {
            name,
            kernel,
            bounce: Aligned::default(),
            largest: TRANSFER_MAX,
            lost: false,
            _guard: guard,
        }
    }

    fn lose(&mut self, reason: String) -> Error {
        self.lost = true;
        Error::Lost {
            device: self.name.clone(),
            reason,
        }
    }

    /// What an error of the system call means.
    fn fault(&mut self, error: &io::Error, length: usize) -> Error {
        match error.raw_os_error().map(Errno::from_raw) {
            // The limits that kernel and adapter state are not always true: this is how they say so.
            Some(Errno::EINVAL | Errno::ENOMEM) if length > STEP => {
                self.largest = self.largest.min((length - 1) / STEP * STEP);
                Error::TooLarge {
                    device: self.name.clone(),
                    length,
                    largest: self.largest,
                }
            }
            Some(
                Errno::EINVAL
                | Errno::ENOMEM
                | Errno::EMSGSIZE
                | Errno::EFAULT
                | Errno::EPERM
                | Errno::EACCES
                | Errno::ENOTTY
                | Errno::EDOM
                | Errno::EBUSY,
            ) => Error::Refused {
                device: self.name.clone(),
                reason: error.to_string(),
            },
            Some(Errno::ENODEV | Errno::ENXIO) => {
                self.lose("the device is gone, or the kernel has given it up (see dmesg)".into())
            }
            _ => self.lose(error.to_string()),
        }
    }

    /// Whether the path carries a transfer of this length, tried with a command that any device answers at once,
    /// without a medium, and that takes no news from anybody.
    fn carries(&mut self, length: usize) -> Result<bool, Error> {
        let cdb = cdb::inquiry(inquiry::LENGTH as u16);
        let mut bounce = std::mem::take(&mut self.bounce);
        let outcome = self.execute(&cdb, Data::In(bounce.slice(length)), MEASURING);
        self.bounce = bounce;
        match outcome {
            Ok(_) => Ok(true),
            Err(Error::TooLarge { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Transport for Sg {
    fn execute(
        &mut self,
        cdb: &[u8],
        data: Data<'_>,
        timeout: Duration,
    ) -> Result<Completion, Error> {
        if self.lost {
            let reason = "an earlier command's outcome is unknown; open the device again";
            return Err(self.lose(reason.to_owned()));
        }
        let phase = match &data {
            Data::None => Phase::None,
            Data::In(buffer) => Phase::In(buffer.len()),
            Data::Out(bytes) => Phase::Out(bytes.len()),
        };
        let length = match phase {
            Phase::None => 0,
            Phase::In(length) | Phase::Out(length) => length,
        };
        if length > self.largest {
            return Err(Error::TooLarge {
                device: self.name.clone(),
                length,
                largest: self.largest,
            });
        }
        let limit = timeout.as_millis().try_into().unwrap_or(u32::MAX);
        // Page-aligned, so that the kernel may take the bytes from where they are.
        let answer = match data {
            Data::In(buffer) if !aligned::is_aligned(buffer) => {
                let bounce = self.bounce.slice(length);
                let answer = self.kernel.run(cdb, Data::In(bounce), limit);
                // All of it: what counts is said by sense data, and residuals lie.
                buffer.copy_from_slice(bounce);
                answer
            }
            Data::Out(bytes) if !aligned::is_aligned(bytes) => {
                let bounce = self.bounce.slice(length);
                bounce.copy_from_slice(bytes);
                self.kernel.run(cdb, Data::Out(bounce), limit)
            }
            data => self.kernel.run(cdb, data, limit),
        };
        let answer = answer.map_err(|error| self.fault(&error, length))?;
        let outcome = status::interpret(&self.name, answer, phase, timeout);
        self.lost = outcome.is_err();
        outcome
    }

    fn max_transfer(&self) -> usize {
        self.largest
    }

    fn measure(&mut self) -> Result<usize, Error> {
        self.largest = TRANSFER_MAX;
        // `below` steps are carried, `above` steps are not.
        let (mut below, mut above) = (0, TRANSFER_MAX / STEP + 1);
        let mut next = above - 1;
        while above - below > 1 {
            // What an earlier refusal left is a guess; here every length is tried.
            self.largest = TRANSFER_MAX;
            if self.carries(next * STEP)? {
                below = next;
            } else {
                above = next;
            }
            next = usize::midpoint(below, above);
        }
        self.largest = below * STEP;
        self.kernel.reserve(self.largest.min(RESERVED));
        Ok(self.largest)
    }

    fn name(&self) -> &str {
        &self.name
    }
}

#[cfg(test)]
mod tests;
