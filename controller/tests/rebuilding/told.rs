//! What the API of a whole controller tells of versions that are not whole.

use std::collections::BTreeMap;

use taf_controller::catalog::vacuum;
use taf_controller::store::{Options, Store};
use taf_proto::v1::catalog_service_client::CatalogServiceClient;
use taf_proto::v1::version_service_client::VersionServiceClient;
use taf_proto::v1::{
    DiffVersionsRequest, DifferenceKind, ListEntriesRequest, ListIncompleteVersionsRequest,
    ListVersionsRequest, PathState, TracePathRequest, Version,
};
use tonic::transport::Channel;

use super::cartridges::{INSTALLATION, reading, scan};
use super::given_up::{before, give_up, records_of};
use super::partial::first_then_second;
use super::served::{Served, signed};
use super::support;
use super::world::{Tree, World};

const UNKNOWN: &str = "unknown since version 2 (volume TAF002L9)";
const NOT_MET: &str = "its bytes were not met since the catalog was rebuilt (volume TAF002L9)";
const NOTHING: &str = "unknown (nothing had changed since version 2, which was given up)";

/// A controller whose catalog came back without a cartridge.
struct Back {
    served: Served,
    token: String,
    channel: Channel,
    versions: BTreeMap<u64, Version>,
}

/// The first version is whole; the second, on the missing cartridge, was given up before the record of the third came, which is what it
/// was; the fourth needs things of it.
async fn back() -> Back {
    let first = [("a/1", 1, 0), ("b/1", 1, 0), ("c/1", 1, 0)];
    let second = [("a/1", 1, 0), ("b/1", 7, 0), ("c/1", 1, 0), ("y", 3, 0)];
    let fourth = [second.as_slice(), &[("c/2", 2, 0), ("x", 1, 0)]].concat();
    let trees = [&first[..], &second, &second, &fourth].map(Tree::of);
    let (_, _, [on_first, on_second]) = first_then_second(&trees).await;

    let (home, url) = (
        tempfile::tempdir().unwrap(),
        support::empty_database().await,
    );
    let installation = INSTALLATION.parse().unwrap();
    let fresh =
        |config: &mut taf_controller::config::Config| config.installation = Some(installation);
    let served = Served::start_changed(home, url, fresh).await;
    let token = served.administrator().await;
    let (home, url) = served.stop().await;
    let store = Store::open(&Options::new(&url)).await.unwrap();
    let (mut world, key) = reading(World::within(store).await).await;
    scan(&world, key, &before(&on_first, 2)).await.unwrap();
    scan(&world, key, &records_of(&on_second)).await.unwrap();
    let client = world.store.client().await.unwrap();
    let sql = "SELECT id FROM lines WHERE head = 2";
    world.line = client.query_one(sql, &[]).await.unwrap().get(0);
    give_up(&world, 2).await;
    vacuum::release(&world.store).await.unwrap();
    scan(&world, key, &on_first).await.unwrap();
    world.end_attempts().await;
    let sql = "UPDATE jobs SET state = 'succeeded', ended_at = now()";
    client.batch_execute(sql).await.unwrap();
    drop((client, world));

    let served = Served::start_in(home, url).await;
    let channel = served.channel(None).await;
    let mut back = Back {
        served,
        token,
        channel,
        versions: BTreeMap::new(),
    };
    let request = ListVersionsRequest {
        plan: "plans/daily".into(),
        ..ListVersionsRequest::default()
    };
    let answer = VersionServiceClient::new(back.channel.clone())
        .list_versions(signed(&back.token, request))
        .await;
    let versions = answer.unwrap().into_inner().versions.into_iter();
    back.versions = versions.map(|version| (version.number, version)).collect();
    back
}

impl Back {
    /// What differs between two versions below a directory: the sign of each path, with what its entry lacks; and what is not known.
    async fn diff(
        &self,
        (one, other): (u64, u64),
        directory: &str,
    ) -> (BTreeMap<String, (DifferenceKind, String)>, Vec<String>) {
        let request = DiffVersionsRequest {
            version: self.versions[&one].name.clone(),
            other_version: self.versions[&other].name.clone(),
            directory: Some(taf_proto::path::from_raw(directory.as_bytes().to_vec())),
        };
        let answer = CatalogServiceClient::new(self.channel.clone())
            .diff_versions(signed(&self.token, request))
            .await;
        let mut messages = answer.unwrap().into_inner();
        let (mut found, mut lacks, mut complete) = (BTreeMap::new(), Vec::new(), false);
        while let Some(message) = messages.message().await.unwrap() {
            assert!(!complete, "it was the last");
            for difference in message.differences {
                let kind = difference.kind();
                let path = difference.path.unwrap().display;
                let entry = difference.after.or(difference.before).unwrap();
                found.insert(path, (kind, entry.lacks));
            }
            lacks.extend(message.lacks);
            complete = message.complete;
        }
        assert!(complete);
        (found, lacks)
    }

