//! Sources, plans and pools through the public API: what is taken, what is refused, what stays.
#![allow(clippy::unwrap_used, missing_docs)]

mod served;
mod support;

use served::{Served, reason, signed};
use taf_proto::path;
use taf_proto::v1::plan_service_client::PlanServiceClient;
use taf_proto::v1::pool_service_client::PoolServiceClient;
use taf_proto::v1::source_service_client::SourceServiceClient;
use taf_proto::v1::system_service_client::SystemServiceClient;
use taf_proto::v1::{self, AgentRole};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

struct Client {
    served: Served,
    channel: Channel,
    token: String,
}

impl Client {
    async fn start() -> Self {
        let served = Served::start().await;
        let token = served.administrator().await;
        served.enrol(&token, "files", AgentRole::Source).await;
        let channel = served.channel(None).await;
        Self {
            served,
            channel,
            token,
        }
    }

    fn sources(&self) -> SourceServiceClient<Channel> {
        SourceServiceClient::new(self.channel.clone())
    }

    fn plans(&self) -> PlanServiceClient<Channel> {
        PlanServiceClient::new(self.channel.clone())
    }

    async fn create_source(&self, id: &str, request_id: &str) -> Result<v1::Source, Status> {
        let request = v1::CreateSourceRequest {
            source_id: id.into(),
            source: Some(v1::Source {
                agent: "agents/files".into(),
                paths: vec![path::from_raw(&b"/srv/\xff/"[..])],
                excluded_paths: vec![path::from_raw(&b"/srv/\xff/cache"[..])],
                ..Default::default()
            }),
            request_id: request_id.into(),
        };
        let answer = self
            .sources()
            .create_source(signed(&self.token, request))
            .await?;
        Ok(answer.into_inner().source.unwrap())
    }

