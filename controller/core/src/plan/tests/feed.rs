//! The two drives of a synthetic full.

use super::*;

#[test]
fn a_synthetic_full_needs_a_second_drive_where_its_volumes_are() {
    let elsewhere = |cartridge: Cartridge| Cartridge {
        library: Some(2),
        ..cartridge
    };
    let far = Drive {
        library: Some(2),
        ..drive(2)
    };
    let down = Drive {
        down: true,
        ..drive(2)
    };
    let lacks = |drives: &[Drive], cartridges: &[Cartridge]| {
        without_second_drive(7, &[1], 1, &world(drives, cartridges))
    };
    let refused = |drives: &[Drive], cartridges: &[Cartridge]| match lacks(drives, cartridges) {
        Some(Decision::Fail { fault, .. }) => {
            assert_eq!(fault.reason, "TWO_DRIVES_NEEDED");
            fault.message
        }
        other => panic!("must be refused: {other:?}"),
    };
    let near = [volume(1), volume(2)];
    assert_eq!(lacks(&[drive(1), drive(2)], &near), None);
    let said = refused(&[drive(1), down.clone()], &near);
    assert!(said.contains("only drive D1"), "{said}");
    // One that is only away may come back.
    let away = Drive {
        connected: false,
        ..drive(2)
    };
    match lacks(&[drive(1), away], &near) {
        Some(Decision::Wait { job: 7, why, .. }) => assert!(why.contains("D2"), "{why}"),
        other => panic!("must wait: {other:?}"),
    }
    // A drive in another library is one to write in if there is a volume to write on.
    let drives = [drive(1), far];
    refused(&drives, &near);
    let apart = [volume(1), elsewhere(volume(2))];
    assert_eq!(lacks(&drives, &apart), None);
    // What is on no volume that a library shows is waited for.
    let unseen = |cartridge: Cartridge| Cartridge {
        library: None,
        ..cartridge
    };
    let alone = [drive(1), down];
    assert_eq!(lacks(&alone, &[unseen(volume(1)), volume(2)]), None);
    // So is a volume to write on; but where there is one drive it can't be used, nor can one be labelled.
    for cartridges in [vec![volume(1)], vec![volume(1), unseen(volume(2))]] {
        assert_eq!(lacks(&[drive(1), drive(2)], &cartridges), None);
        let said = refused(&alone, &cartridges);
        assert!(said.contains("only drive D1"), "{said}");
    }
}

#[test]
fn the_two_drives_of_a_synthetic_full_can_do_what_each_is_for() {
    let lto = |generation, id| Drive {
        generation: Some(generation),
        ..drive(id)
    };
    let of = |generation, id| Cartridge {
        format: Some(Format::Lto(generation)),
        ..volume(id)
    };
    let refused = |drives: &[Drive], cartridges: &[Cartridge]| match without_second_drive(
        7,
        &[1],
        1,
        &world(drives, cartridges),
    ) {
        None => String::new(),
        Some(Decision::Fail { fault, .. }) => fault.message,
        other => panic!("must not wait: {other:?}"),
    };
    // An LTO-7 drive reads LTO-5 and does not write it.
    assert_eq!(refused(&[lto(7, 1), lto(6, 2)], &[of(5, 1), of(6, 2)]), "");
    let said = refused(&[lto(7, 1), lto(6, 2)], &[of(5, 1), of(5, 2)]);
    assert_eq!(said, "");
    let said = refused(&[lto(7, 1), lto(7, 2)], &[of(5, 1), of(5, 2)]);
    assert!(said.contains("can write on volume V2"), "{said}");
    let said = refused(&[lto(8, 1), lto(8, 2)], &[of(5, 1), of(8, 2)]);
    assert!(said.contains("can read volume V1"), "{said}");
    let said = refused(&[lto(8, 1), lto(6, 2)], &[of(7, 1), of(8, 2)]);
    assert!(said.contains("only drive D1"), "{said}");
}

#[test]
fn who_reads_for_a_synthetic_full_leaves_the_only_drive_to_write_in() {
    let drives = |first| {
        [(1, 8), (2, 9)].map(|(id, generation)| Drive {
            generation: Some(generation),
            full: id == first,
            ..drive(id)
        })
    };
    let of = |generation, id| Cartridge {
        format: Some(Format::Lto(generation)),
        ..volume(id)
    };
    let volumes = [of(8, 1), of(9, 2)];
    let world_of = |cartridges: &[Cartridge]| world(&drives(1), cartridges);
    let needs = |world: &World| Needs {
        leaves: only_writer(&[1], 1, world),
        ..Needs::volume(1)
    };
    // Both could read it, and the second one is empty; but only that one writes LTO-9.
    let free = world_of(&volumes);
    assert_eq!(without_second_drive(7, &[1], 1, &free), None);
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
    assert_eq!(only_writer(&[1], 1, &both), None);
    // Another volume counts if it can be had now.
    let beside = |third: Cartridge| world_of(&[of(8, 1), of(9, 2), third]);
    let third = of(8, 3);
    assert_eq!(only_writer(&[1], 1, &beside(third.clone())), None);
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
        assert_eq!(only_writer(&[1], 1, &beside(away.clone())), Some(2));
        // What only that drive can read is read there.
        let read = world_of(&[of(9, 1), of(9, 2), away]);
        assert_eq!(only_writer(&[1], 1, &read), None);
    }
}
