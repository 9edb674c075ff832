//! When a volume's index is written: before its drive is needed for another cartridge, and when the drive has been idle a while.

use crate::plan::{DriveNeed, Job, Wanted};

/// A volume in a free drive that has something to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Volume's row.
    pub volume: i64,
    /// Its barcode.
    pub barcode: String,
    /// Its pool's row.
    pub pool: i64,
    /// Whether it may be appended to.
    pub appendable: bool,
    /// Drive's row.
    pub drive: i64,
    /// Since when the drive is idle, milliseconds.
    pub idle_millis: u64,
}

/// An index to write now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Volume.
    pub volume: i64,
    /// Its barcode.
    pub barcode: String,
    /// Drive.
    pub drive: i64,
}

/// Which indexes are written now. A waiting job that goes on with the very volume where it is comes first: its parts get into the
/// same index. Any other that may need the drive has to wait, so that what is unloaded has its index.
pub fn due(due: &[Due], jobs: &[Job], idle_millis: u64) -> Vec<Index> {
    let mut now: Vec<Index> = Vec::new();
    for volume in due {
        let waiting = || jobs.iter().filter(|job| can_start(job));
        let write = if waiting().any(|job| goes_on(job, volume)) {
            false
        } else {
            waiting().any(|job| may_unload(job, volume)) || volume.idle_millis >= idle_millis
        };
        if write && now.iter().all(|index| index.drive != volume.drive) {
            now.push(Index {
                volume: volume.volume,
                barcode: volume.barcode.clone(),
                drive: volume.drive,
            });
        }
    }
    now
}

fn can_start(job: &Job) -> bool {
    !job.cancel_asked && job.agent.as_ref().is_none_or(|agent| agent.connected)
}

/// Whether the job works with the volume in its drive.
fn goes_on(job: &Job, due: &Due) -> bool {
    let here = match job.needs.drive {
        DriveNeed::Any => true,
        DriveNeed::This(drive) => drive == due.drive,
        DriveNeed::None | DriveNeed::Holder => false,
    };
    let with_it = match &job.needs.cartridge {
        Wanted::Append { pool, .. } => due.appendable && *pool == due.pool,
        Wanted::Volume(wanted) => *wanted == due.volume,
        Wanted::AnyOf(wanted) => wanted.contains(&due.volume),
        Wanted::Barcode(wanted) => *wanted == due.barcode,
        Wanted::Whatever => true,
        Wanted::Cleaning => false,
    };
    here && with_it && job.needs.to.is_none()
}

/// Whether the job may have the volume taken out of its drive.
fn may_unload(job: &Job, due: &Due) -> bool {
    match job.needs.drive {
        DriveNeed::Any => true,
        DriveNeed::This(drive) => drive == due.drive,
        DriveNeed::Holder => {
            matches!(&job.needs.cartridge, Wanted::Barcode(wanted) if *wanted == due.barcode)
        }
        DriveNeed::None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::carry::To;
    use crate::plan::{Agent, Needs};

    fn volume() -> Due {
        Due {
            volume: 1,
            barcode: "A".into(),
            pool: 10,
            appendable: true,
            drive: 100,
            idle_millis: 0,
        }
    }

    fn now() -> Vec<Index> {
        vec![Index {
            volume: 1,
            barcode: "A".into(),
            drive: 100,
        }]
    }

    fn job(needs: Needs) -> Job {
        Job {
            stream: 0,
            id: 7,
            needs,
            agent: None,
            cancel_asked: false,
            background: false,
            running: None,
        }
    }

    fn append(pool: i64) -> Job {
        job(Needs::append(pool, "p"))
    }

    #[test]
    fn an_idle_drive_writes_after_a_while() {
        let idle = |idle_millis| Due {
            idle_millis,
            ..volume()
        };
        assert_eq!(due(&[idle(999)], &[], 1000), []);
        assert_eq!(due(&[idle(1000)], &[], 1000), now());
    }

    #[test]
    fn a_job_that_may_have_it_unloaded_makes_it_write_at_once() {
        for other in [
            append(11),
            job(Needs::volume(2)),
            job(Needs::cartridge("B")),
            job(Needs::clear(100)),
            job(Needs::clean(100)),
            job(Needs::carry("A", To::MailSlot)),
        ] {
            assert_eq!(
                due(&[volume()], std::slice::from_ref(&other), 1000),
                now(),
                "{other:?}"
            );
        }
        let full = Due {
            appendable: false,
            ..volume()
        };
        assert_eq!(due(&[full], &[append(10)], 1000), now());
    }

    #[test]
    fn a_job_that_goes_on_with_the_volume_comes_first() {
        let idle = Due {
            idle_millis: 5000,
            ..volume()
        };
        for same in [
            append(10),
            job(Needs::volume(1)),
            job(Needs::cartridge("A")),
            job(Needs::drive(100)),
        ] {
            assert_eq!(due(std::slice::from_ref(&idle), &[same], 1000), []);
        }
        assert_eq!(due(&[idle], &[append(10), append(11)], 1000), []);
    }

    #[test]
    fn a_job_that_needs_another_drive_or_none_hurries_nobody() {
        for other in [
            job(Needs::robot(3)),
            job(Needs::drive(101)),
            job(Needs::carry("B", To::Slot)),
        ] {
            assert_eq!(due(&[volume()], &[other], 1000), []);
        }
        let absent = |pool| Job {
            agent: Some(Agent {
                name: "host".into(),
                connected: false,
            }),
            ..append(pool)
        };
        let cancelled = Job {
            cancel_asked: true,
            ..append(10)
        };
        assert_eq!(due(&[volume()], &[absent(11)], 1000), []);
        let idle = Due {
            idle_millis: 1000,
            ..volume()
        };
        assert_eq!(due(&[idle], &[absent(10), cancelled], 1000), now());
    }
}