    async fn create_plan(&self, id: &str, source: &str, pool: &str) -> Result<v1::Plan, Status> {
        let request = v1::CreatePlanRequest {
            plan_id: id.into(),
            plan: Some(v1::Plan {
                source: source.into(),
                pool: pool.into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let answer = self
            .plans()
            .create_plan(signed(&self.token, request))
            .await?;
        Ok(answer.into_inner().plan.unwrap())
    }

    async fn run(&self, plan: &str, request_id: &str) -> Result<String, Status> {
        let request = v1::RunPlanRequest {
            name: plan.into(),
            request_id: request_id.into(),
            ..Default::default()
        };
        Ok(self
            .plans()
            .run_plan(signed(&self.token, request))
            .await?
            .into_inner()
            .job)
    }

    async fn delete_plan(&self, name: &str, etag: &str) -> Result<(), Status> {
        let request = v1::DeletePlanRequest {
            name: name.into(),
            etag: etag.into(),
            ..Default::default()
        };
        self.plans()
            .delete_plan(signed(&self.token, request))
            .await
            .map(|_| ())
    }

    async fn delete_source(&self, name: &str, etag: &str) -> Result<(), Status> {
        let request = v1::DeleteSourceRequest {
            name: name.into(),
            etag: etag.into(),
            ..Default::default()
        };
        self.sources()
            .delete_source(signed(&self.token, request))
            .await
            .map(|_| ())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_source_takes_can_be_changed() {
    let client = Client::start().await;
    let made = client.create_source("home", "").await.unwrap();
    let update = async |source: v1::Source| {
        let request = v1::UpdateSourceRequest {
            source: Some(source),
            ..Default::default()
        };
        let answer = client
            .sources()
            .update_source(signed(&client.token, request))
            .await?;
        Ok::<_, Status>(answer.into_inner().source.unwrap())
    };
    let rules = ["*.tmp", "!keep.tmp", "re:/old/"].map(taf_proto::selection::parse);
    let age = prost_types::Duration {
        seconds: 86_400,
        nanos: 0,
    };
    let wanted = v1::Source {
        paths: vec![path::from_raw(&b"/home/"[..])],
        path_lists: vec![path::from_raw(&b"/home/list"[..])],
        rules: rules.to_vec(),
        marker_files: vec![".nobackup".into()],
        exclude_caches: true,
        max_file_size: 1 << 40,
        max_age: Some(age),
        ignore_ctime: true,
        ignore_inode: true,
        always_compare_content: true,
        ..made.clone()
    };
    let changed = update(wanted.clone()).await.unwrap();
    let expected = v1::Source {
        paths: vec![path::from_raw(&b"/home"[..])],
        etag: changed.etag.clone(),
        ..wanted.clone()
    };
    assert_eq!(changed, expected);
    assert_ne!(changed.etag, made.etag);
    assert_eq!(reason(update(wanted).await), "ETAG_MISMATCH");

    let bad = v1::Source {
        rules: vec![taf_proto::selection::parse("[")],
        marker_files: vec!["a/b".into()],
        min_file_size: 2 << 40,
        min_age: Some(prost_types::Duration {
            seconds: 1_000_000,
            nanos: 0,
        }),
        ..changed.clone()
    };
    let said = update(bad).await.unwrap_err();
    for field in ["rules[0]", "marker_files[0]", "max_file_size", "max_age"] {
        assert!(said.message().contains(field), "{said:?}");
    }
    let elsewhere = v1::Source {
        agent: "agents/other".into(),
        ..changed
    };
    let said = update(elsewhere).await.unwrap_err();
    assert!(said.message().contains("another host"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_is_made_read_listed_and_removed() {
    let client = Client::start().await;
    let request_id = uuid::Uuid::new_v4().to_string();
    let made = client.create_source("home", &request_id).await.unwrap();
    assert_eq!(made.name, "sources/home");
    assert_eq!(made.paths[0].raw, &b"/srv/\xff"[..]);
    assert_eq!(made.paths[0].display, "/srv/\\xff");
    assert_eq!(
        client.create_source("home", &request_id).await.unwrap(),
        made
    );
    assert_eq!(
        client.create_source("home", "").await.unwrap_err().code(),
        Code::AlreadyExists
    );

    let get = v1::GetSourceRequest {
        name: made.name.clone(),
    };
    let got = client
        .sources()
        .get_source(signed(&client.token, get))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(got.source.unwrap(), made);

    assert_eq!(
        reason(client.delete_source("sources/home", "1-7").await),
        "ETAG_MISMATCH"
    );
    client
        .delete_source("sources/home", &made.etag)
        .await
        .unwrap();
    assert_eq!(
        client
            .delete_source("sources/home", "")
            .await
            .unwrap_err()
            .code(),
        Code::NotFound
    );
    let again = client.create_source("home", "").await.unwrap();
    assert_ne!(again.etag, made.etag);
    let audited = client
        .served
        .count("SELECT count(*) FROM audit WHERE action = 'SourceService.CreateSource' AND outcome = 'done'")
        .await;
    assert_eq!(audited, 2);
    client.served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_field_is_named() {
    let client = Client::start().await;
    let request = v1::CreateSourceRequest {
        source_id: "Über".into(),
        source: Some(v1::Source {
            agent: "files".into(),
            paths: vec![
                path::from_raw(&b"relative"[..]),
                path::from_raw(&b"/a/../b"[..]),
            ],
            ..Default::default()
        }),
        ..Default::default()
    };
    let status = client
        .sources()
        .create_source(signed(&client.token, request))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let fields = status.get_details_bad_request().unwrap().field_violations;
    let fields: Vec<_> = fields.iter().map(|f| f.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "source_id",
            "source.agent",
            "source.paths[0]",
            "source.paths[1]"
        ]
    );

    let request = v1::CreatePoolRequest {
        pool_id: "p".into(),
        pool: Some(v1::Pool {
            block_size: 70_000,
            part_size: 1,
            ..Default::default()
        }),
        ..Default::default()
    };
    let status = PoolServiceClient::new(client.channel.clone())
        .create_pool(signed(&client.token, request))
        .await
        .unwrap_err();
    assert_eq!(
        status
            .get_details_bad_request()
            .unwrap()
            .field_violations
            .len(),
        2
    );
    client.served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_exist_is_named() {
    let client = Client::start().await;
    let request = v1::CreateSourceRequest {
        source_id: "home".into(),
        source: Some(v1::Source {
            agent: "agents/other".into(),
            paths: vec![path::from_raw(&b"/srv"[..])],
            ..Default::default()
        }),
        ..Default::default()
    };
    let status = client
        .sources()
        .create_source(signed(&client.token, request))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains("agents/other"), "{status:?}");

    client.create_source("home", "").await.unwrap();
    for (source, pool, missing) in [
        ("sources/other", "pools/default", "sources/other"),
        ("sources/home", "pools/other", "pools/other"),
    ] {
        let status = client.create_plan("daily", source, pool).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound);
        assert!(status.message().contains(missing), "{status:?}");
    }
    assert_eq!(
        client.run("plans/daily", "").await.unwrap_err().code(),
        Code::NotFound
    );
    client.served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_runs_once_at_a_time_and_keeps_its_line() {
    let client = Client::start().await;
    client.create_source("home", "").await.unwrap();
    let plan = client
        .create_plan("daily", "sources/home", "pools/default")
        .await
        .unwrap();
    assert_eq!(plan.compression_level, 3);
    assert_eq!(
        reason(client.delete_source("sources/home", "").await),
        "SOURCE_IN_USE"
    );

    let request_id = uuid::Uuid::new_v4().to_string();
    let job = client.run("plans/daily", &request_id).await.unwrap();
    assert_eq!(client.run("plans/daily", &request_id).await.unwrap(), job);
    let status = client.run("plans/daily", "").await.unwrap_err();
    assert_eq!(taf_peer::faults::reason_of(&status).unwrap().1["job"], job);
    assert_eq!(reason::<()>(Err(status)), "PLAN_RUNNING");
    assert_eq!(
        reason(client.delete_plan("plans/daily", "").await),
        "PLAN_RUNNING"
    );

    let status = SystemServiceClient::new(client.channel.clone())
        .get_status(signed(&client.token, v1::GetStatusRequest {}))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(status.active_jobs.len(), 1);
    assert_eq!(status.active_jobs[0].creator, "accounts/root");
    assert!(
        status.database.starts_with("PostgreSQL "),
        "{}",
        status.database
    );
    assert!(!status.warnings.is_empty());

    client
        .served
        .sql("UPDATE jobs SET state = 'cancelled', ended_at = clock_timestamp()")
        .await;
    client.delete_plan("plans/daily", &plan.etag).await.unwrap();
    client
        .create_plan("daily", "sources/home", "pools/default")
        .await
        .unwrap();
    assert_eq!(client.served.count("SELECT count(*) FROM lines").await, 1);
    client.served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn simultaneous_runs_make_one_job() {
    let client = Client::start().await;
    client.create_source("home", "").await.unwrap();
    client
        .create_plan("daily", "sources/home", "pools/default")
        .await
        .unwrap();
    let runs = futures::future::join_all((0..8).map(|_| client.run("plans/daily", ""))).await;
    assert_eq!(runs.iter().filter(|run| run.is_ok()).count(), 1);

    // The same request many times over is one job too; who comes while it is handled is told to repeat it.
    client
        .served
        .sql("UPDATE jobs SET state = 'cancelled', ended_at = clock_timestamp()")
        .await;
    let id = uuid::Uuid::new_v4().to_string();
    let runs = futures::future::join_all((0..8).map(|_| client.run("plans/daily", &id))).await;
    let mut jobs: Vec<_> = runs
        .into_iter()
        .filter_map(|run| {
            run.map_err(|s| assert_eq!(s.code(), Code::Aborted, "{s:?}"))
                .ok()
        })
        .collect();
    jobs.dedup();
    assert_eq!(jobs.len(), 1);
    assert_eq!(client.served.count("SELECT count(*) FROM jobs").await, 2);
    client.served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages() {
    let client = Client::start().await;
    let mut pools = PoolServiceClient::new(client.channel.clone());
    for id in ["a", "b", "c", "z"] {
        let request = v1::CreatePoolRequest {
            pool_id: id.into(),
            ..Default::default()
        };
        pools
            .create_pool(signed(&client.token, request))
            .await
            .unwrap();
    }
    let (mut names, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListPoolsRequest {
            page_size: 2,
            page_token,
        };
        let answer = pools
            .list_pools(signed(&client.token, request))
            .await
            .unwrap()
            .into_inner();
        assert!(answer.pools.len() <= 2);
        names.extend(answer.pools.into_iter().map(|pool| pool.name));
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(
        names,
        ["pools/a", "pools/b", "pools/c", "pools/default", "pools/z"]
    );
    let request = v1::ListPoolsRequest {
        page_size: 2,
        page_token: "nonsense".into(),
    };
    assert_eq!(
        reason(pools.list_pools(signed(&client.token, request)).await),
        "INVALID_FIELDS"
    );
    client.served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_masked_of_a_plan_changes_and_a_run_keeps_its_pool() {
    let client = Client::start().await;
    client.create_source("home", "").await.unwrap();
    let made = client
        .create_plan("daily", "sources/home", "pools/default")
        .await
        .unwrap();
    let pool = v1::CreatePoolRequest {
        pool_id: "offsite".into(),
        ..Default::default()
    };
    PoolServiceClient::new(client.channel.clone())
        .create_pool(signed(&client.token, pool))
        .await
        .unwrap();
    let update = async |plan: v1::Plan, mask: &[&str]| {
        let request = v1::UpdatePlanRequest {
            plan: Some(plan),
            update_mask: Some(prost_types::FieldMask {
                paths: mask.iter().map(ToString::to_string).collect(),
            }),
            ..Default::default()
        };
        let answer = client
            .plans()
            .update_plan(signed(&client.token, request))
            .await?;
        Ok::<_, Status>(answer.into_inner().plan.unwrap())
    };
    let wanted = v1::Plan {
        pool: "pools/offsite".into(),
        compression_level: 9,
        compression_threads: 2,
        streams: 3,
        r#type: v1::VersionType::Differential.into(),
        ..made.clone()
    };
    let some = update(wanted.clone(), &["type", "streams"]).await.unwrap();
    let expected = v1::Plan {
        r#type: wanted.r#type,
        streams: 3,
        etag: some.etag.clone(),
        ..made.clone()
    };
    assert_eq!(some, expected);
    let all = ["pool", "compression_level", "compression_threads"];
    assert_eq!(
        reason(update(wanted.clone(), &all).await),
        "ETAG_MISMATCH",
        "somebody changed it meanwhile"
    );
    let fresh = v1::Plan {
        etag: some.etag,
        ..wanted
    };
    let now = update(fresh.clone(), &all).await.unwrap();
    let expected = v1::Plan {
        etag: now.etag.clone(),
        ..fresh
    };
    assert_eq!(now, expected);

    let bad = v1::Plan {
        compression_level: 99,
        etag: String::new(),
        ..now
    };
    for mask in [&["compression_level"][..], &["source"], &[]] {
        let status = update(bad.clone(), mask).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{mask:?}");
    }
    // Another method has other levels, and its own default one.
    let gzip = v1::Plan {
        compression_method: v1::CompressionMethod::Gzip.into(),
        compression_level: 12,
        ..bad.clone()
    };
    let both = ["compression_method", "compression_level"];
    let status = update(gzip.clone(), &both).await.unwrap_err();
    assert!(
        format!("{status:?}").contains("gzip has levels 1 to 9"),
        "{status:?}"
    );
    let now = update(gzip.clone(), &["compression_method"]).await.unwrap();
    assert_eq!(now.compression_method, gzip.compression_method);
    assert_eq!(now.compression_level, 6);
    let unknown = v1::Plan {
        compression_method: 77,
        ..gzip
    };
    let status = update(unknown, &["compression_method"]).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    client.run("plans/daily", "").await.unwrap();
    let level = v1::Plan {
        compression_level: 1,
        ..bad
    };
    assert_eq!(
        reason(update(level.clone(), &["pool"]).await),
        "PLAN_RUNNING"
    );
    update(level, &["compression_level"]).await.unwrap();
    client.served.stop().await;
}
