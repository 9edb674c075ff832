//! What waiting jobs get: a drive and a volume each, or the reason why they wait.
//!
//! Jobs are served in the order they were asked for, those first that have begun and need a further volume; one that must wait
//! does not hold up the others.

use std::collections::HashSet;

use crate::Fault;

/// What a job needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// Any volume of the pool that can be appended to.
    Append {
        /// Pool's row.
        pool: i64,
        /// Pool's name, for people.
        pool_name: String,
    },
    /// This very volume.
    Volume(i64),
}

/// A job that has no attempt, or whose attempt has no volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Row.
    pub id: i64,
    /// Volume it needs.
    pub need: Need,
    /// Source agent it needs, and whether that is connected.
    pub agent: Option<Agent>,
    /// Whether a person asked to stop it.
    pub cancel_asked: bool,
    /// Set if its attempt goes on with a further volume.
    pub running: Option<Running>,
}

/// An attempt that goes on. Whether its agents are well, whether it is to stop, and when it has waited for too long are the
/// attempt's own matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// The drive that it holds.
    pub drive: i64,
    /// Whether it may not leave that drive: what is under way is in the memory of its worker.
    pub bound: bool,
    /// Volumes that it has used.
    pub used: Vec<i64>,
}

/// The source agent of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// Name, for people.
    pub name: String,
    /// Whether it is connected.
    pub connected: bool,
}

/// A drive.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // facts, each by itself
pub struct Drive {
    /// Row.
    pub id: i64,
    /// Serial number.
    pub serial: String,
    /// Whether its worker is connected.
    pub connected: bool,
    /// Whether its worker is connected, and that of the library's robot.
    pub usable: bool,
    /// Whether an attempt holds it.
    pub busy: bool,
    /// Library that it is in.
    pub library: Option<i64>,
    /// Whether the library shows something in it.
    pub full: bool,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Row.
    pub id: i64,
    /// Barcode.
    pub barcode: String,
    /// Pool.
    pub pool: i64,
    /// Whether it may be appended to.
    pub appendable: bool,
    /// Whether an attempt holds it, or a lost drive may still write to it.
    pub reserved: bool,
    /// Bytes on it.
    pub byte_count: u64,
    /// Library that shows it.
    pub library: Option<i64>,
    /// Whether libraries show more than one cartridge with this barcode.
    pub twice: bool,
    /// Drive that the library shows it in.
    pub in_drive: Option<i64>,
}

/// What is decided of one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It gets a drive and a volume.
    Start {
        /// Job.
        job: i64,
        /// Drive.
        drive: i64,
        /// Volume.
        volume: i64,
    },
    /// It waits.
    Wait {
        /// Job.
        job: i64,
        /// For what, for people.
        why: String,
    },
    /// It can never start as things are.
    Fail {
        /// Job.
        job: i64,
        /// Why.
        fault: Fault,
    },
    /// A person asked to stop it before it began.
    Cancel {
        /// Job.
        job: i64,
    },
}

/// Decides on every job, in order.
pub fn plan(jobs: &[Job], drives: &[Drive], volumes: &[Volume]) -> Vec<Decision> {
    let mut taken = Taken::default();
    jobs.iter()
        .map(|job| decide(job, drives, volumes, &mut taken))
        .collect()
}

#[derive(Default)]
struct Taken {
    drives: HashSet<i64>,
    volumes: HashSet<i64>,
}

fn decide(job: &Job, drives: &[Drive], volumes: &[Volume], taken: &mut Taken) -> Decision {
    if job.running.is_none() && job.cancel_asked {
        return Decision::Cancel { job: job.id };
    }
    let wait = |why: String| Decision::Wait { job: job.id, why };
    if let Some(agent) = &job.agent
        && job.running.is_none()
        && !agent.connected
    {
        return wait(format!("source agent {} is not connected", agent.name));
    }
    if !drives.iter().any(|d| d.usable) {
        let connected = drives.iter().any(|d| d.connected);
        return wait(if connected {
            "no library with a connected drive is connected".to_owned()
        } else {
            "no drive is connected".to_owned()
        });
    }
    let mut candidates: Vec<&Volume> = match &job.need {
        Need::Volume(id) => volumes.iter().filter(|v| v.id == *id).collect(),
        Need::Append { pool, .. } => volumes
            .iter()
            .filter(|v| v.pool == *pool && v.appendable)
            // One that failed here would fail again.
            .filter(|v| job.running.as_ref().is_none_or(|r| !r.used.contains(&v.id)))
            .collect(),
    };
    if candidates.is_empty() && job.running.is_some() {
        let fault = no_volume(&job.need);
        return wait(match &job.need {
            Need::Append { pool_name, .. } => {
                format!("a volume of pool {pool_name}: {}", fault.next_step)
            }
            Need::Volume(_) => fault.message,
        });
    }
    if candidates.is_empty() {
        return Decision::Fail {
            job: job.id,
            fault: no_volume(&job.need),
        };
    }
    // Where it is saves a move; the fullest first fills one tape before the next is begun.
    candidates.sort_by_key(|v| {
        (
            v.in_drive.is_none(),
            std::cmp::Reverse(v.byte_count),
            v.barcode.clone(),
        )
    });
    let mut why = String::new();
    for volume in candidates {
        match drive_for(volume, job.running.as_ref(), drives, taken) {
            Ok(drive) => {
                taken.drives.insert(drive);
                taken.volumes.insert(volume.id);
                return Decision::Start {
                    job: job.id,
                    drive,
                    volume: volume.id,
                };
            }
            Err(reason) if why.is_empty() => why = reason,
            Err(_) => {}
        }
    }
    wait(why)
}

