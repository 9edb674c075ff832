//! Attempts of one backup with several streams.
use super::*;

fn first(open: usize) -> Facts<'static> {
    Facts {
        share: Share::First {
            open,
            with_issues: true,
            fault: None,
        },
        ..facts(&[])
    }
}

fn further() -> Facts<'static> {
    Facts {
        share: Share::Further { ended: None },
        ..facts(&[])
    }
}

fn fault(reason: &str) -> Outcome {
    Outcome::Fault(Fault::new(reason, "said so", ""))
}

const DONE: Option<Outcome> = Some(Outcome::Done { issues: 0 });

#[test]
fn the_first_stream_waits_for_all_others() {
    let done = |open| Facts {
        source_outcome: DONE,
        drive_outcome: DONE,
        parts_complete: true,
        ..first(open)
    };
    assert_eq!(next(&done(2)), Next::Stay);
    // Also when its own drive is gone by then.
    let f = Facts {
        drive_outcome: None,
        drive: Some(RESTARTED),
        ..done(1)
    };
    assert_eq!(next(&f), Next::Stay);
    let verdict = Verdict::Succeeded { with_issues: true };
    assert_eq!(next(&done(0)), Next::Verdict(verdict));
    let f = Facts {
        cancel_asked: true,
        ..done(1)
    };
    assert_eq!(next(&f), Next::Verdict(Verdict::Cancelled));
}

#[test]
fn a_further_stream_succeeds_by_itself() {
    let f = Facts {
        source_outcome: DONE,
        drive_outcome: DONE,
        parts_complete: true,
        ..further()
    };
    let verdict = Verdict::Succeeded { with_issues: false };
    assert_eq!(next(&f), Next::Verdict(verdict));
}

#[test]
fn they_fail_together_for_the_one_reason() {
    let cause = Fault::new("WRITE_ERROR", "the drive failed", "");
    let f = Facts {
        share: Share::First {
            open: 1,
            with_issues: false,
            fault: Some(cause.clone()),
        },
        source_outcome: Some(fault("OTHER_STREAM")),
        drive_outcome: Some(fault("PEER_LOST")),
        ..facts(&[])
    };
    assert_eq!(next(&f), Next::Verdict(Verdict::Failed(cause.clone())));
    for ended in [Verdict::Failed(cause), Verdict::Cancelled] {
        let f = Facts {
            share: Share::Further {
                ended: Some(ended.clone()),
            },
            ..further()
        };
        assert_eq!(next(&f), Next::Verdict(ended));
    }
}

#[test]
fn what_another_stream_caused_is_decided_with_that_one() {
    for mut f in [first(1), further()] {
        f.source_outcome = Some(fault("OTHER_STREAM"));
        f.drive_outcome = Some(fault("PEER_LOST"));
        assert_eq!(next(&f), Next::Stay);
        f.reported_millis = 2 * f.lease_millis + 1;
        assert_eq!(reason(&f), "OTHER_STREAM");
    }
}

#[test]
fn a_further_stream_that_has_nothing_is_dropped() {
    // The source agent says so, whatever its drive says.
    for drive_outcome in [None, Some(fault("PEER_LOST")), Some(fault("WRONG_VOLUME"))] {
        let f = Facts {
            source_outcome: Some(Outcome::Dropped),
            drive_outcome,
            ..further()
        };
        assert_eq!(next(&f), Next::Verdict(Verdict::Dropped));
    }
    // Or it had not been asked yet.
    let mut f = Facts {
        source_bound: false,
        drive_outcome: Some(fault("LOAD_FAILED")),
        ..further()
    };
    assert_eq!(next(&f), Next::Verdict(Verdict::Dropped));
    // Else it is waited for, but not for ever.
    f.source_bound = true;
    assert_eq!(next(&f), Next::Stay);
    f.reported_millis = f.lease_millis + 1;
    assert_eq!(reason(&f), "LOAD_FAILED");
    f.reported_millis = 0;
    f.source_outcome = Some(fault("WRITE_ERROR"));
    assert_eq!(reason(&f), "LOAD_FAILED");
}

#[test]
fn a_stream_of_a_restore_that_loses_its_drive_says_itself_what_becomes_of_it() {
    let restarted = Facts {
        kind: Kind::Restore,
        drive: Some(RESTARTED),
        ..further()
    };
    // The source agent has seen its connection break, and gives back what it has not restored.
    assert_eq!(next(&restarted), Next::Stay);
    let said = Facts {
        source_outcome: Some(Outcome::Dropped),
        ..restarted.clone()
    };
    assert_eq!(next(&said), Next::Verdict(Verdict::Dropped));
    // A host that is silent it may not hear of, nor does anybody speak for a source agent that has gone.
    let lost = |f: &Facts<'_>| match next(f) {
        Next::Verdict(Verdict::Failed(fault)) => fault.reason,
        other => panic!("{other:?}"),
    };
    let silent = Unit {
        same_incarnation: true,
        silent_millis: 20_001,
    };
    let away = Facts {
        drive: Some(silent),
        ..restarted.clone()
    };
    assert_eq!(lost(&away), "DRIVE_LOST");
    // While it asks what is to be restored it does not look at the drive, whatever became of that.
    let failed = Facts {
        drive: Some(WELL),
        drive_outcome: Some(fault("LOAD_FAILED")),
        ..restarted.clone()
    };
    for (f, reason) in [(&restarted, "DRIVE_LOST"), (&failed, "LOAD_FAILED")] {
        let after = |millis| Facts {
            reported_millis: millis,
            ..f.clone()
        };
        assert_eq!(next(&after(10 * 60_000)), Next::Stay);
        assert_eq!(lost(&after(60 * 60_000)), reason);
        let both = Facts {
            source: Some(RESTARTED),
            ..after(10 * 60_000)
        };
        assert_eq!(lost(&both), "SOURCE_LOST");
    }
    // The first stream and backups stand and fall with their drives.
    for f in [
        Facts {
            share: first(1).share,
            ..restarted.clone()
        },
        Facts {
            kind: Kind::Backup,
            ..restarted
        },
    ] {
        assert_eq!(lost(&f), "DRIVE_LOST");
    }
}
