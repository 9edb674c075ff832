#![allow(clippy::unwrap_used)]
use super::*;

#[test]
fn responses_are_those_of_the_standard() {
    // Computed by: printf '\x07secretchallenge' | md5sum, and sha256sum.
    let hex = |algorithm: Algorithm| encode(&algorithm.response(7, "secret", b"challenge"));
    assert_eq!(hex(Algorithm::Md5), "0x35524f3f6d24a5b27d3a2ff77c7c5060");
    assert_eq!(
        hex(Algorithm::Sha256),
        "0xe90c73de581a9d0ca40cb82bbeeaa22c97a79c0e02044a798b98e2a3be20e172"
    );
}

#[test]
fn only_the_secret_proves() {
    for algorithm in [Algorithm::Md5, Algorithm::Sha256] {
        let challenge = Challenge::new().unwrap();
        let response = algorithm.response(challenge.identifier, "right", &challenge.bytes);
        assert!(challenge.proves(algorithm, "right", &response));
        assert!(!challenge.proves(algorithm, "wrong", &response));
        assert!(!challenge.proves(algorithm, "right", &response[1..]));
        assert!(!challenge.proves(algorithm, "right", &[]));
        assert_ne!(challenge.bytes, Challenge::new().unwrap().bytes);
    }
}

#[test]
fn binary_values_have_two_forms() {
    assert_eq!(decode("0x00fF10"), Some(vec![0, 255, 16]));
    assert_eq!(decode("0xf10"), Some(vec![15, 16]));
    assert_eq!(decode("0bAP8Q"), Some(vec![0, 255, 16]));
    assert_eq!(decode("0bAP8="), Some(vec![0, 255]));
    assert_eq!(decode(&encode(&[1, 2, 254])), Some(vec![1, 2, 254]));
    for wrong in ["", "0", "12", "0xgg", "0x1\u{e9}", "0b!", "0d12"] {
        assert_eq!(decode(wrong), None, "{wrong}");
    }
    assert_eq!(decode(&format!("0x{}", "0".repeat(2049))), None);
}

#[test]
fn a_file_of_secrets_is_read_or_its_line_is_named() {
    let secrets = Secrets::parse("# who\n\nann  one\n bob two lib three\n").unwrap();
    assert_eq!(secrets.of("ann").unwrap().secret, "one");
    let bob = secrets.of("bob").unwrap();
    assert_eq!(bob.target, Some(("lib".to_owned(), "three".to_owned())));
    assert!(secrets.of("# who").is_none() && secrets.of("lib").is_none());
    assert!(!format!("{secrets:?}").contains("two"), "{secrets:?}");
    for (text, part) in [
        ("ann", "line 1"),
        ("ann one two", "line 1"),
        ("ann one\nann two", "line 2 names ann"),
        ("ann same lib same", "both directions"),
    ] {
        let why = Secrets::parse(text).unwrap_err();
        assert!(why.contains(part), "{why}");
    }
}
