//! What waiting jobs get: a cartridge, a drive, a robot, whatever they need of these, or the reason why they wait.
//!
//! Jobs are served in the order they were asked for, those first that have begun and need a further volume; one that must wait
//! does not hold up the others. A backup for which there is no drive and volume may write beside others: see [`Shared`].

use std::collections::HashSet;

use crate::{Fault, carry};

mod elsewhere;
mod feed;
mod find;
mod needs;
mod share;
#[cfg(test)]
mod tests;
mod world;

pub use elsewhere::to_clear;
pub use feed::{cornered, only_writer};
pub use needs::{Copy, DriveNeed, Needs, RobotNeed, Wanted};
pub use share::Shared;
pub use world::{Cartridge, Drive, Library, World};

use find::{Obstacle, Taken, candidates, find, home, lacking};

/// A job that has no attempt, or whose attempt has no volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Row.
    pub id: i64,
    /// Stream of a backup or restore that it is about: 0 for the first one, and for all other jobs.
    pub stream: i32,
    /// What it needs.
    pub needs: Needs,
    /// Source agent it needs, and whether that is connected.
    pub agent: Option<Agent>,
    /// Whether a person asked to stop it.
    pub cancel_asked: bool,
    /// Whether it takes only what nobody else wants.
    pub background: bool,
    /// Set if its attempt goes on with a further volume.
    pub running: Option<Running>,
}

/// An attempt that goes on. Whether its agents are well, whether it is to stop, and when it has waited for too long are the
/// attempt's own matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// The drive that it holds, if it has one already.
    pub drive: Option<i64>,
    /// Its seat there.
    pub seat: u32,
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

/// What a job gets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grant {
    /// Drive.
    pub drive: Option<i64>,
    /// Volume of the catalog.
    pub volume: Option<i64>,
    /// Barcode of the cartridge, if it has one and one is needed.
    pub barcode: Option<String>,
    /// Library whose robot works for it.
    pub library: Option<i64>,
    /// Set if it writes beside others that are at work on the volume: its seat. Nothing has to be moved.
    pub beside: Option<u32>,
}

/// What is decided of one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It gets what it needs.
    Start {
        /// Job.
        job: i64,
        /// Its stream.
        stream: i32,
        /// What it gets.
        grant: Grant,
    },
    /// It waits.
    Wait {
        /// Job.
        job: i64,
        /// Its stream.
        stream: i32,
        /// For what, for people.
        why: String,
    },
    /// It can never start as things are.
    Fail {
        /// Job.
        job: i64,
        /// Its stream.
        stream: i32,
        /// Why.
        fault: Fault,
    },
    /// A person asked to stop it before it began.
    Cancel {
        /// Job.
        job: i64,
    },
}

/// Decides on every job, in order; what is done in the background comes behind all else, also when it is under way.
pub fn plan(jobs: &[Job], world: &World) -> Vec<Decision> {
    let mut taken = Taken::default();
    let (behind, first): (Vec<&Job>, Vec<&Job>) = jobs.iter().partition(|job| job.background);
    let decide_on = |job: &&Job, taken: &mut Taken| decide(job, world, taken);
    let mut decisions: Vec<Decision> = first.iter().map(|j| decide_on(j, &mut taken)).collect();
    if let Some(world) = without_idle(jobs, world) {
        for (job, _) in first.iter().zip(&decisions).filter(|(_, d)| d.is_wait()) {
            // It waits until the drive is left, which nobody else gets then.
            let _ = decide(job, &world, &mut taken);
        }
    }
    decisions.extend(behind.iter().map(|j| decide_on(j, &mut taken)));
    decisions
}

/// The world when those who work in the background have left their drives, as far as they have nothing under way there: what whoever
/// else comes can have. None if nobody has a drive so.
pub fn without_idle(jobs: &[Job], world: &World) -> Option<World> {
    let idle = jobs.iter().filter(|job| job.is_idle());
    let idle: HashSet<i64> = idle
        .filter_map(|job| job.running.as_ref())
        .filter_map(|running| running.drive)
        .collect();
    (!idle.is_empty()).then(|| {
        let mut world = world.clone();
        let left = world.drives.iter_mut().filter(|d| idle.contains(&d.id));
        left.for_each(|drive| drive.busy = false);
        world
    })
}

fn decide(job: &Job, world: &World, taken: &mut Taken) -> Decision {
    if job.running.is_none() && job.cancel_asked {
        return Decision::Cancel { job: job.id };
    }
    if let Some(why) = world.distrusted.as_ref().filter(|_| job.needs.trust) {
        return job.wait(why.clone());
    }
    if let Some(agent) = &job.agent
        && job.running.is_none()
        && !agent.connected
    {
        let why = format!("source agent {} is not connected", agent.name);
        return job.wait(why);
    }
    let begins = match &job.needs.copy {
        Some(copy) if job.running.is_none() => feed::begins(copy, world),
        _ => Ok(()),
    };
    let found = begins.and_then(|()| find(&job.needs, job.running.as_ref(), world, taken));
    let found = found.or_else(|obstacle| share::beside(job, world, taken).ok_or(obstacle));
    match found {
        Ok(grant) => {
            if let (Some(drive), Some(seat)) = (grant.drive, grant.beside) {
                taken.seats.insert((drive, seat));
            } else {
                taken.drives.extend(grant.drive);
                taken.barcodes.extend(grant.barcode.clone());
            }
            if let (Some(to), Some(library)) = (job.needs.to, grant.library) {
                let places = match to {
                    carry::To::MailSlot => &mut taken.mail_slots,
                    carry::To::Slot | carry::To::Element(_) => &mut taken.slots,
                };
                *places.entry(library).or_default() += 1;
            }
            Decision::Start {
                job: job.id,
                stream: job.stream,
                grant,
            }
        }
        Err(Obstacle::Wait(why)) => job.wait(why),
        Err(Obstacle::Never(fault)) => Decision::Fail {
            job: job.id,
            stream: job.stream,
            fault,
        },
    }
}

impl Job {
    /// A further stream of a backup or restore that is under way. Its first stream does not wait for it, and neither does anybody else: it
    /// takes what is left.
    pub fn further(id: i64, stream: i32, needs: Needs) -> Job {
        Job {
            id,
            stream,
            needs,
            agent: None,
            cancel_asked: false,
            background: true,
            running: None,
        }
    }

    /// Whether it works in the background and has nothing under way now.
    pub fn is_idle(&self) -> bool {
        let running = self.running.as_ref();
        self.background && running.is_some_and(|running| !running.bound)
    }

    fn wait(&self, why: String) -> Decision {
        Decision::Wait {
            job: self.id,
            stream: self.stream,
            why,
        }
    }
}

impl Decision {
    fn is_wait(&self) -> bool {
        matches!(self, Decision::Wait { .. })
    }

    /// Which job it is about, and which stream of it.
    pub fn subject(&self) -> (i64, i32) {
        match self {
            Decision::Start { job, stream, .. }
            | Decision::Wait { job, stream, .. }
            | Decision::Fail { job, stream, .. } => (*job, *stream),
            Decision::Cancel { job } => (*job, 0),
        }
    }
}
