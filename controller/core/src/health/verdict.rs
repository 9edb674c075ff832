//! Drive or tape? What the matrix of mounts says.
//!
//! A cell is a drive with a volume, and its newest mount decides: a later success of the same two takes a failure back. Two
//! drives that fail with one volume agree that it is the volume; two volumes that fail in one drive agree that it is the
//! drive. A witness that is itself known bad by two others does not count. Else nobody knows, and what to try next is said.

use std::collections::{BTreeMap, BTreeSet};

use super::Mount;

/// Witnesses that are needed.
const WITNESSES: usize = 2;

/// Who is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject<'a> {
    /// A drive, by serial number.
    Drive(&'a str),
    /// A volume, by barcode.
    Volume(&'a str),
}

/// What is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Its newest mounts were good, or there are none.
    Clear,
    /// It is this one: these agree.
    Guilty {
        /// The drives or volumes that it failed with.
        witnesses: Vec<String>,
    },
    /// It failed, but with others that are known bad.
    Excused {
        /// Those.
        culprits: Vec<String>,
    },
    /// It failed, and nobody knows whose fault it is.
    Unknown {
        /// What it failed with.
        with: Vec<String>,
        /// What to try next.
        next: String,
    },
}

/// Outcomes by drive and volume: whether the newest mount was bad.
struct Matrix<'a> {
    cells: BTreeMap<(&'a str, &'a str), bool>,
}

impl<'a> Matrix<'a> {
    fn new(mounts: &'a [Mount]) -> Self {
        let mut cells = BTreeMap::new();
        for mount in mounts {
            cells.insert((mount.drive.as_str(), mount.volume.as_str()), mount.bad());
        }
        Self { cells }
    }

