//! What one job gets of what nobody has, or what is in its way.

use std::collections::{HashMap, HashSet};

use super::{
    Cartridge, Drive, DriveNeed, Grant, Library, Needs, RobotNeed, Running, Wanted, World,
};
use crate::generation::{self, Access};
use crate::{Fault, carry};

#[derive(Default)]
pub(super) struct Taken {
    pub(super) drives: HashSet<i64>,
    /// Of drives that are shared.
    pub(super) seats: HashSet<(i64, u32)>,
    pub(super) barcodes: HashSet<String>,
    pub(super) slots: HashMap<i64, usize>,
    pub(super) mail_slots: HashMap<i64, usize>,
}

pub(super) enum Obstacle {
    Wait(String),
    Never(Fault),
}

fn wait<T>(why: impl Into<String>) -> Result<T, Obstacle> {
    Err(Obstacle::Wait(why.into()))
}

/// All that a job needs, or what is in its way.
pub(super) fn find(
    needs: &Needs,
    running: Option<&Running>,
    world: &World,
    taken: &Taken,
) -> Result<Grant, Obstacle> {
    if needs.cartridge == Wanted::Whatever {
        return without_cartridge(needs, world, taken);
    }
    if needs.drive == DriveNeed::Any {
        any_drive(world)?;
    }
    let mut candidates = candidates(needs, running, world);
    if let (Wanted::Cleaning, DriveNeed::This(id)) = (&needs.cartridge, needs.drive) {
        let library = world.drive(id).and_then(|d| d.library);
        candidates.retain(|c| c.library.is_some() && c.library == library);
    }
    if candidates.is_empty() {
        return Err(lacking(&needs.cartridge, running, world));
    }
    // Where it is saves a move; the fullest first fills one tape before the next is begun.
    candidates.sort_by_key(|c| {
        (
            turn(&needs.cartridge, c),
            c.in_drive.is_none(),
            std::cmp::Reverse(c.byte_count),
            c.barcode.clone(),
        )
    });
    let mut first = None;
    for cartridge in candidates {
        match with_cartridge(needs, running, cartridge, world, taken) {
            Ok(grant) => return Ok(grant),
            Err(obstacle) => first = first.or(Some(obstacle)),
        }
    }
    Err(first.unwrap_or_else(|| Obstacle::Never(nothing_fits(&needs.cartridge))))
}

/// Which turn a cartridge has among those that are read one after the other.
fn turn(wanted: &Wanted, cartridge: &Cartridge) -> usize {
    match wanted {
        Wanted::AnyOf(ids) => {
            let is = |id: &i64| cartridge.volume == Some(*id);
            ids.iter().position(is).unwrap_or(ids.len())
        }
        _ => 0,
    }
}

/// The cartridges that would do, wherever they are.
pub(super) fn candidates<'a>(
    needs: &Needs,
    running: Option<&Running>,
    world: &'a World,
) -> Vec<&'a Cartridge> {
    world
        .cartridges
        .iter()
        .filter(|c| match &needs.cartridge {
            Wanted::Whatever => false,
            Wanted::Append { pool, .. } => {
                // One that failed here would fail again.
                let used = |r: &Running| c.volume.is_some_and(|id| r.used.contains(&id));
                c.pool == Some(*pool) && c.appendable && !running.is_some_and(used)
            }
            Wanted::Volume(id) => c.volume == Some(*id),
            Wanted::AnyOf(ids) => c.volume.is_some_and(|id| ids.contains(&id)),
            Wanted::Barcode(barcode) => c.barcode == *barcode,
            Wanted::Cleaning => c.cleanings_left.is_some_and(|left| left > 0),
        })
        .collect()
}

/// A volume that would do if it were inspected.
fn suspect<'a>(wanted: &Wanted, world: &'a World) -> Option<&'a str> {
    let Wanted::Append { pool, .. } = wanted else {
        return None;
    };
    let fits = |c: &&Cartridge| c.suspect && c.pool == Some(*pool);
    let barcodes = world.cartridges.iter().filter(fits);
    barcodes.map(|c| c.barcode.as_str()).min()
}

