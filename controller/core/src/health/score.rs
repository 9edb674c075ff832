//! A score that explains itself: from 100 each finding takes its weight, and is listed with it.
//!
//! Unlike the seed's, which adds up a cartridge's whole life, it looks at the newest mounts, so that a drive that was cleaned
//! gets better, and at what the matrix of mounts knows: nothing is taken from a volume for what is its drive's fault.

use super::capacity::Loss;
use super::verdict::{Subject, Verdict, judge};
use super::wear::Wear;
use super::{Measure, Mount};

/// Mounts that are looked at, newest.
pub const WINDOW: usize = 20;
/// So many corrected errors for each GB are remarkable, whatever the mounts before had.
const CORRECTED_PER_GB: f64 = 100.0;
/// So many times more corrected errors than in the mounts before are remarkable.
const CORRECTED_GROWTH: f64 = 10.0;
/// Less than this for each GB is never remarkable.
const CORRECTED_FLOOR: f64 = 1.0;

/// How good something is, in the seed's steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// Under 40.
    Critical,
    /// From 40.
    Poor,
    /// From 60.
    Fair,
    /// From 80.
    Good,
}

impl Grade {
    /// The grade of a score.
    pub fn of(score: u8) -> Self {
        match score {
            80.. => Self::Good,
            60.. => Self::Fair,
            40.. => Self::Poor,
            _ => Self::Critical,
        }
    }
}

/// What took how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Points taken.
    pub points: u8,
    /// What was found, for people.
    pub text: String,
}

/// A score with its reasons, the heaviest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Score {
    /// From 0 to 100; `None` if there is nothing to judge by.
    pub value: Option<u8>,
    /// Reasons.
    pub reasons: Vec<Reason>,
    /// Drive or tape.
    pub verdict: Verdict,
}

/// What is known of a cartridge besides its mounts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cartridge {
    /// How worn it is.
    pub wear: Option<Wear>,
    /// What it lost of its capacity.
    pub loss: Option<Loss>,
}

/// Judges a drive or a volume from all mounts that have to do with it or its partners, oldest first.
pub fn score(subject: Subject<'_>, mounts: &[Mount], cartridge: &Cartridge) -> Score {
    let own: Vec<&Mount> = mounts
        .iter()
        .filter(|mount| match subject {
            Subject::Drive(serial) => mount.drive == serial,
            Subject::Volume(barcode) => mount.volume == barcode,
        })
        .collect();
    let recent = &own[own.len().saturating_sub(WINDOW)..];
    let verdict = judge(subject, mounts);
    let mut reasons = Vec::new();
    let mut take = |points: u64, text: String| {
        let points = points.min(100) as u8;
        if points > 0 {
            reasons.push(Reason { points, text });
        }
    };
    match &verdict {
        Verdict::Clear => {}
        Verdict::Guilty { witnesses } => take(
            60,
            format!("it failed with {}, independently", witnesses.join(" and ")),
        ),
        Verdict::Excused { culprits } => take(
            5,
            format!("it failed with {} only, known bad", culprits.join(" and ")),
        ),
        Verdict::Unknown { with, next } => {
            take(25, format!("it failed with {}; {next}", with.join(" and ")));
        }
    }
    if !matches!(verdict, Verdict::Excused { .. }) {
        lost(recent, &mut take);
        corrected(recent, &mut take);
    }
    alerts(subject, recent, &mut take);
    if let Some(wear) = cartridge.wear.as_ref().filter(|wear| wear.worth_saying()) {
        take(
            if wear.percent >= 100 { 40 } else { 15 },
            format!("{} % of its life is used: {}", wear.percent, wear.of),
        );
    }
    if let Some(loss) = &cartridge.loss {
        take(25, loss.why.clone());
    }
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.points));
    let taken: u64 = reasons.iter().map(|reason| u64::from(reason.points)).sum();
    let nothing = own.is_empty() && cartridge.wear.is_none() && cartridge.loss.is_none();
    Score {
        value: (!nothing).then(|| 100 - taken.min(100) as u8),
        reasons,
        verdict,
    }
}

