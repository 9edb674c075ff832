//! Several jobs, each of a volume, that are left together.

use taf_proto::v1::volume_service_server::VolumeService;
use taf_proto::v1::{self as api};
use tonic::{Request, Status};

use super::{Answer, Controller, Response, Scene, Script, interrupted};

#[tonic::async_trait]
impl VolumeService for Controller {
    async fn rescan_volume(
        &self,
        request: Request<api::RescanVolumeRequest>,
    ) -> Answer<api::RescanVolumeResponse> {
        let request = request.into_inner();
        self.0.keys.lock().unwrap().push(request.request_id);
        Ok(Response::new(api::RescanVolumeResponse {
            job: "jobs/7".into(),
            ..api::RescanVolumeResponse::default()
        }))
    }

    async fn verify_volume(
        &self,
        request: Request<api::VerifyVolumeRequest>,
    ) -> Answer<api::VerifyVolumeResponse> {
        let request = request.into_inner();
        self.0.keys.lock().unwrap().push(request.request_id);
        Ok(Response::new(api::VerifyVolumeResponse {
            job: "jobs/7".into(),
            ..api::VerifyVolumeResponse::default()
        }))
    }

    async fn list_volumes(
        &self,
        _: Request<api::ListVolumesRequest>,
    ) -> Answer<api::ListVolumesResponse> {
        Err(Status::unimplemented(""))
    }

    async fn get_volume(
        &self,
        _: Request<api::GetVolumeRequest>,
    ) -> Answer<api::GetVolumeResponse> {
        Err(Status::unimplemented(""))
    }

    async fn label_volume(
        &self,
        _: Request<api::LabelVolumeRequest>,
    ) -> Answer<api::LabelVolumeResponse> {
        Err(Status::unimplemented(""))
    }

    async fn label_volumes(
        &self,
        _: Request<api::LabelVolumesRequest>,
    ) -> Answer<api::LabelVolumesResponse> {
        Err(Status::unimplemented(""))
    }

    async fn erase_volume(
        &self,
        _: Request<api::EraseVolumeRequest>,
    ) -> Answer<api::EraseVolumeResponse> {
        Err(Status::unimplemented(""))
    }

    async fn inspect_volume(
        &self,
        _: Request<api::InspectVolumeRequest>,
    ) -> Answer<api::InspectVolumeResponse> {
        Err(Status::unimplemented(""))
    }

    async fn reclaim_volumes(
        &self,
        _: Request<api::ReclaimVolumesRequest>,
    ) -> Answer<api::ReclaimVolumesResponse> {
        Err(Status::unimplemented(""))
    }
}

#[tokio::test]
async fn ctrl_c_leaves_all_jobs_of_a_rebuild_and_says_nothing_of_what_they_come_to() {
    let scene = Scene::start(Script::default()).await;
    let told = interrupted(&scene, &["catalog", "rebuild", "TAF001L8", "TAF002L8"]).await;
    for word in ["the jobs go on", "afterwards: taf catalog rebuild --status"] {
        assert!(told.contains(word), "no '{word}': {told}");
    }
    assert!(!told.contains("taf volume inspect"), "{told}");
    assert_eq!(scene.script.keys.lock().unwrap().len(), 2);
    assert!(scene.script.cancelled.lock().unwrap().is_empty());
}

#[tokio::test]
async fn ctrl_c_leaves_all_verifications_and_not_one_after_the_other() {
    let scene = Scene::start(Script::default()).await;
    let told = interrupted(&scene, &["volume", "verify", "TAF001L8", "TAF002L8"]).await;
    assert!(told.contains("job 7 goes on"), "{told}");
    assert!(told.contains("so do the others"), "{told}");
}
