//! Dumps: bytes from an agent to whoever waits for them, and how they end. A whole controller with units made up for the test.
#![allow(clippy::unwrap_used, missing_docs)]

mod served;
#[path = "units/site.rs"]
mod site;
mod support;
mod units;
#[allow(dead_code)]
#[path = "support/world.rs"]
mod world;

use std::time::Duration;

use served::signed;
use site::{Site, Units};
use taf_controller::store::{dumps, jobs};
use taf_peer::faults::reason_of;
use taf_peer::material::Material;
use taf_proto::agent::assignment::Work;
use taf_proto::agent::dump_service_client::DumpServiceClient as Sending;
use taf_proto::agent::result::Done;
use taf_proto::agent::send_dump_request::Message as Sent;
use taf_proto::agent::{
    AssignmentKey, RestoreDone, RestoreWork, SendDumpRequest, SendDumpResponse,
};
use taf_proto::path;
use taf_proto::v1::dump_service_client::DumpServiceClient;
use taf_proto::v1::dump_version_response::Message;
use taf_proto::v1::{
    DumpBegun, DumpFormat, DumpVersionRequest, DumpVersionResponse, Fault, JobKind, JobState,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use units::within;

type Pieces = Streaming<DumpVersionResponse>;

impl Site {
    async fn dump(&self, request: DumpVersionRequest) -> Result<(DumpBegun, Pieces), Status> {
        let channel = self.served.channel(None).await;
        let mut pieces = DumpServiceClient::new(channel)
            .dump_version(signed(&self.token, request))
            .await?
            .into_inner();
        match next(&mut pieces).await? {
            Some(Message::Begun(begun)) => Ok((begun, pieces)),
            other => panic!("it begins with {other:?}"),
        }
    }

    async fn whole(&self, version: &str) -> (String, Pieces) {
        let request = DumpVersionRequest {
            version: version.into(),
            ..Default::default()
        };
        let (begun, pieces) = self.dump(request).await.unwrap();
        assert_eq!(begun.format(), DumpFormat::Tar);
        (begun.plan.unwrap().job, pieces)
    }

    /// As a source agent, sends: what goes in, and what the controller says.
    async fn send(
        &self,
        own: &Material,
        key: AssignmentKey,
    ) -> Result<(mpsc::Sender<SendDumpRequest>, Streaming<SendDumpResponse>), Status> {
        let (sender, requests) = mpsc::channel(8);
        sender.send(sent(Sent::Key(key))).await.unwrap();
        let channel = self.served.channel(Some(own)).await;
        let mut answers = Sending::new(channel)
            .send_dump(ReceiverStream::new(requests))
            .await?
            .into_inner();
        assert_eq!(answers.message().await?.unwrap().taken_count, 0);
        Ok((sender, answers))
    }
}

fn sent(message: Sent) -> SendDumpRequest {
    SendDumpRequest {
        message: Some(message),
    }
}

/// More pieces than the connection holds.
const COUNT: usize = 200;

async fn next(pieces: &mut Pieces) -> Result<Option<Message>, Status> {
    let next = within("a piece", pieces.message()).await?;
    Ok(next.and_then(|response| response.message))
}

async fn given(units: &Units) -> (AssignmentKey, AssignmentKey, RestoreWork) {
    let (drive, work) = units.drive.given().await;
    assert!(matches!(work, Work::Read(_)), "{work:?}");
    match units.source.given().await {
        (source, Work::Restore(work)) => (drive, source, work),
        other => panic!("no restore: {other:?}"),
    }
}

fn reason(status: &Status) -> String {
    reason_of(status).map_or_else(String::new, |(reason, _)| reason)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_is_passed_on_as_fast_as_it_is_taken() {
    let site = Site::new().await;
    let units = site.units().await;
    let version = site.backed_up(&units, "daily").await;
    let (job, mut pieces) = site.whole(&version).await;
    let (drive, key, work) = given(&units).await;
    assert_eq!(work.dump_format(), DumpFormat::Tar);
    assert!(work.target.is_none() && work.entry_count >= 4);

    // Only its agent sends it, under its assignment, and once.
    let refused = site.send(&site.tape, key).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied, "{refused}");
    let mut other = key;
    other.generation.as_mut().unwrap().counter += 1;
    let refused = site.send(&site.files, other).await.unwrap_err();
    assert_eq!(reason(&refused), "STALE_ASSIGNMENT");
    let (sender, mut answers) = site.send(&site.files, key).await.unwrap();
    let refused = site.send(&site.files, key).await.unwrap_err();
    assert_eq!(reason(&refused), "DUMP_NOT_AWAITED");

    // Nobody takes anything yet: what the connection holds comes, and no more.
    let sending = tokio::spawn(async move {
        for n in 0..COUNT {
            let frame = vec![n as u8; 256 << 10];
            sender.send(sent(Sent::Data(frame.into()))).await.unwrap();
        }
        sender
    });
    let mut taken = 0;
    while let Ok(answer) = tokio::time::timeout(Duration::from_secs(1), answers.message()).await {
        taken = answer.unwrap().unwrap().taken_count;
    }
    assert!(taken < 120, "{taken}");
    let mut bytes = 0;
    for n in 0..COUNT {
        match next(&mut pieces).await.unwrap() {
            Some(Message::Data(data)) => {
                assert!(data.iter().all(|byte| *byte == n as u8));
                bytes += data.len() as u64;
            }
            other => panic!("{other:?}"),
        }
    }
    let sender = sending.await.unwrap();
    let done = RestoreDone {
        file_count: 2,
        directory_count: 3,
        byte_count: 20_700,
        ..RestoreDone::default()
    };
    sender.send(sent(Sent::Done(done.clone()))).await.unwrap();
    let Some(Message::Summary(summary)) = next(&mut pieces).await.unwrap() else {
        panic!("no summary")
    };
    assert_eq!((summary.data_byte_count, summary.file_count), (bytes, 2));
    assert_eq!(next(&mut pieces).await.unwrap(), None);
    while let Some(answer) = answers.message().await.unwrap() {
        taken = answer.taken_count;
    }
    assert_eq!(taken, COUNT as u64);
    // Who has everything may go; the job ends as its agent says.
    drop(pieces);
    units.source.finish(key, Some(Done::Restore(done)));
    units.drive.withdrawn(&drive).await;
    units.drive.fail(drive, "STOPPED");
    let ended = site.succeeded(&job).await;
    assert_eq!(ended.kind(), JobKind::Dump);
    assert_eq!(ended.progress.unwrap().byte_count, 20_700);
    let noted =
        "SELECT count(*) FROM audit WHERE action = 'DumpService.DumpVersion' AND outcome = 'done'";
    assert_eq!(site.served.count(noted).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_with_whoever_goes_first() {
    let site = Site::new().await;
    let units = site.units().await;
    let version = site.backed_up(&units, "daily").await;

    // The reader: the job is cancelled, and gives its drive back.
    let (job, mut pieces) = site.whole(&version).await;
    let (drive, key, _) = given(&units).await;
    let (sender, mut answers) = site.send(&site.files, key).await.unwrap();
    let frame = sent(Sent::Data(vec![1; 1000].into()));
    sender.send(frame.clone()).await.unwrap();
    assert!(matches!(
        next(&mut pieces).await.unwrap(),
        Some(Message::Data(_))
    ));
    drop(pieces);
    let gone = within("the end", async {
        loop {
            match answers.message().await {
                Ok(Some(_)) => {}
                other => return other.unwrap_err(),
            }
        }
    });
    assert_eq!(reason(&gone.await), "DUMP_NOT_AWAITED");
    units.drive.withdrawn(&drive).await;
    units.drive.fail(drive, "STOPPED");
    let ended = site.ended(&job).await;
    assert_eq!(ended.state(), JobState::Cancelled, "{ended:#?}");

    // The agent, with a word that is passed on.
    let (job, mut pieces) = site.whole(&version).await;
    let (drive, key, _) = given(&units).await;
    let (sender, _answers) = site.send(&site.files, key).await.unwrap();
    sender.send(frame.clone()).await.unwrap();
    let fault = Fault {
        reason: "FILE_DAMAGED".into(),
        message: "the file can't be read whole".into(),
        next_step: "take another version".into(),
    };
    sender.send(sent(Sent::Fault(fault))).await.unwrap();
    assert!(matches!(
        next(&mut pieces).await.unwrap(),
        Some(Message::Data(_))
    ));
    let failed = next(&mut pieces).await.unwrap_err();
    assert_eq!(reason(&failed), "FILE_DAMAGED");
    units.source.fail(key, "FILE_DAMAGED");
    units.drive.withdrawn(&drive).await;
    units.drive.fail(drive, "STOPPED");
    assert_eq!(site.failed(&job).await.reason, "FILE_DAMAGED");

    // The agent, without a word: the job says why. What came before is never followed by a good end.
    let (job, mut pieces) = site.whole(&version).await;
    let (drive, key, _) = given(&units).await;
    let (sender, answers) = site.send(&site.files, key).await.unwrap();
    sender.send(frame).await.unwrap();
    assert!(matches!(
        next(&mut pieces).await.unwrap(),
        Some(Message::Data(_))
    ));
    drop((sender, answers));
    units.source.fail(key, "PEER_LOST");
    units.drive.withdrawn(&drive).await;
    units.drive.fail(drive, "STOPPED");
    let failed = next(&mut pieces).await.unwrap_err();
    assert!(
        ["PEER_LOST", "AGENT_LOST"].contains(&reason(&failed).as_str()),
        "{failed}"
    );
    assert_eq!(site.failed(&job).await.reason, "PEER_LOST");

    // A person: also before anything has come.
    let (job, mut pieces) = site.whole(&version).await;
    site.cancel(&job).await.unwrap();
    let failed = next(&mut pieces).await.unwrap_err();
    assert_eq!(reason(&failed), "JOB_CANCELLED");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_chosen_says_what_comes_and_what_nobody_waits_for_lapses() {
    let site = Site::new().await;
    let units = site.units().await;
    let version = site.backed_up(&units, "daily").await;
    let asked = |name: &str, format: DumpFormat| DumpVersionRequest {
        version: version.clone(),
        paths: vec![path::from_raw(name.as_bytes().to_vec())],
        format: format.into(),
        dry_run: true,
        ..Default::default()
    };
    for (name, format, comes) in [
        ("/srv/a", DumpFormat::Unspecified, DumpFormat::File),
        ("/srv/a", DumpFormat::Tar, DumpFormat::Tar),
        ("/srv/b", DumpFormat::Unspecified, DumpFormat::Tar),
    ] {
        let (begun, mut pieces) = site.dump(asked(name, format)).await.unwrap();
        assert_eq!(begun.format(), comes, "{name}");
        let plan = begun.plan.unwrap();
        assert!(plan.job.is_empty() && !plan.volumes.is_empty());
        assert_eq!(next(&mut pieces).await.unwrap(), None);
    }
    for (name, format, why) in [
        ("/srv/b", DumpFormat::File, "NOT_ONE_FILE"),
        ("/srv/x", DumpFormat::Tar, "PATH_NOT_FOUND"),
    ] {
        let refused = site.dump(asked(name, format)).await.unwrap_err();
        assert_eq!(reason(&refused), why);
    }
    let patterns = DumpVersionRequest {
        paths: Vec::new(),
        patterns: vec!["/srv/a*".into()],
        ..asked("/", DumpFormat::Unspecified)
    };
    let (begun, _) = site.dump(patterns).await.unwrap();
    assert_eq!(begun.format(), DumpFormat::Tar);

    // Of a controller that is gone nobody says any more that somebody waits.
    let store = &site.served.app.store;
    let mut client = store.client().await.unwrap();
    let tx = client.transaction().await.unwrap();
    let row = tx
        .query_one(
            "SELECT v.line_id, v.version, a.id FROM versions v, agents a WHERE a.agent_name = 'files'",
            &[],
        )
        .await
        .unwrap();
    let new = jobs::NewRestore {
        line_id: row.get(0),
        version: row.get(1),
        agent_id: row.get(2),
        volumes: &[],
        turns: &[],
        request: &[],
        paths: None,
        entry_count: 1,
        byte_total: 1,
    };
    let job = jobs::job_create_restore_on(&tx, &new, "test")
        .await
        .unwrap();
    dumps::dump_create_on(&tx, job, "tar").await.unwrap();
    assert_eq!(dumps::dump_lapse_on(&tx).await.unwrap(), 0);
    let past =
        "UPDATE jobs SET awaited_until = clock_timestamp() - interval '1 second' WHERE id = $1";
    tx.execute(past, &[&job]).await.unwrap();
    assert_eq!(dumps::dump_lapse_on(&tx).await.unwrap(), 1);
    assert_eq!(dumps::dump_lapse_on(&tx).await.unwrap(), 0);
    drop(tx);

    // Who is not connected can't send.
    let Units { source, .. } = units;
    drop(source);
    let refused = within("a refusal", async {
        loop {
            let whole = DumpVersionRequest {
                version: version.clone(),
                ..Default::default()
            };
            match site.dump(whole).await {
                Ok(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(refused) => return refused,
            }
        }
    });
    assert_eq!(reason(&refused.await), "AGENT_NOT_CONNECTED");
}
