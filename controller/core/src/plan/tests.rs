use super::*;
use crate::generation::{self, Format};
use proptest::prelude::*;

mod feed;
mod share;

fn job(id: i64) -> Job {
    Job {
        id,
        stream: 0,
        needs: Needs::append(1, "p"),
        agent: Some(Agent {
            name: "host".into(),
            connected: true,
        }),
        cancel_asked: false,
        background: false,
        running: None,
    }
}

fn asking(id: i64, needs: Needs) -> Job {
    Job {
        needs,
        agent: None,
        ..job(id)
    }
}

fn library() -> Library {
    Library {
        id: 1,
        serial: "L1".into(),
        connected: true,
        pause: None,
        slots_free: 1,
        mail_free: 1,
        mail: Vec::new(),
    }
}

fn world(drives: &[Drive], cartridges: &[Cartridge]) -> World {
    World {
        drives: drives.to_vec(),
        libraries: vec![library()],
        cartridges: cartridges.to_vec(),
        ..World::default()
    }
}

fn why(needs: Needs, world: &World) -> String {
    match plan(&[asking(7, needs)], world).remove(0) {
        Decision::Wait { why, .. } => why,
        other => panic!("must wait: {other:?}"),
    }
}

fn grant(needs: Needs, world: &World) -> Grant {
    match plan(&[asking(7, needs)], world).remove(0) {
        Decision::Start { grant, .. } => grant,
        other => panic!("must start: {other:?}"),
    }
}

fn fault(needs: Needs, world: &World) -> String {
    match plan(&[asking(7, needs)], world).remove(0) {
        Decision::Fail { fault, .. } => fault.reason,
        other => panic!("must fail: {other:?}"),
    }
}

fn drive(id: i64) -> Drive {
    Drive {
        id,
        serial: format!("D{id}"),
        connected: true,
        down: false,
        hung: false,
        busy: false,
        working: false,
        shared: None,
        generation: None,
        library: Some(1),
        full: false,
    }
}

fn volume(id: i64) -> Cartridge {
    Cartridge {
        volume: Some(id),
        barcode: format!("V{id}"),
        pool: Some(1),
        appendable: true,
        suspect: false,
        reserved: false,
        byte_count: 0,
        format: None,
        cleanings_left: None,
        library: Some(1),
        twice: false,
        in_mail_slot: false,
        in_drive: None,
        last_place: None,
    }
}

#[test]
fn a_mounted_volume_is_used_where_it_is() {
    let mounted = Cartridge {
        in_drive: Some(2),
        ..volume(1)
    };
    let world = world(&[drive(1), drive(2)], &[volume(2), mounted]);
    let expected = Grant {
        drive: Some(2),
        volume: Some(1),
        barcode: Some("V1".into()),
        library: Some(1),
        beside: None,
    };
    assert_eq!(grant(Needs::append(1, "p"), &world), expected);
}

#[test]
fn a_pool_without_volumes_fails_and_says_how_to_make_one() {
    let Decision::Fail { fault, .. } = &plan(&[job(7)], &world(&[drive(1)], &[]))[0] else {
        panic!("must fail")
    };
    assert_eq!(fault.reason, "NO_VOLUME");
    assert!(fault.next_step.contains("taf volume label"));
}

#[test]
fn what_needs_trust_waits_while_there_is_none_and_a_suspect_volume_is_named() {
    let mut world = world(&[drive(1)], &[volume(1)]);
    world.distrusted = Some("the catalog may be old".into());
    let writes = || Needs {
        trust: true,
        ..Needs::append(1, "p")
    };
    assert_eq!(why(writes(), &world), "the catalog may be old");
    assert_eq!(grant(Needs::volume(1), &world).volume, Some(1));
    world.distrusted = None;
    assert_eq!(grant(writes(), &world).volume, Some(1));
    world.cartridges[0].appendable = false;
    world.cartridges[0].suspect = true;
    assert!(why(writes(), &world).contains("taf volume inspect V1"));
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
    let decisions = plan(&[absent, job(2)], &world(&[drive(1)], &[volume(1)]));
    assert!(matches!(&decisions[0], Decision::Wait { why, .. } if why.contains("host")));
    assert!(matches!(decisions[1], Decision::Start { job: 2, .. }));
}

