//! Health through the API: what workers report, what follows from it, what people are shown.
#![allow(clippy::unwrap_used, missing_docs)]

mod served;
mod support;

use served::{Served, reason, signed};
use taf_peer::identity::Role;
use taf_proto::agent::mount_service_client::MountServiceClient;
use taf_proto::agent::raised_alert::Measure;
use taf_proto::agent::{AssignmentKey, Generation, LifeUsage, RaisedAlert, ReportMountRequest};
use taf_proto::v1::device_service_client::DeviceServiceClient;
use taf_proto::v1::health_service_client::HealthServiceClient;
use taf_proto::v1::job_service_client::JobServiceClient;
use taf_proto::v1::volume_service_client::VolumeServiceClient;
use taf_proto::v1::{self, AlertSeverity, Cleaning, DriveState, HealthGrade, HealthVerdict, Mount};
use tonic::Status;
use tonic::transport::Channel;
use uuid::Uuid;

/// Two drives of one agent and three volumes, with an attempt of a job for each pair that a test wants.
struct Site {
    served: Served,
    token: String,
    people: Channel,
    agent: Channel,
}

impl Site {
    async fn new() -> Self {
        let served = Served::start().await;
        let token = served.administrator().await;
        served
            .sql(
                "INSERT INTO agents (agent_name, role, enrolled_at) VALUES ('tape-1', 'tape-agent', now()), ('tape-2', 'tape-agent', now()); \
                 INSERT INTO drives (serial, vendor, product, firmware, agent_id, addresses, incarnation, last_heard_at, connected, medium) \
                 SELECT s, 'V', 'P', 'F', a.id, 'h:1', '00000000-0000-4000-8000-000000000001', now(), true, 'empty' \
                 FROM (SELECT unnest(ARRAY['D1', 'D2', 'D3']) AS s) AS x JOIN agents a ON a.agent_name = 'tape-1'; \
                 INSERT INTO pools (pool_name, block_size, part_size, created_at) VALUES ('main', 65536, 17179869184, now()); \
                 INSERT INTO volumes (barcode, volume_uuid, pool_id, state, recording_uuid, block_size, next_tape_file, next_block, labelled_at, created_at) \
                 SELECT b, md5(b)::uuid, p.id, 'appendable', md5(b || 'r')::uuid, 65536, 1, 4, now(), now() \
                 FROM (SELECT unnest(ARRAY['T1', 'T2', 'T3']) AS b) AS x, pools p WHERE p.pool_name = 'main';",
            )
            .await;
        let people = served.channel(None).await;
        let certificate = served.certificate(Role::TapeAgent, "tape-1");
        let agent = served.channel(Some(&certificate)).await;
        Self {
            served,
            token,
            people,
            agent,
        }
    }

    /// An attempt that has ended, of a job of its own.
    async fn attempt(&self, drive: &str, volume: &str) -> AssignmentKey {
        let sql = format!(
            "INSERT INTO jobs (kind, state, creator, volume_id, created_at, started_at, ended_at) \
             SELECT 'label', 'succeeded', 'accounts/root', id, now(), now(), now() FROM volumes WHERE barcode = '{volume}' RETURNING id"
        );
        let job = self.served.count(&sql).await;
        let sql = format!(
            "INSERT INTO attempts (job_id, epoch, generation, drive_id, verdict, started_at, ended_at) \
             SELECT {job}, 1, {job}, d.id, 'succeeded', now(), now() FROM drives d \
             WHERE d.serial = '{drive}' RETURNING id"
        );
        AssignmentKey {
            attempt: self.served.count(&sql).await as u64,
            generation: Some(Generation {
                epoch: 1,
                counter: job as u64,
            }),
            step: 1,
        }
    }

    async fn report(&self, request: ReportMountRequest) -> Result<(), Status> {
        let mut client = MountServiceClient::new(self.agent.clone());
        client.report_mount(request).await.map(|_| ())
    }

