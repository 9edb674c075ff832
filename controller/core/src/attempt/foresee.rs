//! What an attempt would do, step by step, if everything went as things are now: for dry runs.

use super::{Facts, STEPS_MAX, step};
use crate::Fault;
use crate::mount::{Element, ElementKind, Medium, Move, Step};

/// The steps to the end, or why it would not come there. Nothing outside the library and the drive is foreseen: what is on a
/// tape only reading it tells.
pub fn foresee(facts: &Facts<'_>) -> Result<Vec<Step>, Fault> {
    let mut elements = facts.elements.to_vec();
    let (mut medium, mut worked) = (facts.medium, facts.worked);
    let mut steps = Vec::new();
    for number in 1..=STEPS_MAX {
        let next = step(&Facts {
            steps: number,
            elements: &elements,
            medium,
            worked,
            ..facts.clone()
        })?;
        match &next {
            Step::Work if facts.is_about_moves() => return Ok(steps),
            Step::Work => {
                steps.push(next);
                return Ok(steps);
            }
            Step::Unload => medium = Medium::Unloaded,
            Step::Clean => (worked, medium) = (true, Medium::Unloaded),
            Step::Scan => worked = true,
            Step::Clear(m) | Step::Mount(m) | Step::Carry(m) => {
                carry(m, &mut elements);
                let into_drive = |e: &&Element| e.address == m.to && e.kind == ElementKind::Drive;
                if elements.iter().any(|e| into_drive(&e)) {
                    medium = Medium::Loaded;
                }
            }
        }
        steps.push(next);
    }
    Ok(steps)
}

fn carry(m: &Move, elements: &mut [Element]) {
    for element in elements {
        if element.address == m.from {
            element.full = false;
            element.barcode = None;
        } else if element.address == m.to {
            element.full = true;
            element.barcode = Some(m.barcode.clone()).filter(|b| !b.is_empty());
            element.source_address = Some(m.from);
        }
    }
}