#[test]
fn what_is_missing_is_named() {
    let append = || Needs::append(1, "p");
    assert!(why(append(), &world(&[], &[volume(1)])).contains("no drive"));
    let hung = Drive {
        hung: true,
        ..drive(1)
    };
    assert!(why(append(), &world(&[hung], &[volume(1)])).contains("does not answer"));
    let alone = Drive {
        library: None,
        ..drive(1)
    };
    assert!(why(append(), &world(&[alone], &[volume(1)])).contains("no library"));
    let doubled = Cartridge {
        twice: true,
        ..volume(1)
    };
    assert!(why(append(), &world(&[drive(1)], &[doubled])).contains("two cartridges"));
    let outside = Cartridge {
        in_mail_slot: true,
        ..volume(1)
    };
    assert!(why(append(), &world(&[drive(1)], &[outside])).contains("mail slot"));
}

#[test]
fn a_drive_is_chosen_by_what_it_can_do_with_the_cartridge() {
    let of = |id, generation| Drive {
        generation: Some(generation),
        ..drive(id)
    };
    let named = |barcode: &str| Cartridge {
        barcode: barcode.into(),
        format: generation::of_barcode(barcode).map(|(format, _)| format),
        ..volume(1)
    };
    let append = || Needs::append(1, "p");
    let both = [of(1, 5), of(2, 6)];
    let given = grant(append(), &world(&both, &[named("TAF001L6")]));
    assert_eq!(given.drive, Some(2));
    // Written by neither, and read by one.
    let reason = why(append(), &world(&both, &[named("TAF001L7")]));
    assert!(reason.contains("LTO-7"), "{reason}");
    let reason = why(append(), &world(&[of(2, 6)], &[named("TAF001L4")]));
    assert!(reason.contains("reads LTO-4"), "{reason}");
    let mut read = append();
    read.cartridge = Wanted::Volume(1);
    let given = grant(read, &world(&[of(2, 6)], &[named("TAF001L4")]));
    assert_eq!(given.drive, Some(2));
    // What nobody knows is tried.
    let given = grant(append(), &world(&both, &[named("TAPE-1")]));
    assert!(given.drive.is_some());
}

#[test]
fn an_open_door_pauses_all_that_needs_the_robot() {
    let mut open = world(&[drive(1)], &[volume(1)]);
    open.libraries[0].pause = Some("its door is open".into());
    for needs in [
        Needs::append(1, "p"),
        Needs::robot(1),
        Needs::carry("V1", carry::To::MailSlot),
    ] {
        assert_eq!(why(needs, &open), "library L1: its door is open");
    }
    assert_eq!(grant(Needs::drive(1), &open).drive, Some(1), "needs none");
}

#[test]
fn an_operators_job_gets_only_what_it_needs() {
    let inside = Cartridge {
        in_drive: Some(1),
        ..volume(1)
    };
    let world = world(&[drive(1)], &[inside, volume(2)]);
    let robot = grant(Needs::robot(1), &world);
    assert_eq!((robot.drive, robot.library), (None, Some(1)));
    let only_drive = grant(Needs::drive(1), &world);
    assert_eq!(only_drive.drive, Some(1));
    assert_eq!(only_drive.barcode.as_deref(), Some("V1"), "it is reserved");
    let from_slot = grant(Needs::carry("V2", carry::To::MailSlot), &world);
    assert_eq!(from_slot.drive, None);
    let from_drive = grant(Needs::carry("V1", carry::To::MailSlot), &world);
    assert_eq!(from_drive.drive, Some(1), "which has to unload it");
}

#[test]
fn two_exports_do_not_share_a_mail_slot() {
    let jobs = [
        asking(1, Needs::carry("V1", carry::To::MailSlot)),
        asking(2, Needs::carry("V2", carry::To::MailSlot)),
    ];
    let mut world = world(&[], &[volume(1), volume(2)]);
    let decisions = plan(&jobs, &world);
    assert!(matches!(decisions[0], Decision::Start { job: 1, .. }));
    assert!(matches!(decisions[1], Decision::Wait { job: 2, .. }));
    world.libraries[0].mail_free = 0;
    world.libraries[0].mail = vec!["X".into()];
    let waits = why(Needs::carry("V1", carry::To::MailSlot), &world);
    assert!(waits.ends_with("are full: take out X"), "{waits}");
    world.libraries[0].mail.clear();
    let never = fault(Needs::carry("V1", carry::To::MailSlot), &world);
    assert_eq!(never, "NO_MAIL_SLOT");
}