    /// A mount that ended, good or with lost data.
    async fn mount(&self, drive: &str, volume: &str, lost: u64) -> ReportMountRequest {
        let request = ReportMountRequest {
            mount_uuid: Uuid::new_v4().as_bytes().to_vec().into(),
            key: Some(self.attempt(drive, volume).await),
            drive_serial: drive.to_owned(),
            barcode: volume.to_owned(),
            mount: Some(Mount {
                begin_time: Some(stamp(100)),
                end_time: Some(stamp(200)),
                written_byte_count: Some(1_000),
                write_corrected_count: Some(3),
                write_uncorrected_count: Some(lost),
                ..Mount::default()
            }),
            cleaning: Cleaning::NotWanted.into(),
            ..ReportMountRequest::default()
        };
        self.report(request.clone()).await.unwrap();
        request
    }

    async fn drive_health(&self, serial: &str) -> v1::GetDriveHealthResponse {
        let request = v1::GetDriveHealthRequest {
            name: format!("drives/{serial}"),
        };
        let mut client = HealthServiceClient::new(self.people.clone());
        let answer = client.get_drive_health(signed(&self.token, request)).await;
        answer.unwrap().into_inner()
    }

    async fn volume_health(&self, barcode: &str) -> v1::GetVolumeHealthResponse {
        let request = v1::GetVolumeHealthRequest {
            name: format!("volumes/{barcode}"),
        };
        let mut client = HealthServiceClient::new(self.people.clone());
        let answer = client.get_volume_health(signed(&self.token, request)).await;
        answer.unwrap().into_inner()
    }

    async fn drives(&self) -> Vec<v1::Drive> {
        let mut client = DeviceServiceClient::new(self.people.clone());
        let request = signed(&self.token, v1::ListDrivesRequest::default());
        client
            .list_drives(request)
            .await
            .unwrap()
            .into_inner()
            .drives
    }

    async fn volume(&self, barcode: &str) -> v1::Volume {
        let request = v1::GetVolumeRequest {
            name: format!("volumes/{barcode}"),
        };
        let mut client = VolumeServiceClient::new(self.people.clone());
        let answer = client.get_volume(signed(&self.token, request)).await;
        answer.unwrap().into_inner().volume.unwrap()
    }
}

fn stamp(seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds, nanos: 0 }
}

fn raised(flag: u32, title: &str, measure: Measure) -> RaisedAlert {
    RaisedAlert {
        alert: Some(v1::TapeAlert {
            flag,
            title: title.to_owned(),
            severity: AlertSeverity::Critical.into(),
            meaning: "something failed".to_owned(),
            action: "call somebody".to_owned(),
            mount_time: None,
        }),
        measure: measure.into(),
    }
}

#[tokio::test]
async fn a_report_comes_once_however_often_it_is_sent_and_is_shown_as_it_was_counted() {
    let site = Site::new().await;
    let mut request = site.mount("D1", "T1", 0).await;
    site.report(request.clone()).await.unwrap();
    // More is known later.
    request.usage = Some(LifeUsage {
        write_retry_count: 4,
        suspended_write_count: 4,
        ..LifeUsage::default()
    });
    let mount = request.mount.as_mut().unwrap();
    mount.written_byte_count = Some(5_000);
    mount.medium_serial = "HA1".to_owned();
    mount.load_count = Some(17_000);
    site.report(request).await.unwrap();

    let found = site.volume_health("T1").await;
    let mounts = found.mounts;
    assert_eq!(mounts.len(), 1, "{mounts:#?}");
    let one = &mounts[0];
    assert_eq!(
        (one.drive.as_str(), one.volume.as_str()),
        ("drives/D1", "volumes/T1")
    );
    assert_eq!(
        (one.written_byte_count, one.write_corrected_count),
        (Some(5_000), Some(3))
    );
    // What was not told is not zero.
    assert_eq!(
        (one.read_byte_count, one.medium_serial.as_str()),
        (None, "HA1")
    );
    assert_eq!(
        (one.begin_time, one.end_time),
        (Some(stamp(100)), Some(stamp(200)))
    );
    let health = found.health.unwrap();
    assert_eq!(health.seed_score, Some(88));
    assert_eq!(
        (health.wear_percent, health.wear.as_str()),
        (Some(85), "17000 of 20000 loads")
    );
    assert!(health.retire_reason.contains("85 %"), "{health:#?}");
    assert_eq!((health.grade(), health.mount_count), (HealthGrade::Good, 1));
    let drive = site.drive_health("D1").await;
    assert_eq!(drive.health.unwrap().score, Some(100));
    assert_eq!(drive.cleaning, i32::from(Cleaning::NotWanted));
    let untouched = site.volume_health("T2").await.health.unwrap();
    assert_eq!(
        (untouched.score, untouched.grade()),
        (None, HealthGrade::Unspecified)
    );
}

