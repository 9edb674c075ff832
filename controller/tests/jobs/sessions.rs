//! What is said in sessions, word by word.

use super::*;

/// A session that is spoken word by word.
struct Words {
    up: mpsc::Sender<OpenRequest>,
    down: Streaming<OpenResponse>,
}

impl Words {
    async fn open(
        site: &Site,
        own: &taf_peer::material::Material,
        unit: hello::Unit,
    ) -> Result<Self, Status> {
        let (up, requests) = mpsc::channel(8);
        let hello = Hello {
            incarnation: vec![7; 16].into(),
            unit: Some(unit),
            ..Hello::default()
        };
        let message = Some(open_request::Message::Hello(hello));
        up.send(OpenRequest { message }).await.unwrap();
        let channel = site.served.channel(Some(own)).await;
        let down = SessionServiceClient::new(channel)
            .open(ReceiverStream::new(requests))
            .await?
            .into_inner();
        let mut words = Self { up, down };
        let first = words.next().await?;
        assert!(matches!(first, open_response::Message::Welcome(_)));
        Ok(words)
    }

    async fn say(&self, message: open_request::Message) {
        let message = Some(message);
        self.up.send(OpenRequest { message }).await.unwrap();
    }

    async fn next(&mut self) -> Result<open_response::Message, Status> {
        let answer = within("an answer", self.down.message()).await?;
        Ok(answer.expect("the session goes on").message.unwrap())
    }

    /// The next set with something in it.
    async fn given(&mut self) -> (AssignmentKey, Work) {
        loop {
            if let open_response::Message::Assignments(set) = self.next().await.unwrap()
                && let Some(first) = set.assignments.into_iter().next()
            {
                return (first.key.unwrap(), first.work.unwrap());
            }
        }
    }