/// Whether there is a drive that anything could be done with.
fn any_drive(world: &World) -> Result<(), Obstacle> {
    let connected: Vec<&Drive> = world.drives.iter().filter(|d| d.connected).collect();
    if connected.is_empty() {
        return wait("no drive is connected");
    }
    if connected.iter().all(|d| d.down) {
        return wait("every drive that is connected is down: `taf drive list` says why");
    }
    let mut why = None;
    for drive in connected {
        if drive.hung {
            let reason = format!(
                "drive {} does not answer: `taf drive list` says since when",
                drive.serial
            );
            why = why.or(Some(reason));
            continue;
        }
        match world.robot(drive.library) {
            Ok(_) => return Ok(()),
            Err(reason) => why = why.or(drive.library.map(|_| reason)),
        }
    }
    wait(why.unwrap_or_else(|| "no library with a connected drive is connected".to_owned()))
}

/// What becomes of a job for which there is no cartridge: one that has begun waits, and is told what one that begins is told.
pub(super) fn lacking(wanted: &Wanted, running: Option<&Running>, world: &World) -> Obstacle {
    if let Some(barcode) = suspect(wanted, world) {
        return Obstacle::Wait(format!(
            "volume {barcode} is read only until it is inspected: taf volume inspect {barcode}"
        ));
    }
    let mut fault = nothing_fits(wanted);
    let Wanted::Append { pool, pool_name } = wanted else {
        return match running {
            None => Obstacle::Never(fault),
            Some(_) => Obstacle::Wait(fault.message),
        };
    };
    let kept = running.and_then(|running| only_drive(running, world));
    let kept = kept.map(|serial| {
        format!(
            "; the job keeps drive {serial} meanwhile, and no other one of its library can be used for that: put a labelled volume of pool \
             {pool_name} into a slot, or cancel the job and run it again afterwards"
        )
    });
    let kept = kept.unwrap_or_default();
    if let Some(why) = world.coming.get(pool) {
        return Obstacle::Wait(format!("{why}{kept}"));
    }
    if let Some(advice) = world.advice.get(pool) {
        fault.next_step = format!("{}; {advice}", fault.next_step);
    }
    match running {
        None => Obstacle::Never(fault),
        Some(_) => Obstacle::Wait(format!(
            "a volume of pool {pool_name}: {}{kept}",
            fault.next_step
        )),
    }
}

/// The drive that an attempt can't leave, if it is the only one of its library that could do anything.
fn only_drive<'a>(running: &Running, world: &'a World) -> Option<&'a str> {
    let own = world.drive(running.drive.filter(|_| running.bound)?)?;
    let mut others = world.drives.iter().filter(|d| d.id != own.id);
    let usable = |d: &Drive| d.library == own.library && d.connected && !d.down && !d.hung;
    (!others.any(usable)).then_some(own.serial.as_str())
}

fn nothing_fits(wanted: &Wanted) -> Fault {
    match wanted {
        Wanted::Append { pool_name, .. } => Fault::new(
            "NO_VOLUME",
            format!("no volume of pool {pool_name} can be appended to"),
            format!(
                "label a blank cartridge with `taf volume label BARCODE --pool {pool_name}`; `taf library` shows what is in the slots"
            ),
        ),
        Wanted::Volume(_) | Wanted::AnyOf(_) | Wanted::Whatever => Fault::new(
            "VOLUME_GONE",
            "the volume is not in the catalog any more",
            "choose another version with `taf versions`",
        ),
        Wanted::Barcode(barcode) => Fault::new(
            "VOLUME_NOT_IN_LIBRARY",
            format!("no library shows cartridge {barcode} any more"),
            "put it into a slot of the library and run again",
        ),
        Wanted::Cleaning => Fault::new(
            "NO_CLEANING_CARTRIDGE",
            "the drive's library has no cleaning cartridge that is not used up",
            "put one in (its barcode begins with CLN) with `taf library import`, or name one: taf drive clean DRIVE --cartridge BARCODE",
        ),
    }
}