#[tokio::test]
async fn what_a_proved_cartridge_says_of_itself_is_kept_with_its_volume() {
    let site = Site::new().await;
    let mut request = site.mount("D1", "T1", 0).await;
    request.mount.as_mut().unwrap().medium_serial = "HA1".to_owned();
    request.density = 0x5e;
    // It may have been any cartridge.
    site.report(request.clone()).await.unwrap();
    assert_eq!(site.volume("T1").await.medium_serial, "");
    request.proved = true;
    site.report(request.clone()).await.unwrap();
    assert_eq!(site.volume("T1").await.medium_serial, "HA1");
    let density = "SELECT density::bigint FROM volumes WHERE barcode = 'T1'";
    assert_eq!(site.served.count(density).await, 0x5e);
    // A drive that tells less takes nothing away.
    request.mount.as_mut().unwrap().medium_serial.clear();
    request.density = 0;
    site.report(request).await.unwrap();
    assert_eq!(site.volume("T1").await.medium_serial, "HA1");
    assert_eq!(site.served.count(density).await, 0x5e);
}

#[tokio::test]
async fn drive_or_tape_is_told_by_the_matrix_of_mounts() {
    let site = Site::new().await;
    site.mount("D1", "T1", 1).await;
    let alone = site.volume_health("T1").await.health.unwrap();
    assert_eq!(alone.verdict(), HealthVerdict::Unknown);
    assert!(
        alone.next_step.contains("volume T1 in another drive"),
        "{}",
        alone.next_step
    );
    assert_eq!(alone.witnesses, ["drives/D1"]);

    site.mount("D2", "T2", 0).await;
    let named = site.volume_health("T1").await.health.unwrap();
    assert!(
        named.next_step.contains("drive D2, which works"),
        "{}",
        named.next_step
    );

    site.mount("D2", "T1", 1).await;
    let guilty = site.volume_health("T1").await.health.unwrap();
    assert_eq!(guilty.verdict(), HealthVerdict::Guilty);
    assert_eq!(guilty.witnesses, ["drives/D1", "drives/D2"]);
    assert_eq!(guilty.grade(), HealthGrade::Critical);
    assert!(
        guilty.reasons[0].message.contains("D1 and D2"),
        "{guilty:#?}"
    );
    // The same in lists and with the volume.
    assert_eq!(site.volume("T1").await.health.unwrap(), guilty);
}

