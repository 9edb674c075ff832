//! Dumps: the person's side, where a restore begins that writes nowhere, and the agent's, which sends what it reads. Between them
//! is [`crate::session::dump`].

use std::pin::Pin;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use taf_format::entry::Kind;
use taf_proto::agent::dump_service_server::DumpService as AgentDumpService;
use taf_proto::agent::{SendDumpRequest, SendDumpResponse, send_dump_request};
use taf_proto::v1::dump_service_server::DumpService;
use taf_proto::v1::dump_version_response::Message;
use taf_proto::v1::{
    DumpBegun as Begun, DumpFormat, DumpSummary, DumpVersionRequest, DumpVersionResponse,
    RestoreVersionRequest, RestoreVersionResponse,
};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

use super::mutation::Mutation;
use super::version::Versions;
use super::{names, status};
use crate::access::Caller;
use crate::app::App;
use crate::catalog::View;
use crate::catalog::report::{self, Side};
use crate::catalog::view::Found;
use crate::session::dump::{Awaited, Dumps, MOST, Piece, Reader};
use crate::session::{Registry, Unit};
use crate::store::{self, dumps, jobs};

/// Largest piece, bytes.
const PIECE: usize = 256 << 10;
/// The job is asked how it is this often, and told that somebody waits.
const EVERY: Duration = Duration::from_secs(1);
/// A reader that takes nothing holds a drive for at most so long.
const STALLED: Duration = Duration::from_mins(15);

/// Both services.
#[derive(Clone)]
pub struct DumpServices {
    app: App,
    registry: Registry,
    versions: Versions,
    dumps: Dumps,
}

impl DumpServices {
    /// The services. New jobs wake the reconciler.
    pub fn new(app: App, registry: Registry) -> Self {
        Self {
            versions: Versions::new(app.clone(), registry.clone()),
            app,
            registry,
            dumps: Dumps::default(),
        }
    }

    /// What the chosen things come as.
    async fn format(&self, request: &DumpVersionRequest) -> Result<DumpFormat, Status> {
        let asked = DumpFormat::try_from(request.format)
            .map_err(|_| status::invalid("format", "must be a value of DumpFormat"))?;
        if asked == DumpFormat::Tar {
            return Ok(asked);
        }
        let one = match (request.paths.as_slice(), request.patterns.as_slice()) {
            ([path], []) => {
                let wanted = super::version::relative(Some(path))
                    .map_err(|e| status::invalid("paths[0]", e))?;
                let (version, _) = self.versions.version("version", &request.version).await?;
                super::version::readable(&request.version, &version)?;
                let view = View::of(&self.app.store, &version).await?;
                let found = view.stat(&wanted).await?;
                let found = found.ok_or_else(|| super::version::no_such_path(&wanted))?;
                matches!(found, Found::Entry(entry) if entry.kind == Kind::File)
            }
            _ => false,
        };
        match (asked, one) {
            (_, true) => Ok(DumpFormat::File),
            (DumpFormat::File, false) => Err(status::precondition(
                "NOT_ONE_FILE",
                "what is chosen is not one regular file: name the path of one, or take it as a tar archive",
            )),
            (_, false) => Ok(DumpFormat::Tar),
        }
    }

    /// Makes the job, and waits for what its agent sends.
    async fn begin(
        &self,
        request: &DumpVersionRequest,
        mutation: &Mutation,
    ) -> Result<(i64, Begun, Awaited, Reader), Status> {
        let place = self.dumps.place().ok_or_else(|| {
            status::fault(
                Code::ResourceExhausted,
                "DUMPS_BUSY",
                format!(
                    "this controller has {MOST} dumps under way already: wait for one of them, or restore to a host"
                ),
            )
        })?;
        let format = self.format(request).await?;
        let planned = self.versions.plan_dump(&restore(request)).await?;
        if !self.registry.is_connected(Unit::Source(planned.agent_id)) {
            return Err(status::precondition(
                "AGENT_NOT_CONNECTED",
                format!(
                    "{} is not connected to this controller: start it, name another agent, or ask the controller that it is connected to",
                    planned.agent
                ),
            ));
        }
        let mut client = self.app.store.client().await?;
        let tx = client.transaction().await.map_err(store::Error::from)?;
        let made = self.versions.restore_on(&tx, planned, mutation.actor());
        let (job, plan) = made.await?;
        let stored = match format {
            DumpFormat::File => "file",
            _ => "tar",
        };
        dumps::dump_create_on(&tx, job, stored).await?;
        mutation.finish_on(&tx, &plan).await?;
        // Before anybody can know of the job.
        let (awaited, reader) = self.dumps.wait(place, job);
        tx.commit().await.map_err(store::Error::from)?;
        Ok((job, begun(format, plan), awaited, reader))
    }
}