/// What a job gets that needs no particular cartridge.
fn without_cartridge(needs: &Needs, world: &World, taken: &Taken) -> Result<Grant, Obstacle> {
    let mut grant = Grant::default();
    if let DriveNeed::This(id) = needs.drive {
        let drive = free_drive(id, world, taken)?;
        grant.drive = Some(drive.id);
        grant.library = drive.library;
        if let Some(inside) = world.cartridges.iter().find(|c| c.in_drive == Some(id)) {
            is_free(inside, taken)?;
            grant.volume = inside.volume;
            grant.barcode = Some(inside.barcode.clone());
        }
    }
    let library = match needs.robot {
        RobotNeed::None => return Ok(grant),
        RobotNeed::This(library) => Some(library),
        RobotNeed::OfCartridge => grant.library,
    };
    let library = world.robot(library).map_err(Obstacle::Wait)?;
    if let Some(to) = needs.to {
        room(to, library, taken)?;
    }
    grant.library = Some(library.id);
    Ok(grant)
}

fn is_free(cartridge: &Cartridge, taken: &Taken) -> Result<(), Obstacle> {
    if cartridge.reserved || taken.barcodes.contains(&cartridge.barcode) {
        return wait(format!(
            "volume {} is in use by another job",
            cartridge.barcode
        ));
    }
    Ok(())
}

/// A drive by its row, if nobody has it.
fn free_drive<'a>(id: i64, world: &'a World, taken: &Taken) -> Result<&'a Drive, Obstacle> {
    let Some(drive) = world.drive(id) else {
        return wait("the drive is not known");
    };
    let serial = &drive.serial;
    if !drive.connected {
        return wait(format!("drive {serial} is not connected"));
    }
    if drive.hung {
        return wait(format!(
            "drive {serial} does not answer: `taf drive list` says since when"
        ));
    }
    if drive.busy || taken.drives.contains(&id) {
        return wait(format!("drive {serial} is busy"));
    }
    Ok(drive)
}

/// The library that a cartridge is in, where its robot can get at it.
pub(super) fn home(cartridge: &Cartridge, to: Option<carry::To>) -> Result<i64, Obstacle> {
    let barcode = &cartridge.barcode;
    let Some(library) = cartridge.library else {
        let place = match &cartridge.last_place {
            Some(place) => format!(" ({place})"),
            None => String::new(),
        };
        return wait(format!(
            "volume {barcode} is in no library{place}: put it into a slot"
        ));
    };
    if cartridge.twice && to.is_none() {
        return wait(format!(
            "two cartridges have barcode {barcode}: take one of them out"
        ));
    }
    if cartridge.in_mail_slot && to.is_none() {
        return wait(format!(
            "volume {barcode} is in a mail slot: bring it in with `taf library import`"
        ));
    }
    Ok(library)
}

/// What a job gets with this cartridge.
fn with_cartridge(
    needs: &Needs,
    running: Option<&Running>,
    cartridge: &Cartridge,
    world: &World,
    taken: &Taken,
) -> Result<Grant, Obstacle> {
    let barcode = &cartridge.barcode;
    is_free(cartridge, taken)?;
    let library = home(cartridge, needs.to)?;
    let drive = match needs.drive {
        DriveNeed::None => None,
        DriveNeed::Holder => match cartridge.in_drive {
            Some(holder) => Some(holding(holder, barcode, world, taken)?),
            None => None,
        },
        DriveNeed::Any => Some(any_of(needs, library, running, cartridge, world, taken)?),
        DriveNeed::This(id) => {
            let drive = free_drive(id, world, taken)?;
            if let Some(holder) = cartridge.in_drive
                && holder != id
            {
                return wait(format!("volume {barcode} is in another drive"));
            }
            if drive.library != Some(library) {
                return Err(Obstacle::Never(Fault::new(
                    "OTHER_LIBRARY",
                    format!(
                        "cartridge {barcode} is not in the library of drive {}",
                        drive.serial
                    ),
                    "choose a cartridge of the drive's library; `taf library` shows both",
                )));
            }
            Some(id)
        }
    };
    let robot = world.robot(Some(library)).map_err(Obstacle::Wait)?;
    if let Some(to) = needs.to {
        room(to, robot, taken)?;
    }
    Ok(Grant {
        drive,
        volume: cartridge.volume,
        barcode: Some(barcode.clone()),
        library: Some(library),
        beside: None,
    })
}

fn holding(holder: i64, barcode: &str, world: &World, taken: &Taken) -> Result<i64, Obstacle> {
    match free_drive(holder, world, taken) {
        Ok(drive) => Ok(drive.id),
        Err(_) => wait(format!(
            "volume {barcode} is in a drive that is busy or not connected"
        )),
    }
}