    /// The other side of the cells of a subject that are bad, or good.
    fn others(&self, subject: Subject<'_>, bad: bool) -> BTreeSet<&'a str> {
        self.cells
            .iter()
            .filter(|(_, outcome)| **outcome == bad)
            .filter_map(|((drive, volume), _)| match subject {
                Subject::Drive(serial) => (*drive == serial).then_some(*volume),
                Subject::Volume(barcode) => (*volume == barcode).then_some(*drive),
            })
            .collect()
    }

    /// Whether `other`, that failed with the subject, failed with two more besides.
    fn is_bad_without(&self, subject: Subject<'_>, other: &str) -> bool {
        let (other, own) = match subject {
            Subject::Drive(serial) => (Subject::Volume(other), serial),
            Subject::Volume(barcode) => (Subject::Drive(other), barcode),
        };
        let failed = self.others(other, true);
        failed.iter().filter(|with| **with != own).count() >= WITNESSES
    }

    /// Something of the other kind than the subject's that works, and was not tried with it.
    fn fit(&self, subject: Subject<'_>) -> Option<&'a str> {
        let tried: BTreeSet<&str> = &self.others(subject, true) | &self.others(subject, false);
        let mut good: BTreeMap<&str, bool> = BTreeMap::new();
        for ((drive, volume), bad) in &self.cells {
            let other = match subject {
                Subject::Drive(_) => *volume,
                Subject::Volume(_) => *drive,
            };
            *good.entry(other).or_insert(true) &= !bad;
        }
        good.into_iter()
            .find(|(other, good)| *good && !tried.contains(other))
            .map(|(other, _)| other)
    }
}

/// Judges one drive or volume from mounts, oldest first. Mounts of others are the witnesses' record.
pub fn judge(subject: Subject<'_>, mounts: &[Mount]) -> Verdict {
    let matrix = Matrix::new(mounts);
    let failed = matrix.others(subject, true);
    if failed.is_empty() {
        return Verdict::Clear;
    }
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let (culprits, witnesses): (Vec<&str>, Vec<&str>) = failed
        .iter()
        .partition(|other| matrix.is_bad_without(subject, other));
    if witnesses.len() >= WITNESSES {
        return Verdict::Guilty {
            witnesses: owned(&witnesses),
        };
    }
    if witnesses.is_empty() {
        return Verdict::Excused {
            culprits: owned(&culprits),
        };
    }
    Verdict::Unknown {
        with: owned(&witnesses),
        next: advice(subject, &witnesses, &matrix),
    }
}

fn advice(subject: Subject<'_>, witnesses: &[&str], matrix: &Matrix<'_>) -> String {
    let other = witnesses.first().copied().unwrap_or_default();
    let (drive, volume) = match subject {
        Subject::Drive(serial) => (serial, other),
        Subject::Volume(barcode) => (other, barcode),
    };
    let other_drive = matrix.fit(Subject::Volume(volume)).map_or_else(
        || "another drive".to_owned(),
        |serial| format!("drive {serial}, which works"),
    );
    let other_volume = matrix.fit(Subject::Drive(drive)).map_or_else(
        || "another volume".to_owned(),
        |barcode| format!("volume {barcode}, which is good"),
    );
    format!(
        "try volume {volume} in {other_drive}: if it fails there too, it is the volume; and drive {drive} with {other_volume}: \
         if that fails too, it is the drive"
    )
}

#[cfg(test)]
mod tests {
    use super::super::{Alert, Counts, Measure};
    use super::*;

    fn mount(drive: &str, volume: &str, bad: bool) -> Mount {
        Mount {
            drive: drive.to_owned(),
            volume: volume.to_owned(),
            counts: Counts::default(),
            alerts: Vec::new(),
            failed: bad,
        }
    }

    fn all(mounts: &[(&str, &str, bool)]) -> Vec<Mount> {
        mounts.iter().map(|(d, v, bad)| mount(d, v, *bad)).collect()
    }

    fn guilty(witnesses: &[&str]) -> Verdict {
        Verdict::Guilty {
            witnesses: witnesses.iter().map(|&w| w.to_owned()).collect(),
        }
    }

    #[test]
    fn two_drives_agree_on_a_volume() {
        let mounts = all(&[
            ("D1", "T1", true),
            ("D1", "T2", false),
            ("D2", "T1", true),
            ("D2", "T3", false),
        ]);
        assert_eq!(judge(Subject::Volume("T1"), &mounts), guilty(&["D1", "D2"]));
        assert!(matches!(
            judge(Subject::Drive("D1"), &mounts),
            Verdict::Unknown { .. }
        ));
        assert_eq!(judge(Subject::Volume("T2"), &mounts), Verdict::Clear);
        assert_eq!(judge(Subject::Volume("T9"), &mounts), Verdict::Clear);
    }

    #[test]
    fn two_volumes_agree_on_a_drive() {
        let mounts = all(&[("D1", "T1", true), ("D1", "T2", true), ("D2", "T1", false)]);
        assert_eq!(judge(Subject::Drive("D1"), &mounts), guilty(&["T1", "T2"]));
    }

    #[test]
    fn a_volume_that_failed_only_in_a_bad_drive_is_excused_and_says_nothing_against_others() {
        let mounts = all(&[("D1", "T1", true), ("D1", "T2", true), ("D1", "T3", true)]);
        assert_eq!(
            judge(Subject::Volume("T1"), &mounts),
            Verdict::Excused {
                culprits: vec!["D1".to_owned()]
            }
        );
        // A volume that failed in a bad drive and in one more has one witness, not two.
        let more = [mounts, all(&[("D2", "T1", true), ("D2", "T9", false)])].concat();
        assert!(matches!(
            judge(Subject::Volume("T1"), &more),
            Verdict::Unknown { .. }
        ));
    }

    #[test]
    fn one_failure_says_what_to_try_by_name() {
        let mounts = all(&[("D1", "T1", true), ("D2", "T2", false)]);
        for subject in [Subject::Volume("T1"), Subject::Drive("D1")] {
            let Verdict::Unknown { next, .. } = judge(subject, &mounts) else {
                panic!("{subject:?}");
            };
            assert!(next.contains("volume T1 in drive D2"), "{next}");
            assert!(next.contains("drive D1 with volume T2"), "{next}");
        }
        let alone = all(&[("D1", "T1", true)]);
        let Verdict::Unknown { next, .. } = judge(Subject::Drive("D1"), &alone) else {
            panic!();
        };
        assert!(
            next.contains("another drive") && next.contains("another volume"),
            "{next}"
        );
    }

    #[test]
    fn a_later_success_of_the_same_two_takes_a_failure_back() {
        let mounts = all(&[("D1", "T1", true), ("D2", "T1", true), ("D1", "T1", false)]);
        assert!(matches!(
            judge(Subject::Volume("T1"), &mounts),
            Verdict::Unknown { .. }
        ));
        assert_eq!(judge(Subject::Drive("D1"), &mounts), Verdict::Clear);
    }

    #[test]
    fn lost_data_and_hard_alerts_are_failures_too() {
        let mut lost = mount("D1", "T1", false);
        lost.counts.read_uncorrected = Some(1);
        let mut alert = mount("D2", "T1", false);
        alert.alerts.push(Alert {
            flag: 6,
            name: "write failure".to_owned(),
            measure: Measure::CrossTest,
        });
        let mounts = [lost, alert, mount("D3", "T1", false)];
        assert_eq!(judge(Subject::Volume("T1"), &mounts), guilty(&["D1", "D2"]));
    }
}
