//! Several backups on one volume in one drive.
#![allow(clippy::unwrap_used)]

use super::*;

/// A drive with volume 1, on which others may write.
fn shared(id: i64, seats: &[u32], limit: u32) -> Drive {
    Drive {
        busy: true,
        working: true,
        full: true,
        shared: Some(Shared {
            pool: 1,
            volume: id,
            seats: seats.to_vec(),
            limit,
        }),
        ..drive(id)
    }
}

fn held(id: i64) -> Cartridge {
    Cartridge {
        reserved: true,
        in_drive: Some(id),
        ..volume(id)
    }
}

#[test]
fn a_backup_without_drive_and_volume_writes_beside_others_as_long_as_there_are_seats() {
    let beside = |decision: &Decision| match decision {
        Decision::Start { grant, .. } => (grant.drive, grant.volume, grant.beside),
        other => panic!("must start: {other:?}"),
    };
    // Seat 1 is free again. Two come at once, and a third waits.
    let world = world(&[shared(1, &[2], 3)], &[held(1), volume(2)]);
    let decisions = plan(&[job(7), job(8), job(9)], &world);
    assert_eq!(beside(&decisions[0]), (Some(1), Some(1), Some(1)));
    assert_eq!(beside(&decisions[1]), (Some(1), Some(1), Some(3)));
    assert!(matches!(decisions[2], Decision::Wait { job: 9, .. }));
    // Where fewest are.
    let two = super::world(
        &[shared(1, &[1, 2], 3), shared(2, &[1], 3)],
        &[held(1), held(2)],
    );
    assert_eq!(
        beside(&plan(&[job(7)], &two)[0]),
        (Some(2), Some(2), Some(2))
    );
    // A drive of its own is better.
    let free = super::world(&[shared(1, &[1], 3), drive(2)], &[held(1), volume(2)]);
    assert_eq!(beside(&plan(&[job(7)], &free)[0]), (Some(2), Some(2), None));
}

#[test]
fn nobody_writes_beside_others_where_it_must_not_be() {
    let waits = |job: Job, drive: Drive, cartridge: Cartridge| {
        let decision = plan(&[job], &world(&[drive], &[cartridge])).remove(0);
        assert!(matches!(decision, Decision::Wait { .. }), "{decision:?}");
    };
    waits(job(7), shared(1, &[1], 1), held(1));
    let other_pool = Cartridge {
        pool: Some(2),
        ..held(1)
    };
    let mut of_other = shared(1, &[1], 2);
    of_other.shared.as_mut().unwrap().pool = 2;
    let decision = plan(&[job(7)], &world(&[of_other], &[other_pool, volume(2)])).remove(0);
    assert!(matches!(decision, Decision::Wait { .. }));
    for change in [
        |d: &mut Drive| d.down = true,
        |d: &mut Drive| d.hung = true,
        |d: &mut Drive| d.connected = false,
        |d: &mut Drive| d.shared = None,
    ] {
        let mut drive = shared(1, &[1], 2);
        change(&mut drive);
        waits(job(7), drive, held(1));
    }
    // A restore, and what an operator asks for, never.
    waits(asking(7, Needs::volume(1)), shared(1, &[1], 2), held(1));
    waits(asking(7, Needs::drive(1)), shared(1, &[1], 2), held(1));
    // Full while it is shared: nobody comes any more.
    let full = Cartridge {
        appendable: false,
        ..held(1)
    };
    let decision = plan(&[job(7)], &world(&[shared(1, &[1], 2)], &[full, volume(2)])).remove(0);
    assert!(matches!(decision, Decision::Wait { .. }));
}

#[test]
fn those_that_shared_a_volume_go_on_together_when_the_last_one_has_left_it() {
    let full = Cartridge {
        appendable: false,
        ..held(1)
    };
    // One is parked, the other still has volume 1.
    let mut working = shared(1, &[1, 2], 2);
    working.shared = None;
    let cartridges = [full.clone(), volume(2)];
    let decision = plan(&[goes_on(7, true, &[1])], &world(&[working], &cartridges)).remove(0);
    let Decision::Wait { why, .. } = decision else {
        panic!("{decision:?}")
    };
    assert!(why.contains("still at work"), "{why}");
    // Both are: the first gets the next volume, the second waits until it is there.
    let parked = Drive {
        busy: true,
        full: true,
        ..drive(1)
    };
    let both = [goes_on(7, true, &[1]), goes_on(8, true, &[1])];
    let free = Cartridge {
        reserved: false,
        ..full
    };
    let decisions = plan(&both, &world(&[parked], &[free, volume(2)]));
    assert!(
        matches!(&decisions[0], Decision::Start { job: 7, grant, .. } if grant.volume == Some(2) && grant.beside.is_none())
    );
    assert!(matches!(decisions[1], Decision::Wait { job: 8, .. }));
    // It is there: the second one goes on in its seat, whatever others want.
    let mut again = shared(1, &[1, 2], 2);
    again.shared.as_mut().unwrap().volume = 2;
    let inside = Cartridge {
        in_drive: Some(1),
        reserved: true,
        ..volume(2)
    };
    let mut second = goes_on(8, true, &[1]);
    second.running.as_mut().unwrap().seat = 2;
    let decisions = plan(&[second, job(9)], &world(&[again], &[inside]));
    assert!(
        matches!(&decisions[0], Decision::Start { job: 8, grant, .. } if grant.beside == Some(2) && grant.volume == Some(2))
    );
    assert!(matches!(decisions[1], Decision::Wait { job: 9, .. }));
}

#[test]
fn a_further_stream_begins_only_with_a_drive_of_its_own() {
    let stream = Job::further(7, 1, Needs::append(1, "p"));
    let none = world(&[shared(1, &[1], 4)], &[held(1), volume(2)]);
    let decision = plan(std::slice::from_ref(&stream), &none).remove(0);
    assert!(matches!(decision, Decision::Wait { .. }), "{decision:?}");
    let free = world(&[shared(1, &[1], 4), drive(2)], &[held(1), volume(2)]);
    let decision = plan(&[stream], &free).remove(0);
    assert!(
        matches!(&decision, Decision::Start { grant, .. } if (grant.drive, grant.beside) == (Some(2), None)),
        "{decision:?}"
    );
    // One that has a place goes on in its seat as others do.
    let mut again = shared(1, &[1, 2], 2);
    again.shared.as_mut().unwrap().volume = 2;
    let inside = Cartridge {
        in_drive: Some(1),
        ..held(2)
    };
    let mut parked = goes_on(8, true, &[1]);
    parked.stream = 1;
    parked.running.as_mut().unwrap().seat = 2;
    let decision = plan(&[parked], &world(&[again], &[inside])).remove(0);
    assert!(
        matches!(&decision, Decision::Start { stream: 1, grant, .. } if grant.beside == Some(2)),
        "{decision:?}"
    );
}