#[test]
fn a_drive_is_cleaned_by_a_cartridge_that_is_not_used_up() {
    let cleaning = |id: i64, left: u32| Cartridge {
        volume: None,
        barcode: format!("CLN{id}"),
        pool: None,
        appendable: false,
        cleanings_left: Some(left),
        ..volume(id)
    };
    let used_up = world(&[drive(1)], &[cleaning(1, 0)]);
    assert_eq!(fault(Needs::clean(1), &used_up), "NO_CLEANING_CARTRIDGE");
    let fresh = world(&[drive(1)], &[cleaning(1, 0), cleaning(2, 3)]);
    let given = grant(Needs::clean(1), &fresh);
    assert_eq!(given.barcode.as_deref(), Some("CLN2"));
    assert_eq!(fault(Needs::append(1, "p"), &fresh), "NO_VOLUME");
}

#[test]
fn what_is_done_in_the_background_comes_last() {
    let label = Job {
        background: true,
        ..asking(1, Needs::volume(1))
    };
    let decisions = plan(
        &[label, asking(2, Needs::volume(2))],
        &world(&[drive(1)], &[volume(1), volume(2)]),
    );
    assert!(matches!(decisions[0], Decision::Start { job: 2, .. }));
    assert!(matches!(decisions[1], Decision::Wait { job: 1, .. }));
}

#[test]
fn who_works_in_the_background_leaves_an_idle_drive_to_whoever_could_begin_there() {
    let busy = Drive {
        busy: true,
        full: true,
        ..drive(1)
    };
    let inside = Cartridge {
        in_drive: Some(1),
        ..volume(2)
    };
    let gone = Cartridge {
        library: None,
        ..volume(4)
    };
    let all = [volume(1), inside, volume(3), gone];
    let one = world(std::slice::from_ref(&busy), &all);
    let behind = |bound: bool| Job {
        background: true,
        needs: Needs::volume(1),
        ..goes_on(7, bound, &[])
    };
    let started = |jobs: &[Job], world: &World| -> Vec<i64> {
        let started = plan(jobs, world)
            .into_iter()
            .filter_map(|decision| match decision {
                Decision::Start { job, .. } => Some(job),
                _ => None,
            });
        started.collect()
    };
    let restore = asking(8, Needs::volume(3));
    // It is left first; what waits begins when it is free.
    assert_eq!(started(&[behind(false), restore.clone()], &one), []);
    assert_eq!(started(&[behind(true), restore.clone()], &one), [7]);
    // Who could not begin there in any case has no use for it.
    let away = asking(8, Needs::volume(4));
    assert_eq!(started(&[behind(false), away], &one).first(), Some(&7));
    let two = world(&[busy, drive(2)], &one.cartridges);
    assert_eq!(started(&[behind(false), restore], &two), [8, 7]);
}