#[tokio::test]
async fn alerts_act_once_and_a_person_has_the_last_word() {
    let site = Site::new().await;
    let mut request = site.mount("D1", "T1", 0).await;
    request.alerts = vec![
        raised(0x1e, "hardware A", Measure::DriveDown),
        raised(
            0x34,
            "tape system area write failure",
            Measure::VolumeReadOnly,
        ),
        raised(0x13, "nearing media life", Measure::RetireVolume),
    ];
    request.cleaning = Cleaning::Required.into();
    site.report(request.clone()).await.unwrap();

    let drives = site.drives().await;
    assert_eq!(drives[0].state(), DriveState::Down);
    assert!(
        drives[0].down_reason.contains("1Eh, hardware A"),
        "{}",
        drives[0].down_reason
    );
    assert_eq!(drives[0].cleaning(), Cleaning::Required);
    assert_eq!(drives[1].state(), DriveState::Empty);
    let volume = site.volume("T1").await;
    assert_eq!(volume.state(), v1::VolumeState::ReadOnly);
    assert!(
        volume.state_reason.contains("34h"),
        "{}",
        volume.state_reason
    );
    let health = volume.health.unwrap();
    assert!(health.retire_reason.contains("13h"), "{health:#?}");
    let flags: Vec<u32> = health.alerts.iter().map(|alert| alert.flag).collect();
    assert_eq!(flags, [0x13, 0x1e, 0x34]);
    assert_eq!(health.alerts[0].mount_time, Some(stamp(100)));

    // On the job, too.
    let job = site.volume_health("T1").await.mounts[0].job.clone();
    let mut jobs = JobServiceClient::new(site.people.clone());
    let asked = signed(&site.token, v1::GetJobRequest { name: job.clone() });
    let job = jobs.get_job(asked).await.unwrap().into_inner().job.unwrap();
    assert_eq!(job.alerts.len(), 3, "{job:#?}");

    // A person puts the drive up; the same report again changes nothing, a new flag does.
    let mut health = HealthServiceClient::new(site.people.clone());
    let up = || {
        let name = "drives/D1".to_owned();
        signed(
            &site.token,
            v1::PutDriveUpRequest {
                name,
                ..Default::default()
            },
        )
    };
    health.put_drive_up(up()).await.unwrap();
    assert_eq!(reason(health.put_drive_up(up()).await), "DRIVE_NOT_DOWN");
    site.report(request.clone()).await.unwrap();
    assert_eq!(site.drives().await[0].state(), DriveState::Empty);
    request
        .alerts
        .push(raised(0x26, "predictive failure", Measure::DriveDown));
    site.report(request).await.unwrap();
    assert!(site.drive_health("D1").await.down_reason.contains("26h"));
    let audited = site.served.count("SELECT count(*) FROM audit WHERE action = 'HealthService.PutDriveUp' AND subject = 'drives/D1'").await;
    assert_eq!(audited, 2);
}

#[tokio::test]
async fn a_drive_that_a_person_took_down_stays_down_for_that_reason() {
    let site = Site::new().await;
    let mut health = HealthServiceClient::new(site.people.clone());
    let down = |reason: &str| {
        let (name, reason) = ("drives/D2".to_owned(), reason.to_owned());
        signed(
            &site.token,
            v1::TakeDriveDownRequest {
                name,
                reason,
                ..Default::default()
            },
        )
    };
    let refused = health.take_drive_down(down(" ")).await;
    assert_eq!(refused.unwrap_err().code(), tonic::Code::InvalidArgument);
    health.take_drive_down(down("new firmware")).await.unwrap();
    assert_eq!(
        reason(health.take_drive_down(down("again")).await),
        "DRIVE_DOWN"
    );
    assert_eq!(site.drive_health("D2").await.down_reason, "new firmware");
    let name = "drives/NONE".to_owned();
    let asked = signed(
        &site.token,
        v1::PutDriveUpRequest {
            name,
            ..Default::default()
        },
    );
    assert_eq!(
        reason(health.put_drive_up(asked).await),
        "RESOURCE_NOT_FOUND"
    );
}

