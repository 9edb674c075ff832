//! The two drives of a synthetic full.
#![allow(clippy::unwrap_used)]

use super::*;

/// Volume 1 is read, and copied into pool 1.
fn copy() -> Copy {
    Copy {
        reads: vec![1],
        pool: 1,
        pool_name: "p".into(),
    }
}

/// What a job that reads it gets, whatever else it needs.
fn decided(world: &World) -> Decision {
    let needs = Needs {
        copy: Some(copy()),
        ..Needs::nothing()
    };
    plan(&[asking(7, needs)], world).remove(0)
}

fn begins(decision: &Decision) {
    assert!(matches!(decision, Decision::Start { .. }), "{decision:?}");
}

fn refused(decision: Decision) -> String {
    match decision {
        Decision::Fail { fault, .. } => {
            assert_eq!(fault.reason, "TWO_DRIVES_NEEDED");
            fault.message
        }
        other => panic!("must be refused: {other:?}"),
    }
}

fn waits(decision: Decision) -> String {
    match decision {
        Decision::Wait { job: 7, why, .. } => why,
        other => panic!("must wait: {other:?}"),
    }
}

fn elsewhere(cartridge: Cartridge) -> Cartridge {
    Cartridge {
        library: Some(2),
        ..cartridge
    }
}

fn unseen(cartridge: Cartridge) -> Cartridge {
    Cartridge {
        library: None,
        ..cartridge
    }
}

fn lto(generation: u8, id: i64) -> Drive {
    Drive {
        generation: Some(generation),
        ..drive(id)
    }
}

fn of(generation: u8, id: i64) -> Cartridge {
    Cartridge {
        format: Some(Format::Lto(generation)),
        ..volume(id)
    }
}

#[test]
fn a_synthetic_full_needs_a_second_drive_where_its_volumes_are() {
    let far = Drive {
        library: Some(2),
        ..drive(2)
    };
    let down = Drive {
        down: true,
        ..drive(2)
    };
    let decided = |drives: &[Drive], cartridges: &[Cartridge]| decided(&world(drives, cartridges));
    let near = [volume(1), volume(2)];
    begins(&decided(&[drive(1), drive(2)], &near));
    let said = refused(decided(&[drive(1), down.clone()], &near));
    assert!(said.contains("only drive D1"), "{said}");
    // One that is only away may come back.
    let away = Drive {
        connected: false,
        ..drive(2)
    };
    let said = waits(decided(&[drive(1), away], &near));
    assert!(said.contains("D2"), "{said}");
    // A drive in another library is one to write in if there is a volume to write on.
    let drives = [drive(1), far];
    refused(decided(&drives, &near));
    begins(&decided(&drives, &[volume(1), elsewhere(volume(2))]));
    // What is on no volume that a library shows is waited for by whoever reads it.
    begins(&decided(&[drive(1), down], &[unseen(volume(1)), volume(2)]));
}

#[test]
fn nothing_is_read_for_a_synthetic_full_before_there_is_something_to_write_on() {
    let drives = [lto(9, 1), lto(8, 2)];
    let mut none = world(&drives, &[volume(1)]);
    let Decision::Fail { fault, .. } = decided(&none) else {
        panic!("must fail")
    };
    assert_eq!(fault.reason, "NO_VOLUME");
    assert!(fault.next_step.contains("taf volume label"), "{fault:?}");
    none.coming
        .insert(1, "cartridge X is labelled first".into());
    assert_eq!(waits(decided(&none)), "cartridge X is labelled first");
    // That one is made is seen to, as for who writes himself.
    let needs = Needs {
        copy: Some(copy()),
        ..Needs::volume(1)
    };
    let wanting = |world: &World| crate::auto_label::wanting(&[asking(7, needs.clone())], world);
    assert!(wanting(&none).contains(&1));
    let away = world(&drives, &[volume(1), unseen(volume(2))]);
    let said = waits(decided(&away));
    assert_eq!(said, "volume V2 is in no library: put it into a slot");
    // Where no robot takes it is as little; that is said first.
    let in_mail_slot = Cartridge {
        in_mail_slot: true,
        ..volume(3)
    };
    let twice = Cartridge {
        twice: true,
        ..volume(3)
    };
    for (third, word) in [
        (
            in_mail_slot.clone(),
            "volume V3 is in a mail slot: bring it in with `taf library import`",
        ),
        (
            twice,
            "two cartridges have barcode V3: take one of them out",
        ),
    ] {
        let away = world(&drives, &[volume(1), unseen(volume(2)), third]);
        assert_eq!(waits(decided(&away)), word);
    }
    begins(&decided(&world(
        &drives,
        &[volume(1), in_mail_slot, volume(2)],
    )));
    // One that another job has is had later, or shared.
    let reserved = Cartridge {
        reserved: true,
        ..volume(2)
    };
    begins(&decided(&world(&drives, &[volume(1), reserved])));
    let there = world(&drives, &[volume(1), volume(2)]);
    assert!(wanting(&there).is_empty());
    begins(&decided(&there));
    // Who reads on is not asked for it anew.
    let reads_on = Job {
        needs,
        ..goes_on(7, false, &[])
    };
    begins(&plan(&[reads_on], &none).remove(0));
}