fn lost(recent: &[&Mount], take: &mut impl FnMut(u64, String)) {
    let sum = |count: fn(&Mount) -> Option<u64>| -> u64 {
        recent.iter().filter_map(|mount| count(mount)).sum()
    };
    let uncorrected = sum(|m| m.counts.write_uncorrected) + sum(|m| m.counts.read_uncorrected);
    take(
        uncorrected.saturating_mul(10).min(30),
        format!(
            "{uncorrected} uncorrected errors in its last {} mounts",
            recent.len()
        ),
    );
    let fatal = sum(|m| m.counts.fatal_suspends);
    take(
        fatal.saturating_mul(10).min(20),
        format!(
            "it stopped for good {fatal} times in its last {} mounts",
            recent.len()
        ),
    );
}

/// The newest mount with a rate against those before.
fn corrected(recent: &[&Mount], take: &mut impl FnMut(u64, String)) {
    let rates: Vec<f64> = recent
        .iter()
        .filter_map(|mount| mount.counts.corrected_per_gb())
        .collect();
    let Some((&newest, before)) = rates.split_last() else {
        return;
    };
    let mut sorted = before.to_vec();
    sorted.sort_by(f64::total_cmp);
    // The median: one bad mount among many does not hide the next.
    let usual = sorted.get(sorted.len() / 2).copied();
    let grown = usual.is_some_and(|usual| {
        newest >= CORRECTED_FLOOR && newest > usual.max(CORRECTED_FLOOR / 10.0) * CORRECTED_GROWTH
    });
    if newest > CORRECTED_PER_GB || grown {
        let than = usual.map_or_else(String::new, |usual| format!(", usually {usual:.1}"));
        take(
            10,
            format!("{newest:.1} corrected errors per GB{than}: clean the drive"),
        );
    }
}

