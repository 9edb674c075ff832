//! What a drive and a cartridge are worth, judged from what was counted mount by mount.
//!
//! Every judgement names its reasons, in the order of their weight. What a drive does not count is unknown, never zero: an
//! answer that is missing makes nothing better, and nothing worse. The seed's score took a missing answer for 100.

pub mod capacity;
pub mod measure;
pub mod score;
pub mod seed;
pub mod verdict;
pub mod wear;

/// What was counted while a cartridge was in a drive for one piece of work. `None` is what the drive did not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Bytes from the host, before the drive's compression.
    pub written_bytes: Option<u64>,
    /// Bytes to the host.
    pub read_bytes: Option<u64>,
    /// Writes that were done again and then good.
    pub write_corrected: Option<u64>,
    /// Writes that were lost.
    pub write_uncorrected: Option<u64>,
    /// Reads that were corrected.
    pub read_corrected: Option<u64>,
    /// Reads that were lost.
    pub read_uncorrected: Option<u64>,
    /// Times that the drive stopped in the middle of writing or reading and went back.
    pub suspends: Option<u64>,
    /// The same, and could not go on.
    pub fatal_suspends: Option<u64>,
}

impl Counts {
    /// Whether data were lost, as far as the drive tells.
    pub fn lost(&self) -> bool {
        [
            self.write_uncorrected,
            self.read_uncorrected,
            self.fatal_suspends,
        ]
        .into_iter()
        .flatten()
        .any(|count| count > 0)
    }

    /// Corrected errors for each GB that went over the head; `None` if one of both is unknown, or less than 1 GB was moved:
    /// of less a rate says nothing.
    pub fn corrected_per_gb(&self) -> Option<f64> {
        const GB: f64 = 1e9;
        let moved = self.written_bytes.unwrap_or(0) + self.read_bytes.unwrap_or(0);
        let corrected = match (self.write_corrected, self.read_corrected) {
            (None, None) => return None,
            (write, read) => write.unwrap_or(0) + read.unwrap_or(0),
        };
        (moved as f64 >= GB).then(|| corrected as f64 / (moved as f64 / GB))
    }
}

/// What follows from a `TapeAlert` flag; the drive's side says which flag asks for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Measure {
    /// It is shown and counted.
    Note,
    /// Drive or cartridge: work stops, and both are tried with others.
    CrossTest,
    /// The drive wants to be cleaned.
    Clean,
    /// The cleaning cartridge is used up or none.
    ReplaceCleaner,
    /// The drive starts nothing more.
    DriveDown,
    /// Nothing is written to the volume in this drive.
    RefuseWriting,
    /// Nothing more is written to the volume.
    VolumeReadOnly,
    /// The volume's data should move to another one.
    RetireVolume,
    /// Somebody has to do something by hand.
    Operator,
}

/// An alert of a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// Flag, 1 to 64.
    pub flag: u8,
    /// Its name.
    pub name: String,
    /// What follows from it.
    pub measure: Measure,
}

/// One piece of work of one cartridge in one drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The drive's serial number.
    pub drive: String,
    /// The volume's barcode.
    pub volume: String,
    /// What was counted.
    pub counts: Counts,
    /// Alerts that came up.
    pub alerts: Vec<Alert>,
    /// The work ended by a fault of drive or medium.
    pub failed: bool,
}

impl Mount {
    /// Whether drive or cartridge did not do what it should: which of both is for [`verdict`] to say.
    pub fn bad(&self) -> bool {
        self.failed
            || self.counts.lost()
            || self
                .alerts
                .iter()
                .any(|alert| alert.measure == Measure::CrossTest)
    }
}
