//! `TapeAlert`: what a drive wants people and programs to know.
//!
//! Two pages hold the flags. Page 2Eh forgets them when it is read, whoever reads; page 12h keeps them until what they are
//! about is over. So 12h is read where a drive has it: neither a crash between reading and keeping nor another program that
//! reads 2Eh loses an alert. Where there is only 2Eh, whoever reads it must keep what it says before anything else: exactly
//! one reader, the drive's worker.

use taf_scsi::page::log;
use taf_scsi::page::tape_alert::Flags;

use super::flags::FLAGS;
use crate::{Drive, Error};

/// How bad it is, as the standard rates it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// To be known.
    Information,
    /// May become a failure.
    Warning,
    /// Something failed or will.
    Critical,
}

impl Severity {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Information => "information",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// What TAF does about a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Measure {
    /// Shows and counts it.
    Note,
    /// Stops the work; the cartridge is to be tried in another drive, and the drive with another cartridge.
    CrossTest,
    /// Marks the drive as wanting to be cleaned.
    Clean,
    /// Asks for another cleaning cartridge.
    ReplaceCleaner,
    /// Gives the drive no more work until an operator says so.
    DriveDown,
    /// Writes nothing to the cartridge in this drive; another drive may.
    RefuseWriting,
    /// Writes to the volume no more.
    VolumeReadOnly,
    /// Asks to move the volume's data to another one.
    RetireVolume,
    /// Asks for somebody's hand.
    Operator,
}

/// A flag: the standard's, and what follows from it.
#[derive(Debug, PartialEq, Eq)]
pub struct Alert {
    /// Its number, 1 to 64.
    pub flag: u8,
    /// Its name.
    pub name: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What it means.
    pub meaning: &'static str,
    /// What people are to do.
    pub action: &'static str,
    /// What TAF does.
    pub measure: Measure,
}

impl Alert {
    /// All 64, by number.
    pub fn all() -> &'static [Alert] {
        &FLAGS
    }

    /// The flag with this number.
    pub fn of(flag: u8) -> Option<&'static Alert> {
        FLAGS.get(usize::from(flag.checked_sub(1)?))
    }

    /// Whether a drive that says this must not go on with what it does.
    pub fn stops_work(&self) -> bool {
        matches!(self.measure, Measure::CrossTest | Measure::DriveDown)
    }

    /// Whether nothing may be written to the cartridge any more.
    pub fn stops_writing(&self) -> bool {
        self.stops_work()
            || matches!(
                self.measure,
                Measure::RefuseWriting | Measure::VolumeReadOnly
            )
    }
}

/// Where flags were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertPage {
    /// Page 12h, which keeps them.
    Response,
    /// Page 2Eh, which forgot them.
    ClearedOnRead,
}

/// The flags that are set, with their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Alerts {
    flags: Flags,
}

impl Alerts {
    /// These flags, each 1 to 64.
    pub fn of(flags: &[u8]) -> Self {
        Self {
            flags: Flags::of(flags),
        }
    }

    /// Whether none is set.
    pub fn is_empty(self) -> bool {
        self.flags.is_empty()
    }

    /// Those of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            flags: self.flags.union(other.flags),
        }
    }

    /// Those that `earlier` has not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            flags: Flags::from_bits(self.flags.bits() & !earlier.flags.bits()),
        }
    }

    /// The flags that are set, by number.
    pub fn iter(self) -> impl Iterator<Item = &'static Alert> {
        FLAGS.iter().filter(move |alert| self.flags.has(alert.flag))
    }

    /// The flags by the page that keeps them; `None` if the drive does not have it. Anybody may look.
    pub fn peek(drive: &mut dyn Drive) -> Result<Option<Self>, Error> {
        let page = drive
            .log_page(log::TAPE_ALERT_RESPONSE)?
            .unwrap_or_default();
        let bytes = log::find(&page, 0).and_then(|one| one.value.first_chunk::<8>().copied());
        Ok(bytes.map(|bytes| Self {
            flags: Flags::from_bytes(bytes),
        }))
    }

    /// Reads them; `None` if the drive has neither page. See the module about who may.
    pub fn read(drive: &mut dyn Drive) -> Result<Option<(Self, AlertPage)>, Error> {
        if let Some(found) = Self::peek(drive)? {
            return Ok(Some((found, AlertPage::Response)));
        }
        let Some(page) = drive.log_page(log::TAPE_ALERT)? else {
            return Ok(None);
        };
        let mut flags = Flags::NONE;
        for one in page
            .iter()
            .filter(|one| one.number().is_some_and(|n| n & 1 == 1))
        {
            flags.set(u8::try_from(one.code).unwrap_or_default());
        }
        Ok(Some((Self { flags }, AlertPage::ClearedOnRead)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        assert_eq!(Alert::all().len(), 64);
        for (alert, number) in Alert::all().iter().zip(1..) {
            assert_eq!(alert.flag, number);
            for text in [alert.name, alert.meaning, alert.action] {
                assert!(!text.is_empty() && !text.ends_with('.'), "{number}: {text}");
            }
        }
        assert_eq!(Alert::of(0), None);
        assert_eq!(Alert::of(65), None);
        assert_eq!(Alert::of(20).map(|a| a.measure), Some(Measure::Clean));
    }

    #[test]
    fn what_must_stop_use_stops_it() {
        let with = |measure| -> Vec<u8> {
            Alert::all()
                .iter()
                .filter(|alert| alert.measure == measure)
                .map(|alert| alert.flag)
                .collect()
        };
        assert_eq!(with(Measure::CrossTest), [0x03, 0x04, 0x05, 0x06]);
        assert_eq!(with(Measure::Clean), [0x14, 0x15]);
        assert_eq!(with(Measure::ReplaceCleaner), [0x16, 0x17]);
        assert_eq!(with(Measure::RetireVolume), [0x07, 0x13, 0x31]);
        assert_eq!(with(Measure::RefuseWriting), [0x08, 0x0c, 0x11]);
        for flag in [0x1e, 0x1f, 0x26, 0x37, 0x38] {
            assert!(with(Measure::DriveDown).contains(&flag), "{flag:#x}");
        }
        for flag in [0x0f, 0x33, 0x34, 0x35, 0x36] {
            assert!(with(Measure::VolumeReadOnly).contains(&flag), "{flag:#x}");
        }
        // A critical flag always has a measure.
        for alert in Alert::all() {
            assert!(
                alert.severity != Severity::Critical || alert.measure != Measure::Note,
                "{:#x}",
                alert.flag
            );
        }
    }

    #[test]
    fn sets_of_flags_add_and_subtract() {
        let set = Alerts::of;
        let both = set(&[1, 64]).and(set(&[20]));
        let numbers: Vec<u8> = both.iter().map(|alert| alert.flag).collect();
        assert_eq!(numbers, [1, 20, 64]);
        assert_eq!(both.since(set(&[1, 20])), set(&[64]));
        assert!(both.since(both).is_empty());
    }
}
