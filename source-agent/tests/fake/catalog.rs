//! The fake controller's catalog.

use super::*;

pub struct FakeCatalog(pub Arc<Told>);

#[tonic::async_trait]
impl CatalogService for FakeCatalog {
    type FetchSelectionStream = Answers<FetchSelectionResponse>;
    type FetchRecallStream = Answers<FetchRecallResponse>;
    type FetchBaseStream = Answers<FetchBaseResponse>;
    type FetchRemovalsStream = Answers<FetchRemovalsResponse>;
    type FetchListingsStream = Answers<FetchListingsResponse>;
    type FetchPagesStream = Answers<FetchPagesResponse>;

    async fn commit_part(
        &self,
        _: Request<Streaming<CommitPartRequest>>,
    ) -> Result<Response<CommitPartResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn report_orphan(
        &self,
        _: Request<ReportOrphanRequest>,
    ) -> Result<Response<ReportOrphanResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn judge_part(
        &self,
        _: Request<JudgePartRequest>,
    ) -> Result<Response<JudgePartResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn report_volume(
        &self,
        _: Request<ReportVolumeRequest>,
    ) -> Result<Response<ReportVolumeResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    type FetchIndexStream = Answers<FetchIndexResponse>;

    async fn fetch_index(
        &self,
        _: Request<FetchIndexRequest>,
    ) -> Result<Response<Self::FetchIndexStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn commit_index(
        &self,
        _: Request<CommitIndexRequest>,
    ) -> Result<Response<CommitIndexResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    type FetchVerificationStream = Answers<FetchVerificationResponse>;

    async fn fetch_verification(
        &self,
        _: Request<FetchVerificationRequest>,
    ) -> Result<Response<Self::FetchVerificationStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn report_scan(
        &self,
        _: Request<tonic::Streaming<taf_proto::agent::ReportScanRequest>>,
    ) -> Result<Response<taf_proto::agent::ReportScanResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn report_verification(
        &self,
        _: Request<ReportVerificationRequest>,
    ) -> Result<Response<ReportVerificationResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn fetch_selection(
        &self,
        _: Request<FetchSelectionRequest>,
    ) -> Result<Response<Self::FetchSelectionStream>, Status> {
        let selection = self.0.selection.lock().unwrap().clone();
        Ok(Response::new(Box::pin(futures::stream::iter([Ok(
            selection,
        )]))))
    }

    async fn fetch_base(
        &self,
        request: Request<FetchBaseRequest>,
    ) -> Result<Response<Self::FetchBaseStream>, Status> {
        let answers = self.0.base.fetch(request.get_ref());
        Ok(Response::new(Box::pin(futures::stream::iter(answers))))
    }

    async fn fetch_dictionaries(
        &self,
        _: Request<FetchDictionariesRequest>,
    ) -> Result<Response<FetchDictionariesResponse>, Status> {
        Ok(Response::new(FetchDictionariesResponse::default()))
    }

    async fn claim_drive(
        &self,
        _: Request<ClaimDriveRequest>,
    ) -> Result<Response<ClaimDriveResponse>, Status> {
        self.0.base.claim().map(Response::new)
    }

    async fn fetch_recall(
        &self,
        request: Request<FetchRecallRequest>,
    ) -> Result<Response<Self::FetchRecallStream>, Status> {
        let FetchRecallRequest {
            recording_uuids: wanted,
            revision,
            ..
        } = request.into_inner();
        let turns = self.0.turns.lock().unwrap().clone();
        let turn = turns.into_iter().find(|turn| turn.recordings == wanted);
        let recall = turn.map_or_else(|| self.0.recall.lock().unwrap().clone(), |turn| turn.recall);
        if !revision.is_empty() && revision != recall[0].revision {
            let (code, no) = (Code::FailedPrecondition, []);
            return Err(faults::status(code, "VERSION_CHANGED", "it has", no));
        }
        let mut answers: Vec<_> = recall.into_iter().map(Ok).collect();
        let mut breaks = self.0.recall_breaks.lock().unwrap();
        if !breaks.is_empty() {
            answers.truncate(breaks.remove(0));
            answers.push(Err(Status::unavailable("the controller goes down")));
            if let Some(then) = self.0.recall_then.lock().unwrap().take() {
                *self.0.recall.lock().unwrap() = then;
            }
        }
        Ok(Response::new(Box::pin(futures::stream::iter(answers))))
    }

    async fn fetch_pages(
        &self,
        _: Request<FetchPagesRequest>,
    ) -> Result<Response<Self::FetchPagesStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn fetch_listings(
        &self,
        _: Request<FetchListingsRequest>,
    ) -> Result<Response<Self::FetchListingsStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn fetch_removals(
        &self,
        _: Request<FetchRemovalsRequest>,
    ) -> Result<Response<Self::FetchRemovalsStream>, Status> {
        Err(Status::unimplemented("nothing is removed here"))
    }

    async fn locate_volume(
        &self,
        request: Request<LocateVolumeRequest>,
    ) -> Result<Response<LocateVolumeResponse>, Status> {
        let wanted = request.into_inner().recording_uuid;
        self.0.asked.lock().unwrap().push(wanted.clone());
        if let Some((there, worker)) = &*self.0.place.lock().unwrap()
            && *there == wanted
        {
            let worker = Some(worker.clone());
            return Ok(Response::new(LocateVolumeResponse { worker }));
        }
        let (code, reason) = match *self.0.lost.lock().unwrap() {
            Some(reason) => (Code::FailedPrecondition, reason),
            None => (Code::Unavailable, "NOT_READY"),
        };
        let none: [(&str, String); 0] = [];
        Err(faults::status(code, reason, "as the test wants it", none))
    }

    /// If everything is on one volume it is read once. A further turn is there when the drive was left to others.
    async fn take_volumes(
        &self,
        request: Request<TakeVolumesRequest>,
    ) -> Result<Response<TakeVolumesResponse>, Status> {
        let request = request.into_inner();
        let attempt = request.key.unwrap().attempt;
        if *self.0.waits.lock().unwrap() == Some(attempt) {
            *self.0.waited.lock().unwrap() += 1;
            return Ok(Response::new(TakeVolumesResponse::default()));
        }
        let read = request.read_recording_uuids;
        let turns = self.0.turns.lock().unwrap().clone();
        if !turns.is_empty() {
            let mut left = turns.into_iter().map(|turn| turn.recordings);
            let next = left.find(|turn| turn.iter().all(|one| !read.contains(one)));
            let complete = next.is_none();
            let waits = !read.is_empty() && !*self.0.rested.lock().unwrap();
            return Ok(Response::new(TakeVolumesResponse {
                recording_uuids: next.filter(|_| !waits).unwrap_or_default(),
                complete,
            }));
        }
        let complete = !read.is_empty();
        let one = bytes::Bytes::from_static(&[0; 16]);
        let recording_uuids = if complete { Vec::new() } else { vec![one] };
        Ok(Response::new(TakeVolumesResponse {
            recording_uuids,
            complete,
        }))
    }

    async fn report_issues(
        &self,
        request: Request<ReportIssuesRequest>,
    ) -> Result<Response<ReportIssuesResponse>, Status> {
        let request = request.into_inner();
        assert!(request.issues.len() <= 1000);
        let attempt = request.key.unwrap().attempt;
        let mut all = self.0.issues.lock().unwrap();
        let known = all.entry(attempt).or_default();
        assert_eq!(request.first_number, known.len() as u64 + 1);
        for (number, issue) in (request.first_number..).zip(request.issues) {
            known.push((number, issue));
        }
        Ok(Response::new(ReportIssuesResponse {}))
    }
}