fn no_volume(need: &Need) -> Fault {
    match need {
        Need::Append { pool_name, .. } => Fault::new(
            "NO_VOLUME",
            format!("no volume of pool {pool_name} can be appended to"),
            format!(
                "label a blank cartridge with `taf volume label BARCODE --pool {pool_name}`; `taf library` shows what is in the slots"
            ),
        ),
        Need::Volume(_) => Fault::new(
            "VOLUME_GONE",
            "the volume is not in the catalog any more",
            "choose another version with `taf versions`",
        ),
    }
}

/// The drive to use for a volume, or what it waits for.
fn drive_for(
    volume: &Volume,
    running: Option<&Running>,
    drives: &[Drive],
    taken: &Taken,
) -> Result<i64, String> {
    let barcode = &volume.barcode;
    if volume.reserved || taken.volumes.contains(&volume.id) {
        return Err(format!("volume {barcode} is in use by another job"));
    }
    let Some(library) = volume.library else {
        return Err(format!(
            "volume {barcode} is in no library: put it into a slot"
        ));
    };
    if volume.twice {
        return Err(format!(
            "two cartridges have barcode {barcode}: take one of them out"
        ));
    }
    let own = |d: &Drive| running.is_some_and(|r| r.drive == d.id);
    let allowed = |d: &Drive| running.is_none_or(|r| !r.bound) || own(d);
    let free =
        |d: &&Drive| d.usable && (!d.busy || own(d)) && allowed(d) && !taken.drives.contains(&d.id);
    if let Some(holder) = volume.in_drive {
        return match drives.iter().filter(free).find(|d| d.id == holder) {
            Some(drive) => Ok(drive.id),
            None if drives.iter().any(|d| d.id == holder && !allowed(d)) => Err(format!(
                "volume {barcode} is in another drive: put it into a slot"
            )),
            None => Err(format!(
                "volume {barcode} is in a drive that is busy or not connected"
            )),
        };
    }
    drives
        .iter()
        .filter(free)
        .filter(|d| d.library == Some(library))
        // Who has a drive keeps it: another one may be wanted by others.
        .min_by_key(|d| (!own(d), d.full, d.serial.clone()))
        .map(|d| d.id)
        .ok_or_else(|| match running {
            Some(Running { bound: true, .. }) => format!(
                "volume {barcode} is in another library than the drive, or that one is not connected"
            ),
            _ => "every drive of the library is busy or not connected".to_owned(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn job(id: i64) -> Job {
        Job {
            id,
            need: Need::Append {
                pool: 1,
                pool_name: "p".into(),
            },
            agent: Some(Agent {
                name: "host".into(),
                connected: true,
            }),
            cancel_asked: false,
            running: None,
        }
    }

    fn drive(id: i64) -> Drive {
        Drive {
            id,
            serial: format!("D{id}"),
            connected: true,
            usable: true,
            busy: false,
            library: Some(1),
            full: false,
        }
    }

    fn volume(id: i64) -> Volume {
        Volume {
            id,
            barcode: format!("V{id}"),
            pool: 1,
            appendable: true,
            reserved: false,
            byte_count: 0,
            library: Some(1),
            twice: false,
            in_drive: None,
        }
    }

    #[test]
    fn a_mounted_volume_is_used_where_it_is() {
        let mounted = Volume {
            in_drive: Some(2),
            ..volume(1)
        };
        let decisions = plan(&[job(7)], &[drive(1), drive(2)], &[volume(2), mounted]);
        assert_eq!(
            decisions,
            [Decision::Start {
                job: 7,
                drive: 2,
                volume: 1
            }]
        );
    }

    #[test]
    fn a_pool_without_volumes_fails_and_says_how_to_make_one() {
        let Decision::Fail { fault, .. } = &plan(&[job(7)], &[drive(1)], &[])[0] else {
            panic!("must fail")
        };
        assert_eq!(fault.reason, "NO_VOLUME");
        assert!(fault.next_step.contains("taf volume label"));
    }

    #[test]
    fn a_waiting_job_says_for_what_and_holds_up_nobody() {
        let absent = Job {
            agent: Some(Agent {
                name: "host".into(),
                connected: false,
            }),
            ..job(1)
        };
        let decisions = plan(&[absent, job(2)], &[drive(1)], &[volume(1)]);
        assert!(matches!(&decisions[0], Decision::Wait { why, .. } if why.contains("host")));
        assert!(matches!(decisions[1], Decision::Start { job: 2, .. }));
    }

    #[test]
    fn what_is_missing_is_named() {
        let why = |drives: &[Drive], volumes: &[Volume]| match plan(&[job(7)], drives, volumes)
            .remove(0)
        {
            Decision::Wait { why, .. } => why,
            other => panic!("must wait: {other:?}"),
        };
        assert!(why(&[], &[volume(1)]).contains("no drive"));
        let alone = Drive {
            usable: false,
            library: None,
            ..drive(1)
        };
        assert!(why(&[alone], &[volume(1)]).contains("no library"));
        let doubled = Volume {
            twice: true,
            ..volume(1)
        };
        assert!(why(&[drive(1)], &[doubled]).contains("two cartridges"));
    }

    fn goes_on(id: i64, bound: bool, used: &[i64]) -> Job {
        Job {
            running: Some(Running {
                drive: 1,
                bound,
                used: used.to_vec(),
            }),
            ..job(id)
        }
    }

    #[test]
    fn an_archive_goes_on_in_its_drive_and_never_on_a_volume_that_it_had() {
        let held = Drive {
            busy: true,
            full: true,
            ..drive(1)
        };
        let drives = [held, drive(2)];
        let decisions = plan(
            &[goes_on(7, true, &[1]), job(8)],
            &drives,
            &[volume(1), volume(2)],
        );
        assert_eq!(
            decisions,
            [
                Decision::Start {
                    job: 7,
                    drive: 1,
                    volume: 2
                },
                Decision::Start {
                    job: 8,
                    drive: 2,
                    volume: 1
                }
            ]
        );
        let Decision::Wait { why, .. } =
            plan(&[goes_on(7, true, &[1])], &drives, &[volume(1)]).remove(0)
        else {
            panic!("must wait")
        };
        assert!(
            why.contains("taf volume label") && why.contains("pool p"),
            "{why}"
        );
        let elsewhere = Volume {
            in_drive: Some(2),
            ..volume(2)
        };
        let Decision::Wait { why, .. } = plan(
            &[goes_on(7, true, &[1])],
            &drives,
            std::slice::from_ref(&elsewhere),
        )
        .remove(0) else {
            panic!("must wait")
        };
        assert!(why.contains("another drive"), "{why}");
        // What is read may come from wherever it is.
        let restore = Job {
            need: Need::Volume(2),
            ..goes_on(7, false, &[1])
        };
        assert!(matches!(
            plan(&[restore], &drives, &[elsewhere])[0],
            Decision::Start {
                drive: 2,
                volume: 2,
                ..
            }
        ));
    }

    proptest! {
        #[test]
        fn no_drive_and_no_volume_is_given_twice(
            jobs in 1..6_i64, drives in 0..4_i64, volumes in 0..5_i64, busy in any::<u8>(), held in any::<u8>(), placed in any::<u8>(),
        ) {
            let jobs: Vec<Job> = (1..=jobs).map(job).collect();
            let drives: Vec<Drive> = (1..=drives).map(|i| Drive { busy: busy >> i & 1 == 1, ..drive(i) }).collect();
            let volumes: Vec<Volume> = (1..=volumes)
                .map(|i| Volume { reserved: held >> i & 1 == 1, in_drive: (placed >> i & 1 == 1).then_some(i), ..volume(i) })
                .collect();
            let decisions = plan(&jobs, &drives, &volumes);
            prop_assert_eq!(&decisions, &plan(&jobs, &drives, &volumes));
            prop_assert_eq!(decisions.len(), jobs.len());
            let mut seen_drives = HashSet::new();
            let mut seen_volumes = HashSet::new();
            for decision in decisions {
                if let Decision::Start { drive, volume, .. } = decision {
                    prop_assert!(seen_drives.insert(drive) && seen_volumes.insert(volume));
                    prop_assert!(!drives.iter().any(|d| d.id == drive && d.busy));
                    prop_assert!(!volumes.iter().any(|v| v.id == volume && v.reserved));
                }
            }
        }
    }
}