/// The restore that a dump is: with one drive, since its stream has one order.
fn restore(request: &DumpVersionRequest) -> RestoreVersionRequest {
    RestoreVersionRequest {
        version: request.version.clone(),
        paths: request.paths.clone(),
        patterns: request.patterns.clone(),
        agent: request.agent.clone(),
        drives: 1,
        ..RestoreVersionRequest::default()
    }
}

fn begun(format: DumpFormat, plan: RestoreVersionResponse) -> Begun {
    Begun {
        format: format.into(),
        plan: Some(plan),
    }
}

fn responses(
    pieces: impl Stream<Item = Piece> + Send + 'static,
) -> <DumpServices as DumpService>::DumpVersionStream {
    Box::pin(pieces.map(|piece| {
        let message = Some(piece?);
        Ok(DumpVersionResponse { message })
    }))
}

/// Looks after a dump's job: says that somebody waits while somebody does, stops it when nobody does any more, and tells who waits
/// how it ended.
async fn keep(app: App, registry: Registry, job: i64, reader: Reader) {
    let Reader {
        over,
        said,
        gone,
        place: _place,
    } = reader;
    loop {
        let left = gone.run_until_cancelled(tokio::time::sleep(EVERY)).await;
        match left {
            Some(()) => {}
            // Who has heard the last word may go.
            None if said.is_cancelled() => tokio::time::sleep(EVERY).await,
            None => {
                tracing::info!(job, "nobody takes the dump any more");
                match cancel(&app, job).await {
                    Ok(()) => registry.wake(),
                    // It lapses by itself.
                    Err(error) => tracing::warn!(job, %error, "a dump could not be cancelled"),
                }
                return;
            }
        }
        match look(&app, job).await {
            Ok(None) => {}
            Ok(Some(status)) => {
                // Nobody is told who has gone, or has heard it all.
                let _ = over.send(status);
                return;
            }
            Err(error) => tracing::warn!(job, %error, "a dump's job could not be looked after"),
        }
    }
}

async fn cancel(app: &App, job: i64) -> Result<(), store::Error> {
    let mut client = app.store.client().await?;
    let tx = client.transaction().await?;
    jobs::job_cancel_on(&tx, job).await?;
    Ok(tx.commit().await?)
}

/// Says that somebody waits. Gives how the job ended, if it has.
async fn look(app: &App, job: i64) -> Result<Option<Status>, store::Error> {
    let client = app.store.client().await?;
    if dumps::dump_keep(&client, job).await? {
        return Ok(None);
    }
    let row = jobs::job_get(&client, job).await?;
    Ok(Some(match row.and_then(|row| row.fault) {
        Some(fault) => status::because(&fault.reason, fault.message, &fault.next_step),
        None => status::fault(
            Code::Aborted,
            "JOB_CANCELLED",
            format!("{} was cancelled", names::job(job)),
        ),
    }))
}

#[tonic::async_trait]
impl DumpService for DumpServices {
    type DumpVersionStream =
        Pin<Box<dyn Stream<Item = Result<DumpVersionResponse, Status>> + Send>>;

    async fn dump_version(
        &self,
        request: Request<DumpVersionRequest>,
    ) -> Result<Response<Self::DumpVersionStream>, Status> {
        let caller = Caller::of(&request)?.clone();
        let request = request.into_inner();
        if request.dry_run {
            let format = self.format(&request).await?;
            let planned = self.versions.plan_dump(&restore(&request)).await?;
            let only = Ok(Message::Begun(begun(format, planned.answer)));
            return Ok(Response::new(responses(stream::iter([only]))));
        }
        let version = request.version.as_str();
        let action = "DumpService.DumpVersion";
        let mutation = Mutation::new(&caller, action, version, "", &request)?;
        let outcome = self.begin(&request, &mutation).await;
        let begun = mutation.concluded(&self.app.store, outcome).await?;
        let (job, begun, awaited, reader) = begun.into_inner();
        self.registry.wake();
        tokio::spawn(keep(self.app.clone(), self.registry.clone(), job, reader));
        let pieces = stream::unfold(awaited, async |mut awaited| {
            let piece = awaited.next().await?;
            Some((piece, awaited))
        });
        let first = stream::iter([Ok(Message::Begun(begun))]);
        Ok(Response::new(responses(first.chain(pieces))))
    }
}

