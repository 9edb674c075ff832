//! What a mount's alerts do to its drive and its volume. Each alert acts once, when it is first heard of: whatever a person
//! decides afterwards stands until something new comes up.

use super::Measure;

/// An alert as it is acted on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raised {
    /// Flag, 1 to 64.
    pub flag: u8,
    /// Its name.
    pub name: String,
    /// What it means.
    pub meaning: String,
    /// What follows.
    pub measure: Measure,
}

impl Raised {
    fn reason(&self) -> String {
        format!(
            "TapeAlert {:02X}h, {}: {}",
            self.flag, self.name, self.meaning
        )
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Consequences {
    /// The drive gets no more work, for this reason.
    pub drive_down: Option<String>,
    /// Nothing more is written to the volume, for this reason.
    pub volume_read_only: Option<String>,
    /// The volume's data should move, for this reason.
    pub retire_volume: Option<String>,
}

/// What follows from alerts that are new. Of several with the same effect the first is the reason.
pub fn consequences(fresh: &[Raised]) -> Consequences {
    let first = |measure| {
        fresh
            .iter()
            .find(|alert| alert.measure == measure)
            .map(Raised::reason)
    };
    Consequences {
        drive_down: first(Measure::DriveDown),
        volume_read_only: first(Measure::VolumeReadOnly),
        retire_volume: first(Measure::RetireVolume),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn raised(flag: u8, measure: Measure) -> Raised {
        Raised {
            flag,
            name: format!("flag {flag}"),
            meaning: "it means something".to_owned(),
            measure,
        }
    }

    #[test]
    fn each_measure_acts_on_whom_it_is_about() {
        let all = [
            raised(0x33, Measure::VolumeReadOnly),
            raised(0x1e, Measure::DriveDown),
            raised(0x13, Measure::RetireVolume),
            raised(0x34, Measure::VolumeReadOnly),
        ];
        let found = consequences(&all);
        let down = found.drive_down.unwrap();
        assert_eq!(down, "TapeAlert 1Eh, flag 30: it means something");
        assert!(found.volume_read_only.unwrap().contains("33h"));
        assert!(found.retire_volume.unwrap().contains("13h"));
    }

    #[test]
    fn what_is_only_noted_or_is_somebody_elses_does_nothing() {
        let others = [
            Measure::Note,
            Measure::CrossTest,
            Measure::Clean,
            Measure::ReplaceCleaner,
            Measure::RefuseWriting,
            Measure::Operator,
        ];
        let all: Vec<Raised> = others.into_iter().map(|m| raised(1, m)).collect();
        assert_eq!(consequences(&all), Consequences::default());
    }
}
