#![allow(clippy::unwrap_used)]
use super::*;
use crate::mount::{Element, ElementKind, Medium};

mod streams;

const WELL: Unit = Unit {
    same_incarnation: true,
    silent_millis: 0,
};
const RESTARTED: Unit = Unit {
    same_incarnation: false,
    silent_millis: 0,
};

fn facts(elements: &[Element]) -> Facts<'_> {
    Facts {
        kind: Kind::Backup,
        stage: Stage::Working,
        steps: 1,
        beside: false,
        cancel_asked: false,
        barcode: "A",
        waiting_for: "",
        volume_wait_millis: 3_600_000,
        from: None,
        worked: false,
        drive_serial: "D1",
        medium: Medium::Empty,
        drive: Some(WELL),
        source: Some(WELL),
        source_name: "host",
        robot: Some(WELL),
        robot_busy: false,
        robot_pause: None,
        library_serial: "L1",
        elements,
        drive_outcome: None,
        source_outcome: None,
        reported_millis: 0,
        parts_complete: false,
        unchanged: false,
        source_bound: true,
        share: Share::ALONE,
        lease_millis: 20_000,
    }
}

#[test]
fn a_backup_needs_both_sides_and_all_parts() {
    let mut f = facts(&[]);
    assert_eq!(next(&f), Next::Stay);
    f.source_outcome = Some(Outcome::Done { issues: 2 });
    assert_eq!(next(&f), Next::Stay);
    f.drive_outcome = Some(Outcome::Done { issues: 0 });
    assert!(
        matches!(next(&f), Next::Verdict(Verdict::Failed(fault)) if fault.reason == "PARTS_MISSING")
    );
    f.parts_complete = true;
    assert_eq!(
        next(&f),
        Next::Verdict(Verdict::Succeeded { with_issues: true })
    );
}

#[test]
fn a_reclaiming_goes_from_volume_to_volume_and_ends_with_its_drive() {
    let mut f = Facts {
        kind: Kind::Reclaim,
        source: None,
        drive_outcome: Some(Outcome::NextVolume),
        ..facts(&[])
    };
    assert_eq!(next(&f), Next::ChangeVolume);
    for (issues, with_issues) in [(0, false), (3, true)] {
        f.drive_outcome = Some(Outcome::Done { issues });
        assert_eq!(next(&f), Next::Verdict(Verdict::Succeeded { with_issues }));
    }
    // What waits in a worker's spool is lost with it.
    f.drive_outcome = None;
    f.stage = Stage::WithoutVolume { millis: 1 };
    f.drive = Some(RESTARTED);
    assert!(
        matches!(next(&f), Next::Verdict(Verdict::Failed(fault)) if fault.reason == "DRIVE_LOST")
    );
    // While it waits for the volume that it reads it has none.
    // It gives way to others for as long as they work.
    f.drive = None;
    f.stage = Stage::WithoutVolume { millis: u64::MAX };
    assert_eq!(next(&f), Next::Stay);
}

#[test]
fn a_worker_that_dies_after_the_last_commit_costs_nothing() {
    let f = Facts {
        source_outcome: Some(Outcome::Done { issues: 0 }),
        parts_complete: true,
        drive: Some(RESTARTED),
        ..facts(&[])
    };
    assert_eq!(
        next(&f),
        Next::Verdict(Verdict::Succeeded { with_issues: false })
    );
}

#[test]
fn the_cause_is_reported_not_the_consequence() {
    let peer_lost = Fault::new("PEER_LOST", "the source agent hung up", "");
    let f = Facts {
        drive_outcome: Some(Outcome::Fault(peer_lost.clone())),
        source: Some(RESTARTED),
        ..facts(&[])
    };
    let Next::Verdict(Verdict::Failed(fault)) = next(&f) else {
        panic!("must fail")
    };
    assert_eq!(fault.reason, "SOURCE_LOST");
    let full = Fault::new("VOLUME_FULL", "full", "");
    let f = Facts {
        drive_outcome: Some(Outcome::Fault(full)),
        source_outcome: Some(Outcome::Fault(peer_lost)),
        ..facts(&[])
    };
    let Next::Verdict(Verdict::Failed(fault)) = next(&f) else {
        panic!("must fail")
    };
    assert_eq!(fault.reason, "VOLUME_FULL");
}

