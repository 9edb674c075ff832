//! A real PostgreSQL for tests: one private cluster that all test processes of this user share while they run, and one
//! database a test.
//!
//! Whoever comes first makes it, whoever leaves last stops and removes it: each process holds a shared lock, and a
//! watchdog of its own that sees its end, however it comes, by the end of a pipe.
#![allow(dead_code)]

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use taf_controller::embedded;
use taf_controller::store::{Options, Store};

/// Kept open until the process ends.
struct Shared {
    cluster: embedded::Cluster,
    _users: File,
    _watchdog: Child,
}

static SHARED: OnceLock<Shared> = OnceLock::new();

/// The folder that the processes of this build share.
fn home() -> PathBuf {
    let build = blake3::hash(env!("CARGO_TARGET_TMPDIR").as_bytes()).to_hex();
    let user = nix::unistd::geteuid();
    std::env::temp_dir().join(format!("taf-test-{user}-{}", &build[..8]))
}

fn shared() -> &'static Shared {
    SHARED.get_or_init(|| {
        let home = home();
        match DirBuilder::new().mode(0o711).create(&home) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                let owner = std::fs::symlink_metadata(&home).unwrap().uid();
                assert_eq!(
                    owner,
                    nix::unistd::geteuid().as_raw(),
                    "{} is somebody else's",
                    home.display()
                );
            }
            made => made.unwrap(),
        }
        let open = |name: &str| {
            OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(home.join(name))
                .unwrap()
        };
        let users = open("users.lock");
        users.lock_shared().unwrap();
        // One at a time makes or adopts it; the lock goes with the file at the end of this function.
        let starting = open("start.lock");
        starting.lock().unwrap();
        let cluster = embedded::start(&home).unwrap();
        let watchdog = watch(&cluster, &home);
        Shared {
            cluster,
            _users: users,
            _watchdog: watchdog,
        }
    })
}

/// Stops the cluster when this process has ended, unless others use it.
fn watch(cluster: &embedded::Cluster, home: &std::path::Path) -> Child {
    let script = r#"
        read -r _
        exec flock -x -w 5 "$1/users.lock" sh -c '
            pid=$(head -n 1 "$1/postmaster.pid" 2>/dev/null) || exit 0
            kill -QUIT "$pid"
            while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
            rm -rf "$2/database"
        ' sh "$2" "$1"
    "#;
    Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(home)
        .arg(cluster.data_folder())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap()
}

/// A database of its own with the current schema, and its URL.
pub async fn store() -> (Store, String) {
    let url = empty_database().await;
    let mut options = Options::new(&url);
    options.pool_size = 6;
    (Store::open(&options).await.unwrap(), url)
}

/// The URL of an empty database of its own.
pub async fn empty_database() -> String {
    let cluster = &tokio::task::spawn_blocking(shared).await.unwrap().cluster;
    let name = format!("t{}", uuid::Uuid::new_v4().simple());
    let (client, connection) = tokio_postgres::connect(&cluster.url(), tokio_postgres::NoTls)
        .await
        .unwrap();
    let driver = tokio::spawn(connection);
    // Nothing of a test outlives it, so nothing needs to reach the disk.
    client
        .batch_execute("ALTER SYSTEM SET fsync = off")
        .await
        .unwrap();
    client
        .batch_execute("SELECT pg_reload_conf()")
        .await
        .unwrap();
    client
        .batch_execute(&format!(
            "CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0"
        ))
        .await
        .unwrap();
    drop(client);
    driver.abort();
    cluster.url().replace("/postgres?", &format!("/{name}?"))
}