fn alerts(subject: Subject<'_>, recent: &[&Mount], take: &mut impl FnMut(u64, String)) {
    let mut seen: Vec<(u8, &str, Measure, usize)> = Vec::new();
    for alert in recent.iter().flat_map(|mount| &mount.alerts) {
        match seen.iter_mut().find(|(flag, ..)| *flag == alert.flag) {
            Some((.., times)) => *times += 1,
            None => seen.push((alert.flag, &alert.name, alert.measure, 1)),
        }
    }
    let drive = matches!(subject, Subject::Drive(_));
    for (flag, name, measure, times) in seen {
        let points = match measure {
            Measure::DriveDown if drive => 60,
            Measure::VolumeReadOnly if !drive => 40,
            Measure::RetireVolume if !drive => 25,
            Measure::Clean if drive => 10,
            Measure::CrossTest => 10,
            Measure::RefuseWriting if !drive => 5,
            Measure::Operator | Measure::Note => 1,
            // The other one's.
            Measure::DriveDown
            | Measure::VolumeReadOnly
            | Measure::RefuseWriting
            | Measure::RetireVolume
            | Measure::Clean
            | Measure::ReplaceCleaner => 0,
        };
        let often = if times == 1 {
            String::new()
        } else {
            format!(" in {times} mounts")
        };
        take(points, format!("TapeAlert {flag:02X}h, {name}{often}"));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{Alert, Counts};
    use super::*;

    fn good(drive: &str, volume: &str) -> Mount {
        Mount {
            drive: drive.to_owned(),
            volume: volume.to_owned(),
            counts: Counts {
                written_bytes: Some(10_000_000_000),
                write_corrected: Some(5),
                write_uncorrected: Some(0),
                read_uncorrected: Some(0),
                ..Counts::default()
            },
            alerts: Vec::new(),
            failed: false,
        }
    }

    fn of_volume(mounts: &[Mount]) -> Score {
        score(Subject::Volume("T1"), mounts, &Cartridge::default())
    }

    #[test]
    fn good_mounts_score_100_and_none_score_nothing() {
        let all = of_volume(&[good("D1", "T1"), good("D2", "T1")]);
        assert_eq!((all.value, all.reasons.len()), (Some(100), 0));
        assert_eq!(of_volume(&[good("D1", "T2")]).value, None);
    }

    #[test]
    fn every_point_that_is_missing_has_its_reason() {
        let mut bad = good("D1", "T1");
        bad.counts.write_uncorrected = Some(2);
        bad.alerts.push(Alert {
            flag: 0x13,
            name: "nearing media life".into(),
            measure: Measure::RetireVolume,
        });
        let worn = Cartridge {
            wear: Some(Wear {
                percent: 85,
                of: "17000 of 20000 loads".into(),
            }),
            loss: None,
        };
        let found = score(Subject::Volume("T1"), &[bad], &worn);
        let taken: u32 = found.reasons.iter().map(|r| u32::from(r.points)).sum();
        assert_eq!(u32::from(found.value.unwrap()) + taken, 100);
        let text: Vec<&str> = found.reasons.iter().map(|r| r.text.as_str()).collect();
        for part in [
            "2 uncorrected",
            "13h, nearing media life",
            "17000 of 20000",
            "try volume T1",
        ] {
            assert!(text.iter().any(|t| t.contains(part)), "{part}: {text:?}");
        }
        assert!(found.reasons.is_sorted_by(|a, b| a.points >= b.points));
    }

    #[test]
    fn a_volume_is_not_blamed_for_its_drive() {
        let failed = |volume: &str| Mount {
            failed: true,
            ..good("D1", volume)
        };
        let mounts = [failed("T1"), failed("T2"), failed("T3"), good("D2", "T1")];
        assert!(of_volume(&mounts).value.unwrap() >= 90);
        let drive = score(Subject::Drive("D1"), &mounts, &Cartridge::default());
        assert_eq!(Grade::of(drive.value.unwrap()), Grade::Poor);
    }

    #[test]
    fn a_sudden_growth_of_corrected_errors_is_seen_and_a_steady_rate_is_not() {
        let rate = |corrected| {
            let mut mount = good("D1", "T1");
            mount.counts.write_corrected = Some(corrected);
            mount
        };
        assert_eq!(of_volume(&[rate(50), rate(60), rate(55)]).value, Some(100));
        let grown = of_volume(&[rate(5), rate(6), rate(300)]);
        assert_eq!(grown.value, Some(90));
        assert!(
            grown.reasons[0]
                .text
                .contains("30.0 corrected errors per GB, usually 0.6"),
            "{grown:?}"
        );
        // Of next to nothing a rate says nothing.
        let mut tiny = rate(900);
        tiny.counts.written_bytes = Some(1_000);
        assert_eq!(of_volume(&[rate(5), tiny]).value, Some(100));
    }

    #[test]
    fn alerts_weigh_on_whom_they_are_about() {
        let mut mount = good("D1", "T1");
        for (flag, measure) in [(0x1e, Measure::DriveDown), (0x35, Measure::VolumeReadOnly)] {
            mount.alerts.push(Alert {
                flag,
                name: "x".into(),
                measure,
            });
        }
        let mounts = [mount];
        assert_eq!(of_volume(&mounts).value, Some(60));
        let drive = score(Subject::Drive("D1"), &mounts, &Cartridge::default());
        assert_eq!(drive.value, Some(40));
    }

    #[test]
    fn old_mounts_are_forgotten() {
        let mut mounts = vec![Mount {
            counts: Counts {
                read_uncorrected: Some(1),
                ..Counts::default()
            },
            ..good("D1", "T1")
        }];
        mounts.extend(std::iter::repeat_n(good("D1", "T1"), WINDOW));
        assert_eq!(of_volume(&mounts).value, Some(100));
    }
}