    /// What a path was: of each state the newest version, how many, whether it was there, what is not known of it, and of the entry.
    async fn history(&self, path: &str) -> Vec<(u64, u64, bool, String, String)> {
        let request = TracePathRequest {
            plan: "plans/daily".into(),
            path: Some(taf_proto::path::from_raw(path.as_bytes().to_vec())),
            archives: false,
        };
        let answer = CatalogServiceClient::new(self.channel.clone())
            .trace_path(signed(&self.token, request))
            .await;
        let mut messages = answer.unwrap().into_inner();
        let mut found = Vec::new();
        while let Some(message) = messages.message().await.unwrap() {
            let told = |state: PathState| {
                let newest = state.version.rsplit('/').next().unwrap().parse().unwrap();
                let (is, of) = state
                    .entry
                    .map_or((false, String::new()), |e| (true, e.lacks));
                (newest, state.version_count, is, state.lacks, of)
            };
            found.extend(message.states.into_iter().map(told));
        }
        found
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_whole_is_told_with_what_would_help() {
    let back = back().await;
    let numbers: Vec<u64> = back.versions.keys().copied().collect();
    assert_eq!(numbers, [1, 3, 4], "what was given up is not shown");
    let told = |number| {
        let version: &Version = &back.versions[&number];
        let lacking: Vec<&str> = version.lacking_volumes.iter().map(String::as_str).collect();
        let reason = version.incomplete_reason.clone();
        (
            reason,
            version.nothing_known,
            version.unknown_since_number,
            lacking,
        )
    };
    assert_eq!(told(1), (String::new(), false, 0, vec![]));
    let given_up = "nothing had changed since version 2, which was given up";
    assert_eq!(told(3), (given_up.to_owned(), true, 0, vec![]));
    let (why, nothing, since, lacking) = told(4);
    assert!(why.contains("TAF002L9"), "{why}");
    assert_eq!(
        (nothing, since, lacking),
        (false, 2, vec!["volumes/TAF002L9"])
    );
    let request = ListIncompleteVersionsRequest::default();
    let answer = VersionServiceClient::new(back.channel.clone())
        .list_incomplete_versions(signed(&back.token, request))
        .await;
    let incomplete = answer.unwrap().into_inner().versions.into_iter();
    let incomplete: Vec<_> = incomplete.map(|v| (v.number, v.nothing_known)).collect();
    assert_eq!(incomplete, [(3, true), (4, false)]);

    // Of the one of which nothing is known nothing is listed, and it says why.
    let request = ListEntriesRequest {
        version: back.versions[&3].name.clone(),
        directory: Some(taf_proto::path::from_raw(b"/".to_vec())),
        ..ListEntriesRequest::default()
    };
    let answer = VersionServiceClient::new(back.channel.clone())
        .list_entries(signed(&back.token, request))
        .await;
    let listed = answer.unwrap().into_inner();
    assert_eq!((listed.entries.len(), &listed.lacks[..]), (0, NOTHING));

    // Only in what is known of both they differ; what else there may be is named by who does not know it.
    let (found, lacks) = back.diff((1, 4), "/").await;
    let of_fourth = format!("not all of daily@4 is known: {UNKNOWN}");
    assert_eq!(lacks, std::slice::from_ref(&of_fourth));
    let none = String::new;
    assert_eq!(
        found,
        BTreeMap::from([
            ("/c/2".to_owned(), (DifferenceKind::Added, none())),
            ("/x".to_owned(), (DifferenceKind::Added, none())),
            ("/y".to_owned(), (DifferenceKind::Added, NOT_MET.to_owned())),
        ])
    );
    let (found, lacks) = back.diff((1, 4), "/c").await;
    assert_eq!((found.len(), lacks.len()), (1, 0), "all of it is known");
    let (found, lacks) = back.diff((1, 4), "/b").await;
    assert_eq!((found.len(), lacks), (0, vec![of_fourth.clone()]));
    let of_third = format!("not all of daily@3 is known: {NOTHING}");
    let (found, lacks) = back.diff((3, 4), "/").await;
    assert_eq!((found.len(), lacks), (0, vec![of_third, of_fourth]));
    assert_eq!(back.diff((1, 1), "/").await, (BTreeMap::new(), vec![]));

    // What a path was: known, not known, or known and not to be restored.
    let (nothing, unknown, not_met) = (NOTHING.to_owned(), UNKNOWN.to_owned(), NOT_MET.to_owned());
    let past = back.history("/c/1").await;
    let known = (4, 1, true, none(), none());
    let third = (3, 1, false, nothing, none());
    assert_eq!(past, [known, third.clone(), (1, 1, true, none(), none())]);
    let past = back.history("/y").await;
    let listed = (4, 1, true, none(), not_met);
    assert_eq!(past, [listed, third, (1, 1, false, none(), none())]);
    let past = back.history("/b/1").await;
    assert_eq!(past[0].3, unknown);
    drop(back.served);
}
