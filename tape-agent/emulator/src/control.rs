//! Orders to a library that is switched on, beside its SCSI: faults, power, door, mail, and what it counts.
//!
//! They come over `sockets/control.sock`, one JSON line each, and are answered by one JSON line:
//! `{"done": VALUE}` or `{"refused": "WHY"}`. `taf-emulator` sends them; so may any program. Tests in process
//! call [`Control::obey`], or the drives and the robot themselves.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::drive::Status;
use crate::faults::{Fault, Faults};
use crate::{Changer, Clock, Drive, Shared};

/// The longest order in bytes.
const ORDER_MAX: u64 = 64 << 10;

/// An order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Order {
    /// What drives and robot are and count: a [`Report`].
    Stat,
    /// Add a fault to the script.
    FaultAdd {
        /// The fault, with the keys of its text form.
        fault: Fault,
    },
    /// The faults still to come.
    FaultList,
    /// Take back all faults.
    FaultClear,
    /// Let the commands go on that hang: at one unit, or at all.
    Release {
        /// `0`, `1`, … or a serial number or `changer`.
        #[serde(default)]
        unit: Option<String>,
    },
    /// Cut a drive's power and give it back.
    PowerCut {
        /// The drive.
        drive: String,
        /// Objects of its buffer that had reached the medium; omitted: chance, by the seed.
        #[serde(default)]
        keep: Option<u64>,
    },
    /// Reset a drive.
    Reset {
        /// The drive.
        drive: String,
    },
    /// Raise `TapeAlert` flags.
    Alert {
        /// The drive.
        drive: String,
        /// 1 to 64.
        flags: Vec<u8>,
    },
    /// Open or close the door.
    Door {
        /// Open it.
        open: bool,
    },
    /// Put a cartridge from outside into a mail slot: its address.
    MailPut {
        /// The cartridge's name.
        name: String,
    },
    /// Take a cartridge out of a mail slot.
    MailTake {
        /// The cartridge's name.
        name: String,
    },
    /// An element is in an abnormal state, or no more.
    Exception {
        /// Its address.
        element: u16,
        /// Additional sense code and qualifier; omitted: no more.
        #[serde(default)]
        code: Option<(u8, u8)>,
    },
    /// Let simulated time pass for all units.
    Advance {
        /// Milliseconds.
        milliseconds: u64,
    },
}

/// What drives and robot are and count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The drives, by number.
    pub drives: Vec<Status>,
    /// The robot.
    pub changer: Robot,
    /// What chance goes by.
    pub seed: u64,
    /// Faults still to come.
    pub faults: usize,
}

/// The robot as one sees it from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Robot {
    /// Moves since it was switched on.
    pub moves: u64,
    /// Whether the door is open.
    pub door_open: bool,
    /// Whether a command hangs.
    pub hangs: bool,
}

/// Why an order was not carried out.
pub type Refusal = String;

/// The handles of a library that orders need.
#[derive(Debug, Clone)]
pub struct Control {
    pub(crate) drives: Vec<Shared<Drive>>,
    /// What the drives look like, also while a command keeps them.
    pub(crate) seen: Vec<Shared<Status>>,
    pub(crate) changer: Shared<Changer>,
    pub(crate) faults: Shared<Faults>,
    pub(crate) clocks: Vec<Clock>,
}