/// The drive to use for a cartridge, of those of its library.
fn any_of(
    needs: &Needs,
    library: i64,
    running: Option<&Running>,
    cartridge: &Cartridge,
    world: &World,
    taken: &Taken,
) -> Result<i64, Obstacle> {
    let barcode = &cartridge.barcode;
    // The volume that it had may still be written there for others.
    if let Some(running) = running.filter(|running| running.bound)
        && let Some(own) = running.drive.and_then(|id| world.drive(id))
        && own.working
    {
        return wait(format!(
            "drive {} is still at work for another job",
            own.serial
        ));
    }
    // What is not known to be written is at least read; the drive's worker looks closer.
    let access = match needs.cartridge {
        Wanted::Append { .. } => Access::Write,
        _ => Access::Read,
    };
    let unfit = |d: &Drive| generation::unfit(d.generation, cartridge.format, access);
    let mut there = world.drives.iter().filter(|d| d.library == Some(library));
    if there.clone().all(|d| unfit(d).is_some())
        && let Some(reason) = there.find_map(unfit)
    {
        return wait(format!("volume {barcode} needs another drive: {reason}"));
    }
    let own = |d: &Drive| running.is_some_and(|r| r.drive == Some(d.id));
    let allowed = |d: &Drive| running.is_none_or(|r| !r.bound) || own(d);
    let free = |d: &&Drive| {
        d.connected
            && !d.hung
            && (!d.down || own(d))
            && (!d.busy || own(d))
            && allowed(d)
            && needs.leaves != Some(d.id)
            && !taken.drives.contains(&d.id)
    };
    if let Some(holder) = cartridge.in_drive {
        if needs.leaves == Some(holder) {
            return wait(format!(
                "volume {barcode} is in the only drive that it can be copied in: it has to be put into a slot first"
            ));
        }
        return match world.drives.iter().filter(free).find(|d| d.id == holder) {
            Some(drive) if unfit(drive).is_some() => wait(format!(
                "volume {barcode} is in a drive that can't use it so: put it into a slot"
            )),
            Some(drive) => Ok(drive.id),
            None => match world.drives.iter().find(|d| d.id == holder && !allowed(d)) {
                Some(other) => wait(format!(
                    "volume {barcode} is in another drive: have it put into a slot with `taf drive unload {}`",
                    other.serial
                )),
                None => wait(format!(
                    "volume {barcode} is in a drive that is busy, down or not connected"
                )),
            },
        };
    }
    world
        .drives
        .iter()
        .filter(free)
        .filter(|d| d.library == Some(library) && unfit(d).is_none())
        // Who has a drive keeps it: another one may be wanted by others.
        .min_by_key(|d| (!own(d), d.full, d.serial.clone()))
        .map(|d| d.id)
        .ok_or_else(|| {
            Obstacle::Wait(match running {
                Some(Running { bound: true, .. }) => format!(
                    "volume {barcode} is in another library than the drive, or that one is not connected"
                ),
                _ if needs.leaves.is_some() => {
                    "every drive but the one that is to be written in is busy, down or not connected"
                        .to_owned()
                }
                _ => "every drive of the library is busy, down or not connected".to_owned(),
            })
        })
}

/// Whether there is a free place of the kind that a cartridge is to be carried to.
fn room(to: carry::To, library: &Library, taken: &Taken) -> Result<(), Obstacle> {
    let used = |places: &HashMap<i64, usize>| places.get(&library.id).copied().unwrap_or(0);
    match to {
        carry::To::Element(_) => Ok(()),
        carry::To::Slot if used(&taken.slots) < library.slots_free => Ok(()),
        carry::To::Slot => wait(format!("library {} has no empty slot", library.serial)),
        carry::To::MailSlot if used(&taken.mail_slots) < library.mail_free => Ok(()),
        carry::To::MailSlot if library.mail.is_empty() && library.mail_free == 0 => {
            Err(Obstacle::Never(carry::mail_full(&[])))
        }
        carry::To::MailSlot => wait(format!(
            "the mail slots of library {} are full: take out {}",
            library.serial,
            if library.mail.is_empty() {
                "what other jobs put there".to_owned()
            } else {
                library.mail.join(", ")
            }
        )),
    }
}