fn goes_on(id: i64, bound: bool, used: &[i64]) -> Job {
    Job {
        running: Some(Running {
            drive: Some(1),
            seat: 1,
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
    let given = |decision: &Decision| match decision {
        Decision::Start { job, grant, .. } => (*job, grant.drive, grant.volume),
        other => panic!("must start: {other:?}"),
    };
    let decisions = plan(
        &[goes_on(7, true, &[1]), job(8)],
        &world(&drives, &[volume(1), volume(2)]),
    );
    assert_eq!(given(&decisions[0]), (7, Some(1), Some(2)));
    assert_eq!(given(&decisions[1]), (8, Some(2), Some(1)));
    let waits = |cartridge: &Cartridge| match plan(
        &[goes_on(7, true, &[1])],
        &world(&drives, std::slice::from_ref(cartridge)),
    )
    .remove(0)
    {
        Decision::Wait { why, .. } => why,
        other => panic!("must wait: {other:?}"),
    };
    let none = waits(&volume(1));
    assert!(
        none.contains("taf volume label") && none.contains("pool p"),
        "{none}"
    );
    let elsewhere = Cartridge {
        in_drive: Some(2),
        ..volume(2)
    };
    let there = waits(&elsewhere);
    assert!(there.contains("another drive"), "{there}");
    // An idle drive lets go of it; one that is at work, or that somebody else gets, does not.
    let cleared = |jobs: &[Job], drives: &[Drive]| {
        let world = world(drives, std::slice::from_ref(&elsewhere));
        to_clear(jobs, &world, &plan(jobs, &world))
    };
    let waiting = goes_on(7, true, &[1]);
    assert_eq!(cleared(std::slice::from_ref(&waiting), &drives), [2]);
    assert_eq!(cleared(&[goes_on(7, false, &[1])], &drives), []);
    assert_eq!(cleared(&[waiting.clone(), job(8)], &drives), []);
    let busy = Drive {
        busy: true,
        ..drive(2)
    };
    assert_eq!(cleared(&[waiting], &[drives[0].clone(), busy]), []);
    // What is read may come from wherever it is.
    let restore = Job {
        needs: Needs::volume(2),
        ..goes_on(7, false, &[1])
    };
    let decisions = plan(&[restore], &world(&drives, &[elsewhere]));
    assert_eq!(given(&decisions[0]), (7, Some(2), Some(2)));
}

#[test]
fn who_goes_on_is_told_what_would_free_a_volume_as_who_begins() {
    let advice = "or have volume V9 labelled anew: `taf volume verify V8`";
    let mut two = world(&[drive(1), drive(2)], &[volume(1)]);
    two.cartridges[0].appendable = false;
    two.advice.insert(1, advice.into());
    let told = |world: &World| match plan(&[goes_on(7, true, &[1])], world).remove(0) {
        Decision::Wait { why, .. } => why,
        other => panic!("must wait: {other:?}"),
    };
    let Decision::Fail { fault, .. } = plan(&[job(7)], &two).remove(0) else {
        panic!("must fail")
    };
    assert!(fault.next_step.ends_with(advice), "{fault:?}");
    assert_eq!(
        told(&two),
        format!("a volume of pool p: {}", fault.next_step)
    );
    // Of another pool it says nothing.
    let other = asking(7, Needs::append(2, "q"));
    let Decision::Fail { fault, .. } = plan(&[other], &two).remove(0) else {
        panic!("must fail")
    };
    assert!(!fault.next_step.contains(advice), "{fault:?}");
    // One is made: nobody fails, and all wait for the same.
    two.coming
        .insert(1, "volume V9 is labelled anew first".into());
    assert_eq!(why(Needs::append(1, "p"), &two), told(&two));
    assert_eq!(told(&two), "volume V9 is labelled anew first");
    // Not in the drive that the job itself keeps.
    two.drives[1].down = true;
    let said = told(&two);
    assert!(
        said.contains("keeps drive D1") && said.contains("cancel the job"),
        "{said}"
    );
    two.coming.clear();
    let said = told(&two);
    assert!(
        said.contains(advice) && said.contains("keeps drive D1"),
        "{said}"
    );
}

proptest! {
    #[test]
    fn nothing_is_given_twice(
        kinds in proptest::collection::vec((0..6_u8, 1..5_i64, 1..4_i64), 1..8), drives in 0..4_i64, volumes in 0..5_i64,
        busy in any::<u8>(), held in any::<u8>(), placed in any::<u8>(), mail_free in 0..3_usize, slots_free in 0..3_usize,
    ) {
        let jobs: Vec<Job> = (1..).zip(&kinds).map(|(id, &(kind, volume, drive))| {
            let barcode = format!("V{volume}");
            asking(id, match kind {
                0 => Needs::append(1, "p"),
                1 => Needs::volume(volume),
                2 => Needs::load(drive, &barcode),
                3 => Needs::drive(drive),
                4 => Needs::carry(&barcode, carry::To::MailSlot),
                _ => Needs::carry(&barcode, carry::To::Slot),
            })
        }).collect();
        let world = World {
            drives: (1..=drives).map(|i| Drive { busy: busy >> i & 1 == 1, ..drive(i) }).collect(),
            libraries: vec![Library { slots_free, mail_free, ..library() }],
            cartridges: (1..=volumes)
                .map(|i| Cartridge { reserved: held >> i & 1 == 1, in_drive: (placed >> i & 1 == 1).then_some(i), ..volume(i) })
                .collect(),
            ..World::default()
        };
        let decisions = plan(&jobs, &world);
        prop_assert_eq!(&decisions, &plan(&jobs, &world));
        prop_assert_eq!(decisions.len(), jobs.len());
        let mut seen_drives = HashSet::new();
        let mut seen_barcodes = HashSet::new();
        let (mut mail, mut slots) = (0, 0);
        for decision in decisions {
            let Decision::Start { job, grant, .. } = decision else { continue };
            if let Some(drive) = grant.drive {
                prop_assert!(seen_drives.insert(drive));
                prop_assert!(!world.drives.iter().any(|d| d.id == drive && d.busy));
            }
            if let Some(barcode) = grant.barcode {
                prop_assert!(!world.cartridges.iter().any(|c| c.barcode == barcode && c.reserved));
                prop_assert!(seen_barcodes.insert(barcode));
            }
            match jobs.iter().find(|j| j.id == job).and_then(|j| j.needs.to) {
                Some(carry::To::MailSlot) => mail += 1,
                Some(_) => slots += 1,
                None => {}
            }
        }
        prop_assert!(mail <= mail_free && slots <= slots_free);
    }
}

#[test]
fn a_drive_that_is_down_gets_nothing_but_what_names_it() {
    let down = Drive {
        down: true,
        ..drive(1)
    };
    let append = || Needs::append(1, "p");
    let both = world(&[down.clone(), drive(2)], &[volume(1)]);
    assert_eq!(grant(append(), &both).drive, Some(2));
    let alone = world(std::slice::from_ref(&down), &[volume(1)]);
    assert!(why(append(), &alone).contains("down"));
    // What is in it stays there until somebody unloads it.
    let inside = Cartridge {
        in_drive: Some(1),
        ..volume(1)
    };
    let stuck = world(&[down, drive(2)], &[inside]);
    assert!(why(append(), &stuck).contains("down"));
}

#[test]
fn a_further_stream_takes_what_nobody_else_wants() {
    let stream = Job::further(7, 1, Needs::append(1, "p"));
    let started = |decision: &Decision| match decision {
        Decision::Start { job, stream, grant } => Some((*job, *stream, grant.drive)),
        _ => None,
    };
    let busy = Drive {
        busy: true,
        ..drive(1)
    };
    let reserved = Cartridge {
        reserved: true,
        ..volume(1)
    };
    let one = world(
        &[busy.clone(), drive(2)],
        &[reserved.clone(), volume(2), volume(3)],
    );
    let decisions = plan(std::slice::from_ref(&stream), &one);
    assert_eq!(started(&decisions[0]), Some((7, 1, Some(2))));
    // Another job that was asked for later goes first.
    let decisions = plan(&[stream.clone(), job(9)], &one);
    assert_eq!(started(&decisions[0]), Some((9, 0, Some(2))));
    assert!(matches!(
        decisions[1],
        Decision::Wait {
            job: 7,
            stream: 1,
            ..
        }
    ));
    // It needs a volume of its own.
    let none = world(&[busy, drive(2)], &[reserved]);
    assert_eq!(started(&plan(&[stream], &none)[0]), None);
}

#[test]
fn a_restore_begins_with_the_first_of_its_volumes_that_can_be_had() {
    let needs = || Needs::any_of(vec![2, 3, 1]);
    let of = |places: [Option<i64>; 3]| {
        let cartridges = (1..).zip(places).map(|(id, library)| Cartridge {
            library,
            ..volume(id)
        });
        world(&[drive(1)], &cartridges.collect::<Vec<_>>())
    };
    let granted = |places| grant(needs(), &of(places)).volume;
    assert_eq!(granted([Some(1), Some(1), Some(1)]), Some(2));
    assert_eq!(granted([Some(1), None, Some(1)]), Some(3));
    assert_eq!(granted([Some(1), None, None]), Some(1));
    // Of those that are all away it names the first, and where that was.
    let mut away = of([None, None, None]);
    let said = why(needs(), &away);
    assert_eq!(said, "volume V2 is in no library: put it into a slot");
    away.cartridges[1].last_place = Some("it was in element 7 of library L".into());
    let said = why(needs(), &away);
    assert!(
        said.contains("(it was in element 7 of library L)"),
        "{said}"
    );
}
