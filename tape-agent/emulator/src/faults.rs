//! The script of faults: what goes wrong, where, when, and how often.
//!
//! There is one text form, TOML, in three places: `faults.toml` in the library's folder, which is read whenever
//! it changes and then takes the place of what was before; `taf-emulator fault add`, which takes the same keys
//! as `KEY=VALUE` while the library is on; and [`Fault::parse`] in tests.
//!
//! ```toml
//! [[fault]]
//! at = "medium"          # where it strikes: see `At`
//! barcode = "TAF001L8"   # only with this cartridge
//! object = 100           # only at this logical object (block or filemark) ...
//! objects = 20           # ... and at so many from it on
//! times = 1              # how often: once if omitted, 0 for ever
//! key = 3                # the sense: key, additional code, qualifier
//! asc = 0x0c
//! ascq = 0x00
//!
//! [[fault]]
//! at = "command"         # any command ...
//! opcode = 0x0a          # ... of this operation code ...
//! nth = 3                # ... the third from now on (counted while everything else fits)
//! drive = "0"            # number or serial number of a drive, or "changer"
//! do = "hang"            # what happens: see `Do`
//! ```
//!
//! | key | means | if omitted |
//! |---|---|---|
//! | `at` | `command`, `write`, `medium`, `deferred`, `read`, `filemark`, `position`, `load`, `move` | `command` |
//! | `drive` | number or serial number of the drive, or `changer` | any |
//! | `barcode` | the cartridge | any |
//! | `object`, `objects` | from which logical object on, and how many | any, 1 |
//! | `opcode` | the command's operation code | any |
//! | `nth` | only from the n-th time on that all else fits | 1 |
//! | `after_ms` | not before so many milliseconds have passed since it was ordered | 0 |
//! | `chance` | strikes with this probability (0 to 1), by the library's seed | 1 |
//! | `times` | how often it strikes; 0 for ever | 1 |
//! | `do` | `sense`, `hang`, `hang-after`, `hang-until-released`, `drop-before`, `drop-after`, `busy`, `task-set-full`, `reservation-conflict`, `flip`, `retry`, `power-cut`, `reset` | `sense` |
//! | `key`, `asc`, `ascq` | the sense; with key 1 (recovered) READ and WRITE are carried out besides | 3, 0, 0 |
//! | `deferred` | the sense is about earlier commands: this one does not run, and what is buffered is lost | no |
//! | `descriptors` | the sense comes in descriptor format | no |
//! | `eom`, `information` | the EOM bit and the INFORMATION field of the sense | no, none |
//! | `bits` | how many bits `flip` turns over | 1 |
//! | `retries` | how many retries are counted by `retry`, or by sense of key 1 | 1 |
//! | `alerts` | `TapeAlert` flags that are raised besides | none |

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use taf_scsi::sense::{Key, Sense};

use crate::Shared;

/// The moment a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum At {
    /// Any command, before it runs.
    #[default]
    Command,
    /// WRITE: the command fails and the block is not taken.
    Write,
    /// A buffered object goes to the medium: it and all behind it are lost, which a deferred error tells.
    Medium,
    /// WRITE: the block is taken, then fails on its way to the medium; a deferred error tells it on whatever
    /// command comes next.
    Deferred,
    /// READ: the block can't be read; the position stays before it.
    Read,
    /// WRITE FILEMARKS: the command fails and writes nothing.
    Filemark,
    /// LOCATE, SPACE, REWIND: the command fails and the position stays.
    Position,
    /// Threading, by the robot or by LOAD: the cartridge stays unthreaded.
    Load,
    /// MOVE MEDIUM: nothing moves.
    Move,
}

/// What a fault does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Do {
    /// CHECK CONDITION with the fault's sense.
    #[default]
    Sense,
    /// The command hangs, and the whole unit with it, until it is released or its connection is closed. If it
    /// is released the command runs.
    Hang,
    /// The same, but the command has run; only its answer hangs.
    HangAfter,
    /// Hangs until it is released, whatever becomes of the connection: a drive that no reset frees.
    HangUntilReleased,
    /// The connection breaks; the command does not run.
    DropBefore,
    /// The command runs, then the connection breaks.
    DropAfter,
    /// Status BUSY.
    Busy,
    /// Status TASK SET FULL.
    TaskSetFull,
    /// Status RESERVATION CONFLICT.
    ReservationConflict,
    /// READ gives data in which bits are turned over, and says nothing.
    Flip,
    /// READ or WRITE succeeds after retries that are only counted.
    Retry,
    /// The drive loses power and gets it back; a random part of its buffer reached the medium. The connection
    /// breaks.
    PowerCut,
    /// The drive is reset: as a power cut, but the connection stays and this command meets the attention.
    Reset,
}