#[test]
fn silence_beyond_the_lease_is_loss() {
    let mut f = facts(&[]);
    let silent = |silent_millis| {
        Some(Unit {
            silent_millis,
            ..WELL
        })
    };
    f.drive = silent(20_000);
    assert_eq!(next(&f), Next::Stay);
    f.drive = silent(20_001);
    assert!(
        matches!(next(&f), Next::Verdict(Verdict::Failed(fault)) if fault.reason == "DRIVE_LOST")
    );
}

#[test]
fn between_steps_the_mount_goes_on() {
    let elements = [Element {
        kind: ElementKind::Drive,
        address: 1,
        full: true,
        barcode: Some("A".into()),
        drive_serial: Some("D1".into()),
        source_address: None,
        exception: None,
    }];
    let f = Facts {
        stage: Stage::Between,
        ..facts(&elements)
    };
    assert_eq!(next(&f), Next::Step(mount::Step::Work));
    let f = Facts {
        steps: 17,
        ..f.clone()
    };
    assert!(matches!(next(&f), Next::Verdict(Verdict::Failed(_))));
}

fn reason(facts: &Facts<'_>) -> String {
    match next(facts) {
        Next::Verdict(Verdict::Failed(fault)) => fault.reason,
        other => panic!("must fail: {other:?}"),
    }
}

#[test]
fn a_side_that_only_lost_its_peer_waits_for_the_other_but_not_for_ever() {
    let mut f = Facts {
        source_outcome: Some(Outcome::Fault(Fault::new("PEER_LOST", "no way there", ""))),
        ..facts(&[])
    };
    assert_eq!(next(&f), Next::Stay);
    f.reported_millis = 20_001;
    assert_eq!(reason(&f), "PEER_LOST");
    f.reported_millis = 0;
    f.drive_outcome = Some(Outcome::Fault(Fault::new("STOPPED", "", "")));
    assert_eq!(reason(&f), "STOPPED");
}

#[test]
fn a_drive_that_has_reported_may_go() {
    let mut f = Facts {
        drive_outcome: Some(Outcome::Done { issues: 0 }),
        drive: Some(RESTARTED),
        ..facts(&[])
    };
    assert_eq!(next(&f), Next::Stay, "the source is about to report");
    f.kind = Kind::Restore;
    f.drive_outcome = Some(Outcome::Fault(Fault::new("PEER_LOST", "", "")));
    f.source_outcome = Some(Outcome::Done { issues: 0 });
    assert_eq!(
        next(&f),
        Next::Verdict(Verdict::Succeeded { with_issues: false })
    );
}

#[test]
fn a_robot_may_be_restarted_while_it_moves_but_not_stay_away() {
    let silent = Unit {
        silent_millis: 20_001,
        ..WELL
    };
    let mut f = Facts {
        stage: Stage::Moving,
        ..facts(&[])
    };
    assert_eq!(next(&f), Next::Stay);
    f.robot = Some(silent);
    assert_eq!(reason(&f), "LIBRARY_LOST");
    f.robot = None;
    assert_eq!(reason(&f), "DRIVE_NOT_IN_LIBRARY");
    f.stage = Stage::Working;
    assert_eq!(next(&f), Next::Stay, "nobody needs the robot now");
}

#[test]
fn a_drive_that_pushes_its_cartridge_out_is_cleared_after_one_unload() {
    let slot = Element {
        kind: ElementKind::Slot,
        address: 2,
        full: false,
        barcode: None,
        drive_serial: None,
        source_address: None,
        exception: None,
    };
    let full = |address, kind, barcode: &str, serial: Option<&str>| Element {
        kind,
        address,
        full: true,
        barcode: Some(barcode.into()),
        drive_serial: serial.map(str::to_owned),
        source_address: None,
        exception: None,
    };
    let elements = [
        full(1, ElementKind::Drive, "B", Some("D1")),
        full(3, ElementKind::Slot, "A", None),
        slot,
    ];
    let mut f = Facts {
        stage: Stage::Between,
        medium: Medium::Empty,
        ..facts(&elements)
    };
    assert_eq!(next(&f), Next::Step(mount::Step::Unload));
    f.steps = 2;
    assert!(matches!(next(&f), Next::Step(mount::Step::Clear(_))));
}

