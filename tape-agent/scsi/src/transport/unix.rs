//! A path over a unix socket to a target in another process, and that process's side of it.
//!
//! A connection is one nexus. After a timeout or a broken connection the outcome of the command is unknown, so
//! the path stays lost: connecting again, and finding out what happened meanwhile, is the caller's business.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::wire::{ANSWER, Answer, REQUEST, Request};
use super::{Completion, Data, Error, TRANSFER_MAX, Transport};
use crate::cdb;
use crate::sense::LENGTH_MAX;
use crate::target::{Nexus, Target, carry_out};

/// The initiator's side.
#[derive(Debug)]
pub struct Unix {
    name: String,
    /// `None` once the outcome of a command is unknown.
    stream: Option<UnixStream>,
}

impl Unix {
    /// Connects to the socket at `path`.
    pub fn connect(path: &Path) -> Result<Self, Error> {
        let name = format!("unix:{}", path.display());
        match UnixStream::connect(path) {
            Ok(stream) => Ok(Self {
                name,
                stream: Some(stream),
            }),
            Err(error) => Err(Error::Lost {
                reason: format!("can't connect: {error}; is the emulator running?"),
                device: name,
            }),
        }
    }

    fn lost(&self, reason: impl Into<String>) -> Error {
        Error::Lost {
            device: self.name.clone(),
            reason: reason.into(),
        }
    }

    fn exchange(
        &self,
        stream: &mut UnixStream,
        cdb: &[u8],
        data: Data<'_>,
        timeout: Duration,
    ) -> Result<Completion, Error> {
        let deadline = Instant::now() + timeout;
        let fault = |error: io::Error| self.fault(&error, timeout);
        let (out, buffer): (&[u8], &mut [u8]) = match data {
            Data::None => (&[], &mut []),
            Data::Out(bytes) => (bytes, &mut []),
            Data::In(buffer) => (&[], buffer),
        };
        let mut padded = [0; 16];
        padded[..cdb.len()].copy_from_slice(cdb);
        let request = Request {
            cdb: padded,
            out: out.len(),
            capacity: buffer.len(),
        };
        let head = request.encode();
        // One write for the small commands; the data of a large one is not copied.
        let mut stream = Timed { stream, deadline };
        stream.write_all(&head).map_err(fault)?;
        stream.write_all(out).map_err(fault)?;

        let mut head = [0; ANSWER];
        stream.read_exact(&mut head).map_err(fault)?;
        let answer = Answer::decode(head, buffer.len()).map_err(|reason| self.lost(reason))?;
        let mut sense = vec![0; answer.sense];
        stream.read_exact(&mut sense).map_err(fault)?;
        stream
            .read_exact(&mut buffer[..answer.data])
            .map_err(fault)?;
        Ok(Completion {
            status: answer.status,
            sense,
            transferred: if out.is_empty() {
                answer.data
            } else {
                out.len()
            },
        })
    }

    fn fault(&self, error: &io::Error, timeout: Duration) -> Error {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::Timeout {
                device: self.name.clone(),
                seconds: timeout.as_secs(),
            },
            io::ErrorKind::UnexpectedEof => self.lost("it closed the connection"),
            _ => self.lost(error.to_string()),
        }
    }
}

impl Transport for Unix {
    fn execute(
        &mut self,
        cdb: &[u8],
        data: Data<'_>,
        timeout: Duration,
    ) -> Result<Completion, Error> {
        data.fits(&self.name, cdb)?;
        let Some(mut stream) = self.stream.take() else {
            return Err(self.lost("an earlier command's outcome is unknown; open the device again"));
        };
        let outcome = self.exchange(&mut stream, cdb, data, timeout);
        if outcome.is_ok() {
            self.stream = Some(stream);
        }
        outcome
    }

    fn max_transfer(&self) -> usize {
        TRANSFER_MAX
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// A stream whose every read and write ends at one deadline.
struct Timed<'a> {
    stream: &'a mut UnixStream,
    deadline: Instant,
}

impl Timed<'_> {
    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(left)
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(buffer)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Serves `target` to whoever connects to `listener`, each connection in a thread of its own, until accepting
/// fails. Commands of several connections take turns at the target.
pub fn serve<T: Target + ?Sized + 'static>(
    listener: &UnixListener,
    target: &Arc<Mutex<T>>,
) -> io::Result<()> {
    loop {
        let (stream, _) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if passing(&error) => continue,
            Err(error) => return Err(error),
        };
        let target = Arc::clone(target);
        thread::Builder::new()
            .name("scsi-nexus".to_owned())
            .spawn(move || serve_stream(stream, &target))?;
    }
}

fn passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
    )
}

/// Serves `target` on one connection, which is one initiator, until that closes it (`Ok`) or breaks the
/// protocol, or the target breaks the connection.
pub fn serve_stream<T: Target + ?Sized>(
    mut stream: UnixStream,
    target: &Mutex<T>,
) -> io::Result<()> {
    let nexus = Nexus::new();
    let outcome = converse(&mut stream, target, nexus);
    lock(target).disconnected(nexus);
    outcome
}

fn lock<T: Target + ?Sized>(target: &Mutex<T>) -> MutexGuard<'_, T> {
    target.lock().unwrap_or_else(PoisonError::into_inner)
}

fn converse<T: Target + ?Sized>(
    stream: &mut UnixStream,
    target: &Mutex<T>,
    nexus: Nexus,
) -> io::Result<()> {
    let mut out = Vec::new();
    loop {
        let mut head = [0; REQUEST];
        match stream.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
        let request = Request::decode(head)
            .map_err(|reason| io::Error::new(io::ErrorKind::InvalidData, reason))?;
        out.resize(request.out, 0);
        stream.read_exact(&mut out)?;
        let cdb = &request.cdb[..cdb::length(request.cdb[0]).unwrap_or(16)];
        let command = (cdb, &out[..], request.capacity);
        let Some(response) = carry_out(target, nexus, command, &mut || gone(stream))? else {
            return Ok(());
        };
        let sense = &response.sense[..response.sense.len().min(LENGTH_MAX)];
        let data = &response.data_in[..response.data_in.len().min(request.capacity)];
        let answer = Answer {
            status: response.status,
            sense: sense.len(),
            data: data.len(),
        };
        let mut small = answer.encode().to_vec();
        small.extend(sense);
        stream.write_all(&small)?;
        stream.write_all(data)?;
    }
}

/// Whether the initiator closed the connection while its command hangs.
fn gone(stream: &mut UnixStream) -> io::Result<bool> {
    stream.set_nonblocking(true)?;
    let read = stream.read(&mut [0]);
    stream.set_nonblocking(false)?;
    match read {
        Ok(0) => Ok(true),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a request came before the answer to the one before it",
        )),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