#[tokio::test]
async fn only_the_drives_own_agent_reports_and_only_of_attempts_that_were() {
    let site = Site::new().await;
    let good = site.mount("D1", "T1", 0).await;
    let other = site.served.certificate(Role::TapeAgent, "tape-2");
    let mut stranger = MountServiceClient::new(site.served.channel(Some(&other)).await);
    assert_eq!(
        reason(stranger.report_mount(good.clone()).await),
        "STALE_ASSIGNMENT"
    );
    let source = site.served.certificate(Role::SourceAgent, "files");
    let mut wrong = MountServiceClient::new(site.served.channel(Some(&source)).await);
    let refused = wrong.report_mount(good.clone()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    let mut old = good.clone();
    old.key
        .as_mut()
        .unwrap()
        .generation
        .as_mut()
        .unwrap()
        .counter += 1;
    assert_eq!(reason(site.report(old).await), "STALE_ASSIGNMENT");
    // Nonsense is refused, a counter that can't be is not known.
    let mut bad = good.clone();
    bad.mount_uuid = vec![1].into();
    assert_eq!(
        site.report(bad).await.unwrap_err().code(),
        tonic::Code::InvalidArgument
    );
    let mut broken = good;
    broken.mount.as_mut().unwrap().written_byte_count = Some(u64::MAX);
    broken.alerts = vec![raised(99, "x", Measure::DriveDown)];
    site.report(broken).await.unwrap();
    let found = site.volume_health("T1").await;
    assert_eq!(found.mounts[0].written_byte_count, None);
    assert!(found.mounts[0].alerts.is_empty());
    // A cartridge that is none of the catalog's is kept with the drive.
    let mut foreign = site.mount("D1", "T2", 0).await;
    foreign.mount_uuid = Uuid::new_v4().as_bytes().to_vec().into();
    foreign.barcode = "X".to_owned();
    site.report(foreign).await.unwrap();
    assert_eq!(site.drive_health("D1").await.mounts[0].volume, "");
}

#[tokio::test]
async fn mounts_are_listed_newest_first_by_drive_volume_and_job() {
    let site = Site::new().await;
    for (drive, volume) in [("D1", "T1"), ("D1", "T2"), ("D2", "T1")] {
        site.mount(drive, volume, 0).await;
    }
    let mut client = HealthServiceClient::new(site.people.clone());
    let mut list = async |request: v1::ListMountsRequest| {
        let answer = client.list_mounts(signed(&site.token, request)).await;
        answer.unwrap().into_inner()
    };
    let first = list(v1::ListMountsRequest {
        page_size: 2,
        ..Default::default()
    })
    .await;
    let names = |mounts: &[Mount]| -> Vec<String> {
        mounts
            .iter()
            .map(|m| format!("{} {}", m.drive, m.volume))
            .collect()
    };
    assert_eq!(
        names(&first.mounts),
        ["drives/D2 volumes/T1", "drives/D1 volumes/T2"]
    );
    let second = list(v1::ListMountsRequest {
        page_size: 2,
        page_token: first.next_page_token,
        ..Default::default()
    });
    let second = second.await;
    assert_eq!(names(&second.mounts), ["drives/D1 volumes/T1"]);
    assert!(second.next_page_token.is_empty());
    let of = list(v1::ListMountsRequest {
        volume: "volumes/T1".into(),
        ..Default::default()
    })
    .await;
    assert_eq!(of.mounts.len(), 2);
    let of = list(v1::ListMountsRequest {
        drive: "drives/D1".into(),
        volume: "volumes/T2".into(),
        ..Default::default()
    });
    assert_eq!(of.await.mounts.len(), 1);
    let of = list(v1::ListMountsRequest {
        job: second.mounts[0].job.clone(),
        ..Default::default()
    })
    .await;
    assert_eq!(names(&of.mounts), ["drives/D1 volumes/T1"]);
}

#[tokio::test]
async fn capacity_that_is_lost_without_a_cause_is_said() {
    let site = Site::new().await;
    let mut request = site.mount("D1", "T3", 0).await;
    let mount = request.mount.as_mut().unwrap();
    mount.early_warning = true;
    mount.native_byte_count = Some(100 * 65_536);
    request.end_block = 96;
    site.report(request.clone()).await.unwrap();
    assert_eq!(
        site.volume_health("T3").await.health.unwrap().score,
        Some(100)
    );
    request.end_block = 80;
    site.report(request).await.unwrap();
    let health = site.volume_health("T3").await.health.unwrap();
    assert!(
        health.reasons[0]
            .message
            .contains("80 % of its native capacity"),
        "{health:#?}"
    );
    assert_eq!(health.score, Some(75));
}