#[test]
fn a_full_volume_is_followed_by_the_next_and_the_wait_for_it_has_an_end() {
    let mut f = Facts {
        drive_outcome: Some(Outcome::NextVolume),
        ..facts(&[])
    };
    assert_eq!(next(&f), Next::ChangeVolume);
    // Whoever stopped meanwhile decides.
    f.source_outcome = Some(Outcome::Fault(Fault::new("UNREADABLE", "", "")));
    assert_eq!(reason(&f), "UNREADABLE");
    let mut f = Facts {
        stage: Stage::WithoutVolume { millis: 3_600_000 },
        barcode: "",
        waiting_for: "a volume of pool p: label one",
        ..facts(&[])
    };
    assert_eq!(next(&f), Next::Stay);
    f.stage = Stage::WithoutVolume { millis: 3_600_001 };
    let Next::Verdict(Verdict::Failed(fault)) = next(&f) else {
        panic!("must fail")
    };
    assert_eq!(fault.reason, "NO_VOLUME");
    assert!(fault.message.contains("60 minutes") && fault.message.contains("pool p"));
    // The transfer is in the worker's memory: with it the archive is gone.
    f.stage = Stage::WithoutVolume { millis: 0 };
    f.drive = Some(RESTARTED);
    assert_eq!(reason(&f), "DRIVE_LOST");
    assert!(is_over(&f.stage, false, Some(WELL), Some(WELL), 20_000));
}

#[test]
fn an_attempt_is_over_when_nobody_touches_its_drive_any_more() {
    let over =
        |stage, reported, drive, robot| is_over(&stage, reported, Some(drive), robot, 20_000);
    assert!(!over(Stage::Working, false, WELL, None));
    assert!(over(Stage::Working, true, WELL, None));
    assert!(over(Stage::Working, false, RESTARTED, None));
    assert!(over(Stage::Between, false, WELL, Some(WELL)));
    assert!(!over(Stage::Unloading, false, WELL, Some(WELL)));
    assert!(!over(Stage::Moving, false, RESTARTED, Some(WELL)));
    assert!(over(Stage::Moving, false, WELL, None));
}

fn elements() -> [Element; 4] {
    let element = |kind, address, barcode: Option<&str>| Element {
        kind,
        address,
        full: barcode.is_some(),
        barcode: barcode.map(str::to_owned),
        drive_serial: (kind == ElementKind::Drive).then(|| "D1".to_owned()),
        source_address: None,
        exception: None,
    };
    [
        element(ElementKind::Drive, 1, None),
        element(ElementKind::Slot, 2, None),
        element(ElementKind::Slot, 3, Some("A")),
        element(ElementKind::MailSlot, 4, None),
    ]
}

#[test]
fn a_carry_needs_no_drive_and_is_done_when_it_is_there() {
    let mut elements = elements();
    let carried = |elements: &[Element], steps| {
        next(&Facts {
            kind: Kind::Carry(carry::To::MailSlot),
            stage: Stage::Between,
            drive: None,
            source: None,
            steps,
            ..facts(elements)
        })
    };
    assert!(
        matches!(carried(&elements, 1), Next::Step(mount::Step::Carry(m)) if (m.from, m.to) == (3, 4))
    );
    elements.swap(2, 3);
    (elements[2].address, elements[3].address) = (3, 4);
    elements[3].kind = ElementKind::MailSlot;
    assert_eq!(
        carried(&elements, 2),
        Next::Verdict(Verdict::Succeeded { with_issues: false })
    );
}