#[test]
fn the_two_drives_of_a_synthetic_full_can_do_what_each_is_for() {
    let decided = |drives: &[Drive], cartridges: &[Cartridge]| decided(&world(drives, cartridges));
    // An LTO-7 drive reads LTO-5 and does not write it.
    begins(&decided(&[lto(7, 1), lto(6, 2)], &[of(5, 1), of(6, 2)]));
    begins(&decided(&[lto(7, 1), lto(6, 2)], &[of(5, 1), of(5, 2)]));
    let said = refused(decided(&[lto(7, 1), lto(7, 2)], &[of(5, 1), of(5, 2)]));
    assert!(said.contains("can write on volume V2"), "{said}");
    let said = refused(decided(&[lto(8, 1), lto(8, 2)], &[of(5, 1), of(8, 2)]));
    assert!(said.contains("can read volume V1"), "{said}");
    let said = refused(decided(&[lto(8, 1), lto(6, 2)], &[of(7, 1), of(8, 2)]));
    assert!(said.contains("only drive D1"), "{said}");
}

#[test]
fn who_reads_ends_when_its_drive_has_become_the_only_one_to_write_in() {
    let changed = |change: fn(&mut Drive)| {
        let mut second = lto(9, 2);
        change(&mut second);
        [lto(9, 1), second]
    };
    let cornered = |drives: &[Drive], cartridges: &[Cartridge]| {
        cornered(&copy(), 1, &world(drives, cartridges))
    };
    let both = [of(9, 1), of(9, 2)];
    assert_eq!(cornered(&changed(|_| ()), &both), None);
    // Somebody else has it, or it may come back.
    for other in [
        changed(|d| d.busy = true),
        changed(|d| d.hung = true),
        changed(|d| d.connected = false),
    ] {
        assert_eq!(cornered(&other, &both), None);
    }
    let down = changed(|d| d.down = true);
    let fault = cornered(&down, &both).unwrap();
    assert_eq!(fault.reason, "TWO_DRIVES_NEEDED");
    assert!(fault.message.contains("drive D1"), "{fault:?}");
    assert!(fault.next_step.contains("taf drive list"), "{fault:?}");
    // Without a volume that is what is waited for, and so is one that others have.
    assert_eq!(cornered(&down, &both[..1]), None);
    let old = [lto(9, 1), lto(8, 2)];
    let reserved = Cartridge {
        reserved: true,
        ..of(8, 3)
    };
    let three = [of(8, 1), of(9, 2), reserved];
    assert_eq!(cornered(&old, &three), None);
    // Asked for anew it is read in the other drive.
    let fault = cornered(&old, &three[..2]).unwrap();
    assert!(fault.next_step.contains("in another drive"), "{fault:?}");
    assert_eq!(super::cornered(&copy(), 2, &world(&old, &three)), None);
}

#[test]
fn who_reads_for_a_synthetic_full_leaves_the_only_drive_to_write_in() {
    let drives = |first| {
        [(1, 8), (2, 9)].map(|(id, generation)| Drive {
            full: id == first,
            ..lto(generation, id)
        })
    };
    let volumes = [of(8, 1), of(9, 2)];
    let world_of = |cartridges: &[Cartridge]| world(&drives(1), cartridges);
    let needs = |world: &World| Needs {
        leaves: only_writer(&copy(), world),
        ..Needs::volume(1)
    };
    // Both could read it, and the second one is empty; but only that one writes LTO-9.
    let free = world_of(&volumes);
    begins(&decided(&free));
    assert_eq!(grant(Needs::volume(1), &free).drive, Some(2));
    assert_eq!(grant(needs(&free), &free).drive, Some(1));
    // If it is in there it comes out first.
    let inside = Cartridge {
        in_drive: Some(2),
        ..of(8, 1)
    };
    let inside = world_of(&[inside, of(9, 2)]);
    assert!(why(needs(&inside), &inside).contains("only drive"));
    let jobs = [asking(7, needs(&inside))];
    let decisions = plan(&jobs, &inside);
    assert_eq!(to_clear(&jobs, &inside, &decisions), [2]);
    // Where both can write it may have either.
    let both = world_of(&[of(8, 1), of(8, 2)]);
    assert_eq!(only_writer(&copy(), &both), None);
    // Another volume counts if it can be had now.
    let beside = |third: Cartridge| world_of(&[of(8, 1), of(9, 2), third]);
    let third = of(8, 3);
    assert_eq!(only_writer(&copy(), &beside(third.clone())), None);
    for away in [
        Cartridge {
            reserved: true,
            ..third.clone()
        },
        Cartridge {
            twice: true,
            ..third.clone()
        },
        Cartridge {
            in_mail_slot: true,
            ..third.clone()
        },
    ] {
        assert_eq!(only_writer(&copy(), &beside(away.clone())), Some(2));
        // What only that drive can read is read there.
        let read = world_of(&[of(9, 1), of(9, 2), away]);
        assert_eq!(only_writer(&copy(), &read), None);
    } // If none can be had now, the one that writes what can be had later.
    let later = Cartridge {
        reserved: true,
        ..of(9, 2)
    };
    assert_eq!(only_writer(&copy(), &world_of(&[of(8, 1), later])), Some(2));
}