/// One line of the script.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fault {
    /// When it strikes.
    pub at: At,
    /// Only at this drive, by number or serial number, or at the `changer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drive: Option<String>,
    /// Only with this cartridge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub barcode: Option<String>,
    /// Only from this logical object on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<u64>,
    /// At so many objects.
    pub objects: u64,
    /// Only with commands of this operation code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opcode: Option<u8>,
    /// Only from the n-th time on that all of this fits.
    pub nth: u32,
    /// Not before so many milliseconds have passed.
    pub after_ms: u64,
    /// Probability that it strikes when it could.
    pub chance: f64,
    /// How often; 0 for ever.
    pub times: u32,
    /// What it does.
    #[serde(rename = "do")]
    pub action: Do,
    /// Sense key.
    pub key: u8,
    /// Additional sense code.
    pub asc: u8,
    /// Additional sense code qualifier.
    pub ascq: u8,
    /// The sense is about earlier commands.
    pub deferred: bool,
    /// The sense comes in descriptor format.
    pub descriptors: bool,
    /// The EOM bit.
    pub eom: bool,
    /// The INFORMATION field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub information: Option<i64>,
    /// Bits that [`Do::Flip`] turns over.
    pub bits: u32,
    /// Retries that are counted by [`Do::Retry`], and by sense of key RECOVERED ERROR.
    pub retries: u64,
    /// `TapeAlert` flags to raise.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<u8>,
}

impl Default for Fault {
    /// The first command whatever ends with MEDIUM ERROR.
    fn default() -> Self {
        Self {
            at: At::Command,
            drive: None,
            barcode: None,
            object: None,
            objects: 1,
            opcode: None,
            nth: 1,
            after_ms: 0,
            chance: 1.0,
            times: 1,
            action: Do::Sense,
            key: Key::MediumError as u8,
            asc: 0,
            ascq: 0,
            deferred: false,
            descriptors: false,
            eom: false,
            information: None,
            bits: 1,
            retries: 1,
            alerts: Vec::new(),
        }
    }
}

impl Fault {
    /// A fault that gives this sense, once.
    pub fn sense(at: At, key: Key, (asc, ascq): (u8, u8)) -> Self {
        Self {
            at,
            key: key as u8,
            asc,
            ascq,
            ..Self::default()
        }
    }

    /// A fault that does something else than to give sense, once.
    pub fn doing(at: At, action: Do) -> Self {
        Self {
            at,
            action,
            ..Self::default()
        }
    }

    /// Reads one fault from TOML: `KEY = VALUE`, a line each.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fault: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        fault.check()?;
        Ok(fault)
    }

    /// Reads one fault from `KEY=VALUE` words, as the command line has them: what is no number, truth value or
    /// list is text.
    pub fn from_words<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut text = String::new();
        for word in words {
            let (key, value) = word
                .split_once('=')
                .ok_or_else(|| format!("{word:?} is not of the form KEY=VALUE"))?;
            let plain = value.parse::<f64>().is_ok()
                || value.starts_with("0x")
                || value.starts_with('[')
                || matches!(value, "true" | "false");
            // `drive` is a number or a name and always text.
            if plain && key != "drive" && key != "barcode" {
                let _ = writeln!(text, "{key} = {value}");
            } else {
                let _ = writeln!(text, "{key} = {value:?}");
            }
        }
        Self::parse(&text)
    }

    /// The text form, with what differs from the defaults.
    pub fn to_text(&self) -> String {
        let table = |fault: &Self| toml::Table::try_from(fault).unwrap_or_default();
        let defaults = table(&Self::default());
        let mut own = table(self);
        own.retain(|key, value| defaults.get(key) != Some(value));
        own.to_string()
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        let in_command = self.action == Do::Sense;
        if matches!(self.at, At::Medium | At::Deferred) && self.action != Do::Sense {
            return Err("`medium` and `deferred` can only give sense".to_owned());
        }
        if self.action == Do::Flip && self.at != At::Read {
            return Err("`flip` is for `read`".to_owned());
        }
        if self.action == Do::Retry && !matches!(self.at, At::Read | At::Write) {
            return Err("`retry` is for `read` and `write`".to_owned());
        }
        if self.deferred && (self.at != At::Command || !in_command) {
            return Err(
                "`deferred` is for `command`; `medium` and `deferred` tell so by themselves"
                    .to_owned(),
            );
        }
        if !(0.0..=1.0).contains(&self.chance) {
            return Err("`chance` must be between 0 and 1".to_owned());
        }
        if self.key > 15 {
            return Err("`key` must be at most 15".to_owned());
        }
        Ok(())
    }

    /// The sense it gives.
    pub fn to_sense(&self) -> Sense {
        Sense {
            deferred: self.deferred,
            eom: self.eom,
            information: self.information,
            ..Sense::new(Key::from_code(self.key), (self.asc, self.ascq))
        }
    }

    /// Whether it strikes before the command runs rather than within it.
    fn outside(&self) -> bool {
        self.at == At::Command || !matches!(self.action, Do::Sense | Do::Flip | Do::Retry)
    }

    /// Whether the command that it strikes within fails, rather than succeeding with news or silently.
    pub(crate) fn stops(&self) -> bool {
        self.action == Do::Sense && Key::from_code(self.key) != Key::RecoveredError
    }
}

/// Where something could go wrong now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub at: At,
    /// Number and serial number of the unit; `changer` has no number.
    pub unit: (&'a str, &'a str),
    pub opcode: u8,
    pub barcode: &'a str,
    pub object: u64,
    pub now: Duration,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    #[serde(default)]
    fault: Vec<Fault>,
}