    async fn acknowledged(&mut self, key: AssignmentKey) {
        loop {
            if let open_response::Message::ResultAck(ack) = self.next().await.unwrap() {
                assert_eq!(ack.key, Some(key));
                return;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_session_replaces_the_older_and_gets_the_work() {
    let site = Site::new().await;
    let mut units = site.units().await;
    units.drive = site.drive();
    units.drive.connected().await;
    drop(units.drive);
    let mut older = Words::open(&site, &site.tape, drive_unit(DRIVE))
        .await
        .unwrap();
    let job = site.run("daily").await;
    let (key, _) = older.given().await;
    let mut newer = Words::open(&site, &site.tape, drive_unit(DRIVE))
        .await
        .unwrap();
    let ended = loop {
        if let Err(status) = older.next().await {
            break status;
        }
    };
    assert_eq!(ended.code(), Code::Aborted);
    assert_eq!(reason_of(&ended).unwrap().0, "SESSION_REPLACED");
    // The same process: its work goes on.
    assert_eq!(newer.given().await.0, key);
    newer
        .say(open_request::Message::Observation(Observation::default()))
        .await;
    assert_eq!(site.job(&job).await.state(), JobState::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_acknowledged_each_time_and_count_once() {
    let site = Site::new().await;
    let library = Library::new(elements("OTHER1L9", VOLUME, ""));
    let _robot = library.worker(&site.address, &site.tape);
    let _source = site.source();
    let mut drive = Words::open(&site, &site.tape, drive_unit(DRIVE))
        .await
        .unwrap();
    let job = site.run("daily").await;
    let (unload, work) = drive.given().await;
    assert!(matches!(work, Work::Unload(_)), "{work:?}");
    let result = |key, fault: Option<&str>| {
        open_request::Message::Result(WorkResult {
            key: Some(key),
            fault: fault.map(|reason| Fault {
                reason: reason.into(),
                message: "as the test wants it".into(),
                next_step: "look at the test".into(),
            }),
            done: None,
        })
    };
    let seen = taf_proto::agent::DriveObservation {
        medium: Medium::Unloaded.into(),
        phase: "idle".into(),
        ..Default::default()
    };
    drive
        .say(open_request::Message::Observation(Observation {
            key: None,
            seen: Some(taf_proto::agent::observation::Seen::Drive(seen)),
        }))
        .await;
    for _ in 0..2 {
        drive.say(result(unload, None)).await;
        drive.acknowledged(unload).await;
    }
    let (key, work) = drive.given().await;
    assert!(matches!(work, Work::Write(_)), "{work:?}");
    assert_eq!(library.moves().len(), 2);
    // A result of a step that is over, and one of another attempt, change nothing.
    drive.say(result(unload, Some("LATE"))).await;
    drive.acknowledged(unload).await;
    let foreign = AssignmentKey {
        attempt: key.attempt + 1,
        ..key
    };
    drive.say(result(foreign, Some("FOREIGN"))).await;
    drive.acknowledged(foreign).await;
    assert_eq!(site.job(&job).await.state(), JobState::Running);
    let flow = DriveFlow {
        ring_byte_count: 5,
        ring_size: 10,
        collecting: true,
        starved_count: 3,
        reposition_count: Some(4),
        ..DriveFlow::default()
    };
    let seen = taf_proto::agent::DriveObservation {
        medium: Medium::Loaded.into(),
        phase: "collecting".into(),
        flow: Some(flow),
        ..Default::default()
    };
    drive
        .say(open_request::Message::Observation(Observation {
            key: Some(key),
            seen: Some(taf_proto::agent::observation::Seen::Drive(seen)),
        }))
        .await;
    let shown = site.drive_until(|drive| drive.flow.is_some()).await;
    assert_eq!(
        (shown.phase.as_str(), shown.flow),
        ("collecting", Some(flow))
    );
    let progress = site.job(&job).await.progress.unwrap();
    assert_eq!(progress.phase, "collecting");
    assert_eq!(progress.drive_flow, Some(flow));
    drive.say(result(key, Some("MEDIUM"))).await;
    drive.acknowledged(key).await;
    drive.say(result(key, Some("LATE"))).await;
    drive.acknowledged(key).await;
    assert_eq!(site.failed(&job).await.reason, "MEDIUM");
    // What it came to stays with the job.
    let flow = site.job(&job).await.progress.unwrap().drive_flow.unwrap();
    assert_eq!((flow.starved_count, flow.reposition_count), (3, Some(4)));
    assert_eq!((flow.ring_byte_count, flow.collecting), (0, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_is_what_its_certificate_says() {
    let site = Site::new().await;
    let refused = Words::open(&site, &site.files, drive_unit(DRIVE)).await;
    assert_eq!(reason_of(&refused.err().unwrap()).unwrap().0, "WRONG_ROLE");
    let refused = Words::open(&site, &site.tape, units::source_unit()).await;
    assert_eq!(reason_of(&refused.err().unwrap()).unwrap().0, "WRONG_ROLE");
    // Another drive's word on somebody's work does not count.
    let units = site.units().await;
    let job = site.run("daily").await;
    let (key, _) = units.drive.given_write().await;
    let mut other = Words::open(&site, &site.tape, drive_unit("D2"))
        .await
        .unwrap();
    other
        .say(open_request::Message::Result(WorkResult {
            key: Some(key),
            fault: Some(Fault {
                reason: "MEDIUM".into(),
                ..Fault::default()
            }),
            done: None,
        }))
        .await;
    other.acknowledged(key).await;
    units.drive.fail(key, "HARDWARE");
    assert_eq!(site.failed(&job).await.reason, "HARDWARE");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_agent_that_does_not_know_versions_that_are_not_whole_gets_no_restore_of_one() {
    let site = Site::new().await;
    let units = site.units().await;
    let version = site.backed_up(&units, "daily").await;
    let knowing = || vec![SourceAbility::IncompleteVersions.into()];
    let of = |abilities: Vec<i32>| {
        let unit = hello::Unit::Source(SourceUnit {
            host_name: "host".into(),
            abilities,
            ..SourceUnit::default()
        });
        units::Unit::start(&site.address, &site.files, Uuid::new_v4(), unit)
    };
    // As after a rebuild that met all but one part.
    let partly = "UPDATE versions SET state = 'staged', published_at = NULL, rebuilt_at = now(), incomplete_reason = 'it lacks a part', \
                  certain_version = 1, certain_ordinal = 1; UPDATE archives SET state = 'closed'";
    let restore = |dry_run: bool| {
        let request = RestoreVersionRequest {
            version: version.clone(),
            target: Some(taf_proto::path::from_raw(&b"/restored"[..])),
            partial: true,
            dry_run,
            ..RestoreVersionRequest::default()
        };
        let token = site.token.clone();
        let channel = site.served.channel(None);
        async move {
            let mut versions = VersionServiceClient::new(channel.await);
            let answer = versions.restore_version(signed(&token, request)).await;
            answer.map(|answer| answer.into_inner().job)
        }
    };
    drop(units.source);
    // Of an ability that this controller does not know.
    let source = of(vec![77]);
    source.connected().await;
    // Of what is whole it gets all.
    let whole = restore(false).await.unwrap();
    let (read, work) = units.drive.given().await;
    assert!(matches!(work, Work::Read(_)), "{work:?}");
    units.drive.show_drive(None, Medium::Loaded, "reading");
    let (_, work) = source.given().await;
    assert!(matches!(work, Work::Restore(_)), "{work:?}");
    site.cancel(&whole).await.unwrap();
    units.drive.withdrawn(&read).await;
    units.drive.fail(read, "STOPPED");
    site.ended(&whole).await;

    site.served.sql(partly).await;
    restore(true).await.unwrap();
    let refused = restore(false).await;
    drop(source);
    let message = refused.as_ref().unwrap_err().message().to_owned();
    for told in ["agents/files", "host host", "version test"] {
        assert!(message.contains(told), "{told}: {message}");
    }
    assert_eq!(reason(refused), "AGENT_TOO_OLD");

    // One that knows them is asked, and then an older one comes in its place.
    let source = of(knowing());
    source.connected().await;
    drop(source);
    within("the source agent's end", async {
        let sql = "SELECT count(*) FROM agents WHERE connected AND agent_name = 'files'";
        while site.served.count(sql).await > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let job = restore(false).await.unwrap();
    site.waits_for(&job, "source agent files is not connected")
        .await;
    let source = of(Vec::new());
    source.connected().await;
    let fault = site.failed(&job).await;
    assert_eq!(fault.reason, "AGENT_TOO_OLD", "{fault:?}");
    assert!(fault.next_step.contains("upgrade"), "{fault:?}");
    // At last one that knows them again.
    drop(source);
    let source = of(knowing());
    source.connected().await;
    restore(false).await.unwrap();
    let (_, work) = units.drive.given().await;
    assert!(matches!(work, Work::Read(_)), "{work:?}");
    let (_, work) = source.given().await;
    assert!(matches!(work, Work::Restore(_)), "{work:?}");
}
