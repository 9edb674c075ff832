//! The script of faults: at this command, cartridge and block, answer with this sense.
//!
//! A library reads it from `faults.toml` in its folder whenever that file changes; tests set it in process.
//!
//! ```toml
//! [[fault]]
//! at = "medium"          # when: see `At`
//! barcode = "TAF001L8"   # omitted: any cartridge
//! object = 100           # logical object number, omitted: any
//! times = 1              # how often, omitted: once; 0: for ever
//! key = 3
//! asc = 0x0c
//! ascq = 0x00
//! ```

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Deserialize;
use taf_scsi::sense::{Key, Sense};

use crate::Shared;

/// The moment a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum At {
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

/// One line of the script.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// When it strikes.
    pub at: At,
    /// Only with this cartridge.
    #[serde(default)]
    pub barcode: Option<String>,
    /// Only at this logical object.
    #[serde(default)]
    pub object: Option<u64>,
    /// How often; 0 for ever.
    #[serde(default = "once")]
    pub times: u32,
    /// Sense key.
    pub key: u8,
    /// Additional sense code.
    pub asc: u8,
    /// Additional sense code qualifier.
    pub ascq: u8,
}

fn once() -> u32 {
    1
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    #[serde(default)]
    fault: Vec<Fault>,
}

/// The faults still to come. One script serves a whole library.
#[derive(Debug, Default)]
pub struct Faults {
    pending: Vec<Fault>,
    file: Option<PathBuf>,
    stamp: Option<(SystemTime, u64)>,
}

impl Faults {
    /// No faults, until [`Self::add`] or, if given, until the file says so.
    pub fn new(file: Option<&Path>) -> Shared<Self> {
        Shared::new(Self {
            file: file.map(Path::to_owned),
            ..Self::default()
        })
    }

    /// Adds a fault.
    pub fn add(&mut self, fault: Fault) {
        self.pending.push(fault);
    }

    /// The sense of the first fault that strikes here, which is thereby used up.
    pub fn strike(&mut self, at: At, barcode: &str, object: u64) -> Option<Sense> {
        self.refresh();
        let found = self.pending.iter().position(|fault| {
            fault.at == at
                && fault.object.is_none_or(|wanted| wanted == object)
                && fault
                    .barcode
                    .as_ref()
                    .is_none_or(|wanted| wanted == barcode)
        })?;
        let fault = &mut self.pending[found];
        let sense = Sense::new(Key::from_code(fault.key), (fault.asc, fault.ascq));
        if fault.times == 1 {
            self.pending.remove(found);
        } else {
            fault.times = fault.times.saturating_sub(1);
        }
        tracing::info!(?at, barcode, object, %sense, "a fault strikes");
        Some(sense)
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
        match toml::from_str::<Script>(&text) {
            Ok(script) => self.pending = script.fault,
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "the script of faults is not valid, it is ignored");
            }
        }
    }
}
