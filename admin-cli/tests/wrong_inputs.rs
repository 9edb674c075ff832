//! Wrong inputs and missing servers: a reason, a next step, an exit status.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use support::{run, taf};
use taf_peer::authority::Authority;
use taf_peer::identity::{Identity, Role};
use taf_peer::material::certificate_pem;
use taf_peer::tls::{ClientAuth, server_config};
use tempfile::TempDir;
use uuid::Uuid;

/// Puts a sign-in where the command looks for it.
fn sign_in(home: &Path, server: &str, authority: &Authority) {
    let pem = certificate_pem(authority.certificate());
    let text = format!(
        "server = \"{server}\"\nuser = \"admin\"\ntoken = \"t\"\nauthority = '''\n{pem}'''\n"
    );
    let path = home.join("login.toml");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn what_is_asked_wrongly_has_status_2() {
    let home = TempDir::new().unwrap();
    for words in [
        &["run"][..],
        &["no-such-noun"],
        &["job", "show"],
        &[
            "plan", "create", "x", "--source", "s", "--pool", "p", "--level", "99",
        ],
        &["agent", "token", "x", "--role", "king"],
        &[
            "agent",
            "token",
            "x",
            "--role",
            "tape",
            "--lifetime",
            "soon",
        ],
        &["tape", "extract", "x.tape"],
        &["tape", "extract", "x.tape", "--to", "/x", "--archive", "no"],
        &["restore", "daily", "--to", "/x", "--collision", "sometimes"],
    ] {
        run(home.path(), words).expect(2).says(&["error: "]);
    }
    for words in [
        &["source", "create", "x", "--agent", "a", "not/absolute"][..],
        &[
            "source", "create", "x", "--agent", "a", "/x", "--rule", "[a",
        ],
        &[
            "source",
            "create",
            "x",
            "--agent",
            "a",
            "/x",
            "--rules-from",
            "/no/such",
        ],
        &["source", "import-rules", "--from", "/no/such"],
        &["restore", "daily", "--to", "not/absolute"],
        &["restore", "daily", "/a/../b", "--to", "/x"],
        &["dump", "daily", "not/absolute"],
        &["dump", "daily", "--output", "/"],
        &["dump", "daily", "--output", "/dev/null", "--force"],
        &["dump", "daily", "--output", "/no/such/folder/file"],
        &["login", "--user", "a", "--fingerprint", "abc"],
    ] {
        run(home.path(), words).expect(2).says(&["USAGE", "next: "]);
    }
    let words = ["dump", "daily", "--json"];
    run(home.path(), &words).expect(2).says(&["--output"]);
}

#[test]
fn who_has_not_signed_in_is_told_how() {
    let home = TempDir::new().unwrap();
    run(home.path(), &["status"])
        .expect(1)
        .says(&["SIGN_IN_REQUIRED", "next: taf login"]);
    let said = run(home.path(), &["status", "--json"]).expect(1);
    let error: serde_json::Value = serde_json::from_str(&said.stderr).unwrap();
    assert_eq!(error["error"]["reason"], "SIGN_IN_REQUIRED");
    assert!(said.stdout.is_empty());
    run(home.path(), &["login", "--user", "admin"])
        .expect(1)
        .says(&["WRONG_AUTHORITY", "--authority"]);
    run(home.path(), &["logout"]).expect(0);
}

#[test]
fn a_sign_in_that_others_could_read_is_refused() {
    let home = TempDir::new().unwrap();
    let authority = Authority::create(Uuid::new_v4()).unwrap();
    sign_in(home.path(), "127.0.0.1:1", &authority);
    let path = home.path().join("login.toml");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    run(home.path(), &["status"])
        .expect(1)
        .says(&["LOGIN_FILE", "chmod 600", "next: "]);
    fs::write(&path, "token = \"secret\" x").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let said = run(home.path(), &["status"])
        .expect(1)
        .says(&["LOGIN_FILE"]);
    assert!(!said.stderr.contains("secret"), "{said}");
}

#[test]
fn a_controller_that_is_not_there_is_named() {
    let home = TempDir::new().unwrap();
    let authority = Authority::create(Uuid::new_v4()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap().to_string();
    drop(listener);
    sign_in(home.path(), &server, &authority);
    for words in [&["status"][..], &["run", "daily"], &["volume", "list"]] {
        run(home.path(), words).expect(1).says(&[
            "CONTROLLER_UNREACHABLE",
            &server,
            "next: start the controller",
        ]);
    }
    let socket = home.path().join("none.sock");
    let words = [
        "account",
        "create-first",
        "--user",
        "a",
        "--socket",
        socket.to_str().unwrap(),
    ];
    run(home.path(), &words)
        .expect(1)
        .says(&["CONTROLLER_UNREACHABLE", "none.sock", "next: "]);
}

#[tokio::test]
async fn a_controller_of_another_authority_gets_nothing() {
    let home = TempDir::new().unwrap();
    let (ours, theirs) = (Uuid::new_v4(), Uuid::new_v4());
    let authority = Authority::create(ours).unwrap();
    let other = Authority::create(theirs).unwrap();
    let identity = Identity::new(theirs, Role::Controller, "controller").unwrap();
    let material = other
        .issue(&identity, std::time::Duration::from_hours(1))
        .unwrap();
    let tls = server_config(&material, ClientAuth::Optional).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap().to_string();
    let accepting = tokio::spawn(async move {
        let acceptor = tokio_rustls::TlsAcceptor::from(tls);
        let mut refused = 0;
        while refused < 2 {
            let (stream, _) = listener.accept().await.unwrap();
            acceptor.accept(stream).await.unwrap_err();
            refused += 1;
        }
    });
    sign_in(home.path(), &server, &authority);
    let password = home.path().join("password");
    fs::write(&password, "secret\n").unwrap();
    let password = password.display().to_string();
    for words in [
        &["status"][..],
        &["login", "--user", "admin", "--password-file", &password],
    ] {
        let mut command = taf(home.path());
        command.args(words);
        let said = tokio::task::spawn_blocking(move || command.output().unwrap());
        support::Said::from(said.await.unwrap()).expect(1).says(&[
            "WRONG_AUTHORITY",
            &server,
            "next: check the address",
        ]);
    }
    accepting.await.unwrap();
}

#[test]
fn trees_that_differ_have_status_1() {
    let home = TempDir::new().unwrap();
    let (a, b) = (home.path().join("a"), home.path().join("b"));
    let copy = || {
        let copied = std::process::Command::new("cp")
            .arg("-a")
            .arg(&a)
            .arg(&b)
            .status();
        assert!(copied.unwrap().success());
    };
    fs::create_dir(&a).unwrap();
    fs::write(a.join("same"), "same").unwrap();
    fs::write(a.join("left out"), "x").unwrap();
    copy();
    let (a_text, b_text) = (a.to_str().unwrap(), b.to_str().unwrap());
    run(home.path(), &["compare", a_text, b_text])
        .expect(0)
        .says(&["equal"]);
    fs::write(b.join("left out"), "y").unwrap();
    let said = run(home.path(), &["compare", a_text, b_text, "--json"]).expect(1);
    assert_eq!(said.json()["differences"][0]["path"], "left out");
    let left_out = a.join("left out/");
    let words = [
        "compare",
        a_text,
        b_text,
        "--exclude",
        left_out.to_str().unwrap(),
    ];
    run(home.path(), &words).expect(0);
    run(home.path(), &["compare", a_text, "/no/such"])
        .expect(1)
        .says(&["COMPARE_FAILED", "/no/such", "next: "]);
    run(
        home.path(),
        &["compare", a_text, b_text, "--exclude", "/etc"],
    )
    .expect(2);
}