#[test]
fn moves_wait_for_the_door_and_for_each_other() {
    let elements = elements();
    let between = Facts {
        stage: Stage::Between,
        ..facts(&elements)
    };
    assert!(matches!(next(&between), Next::Step(mount::Step::Mount(_))));
    let busy = Facts {
        robot_busy: true,
        ..between.clone()
    };
    assert_eq!(next(&busy), Next::Stay);
    let open = Facts {
        robot_pause: Some("its door is open"),
        ..between
    };
    assert_eq!(next(&open), Next::Pause("its door is open".into()));
    let moving = Facts {
        stage: Stage::Moving,
        ..open.clone()
    };
    assert_eq!(next(&moving), Next::Pause("its door is open".into()));
    let cancelled = Facts {
        cancel_asked: true,
        ..open
    };
    assert_eq!(next(&cancelled), Next::Verdict(Verdict::Cancelled));
}

#[test]
fn a_cleaning_cartridge_goes_home_when_the_drive_is_clean() {
    let mut elements = elements();
    let clean = |elements: &[Element], worked, medium| {
        next(&Facts {
            kind: Kind::Clean,
            stage: Stage::Between,
            source: None,
            steps: 2,
            worked,
            medium,
            ..facts(elements)
        })
    };
    let mounted = clean(&elements, false, Medium::Empty);
    assert!(matches!(mounted, Next::Step(mount::Step::Mount(_))));
    (elements[0].full, elements[2].full) = (true, false);
    elements[0].barcode = elements[2].barcode.take();
    elements[0].source_address = Some(3);
    let cleaning = clean(&elements, false, Medium::Loaded);
    assert_eq!(cleaning, Next::Step(mount::Step::Clean));
    let home = clean(&elements, true, Medium::Empty);
    assert!(matches!(home, Next::Step(mount::Step::Carry(m)) if (m.from, m.to) == (1, 3)));
    (elements[0].full, elements[2].full) = (false, true);
    elements[2].barcode = elements[0].barcode.take();
    assert_eq!(
        clean(&elements, true, Medium::Empty),
        Next::Verdict(Verdict::Succeeded { with_issues: false })
    );
}

#[test]
fn a_look_at_the_elements_is_one_step() {
    let mut f = Facts {
        kind: Kind::Scan,
        stage: Stage::Between,
        drive: None,
        source: None,
        ..facts(&[])
    };
    assert_eq!(next(&f), Next::Step(mount::Step::Scan));
    f.worked = true;
    assert_eq!(
        next(&f),
        Next::Verdict(Verdict::Succeeded { with_issues: false })
    );
}

#[test]
fn a_dry_run_foresees_every_step() {
    let mut elements = elements();
    elements[0].full = true;
    elements[0].barcode = Some("B".into());
    let steps = |kind| {
        foresee(&Facts {
            kind,
            stage: Stage::Between,
            medium: Medium::Loaded,
            source: None,
            ..facts(&elements)
        })
        .unwrap()
    };
    let label = steps(Kind::Label);
    assert!(
        matches!(
            &label[..],
            [
                mount::Step::Unload,
                mount::Step::Clear(_),
                mount::Step::Mount(_),
                mount::Step::Work
            ]
        ),
        "{label:?}"
    );
    let clean = steps(Kind::Clean);
    assert!(
        matches!(&clean[2..], [mount::Step::Mount(m), mount::Step::Clean, mount::Step::Carry(home)]
            if (m.from, home.to) == (3, 3)),
        "{clean:?}"
    );
    assert_eq!(steps(Kind::Scan), [mount::Step::Scan]);
}

#[test]
fn who_comes_to_a_volume_that_is_at_work_moves_nothing() {
    // The library shows the cartridge in no drive yet, and the drive says nothing: it is being got ready.
    let f = Facts {
        beside: true,
        stage: Stage::Between,
        ..facts(&[])
    };
    assert_eq!(next(&f), Next::Step(mount::Step::Work));
    let alone = Facts { beside: false, ..f };
    assert!(matches!(next(&alone), Next::Verdict(Verdict::Failed(_))));
}