impl Control {
    /// Carries out an order.
    pub fn obey(&self, order: Order) -> Result<Value, Refusal> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        match order {
            Order::Stat => serde_json::to_value(self.report()).map_err(|error| text(&error)),
            Order::FaultAdd { fault } => {
                fault.check()?;
                self.faults.lock().add(fault);
                Ok(Value::Null)
            }
            Order::FaultList => {
                let pending = self.faults.lock().pending();
                serde_json::to_value(pending).map_err(|error| text(&error))
            }
            Order::FaultClear => {
                self.faults.lock().clear();
                Ok(Value::Null)
            }
            Order::Release { unit } => self.release(unit.as_deref()),
            Order::PowerCut { drive, keep } => {
                let mut drive = self.drive(&drive)?.lock();
                match keep {
                    Some(keep) => drive.power_cut(keep),
                    None => drive.power_cut_somewhere(),
                }
                .map_err(|error| text(&error))?;
                Ok(Value::Null)
            }
            Order::Reset { drive } => {
                let mut drive = self.drive(&drive)?.lock();
                drive.reset().map_err(|error| text(&error))?;
                Ok(Value::Null)
            }
            Order::Alert { drive, flags } => {
                self.drive(&drive)?.lock().raise_alerts(&flags);
                Ok(Value::Null)
            }
            Order::Door { open } => {
                let mut changer = self.changer.lock();
                changer.door(open).map_err(|error| text(&error))?;
                Ok(Value::Null)
            }
            Order::MailPut { name } => {
                let put = self.changer.lock().mail_put(&name);
                put.map(Value::from).map_err(|error| text(&error))
            }
            Order::MailTake { name } => {
                let taken = self.changer.lock().mail_take(&name);
                taken.map(|()| Value::Null).map_err(|error| text(&error))
            }
            Order::Exception { element, code } => {
                let mut changer = self.changer.lock();
                let set = changer.exception(element, code);
                set.map(|()| Value::Null).map_err(|error| text(&error))
            }
            Order::Advance { milliseconds } => {
                if self.clocks.iter().all(|clock| matches!(clock, Clock::Real)) {
                    return Err(
                        "this library goes by real time; set `simulated_time = true` in its library.toml"
                            .to_owned(),
                    );
                }
                for clock in &self.clocks {
                    clock.advance(Duration::from_millis(milliseconds));
                }
                Ok(Value::Null)
            }
        }
    }

    /// What drives and robot are and count.
    pub fn report(&self) -> Report {
        let robot = {
            let changer = self.changer.lock();
            Robot {
                moves: changer.moves(),
                door_open: changer.door_is_open(),
                hangs: changer.hangs(),
            }
        };
        let mut faults = self.faults.lock();
        Report {
            drives: self.seen.iter().map(|seen| seen.lock().clone()).collect(),
            changer: robot,
            seed: faults.seed(),
            faults: faults.pending().len(),
        }
    }

    fn drive(&self, name: &str) -> Result<&Shared<Drive>, Refusal> {
        self.seen
            .iter()
            .position(|seen| {
                let seen = seen.lock();
                seen.serial == name || seen.number.to_string() == name
            })
            .and_then(|number| self.drives.get(number))
            .ok_or_else(|| {
                format!("there is no drive {name}; name it by number, from 0, or by serial number")
            })
    }

    fn release(&self, unit: Option<&str>) -> Result<Value, Refusal> {
        match unit {
            Some("changer") => self.changer.lock().let_go(),
            Some(name) => self.drive(name)?.lock().let_go(),
            None => {
                self.changer.lock().let_go();
                for drive in &self.drives {
                    drive.lock().let_go();
                }
            }
        }
        Ok(Value::Null)
    }
}

/// Takes orders from whoever connects, until accepting fails.
pub(crate) fn serve(listener: &UnixListener, control: &Control) -> io::Result<()> {
    for stream in listener.incoming() {
        let stream = match stream {
            Ok(stream) => stream,
            // Whoever it was is gone already.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
                ) =>
            {
                continue;
            }
            Err(error) => return Err(error),
        };
        let control = control.clone();
        thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || {
                if let Err(error) = converse(stream, &control) {
                    tracing::warn!(%error, "a control connection broke");
                }
            })?;
    }
    Ok(())
}

fn converse(stream: UnixStream, control: &Control) -> io::Result<()> {
    let mut out = stream.try_clone()?;
    let mut lines = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if io::Read::take(&mut lines, ORDER_MAX).read_line(&mut line)? == 0 {
            return Ok(());
        }
        let answer = serde_json::from_str::<Order>(&line)
            .map_err(|error| format!("that is no order: {error}"))
            .and_then(|order| {
                tracing::info!(?order, "an order");
                control.obey(order)
            });
        let answer = match answer {
            Ok(value) => json!({ "done": value }),
            Err(why) => json!({ "refused": why }),
        };
        writeln!(out, "{answer}")?;
    }
}

/// An order could not be given, or was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens.
    #[error(
        "the library in {dir} does not listen ({source}); is it switched on? Start it with: taf-emulator serve --dir {dir}"
    )]
    Off {
        /// The library's folder.
        dir: String,
        /// Why.
        source: io::Error,
    },
    /// The connection broke, or the answer is none.
    #[error("the library gave no answer: {0}")]
    NoAnswer(String),
    /// It was not carried out.
    #[error("{0}")]
    Refused(Refusal),
}

/// Gives an order to the library in `dir`, which is switched on.
pub fn send(dir: &Path, order: &Order) -> Result<Value, Error> {
    let mut stream =
        UnixStream::connect(crate::server::control(dir)).map_err(|source| Error::Off {
            dir: dir.display().to_string(),
            source,
        })?;
    let broken = |error: &dyn std::fmt::Display| Error::NoAnswer(error.to_string());
    let text = serde_json::to_string(order).map_err(|error| broken(&error))?;
    writeln!(stream, "{text}").map_err(|error| broken(&error))?;
    let mut line = String::new();
    BufReader::new(stream)
        .read_line(&mut line)
        .map_err(|error| broken(&error))?;
    let mut answer: Value = serde_json::from_str(&line).map_err(|error| broken(&error))?;
    if let Some(why) = answer["refused"].as_str() {
        return Err(Error::Refused(why.to_owned()));
    }
    Ok(answer["done"].take())
}
