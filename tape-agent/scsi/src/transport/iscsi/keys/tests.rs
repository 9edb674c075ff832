#![allow(clippy::unwrap_used)]
use super::*;

/// What comes of an initiator's and a target's wishes: what each side believes.
fn agree(initiator: &Wishes, target: &Wishes) -> (Agreed, Agreed) {
    let (mut ours, mut theirs) = (Agreed::default(), Agreed::default());
    let offer = Keys::parse(&initiator.offer(true).build()).unwrap();
    let answer = theirs.answer(&offer, target).unwrap();
    let answer = answer.and("MaxRecvDataSegmentLength", target.segment.to_string());
    ours.hear(&Keys::parse(&answer.build()).unwrap()).unwrap();
    (ours, theirs)
}

#[test]
fn both_sides_come_to_the_same() {
    let plain = Wishes {
        digests: false,
        initial_r2t: true,
        immediate_data: false,
        first_burst: 512,
        max_burst: 4096,
        segment: 1024,
    };
    for (initiator, target) in [
        (Wishes::default(), Wishes::default()),
        (Wishes::default(), plain),
        (plain, Wishes::default()),
        (plain, plain),
    ] {
        let (ours, theirs) = agree(&initiator, &target);
        assert_eq!(
            ours,
            Agreed {
                segment: target.segment,
                ..theirs
            }
        );
        assert_eq!(theirs.segment, initiator.segment);
        assert_eq!(ours.digests.data, initiator.digests && target.digests);
        assert_eq!(
            ours.initial_r2t,
            initiator.initial_r2t || target.initial_r2t
        );
        assert_eq!(
            ours.immediate_data,
            initiator.immediate_data && target.immediate_data
        );
        assert_eq!(ours.max_burst, initiator.max_burst.min(target.max_burst));
        assert!(ours.first_burst <= ours.max_burst);
    }
}

#[test]
fn a_target_that_says_nothing_gets_what_the_standard_says() {
    let mut agreed = Agreed::default();
    agreed.hear(&Keys::new()).unwrap();
    assert!(agreed.initial_r2t && agreed.immediate_data);
    assert_eq!(
        (agreed.first_burst, agreed.max_burst, agreed.segment),
        (65_536, 262_144, 8192)
    );
}

#[test]
fn nonsense_is_refused() {
    assert!(Keys::parse(b"a=b\0c\0").is_err());
    assert!(Keys::parse(b"a=\xff\0").is_err());
    for (key, value) in [
        ("MaxBurstLength", "511"),
        ("FirstBurstLength", "16777216"),
        ("MaxRecvDataSegmentLength", "-1"),
        ("MaxRecvDataSegmentLength", ""),
        ("InitialR2T", "yes"),
        ("MaxConnections", "0"),
    ] {
        let keys = Keys::new().and(key, value);
        assert!(Agreed::default().hear(&keys).is_err(), "{key}={value}");
        assert!(
            Agreed::default().answer(&keys, &Wishes::default()).is_err(),
            "{key}={value}"
        );
    }
    for (key, value) in [
        ("DataDigest", "CRC64"),
        ("DataPDUInOrder", "No"),
        ("ErrorRecoveryLevel", "2"),
    ] {
        assert!(
            Agreed::default()
                .hear(&Keys::new().and(key, value))
                .is_err(),
            "{key}={value}"
        );
    }
    let answer =
        Agreed::default().answer(&Keys::new().and("X-com.example.a", "1"), &Wishes::default());
    assert_eq!(
        answer.unwrap().get("X-com.example.a"),
        Some("NotUnderstood")
    );
}

#[test]
fn a_first_burst_is_never_longer_than_a_burst() {
    let mut agreed = Agreed::default();
    let said = Keys::new()
        .and("FirstBurstLength", "65536")
        .and("MaxBurstLength", "512");
    agreed.hear(&said).unwrap();
    assert_eq!(agreed.first_burst, 512);
}