fn nobody() -> Status {
    status::fault(
        Code::NotFound,
        "DUMP_NOT_AWAITED",
        "nobody at this controller waits for this dump any more",
    )
}

#[tonic::async_trait]
impl AgentDumpService for DumpServices {
    type SendDumpStream = ReceiverStream<Result<SendDumpResponse, Status>>;

    async fn send_dump(
        &self,
        request: Request<Streaming<SendDumpRequest>>,
    ) -> Result<Response<Self::SendDumpStream>, Status> {
        let agent = Caller::agent(&request)?.id.clone();
        let mut incoming = request.into_inner();
        let first = incoming.message().await?.and_then(|first| first.message);
        let Some(send_dump_request::Message::Key(key)) = first else {
            return Err(status::invalid("key", "must come first"));
        };
        let client = self.app.store.client().await?;
        let assignment = report::assignment(&client, Some(&key), &agent, Side::Source).await?;
        drop(client);
        let waits = self.dumps.take(assignment.job_id);
        let pieces = waits.filter(|_| assignment.live).ok_or_else(nobody)?;
        let (answers, taken) = mpsc::channel(2);
        tokio::spawn(async move {
            if let Err(status) = pass_on(incoming, &pieces, &answers).await {
                // Nobody to tell if the agent has gone.
                let _ = answers.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(taken)))
    }
}

/// Passes on what the agent sends, as fast as it is taken. Without a last word the reader learns that there was none.
async fn pass_on(
    mut incoming: Streaming<SendDumpRequest>,
    pieces: &mpsc::Sender<Piece>,
    answers: &mpsc::Sender<Result<SendDumpResponse, Status>>,
) -> Result<(), Status> {
    use send_dump_request::Message as Sent;
    let mut summary = DumpSummary::default();
    let mut taken_count = 0;
    let answer = |taken_count| Ok(SendDumpResponse { taken_count });
    // From here on the agent knows that somebody waits.
    answers.send(answer(0)).await.map_err(gone_agent)?;
    loop {
        let message = tokio::select! {
            message = incoming.message() => message?,
            () = pieces.closed() => return Err(nobody()),
        };
        let Some(SendDumpRequest { message }) = message else {
            return Ok(());
        };
        match message {
            Some(Sent::Data(data)) if data.len() <= PIECE => {
                summary.data_byte_count += data.len() as u64;
                put(pieces, Ok(Message::Data(data))).await?;
                taken_count += 1;
                answers
                    .send(answer(taken_count))
                    .await
                    .map_err(gone_agent)?;
            }
            Some(Sent::Done(done)) => {
                summary.file_count = done.file_count;
                summary.directory_count = done.directory_count;
                summary.byte_count = done.byte_count;
                summary.issue_count = done.issue_count;
                summary.issue_counts = done.issue_counts;
                let last = Ok(Message::Summary(summary));
                return put(pieces, last).await;
            }
            Some(Sent::Fault(fault)) => {
                let last = Err(status::because(
                    &fault.reason,
                    fault.message,
                    &fault.next_step,
                ));
                return put(pieces, last).await;
            }
            Some(Sent::Data(_)) => {
                return Err(status::invalid("data", "must be at most 256 KiB"));
            }
            Some(Sent::Key(_)) => return Err(status::invalid("key", "must come once")),
            None => {}
        }
    }
}

/// Gives it to the reader, who has a while to take it.
async fn put(pieces: &mpsc::Sender<Piece>, piece: Piece) -> Result<(), Status> {
    use mpsc::error::SendTimeoutError::{Closed, Timeout};
    let sent = pieces.send_timeout(piece, STALLED).await;
    sent.map_err(|error| match error {
        Closed(_) => nobody(),
        Timeout(_) => status::fault(
            Code::DeadlineExceeded,
            "DUMP_READER_STALLED",
            format!(
                "whoever takes the dump took nothing for {} minutes, and a drive was held for it",
                STALLED.as_secs() / 60
            ),
        ),
    })
}

fn gone_agent<T>(_: T) -> Status {
    Status::cancelled("the agent has gone")
}
