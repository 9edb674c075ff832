#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn version(number: i64, time: &str) -> Version {
    Version {
        number,
        at: at(time),
        archive: false,
        condition: Condition::Good,
        held: None,
        locked_until: None,
        tags: BTreeSet::new(),
    }
}

fn kept(decisions: &[Decision]) -> Vec<i64> {
    let kept = decisions.iter().filter(|decision| decision.is_kept());
    kept.map(|decision| decision.number).collect()
}

fn said(decision: &Decision) -> Vec<String> {
    decision.reasons.iter().map(ToString::to_string).collect()
}

/// One a day at 02:00 for a year, numbered from 1.
fn daily() -> Vec<Version> {
    let first = at("2026-01-01T02:00:00Z").as_second();
    (0..365)
        .map(|day| Version {
            at: Timestamp::from_second(first + day * 86_400).unwrap(),
            ..version(day + 1, "2026-01-01T02:00:00Z")
        })
        .collect()
}

const NOW: &str = "2026-12-31T12:00:00Z";

#[test]
fn every_rule_keeps_its_own_and_every_reason_is_given() {
    let rules = Rules {
        last: 2,
        of_units: [0, 3, 2, 12, 5],
        ..Rules::default()
    };
    let decisions = decide(&rules, &daily(), &TimeZone::UTC, at(NOW));
    let months = [31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let expected: Vec<i64> = months.into_iter().chain([361, 363, 364, 365]).collect();
    assert_eq!(kept(&decisions), expected);
    assert_eq!(
        said(&decisions[364]),
        [
            "last 1 of 2",
            "daily 1 of 3: newest of 2026-12-31",
            "weekly 1 of 2: newest of 2026-W53",
            "monthly 1 of 12: newest of 2026-12",
            "yearly 1 of 5: newest of 2026",
        ]
    );
    assert_eq!(said(&decisions[360]), ["weekly 2 of 2: newest of 2026-W52"]);
    assert_eq!(decisions[364].until, None, "a newer one may take its place");
}

#[test]
fn days_count_from_now_and_within_counts_from_the_newest() {
    let days = Rules {
        days: 10,
        ..Rules::default()
    };
    let within = Rules {
        within_seconds: 10 * 86_400,
        ..Rules::default()
    };
    let decided = |rules, now: &str| decide(rules, &daily(), &TimeZone::UTC, at(now));
    assert_eq!(kept(&decided(&days, NOW)), (356..=365).collect::<Vec<_>>());
    assert_eq!(
        kept(&decided(&within, NOW)),
        (355..=365).collect::<Vec<_>>()
    );
    // A year later, when nobody has backed up: all that was within stays, and else the last good one.
    let later = "2027-12-31T12:00:00Z";
    assert_eq!(kept(&decided(&within, later)).len(), 11);
    let last = decided(&days, later);
    assert_eq!(kept(&last), [365]);
    assert_eq!(last[364].reasons, [Reason::LastGood]);
    let until = decided(&days, NOW)[364].until;
    assert_eq!(until, Some(at("2027-01-10T02:00:00Z")));
}

#[test]
fn months_are_those_of_the_former_program() {
    let rules = Rules {
        months: 6,
        ..Rules::default()
    };
    let decided = |now: &str| kept(&decide(&rules, &daily(), &TimeZone::UTC, at(now)));
    // What was made in June is kept to the last minute of November.
    assert_eq!(decided("2026-11-30T23:59:00Z").first(), Some(&152));
    assert_eq!(decided("2026-12-01T00:00:00Z").first(), Some(&182));
}

#[test]
fn what_is_held_locked_or_tagged_stays() {
    let mut versions = daily();
    versions[0].held = Some("court order 7".into());
    versions[1].locked_until = Some(at("2027-01-01T00:00:00Z"));
    versions[2].tags.insert("release".into());
    versions[3].locked_until = Some(at(NOW));
    let rules = Rules {
        last: 1,
        tags: BTreeSet::from(["release".to_owned()]),
        ..Rules::default()
    };
    let decisions = decide(&rules, &versions, &TimeZone::UTC, at(NOW));
    assert_eq!(kept(&decisions), [1, 2, 3, 365]);
    assert_eq!(said(&decisions[0]), ["held: court order 7"]);
    assert_eq!(said(&decisions[1]), ["locked until 2027-01-01 00:00 UTC"]);
    assert_eq!(said(&decisions[2]), ["tagged release"]);
}

#[test]
fn no_rule_lets_an_archive_expire() {
    let mut versions = daily();
    versions[7].archive = true;
    let rules = Rules {
        last: 1,
        ..Rules::default()
    };
    let decisions = decide(&rules, &versions, &TimeZone::UTC, at(NOW));
    assert_eq!(kept(&decisions), [8, 365]);
    assert_eq!(rules.to_string(), "last 1");
}

#[test]
fn without_rules_all_is_kept() {
    let decisions = decide(&Rules::default(), &daily(), &TimeZone::UTC, at(NOW));
    assert!(decisions.iter().all(|d| d.reasons == [Reason::NoRules]));
}

#[test]
fn a_version_that_is_not_whole_takes_nobodys_place() {
    let mut versions = daily();
    versions[364].condition = Condition::Damaged;
    let rules = Rules {
        last: 1,
        ..Rules::default()
    };
    let decisions = decide(&rules, &versions, &TimeZone::UTC, at(NOW));
    assert_eq!(kept(&decisions), [364, 365]);
}

#[test]
fn the_last_good_version_expires_by_force_only_and_what_is_held_never() {
    let now = at(NOW);
    let all = daily();
    let (last, others) = (&all[364], &all[..364]);
    assert_eq!(refusal(last, others, now, false), None);
    assert_eq!(refusal(last, &[], now, false), Some(Reason::LastGood));
    assert_eq!(refusal(last, &[], now, true), None);
    let mut damaged = others.to_vec();
    for version in &mut damaged {
        version.condition = Condition::Damaged;
    }
    assert_eq!(refusal(last, &damaged, now, false), Some(Reason::LastGood));
    assert_eq!(refusal(&damaged[0], &all[364..], now, false), None);
    let mut lost = all[0].clone();
    lost.condition = Condition::Lost;
    assert_eq!(
        refusal(&lost, &[], now, false),
        None,
        "it is no use to anybody"
    );
    let mut held = all[0].clone();
    held.held = Some("x".into());
    assert_eq!(
        refusal(&held, others, now, true),
        Some(Reason::Held("x".into()))
    );
    held.held = None;
    held.locked_until = Some(at("2030-01-01T00:00:00Z"));
    assert!(refusal(&held, others, now, true).is_some());
}

fn any_rules() -> impl Strategy<Value = Rules> {
    let few = 0_u32..4;
    let units = [
        few.clone(),
        few.clone(),
        few.clone(),
        few.clone(),
        few.clone(),
    ];
    let tag = prop::collection::btree_set("[ab]", 0..2);
    (few.clone(), units, 0_u64..400_000, few.clone(), few, tag).prop_map(
        |(last, of_units, within_seconds, days, months, tags)| Rules {
            last,
            of_units,
            within_seconds,
            days,
            months,
            tags,
        },
    )
}

/// Versions of some weeks around the end of summer time; the clock may have been set back between two.
fn any_versions() -> impl Strategy<Value = Vec<Version>> {
    let condition = prop_oneof![
        8 => Just(Condition::Good),
        1 => Just(Condition::Damaged),
        1 => Just(Condition::Lost),
    ];
    let tags = prop::collection::btree_set("[abc]", 0..2);
    let one = (
        0_i64..4_000_000,
        condition,
        tags,
        prop::option::weighted(0.05, Just("x".to_owned())),
    );
    prop::collection::vec(one, 0..30).prop_map(|all| {
        let from = at("2026-10-01T00:00:00Z").as_second();
        let numbered = (1..).zip(all);
        numbered
            .map(|(number, (seconds, condition, tags, held))| Version {
                at: Timestamp::from_second(from + seconds).unwrap(),
                condition,
                tags,
                held,
                ..version(number, NOW)
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn planning_again_changes_nothing(rules in any_rules(), versions in any_versions(), late in 0_i64..2_000_000) {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let now = Timestamp::from_second(at("2026-11-16T00:00:00Z").as_second() + late).unwrap();
        let first = kept(&decide(&rules, &versions, &zone, now));
        let left: Vec<Version> = versions.iter().filter(|v| first.contains(&v.number)).cloned().collect();
        prop_assert_eq!(&first, &kept(&decide(&rules, &left, &zone, now)));
        // And the order in which they are told of is nobody's business.
        let mut turned = versions.clone();
        turned.reverse();
        prop_assert_eq!(first, kept(&decide(&rules, &turned, &zone, now)));
    }

    #[test]
    fn more_rules_never_keep_less(rules in any_rules(), more in any_rules(), versions in any_versions()) {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let now = at("2026-11-20T00:00:00Z");
        prop_assume!(rules.are_any());
        let mut both = rules.clone();
        both.last = both.last.max(more.last);
        for (mine, theirs) in both.of_units.iter_mut().zip(more.of_units) {
            *mine = (*mine).max(theirs);
        }
        both.within_seconds = both.within_seconds.max(more.within_seconds);
        both.days = both.days.max(more.days);
        both.months = both.months.max(more.months);
        both.tags.extend(more.tags.clone());
        let fewer = decide(&rules, &versions, &zone, now);
        let greater = kept(&decide(&both, &versions, &zone, now));
        for decision in fewer.iter().filter(|d| d.is_kept() && d.reasons != [Reason::LastGood]) {
            prop_assert!(greater.contains(&decision.number), "{:?}", decision);
        }
    }

    #[test]
    fn time_alone_makes_nothing_kept_again(rules in any_rules(), versions in any_versions(), late in 0_i64..4_000_000) {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let now = at("2026-11-20T00:00:00Z");
        let later = Timestamp::from_second(now.as_second() + late).unwrap();
        let before = kept(&decide(&rules, &versions, &zone, now));
        let left: Vec<Version> = versions.iter().filter(|v| before.contains(&v.number)).cloned().collect();
        let after = decide(&rules, &left, &zone, later);
        for decision in &after {
            let until = decide(&rules, &left, &zone, now).into_iter().find(|d| d.number == decision.number);
            let until = until.and_then(|d| d.until);
            prop_assert!(until.is_none_or(|until| decision.is_kept() || until <= later));
        }
        // Something good stays as long as there is any.
        let good = |v: &&Version| v.condition == Condition::Good;
        let stays = after.iter().filter(|d| d.is_kept()).map(|d| d.number);
        let stays: Vec<i64> = stays.collect();
        prop_assert!(!versions.iter().any(|v| good(&v)) || left.iter().filter(good).any(|v| stays.contains(&v.number)));
    }
}
