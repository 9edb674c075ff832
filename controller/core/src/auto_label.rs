//! Which blank cartridges are labelled without being told: for pools that say so, when a backup has no volume to write to.
//!
//! That a cartridge is blank nobody knows before a drive has read its beginning: what is chosen here is tried, and a tape that
//! holds anything is refused then, and known from then on.

use std::collections::BTreeSet;

use crate::generation::{self, Access};
use crate::mount::ElementKind;
use crate::plan::{self, Drive, Job, Wanted, World};

/// A cartridge that a library shows and the catalog may not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    /// Barcode.
    pub barcode: String,
    /// Library.
    pub library: i64,
    /// Where it is.
    pub kind: ElementKind,
    /// Whether libraries show its barcode more than once.
    pub twice: bool,
    /// Whether it is a cleaning cartridge.
    pub cleaning: bool,
}

/// What came of looking for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice<'a> {
    /// The cartridges that may be tried, the first first.
    pub cartridges: Vec<&'a Stranger>,
    /// Of these there are some, and each drive that could take one is at work.
    pub drives_busy: bool,
}

/// Whether a barcode is of a pattern: `*` stands for any characters, `?` for one.
pub fn matches(pattern: &str, barcode: &str) -> bool {
    let (pattern, barcode): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), barcode.chars().collect());
    let (mut at, mut of) = (0, 0);
    let mut star = None;
    while at < barcode.len() {
        match pattern.get(of) {
            Some('*') => {
                star = Some((of, at));
                of += 1;
            }
            Some(&wanted) if wanted == '?' || wanted == barcode[at] => {
                at += 1;
                of += 1;
            }
            _ => match star {
                // The last star takes one more.
                Some((before, taken)) => {
                    star = Some((before, taken + 1));
                    of = before + 1;
                    at = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[of..].iter().all(|rest| *rest == '*')
}

/// Pools of which a job needs a volume and no library has one that it could get, now or later.
pub fn wanting(jobs: &[Job], world: &World) -> BTreeSet<i64> {
    let mut pools = BTreeSet::new();
    for job in jobs {
        let none = Vec::new();
        let (pool, used) = match (&job.needs.cartridge, &job.needs.copy) {
            (Wanted::Append { pool, .. }, _) => {
                (*pool, job.running.as_ref().map_or(&none, |r| &r.used))
            }
            // It does not begin before there is one for what it reads.
            (_, Some(copy)) => (copy.pool, &copy.reads),
            _ => continue,
        };
        let gone = job.agent.as_ref().is_some_and(|agent| !agent.connected);
        // A further stream takes what there is.
        if job.running.is_none() && (job.cancel_asked || gone || job.stream > 0) {
            continue;
        }
        let has = world.cartridges.iter().any(|c| {
            c.pool == Some(pool)
                && c.appendable
                && c.library.is_some()
                && !c.twice
                && !c.in_mail_slot
                && !c.volume.is_some_and(|id| used.contains(&id))
        });
        if !has {
            pools.insert(pool);
        }
    }
    pools
}

/// The cartridges of a pattern that may be tried, in the order of their barcodes: in a slot, told apart by their barcode, to be
/// written more than once, and in a library with a drive that may write them. Who works in the background leaves an idle drive to
/// whoever labels.
pub fn choose<'a>(
    pattern: &str,
    strangers: &'a [Stranger],
    jobs: &[Job],
    world: &World,
) -> Choice<'a> {
    let left = plan::without_idle(jobs, world);
    let drives = &left.as_ref().unwrap_or(world).drives;
    let writes = |one: &Stranger, drive: &Drive| {
        let format = generation::of_barcode(&one.barcode).map(|(format, _)| format);
        drive.library == Some(one.library)
            && drive.connected
            && !drive.down
            && !drive.hung
            && generation::unfit(drive.generation, format, Access::Write).is_none()
    };
    let once = |one: &Stranger| generation::of_barcode(&one.barcode).is_some_and(|(_, once)| once);
    let mut fit: Vec<&Stranger> = strangers
        .iter()
        .filter(|one| one.kind == ElementKind::Slot && !one.twice && !one.cleaning && !once(one))
        .filter(|one| matches(pattern, &one.barcode))
        .filter(|one| drives.iter().any(|drive| writes(one, drive)))
        .collect();
    fit.sort_by(|a, b| a.barcode.cmp(&b.barcode));
    let free = |one: &&Stranger| drives.iter().any(|d| writes(one, d) && !d.busy);
    let cartridges: Vec<&Stranger> = fit.iter().copied().filter(free).collect();
    Choice {
        drives_busy: cartridges.is_empty() && !fit.is_empty(),
        cartridges,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Needs, Running};

    #[test]
    fn a_pattern_stands_for_barcodes() {
        for (pattern, barcode, expected) in [
            ("*", "TAF001L9", true),
            ("*", "", true),
            ("TAF*", "TAF001L9", true),
            ("TAF*L9", "TAF001L9", true),
            ("TAF*L9", "TAF001L8", false),
            ("TAF???L9", "TAF001L9", true),
            ("TAF??L9", "TAF001L9", false),
            ("*0*1*", "TAF001L9", true),
            ("*L9", "L9L8L9", true),
            ("TAF001L9", "TAF001L9", true),
            ("TAF001L9", "TAF001L99", false),
            ("", "A", false),
        ] {
            assert_eq!(matches(pattern, barcode), expected, "{pattern} {barcode}");
        }
    }

    fn drive(generation: u8, busy: bool) -> Drive {
        Drive {
            id: 1,
            serial: "D1".into(),
            connected: true,
            down: false,
            hung: false,
            busy,
            working: busy,
            shared: None,
            generation: Some(generation),
            library: Some(1),
            full: false,
        }
    }

    fn stranger(barcode: &str) -> Stranger {
        Stranger {
            barcode: barcode.into(),
            library: 1,
            kind: ElementKind::Slot,
            twice: false,
            cleaning: false,
        }
    }

    #[test]
    fn only_what_may_be_written_is_chosen() {
        let strangers = [
            stranger("B00001L9"),
            stranger("A00001L9"),
            // Of another generation; write-once; of another library; in a mail slot; twice; for cleaning.
            stranger("A00002L7"),
            stranger("A00003LZ"),
            Stranger {
                library: 2,
                ..stranger("A00004L9")
            },
            Stranger {
                kind: ElementKind::MailSlot,
                ..stranger("A00005L9")
            },
            Stranger {
                twice: true,
                ..stranger("A00006L9")
            },
            Stranger {
                cleaning: true,
                ..stranger("A00007L9")
            },
        ];
        let names = |choice: &Choice<'_>| -> Vec<String> {
            let cartridges = choice.cartridges.iter();
            cartridges.map(|one| one.barcode.clone()).collect()
        };
        let choose = |pattern: &str, drive: Drive| {
            let world = World {
                drives: vec![drive],
                ..World::default()
            };
            super::choose(pattern, &strangers, &[], &world)
        };
        let choice = choose("*", drive(9, false));
        assert_eq!(names(&choice), ["A00001L9", "B00001L9"]);
        assert_eq!(names(&choose("B*", drive(9, false))), ["B00001L9"]);
        let busy = choose("*", drive(9, true));
        assert!(busy.cartridges.is_empty() && busy.drives_busy);
        let none = choose("*", drive(6, false));
        assert!(none.cartridges.is_empty() && !none.drives_busy);
    }

    #[test]
    fn who_works_in_the_background_leaves_an_idle_drive_to_whoever_labels() {
        let world = World {
            drives: vec![drive(9, true)],
            ..World::default()
        };
        let strangers = [stranger("A00001L9")];
        let reclaiming = |bound: bool| Job {
            id: 1,
            stream: 0,
            needs: Needs::volume(1),
            agent: None,
            cancel_asked: false,
            background: true,
            running: Some(Running {
                drive: Some(1),
                seat: 1,
                bound,
                used: Vec::new(),
            }),
        };
        for bound in [false, true] {
            let choice = choose("*", &strangers, &[reclaiming(bound)], &world);
            assert_eq!(choice.cartridges.is_empty(), bound);
            assert_eq!(choice.drives_busy, bound);
        }
    }
}