/// A fault that waits for its moment.
#[derive(Debug)]
struct Pending {
    fault: Fault,
    /// How often all else fitted.
    seen: u32,
    /// The clock of the first unit that looked, then.
    since: Option<Duration>,
}

impl Pending {
    fn new(fault: Fault) -> Self {
        Self {
            fault,
            seen: 0,
            since: None,
        }
    }

    fn fits(&mut self, scene: &Scene<'_>, outside: bool) -> bool {
        let fault = &self.fault;
        let since = *self.since.get_or_insert(scene.now);
        let fits = fault.outside() == outside
            && (fault.at == scene.at || (fault.at == At::Command && outside))
            && fault
                .drive
                .as_ref()
                .is_none_or(|drive| drive == scene.unit.0 || drive == scene.unit.1)
            && fault
                .barcode
                .as_ref()
                .is_none_or(|wanted| wanted == scene.barcode)
            && fault.object.is_none_or(|first| {
                (first..first.saturating_add(fault.objects)).contains(&scene.object)
            })
            && fault.opcode.is_none_or(|opcode| opcode == scene.opcode)
            && scene.now.saturating_sub(since) >= Duration::from_millis(fault.after_ms);
        if fits {
            self.seen = self.seen.saturating_add(1);
        }
        fits && self.seen >= fault.nth
    }
}

/// The faults still to come. One script serves a whole library.
#[derive(Debug)]
pub struct Faults {
    pending: Vec<Pending>,
    file: Option<PathBuf>,
    stamp: Option<(SystemTime, u64)>,
    seed: u64,
    random: StdRng,
}

impl Faults {
    /// No faults, until [`Self::add`] or, if given, until the file says so.
    pub fn new(file: Option<&Path>) -> Shared<Self> {
        Self::seeded(file, rand::random())
    }

    /// The same, with chance by this seed.
    pub fn seeded(file: Option<&Path>, seed: u64) -> Shared<Self> {
        tracing::info!(seed, "chance goes by this seed");
        Shared::new(Self {
            pending: Vec::new(),
            file: file.map(Path::to_owned),
            stamp: None,
            seed,
            random: StdRng::seed_from_u64(seed),
        })
    }

    /// What chance goes by.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A number below `end`, by the seed; 0 if there is none.
    pub fn below(&mut self, end: u64) -> u64 {
        if end == 0 {
            return 0;
        }
        self.random.random_range(0..end)
    }

    /// Adds a fault.
    pub fn add(&mut self, fault: Fault) {
        self.pending.push(Pending::new(fault));
    }

    /// The faults still to come.
    pub fn pending(&mut self) -> Vec<Fault> {
        self.refresh();
        self.pending.iter().map(|one| one.fault.clone()).collect()
    }

    /// Takes back all faults.
    pub fn clear(&mut self) {
        self.refresh();
        self.pending.clear();
    }

    /// Looks at the script once a command; whether anything could go wrong at all.
    pub(crate) fn armed(&mut self) -> bool {
        self.refresh();
        !self.pending.is_empty()
    }

    /// The first fault that strikes within a command, which is thereby used up.
    pub(crate) fn within(&mut self, scene: &Scene<'_>) -> Option<Fault> {
        self.strike(scene, false)
    }

    /// The first fault that strikes before a command runs.
    pub(crate) fn before(&mut self, scene: &Scene<'_>) -> Option<Fault> {
        self.strike(scene, true)
    }

    fn strike(&mut self, scene: &Scene<'_>, outside: bool) -> Option<Fault> {
        let mut found = None;
        for (number, one) in self.pending.iter_mut().enumerate() {
            // All of them count what they see, also behind one that strikes.
            let fits = one.fits(scene, outside);
            if fits
                && found.is_none()
                && (one.fault.chance >= 1.0 || self.random.random_bool(one.fault.chance))
            {
                found = Some(number);
            }
        }
        let number = found?;
        let fault = self.pending[number].fault.clone();
        if fault.times == 1 {
            self.pending.remove(number);
        } else {
            let left = &mut self.pending[number].fault.times;
            *left = left.saturating_sub(1);
        }
        tracing::info!(?scene, action = ?fault.action, sense = %fault.to_sense(), "a fault strikes");
        Some(fault)
    }

    fn refresh(&mut self) {
        let Some(file) = &self.file else {
            return;
        };
        let stamp = std::fs::metadata(file)
            .and_then(|meta| Ok((meta.modified()?, meta.len())))
            .ok();
        if stamp == self.stamp {
            return;
        }
        self.stamp = stamp;
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "can't read the script of faults");
                return;
            }
        };
        let script = toml::from_str::<Script>(&text)
            .map_err(|error| error.to_string())
            .and_then(|script| {
                for fault in &script.fault {
                    fault.check()?;
                }
                Ok(script)
            });
        match script {
            Ok(script) => self.pending = script.fault.into_iter().map(Pending::new).collect(),
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "the script of faults is not valid, it is ignored");
            }
        }
    }
}
