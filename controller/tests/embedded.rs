//! The private database: made, adopted while it runs, started again after it stopped.
#![allow(clippy::unwrap_used, missing_docs)]

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use taf_controller::embedded;
use taf_controller::store::{Options, Store};

/// Stops the cluster also when the test fails.
struct Stopped(embedded::Cluster);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.0.stop();
    }
}

#[tokio::test]
async fn a_running_cluster_is_adopted_and_a_stopped_one_is_started_with_its_data() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let home = folder.path().join("home with 'quotes', commas");
    std::fs::create_dir(&home).unwrap();
    std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o700)).unwrap();

    let first = Stopped(embedded::start(&home).unwrap());
    assert!(!first.0.was_adopted());
    let store = Store::open(&Options::new(first.0.url())).await.unwrap();
    let client = store.client().await.unwrap();
    client
        .batch_execute("CREATE TABLE kept (n integer); INSERT INTO kept VALUES (7)")
        .await
        .unwrap();
    let open: String = client
        .query_one("SHOW listen_addresses", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(open, "");

    // As after a killed controller: nobody stopped it.
    let second = embedded::start(&home).unwrap();
    assert!(second.was_adopted());
    assert_eq!(second.url(), first.0.url());
    drop(client);
    store.close();
    second.stop().unwrap();

    let third = Stopped(embedded::start(&home).unwrap());
    assert!(!third.0.was_adopted());
    let store = Store::open(&Options::new(third.0.url())).await.unwrap();
    let client = store.client().await.unwrap();
    let kept: i32 = client
        .query_one("SELECT n FROM kept", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(kept, 7);
    for name in ["data", "socket"] {
        let mode = std::fs::metadata(home.join("database").join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700, "{name}");
    }
}

#[tokio::test]
async fn a_killed_cluster_starts_again() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let home = folder.path().join("h".repeat(60)).join("h".repeat(60));
    let cluster = Stopped(embedded::start(&home).unwrap());
    assert!(
        !cluster.0.socket_folder().starts_with(&home),
        "the socket's path would be too long"
    );
    let pid = std::fs::read_to_string(cluster.0.data_folder().join("postmaster.pid")).unwrap();
    let pid = nix::unistd::Pid::from_raw(pid.lines().next().unwrap().parse().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    let gone = async {
        while std::path::Path::new(&format!("/proc/{pid}")).exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone)
        .await
        .unwrap();
    let again = Stopped(embedded::start(&home).unwrap());
    Store::open(&Options::new(again.0.url())).await.unwrap();
    again.0.stop().unwrap();
    std::fs::remove_dir_all(cluster.0.socket_folder()).unwrap();
}

#[tokio::test]
async fn a_cluster_that_dies_under_a_living_controller_is_brought_back() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let cluster = Stopped(embedded::start(&folder.path().join("home")).unwrap());
    let shutdown = tokio_util::sync::CancellationToken::new();
    let watch = tokio::spawn(embedded::watch(cluster.0.clone(), shutdown.clone()));
    let pid_file = cluster.0.data_folder().join("postmaster.pid");
    let pid = || {
        let text = std::fs::read_to_string(&pid_file).ok()?;
        text.lines().next()?.parse().ok()
    };
    let first: i32 = pid().unwrap();
    let first = nix::unistd::Pid::from_raw(first);
    nix::sys::signal::kill(first, nix::sys::signal::Signal::SIGKILL).unwrap();
    let back = async {
        while pid() == Some(first.as_raw())
            || Store::open(&Options::new(cluster.0.url())).await.is_err()
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), back)
        .await
        .unwrap();
    shutdown.cancel();
    watch.await.unwrap();
}
