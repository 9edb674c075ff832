//! Looking around in the catalog: finding, comparing, measuring, a path's past.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use prost::Message as _;
use taf_core::instant::Day;
use taf_format::entry::{Kind, Time};
use taf_proto::v1::catalog_service_server::CatalogService;
use taf_proto::v1::{
    DiffVersionsRequest, DiffVersionsResponse, DifferenceKind, DirectoryMeasure, EntryDifference,
    EntryKind, FindEntriesRequest, FindEntriesResponse, FoundEntry, MeasureDirectoriesRequest,
    MeasureDirectoriesResponse, PathState, ResolveVersionRequest, ResolveVersionResponse,
    TracePathRequest, TracePathResponse,
};
use taf_proto::{path, selection, v1};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};

use super::status::{self, Violations};
use super::version::{directory, entry, message, no_such_path, relative};
use super::{gaps, moments, names, timestamp, version_type};
use crate::app::App;
use crate::catalog::gap;
use crate::catalog::search::{self, Differs, Hit, Places, Wanted};
use crate::catalog::view::{Found, join};
use crate::catalog::{Error, View};
use crate::store::versions::{self, Filter, Version};
use crate::store::{Store, parts};

/// Searches at a time; each works on a few threads.
const SEARCHES: usize = 8;
/// Messages that wait for a slow reader.
const AHEAD: usize = 4;
/// Things in a message.
const MESSAGE: usize = 1_000;
/// Bytes of things at which a message ends.
const MESSAGE_BYTES: usize = 512 << 10;
/// Between two messages while nothing is found.
const PROGRESS: Duration = Duration::from_secs(1);

type Sender<T> = mpsc::Sender<Result<T, Status>>;
type Answers<T> = ReceiverStream<Result<T, Status>>;

/// `taf.v1.CatalogService`.
#[derive(Debug, Clone)]
pub struct Catalogs {
    app: App,
    searches: Arc<Semaphore>,
}

/// Versions of one line.
struct Line {
    plan: String,
    archive: bool,
    versions: search::Versions,
    /// What is looked at, if it is one version that is not whole.
    partial: Option<(Version, View)>,
}

impl Line {
    async fn of(store: &Store, versions: &[Version]) -> Result<Vec<Self>, Status> {
        let mut lines: BTreeMap<i64, Vec<&Version>> = BTreeMap::new();
        let (partial, whole): (Vec<&Version>, Vec<&Version>) =
            versions.iter().partition(|v| v.incomplete_reason.is_some());
        for version in whole {
            lines.entry(version.line_id).or_default().push(version);
        }
        let mut all = Vec::with_capacity(lines.len() + partial.len());
        let is_archive = |v: &Version| version_type::stored(&v.kind) == v1::VersionType::Archive;
        for (id, versions) in lines {
            let numbers = versions.iter().map(|v| (v.version, v.floor)).collect();
            all.push(Self {
                plan: versions[0].plan.clone(),
                archive: is_archive(versions[0]),
                versions: search::Versions::new(store, id, numbers).await?,
                partial: None,
            });
        }
        // What is known of these is not what is known of others, so each is looked at alone.
        for version in partial {
            let view = View::of(store, version).await?;
            all.push(Self {
                plan: version.plan.clone(),
                archive: is_archive(version),
                versions: search::Versions::of(&view).await?,
                partial: Some((version.clone(), view)),
            });
        }
        Ok(all)
    }
}

impl Catalogs {
    /// The service.
    pub fn new(app: App) -> Self {
        Self {
            app,
            searches: Arc::new(Semaphore::new(SEARCHES)),
        }
    }

    async fn version(&self, field: &str, name: &str) -> Result<Version, Status> {
        let (line, number) = names::version_numbers(name).map_err(|e| status::invalid(field, e))?;
        let client = self.app.store.client().await?;
        let found = versions::version_look(&client, line, number).await?;
        found.ok_or_else(|| status::not_found(name))
    }

    /// Versions, newest first, also those that are not whole; `plan` is a resource name.
    async fn versions(&self, plan: &str, archives: Option<bool>) -> Result<Vec<Version>, Status> {
        let plan = match plan {
            "" => None,
            name => Some(names::plan_id(name).map_err(|e| status::invalid("plan", e))?),
        };
        let filter = Filter {
            plan,
            archives,
            incomplete: true,
            ..Filter::default()
        };
        let client = self.app.store.client().await?;
        Ok(versions::version_list(&client, None, filter, i64::MAX).await?)
    }

    /// Answers with what `work` sends. It ends when nobody listens any more.
    fn answer<T: Send + 'static, F>(
        &self,
        work: impl FnOnce(Sender<T>) -> F,
    ) -> Result<Response<Answers<T>>, Status>
    where
        F: Future<Output = Result<(), Status>> + Send + 'static,
    {
        let permit = Arc::clone(&self.searches).try_acquire_owned();
        let permit = permit.map_err(|_| {
            status::fault(
                Code::ResourceExhausted,
                "TOO_MANY_SEARCHES",
                format!("{SEARCHES} searches are under way: try again when one has ended"),
            )
        })?;
        let (sender, receiver) = mpsc::channel(AHEAD);
        let work = work(sender.clone());
        tokio::spawn(async move {
            let _permit = permit;
            tokio::select! {
                outcome = work => if let Err(status) = outcome {
                    // Nobody to tell if the reader has gone.
                    let _ = sender.send(Err(status)).await;
                },
                () = sender.closed() => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// Only fails when nobody listens any more, which ends everything.
async fn send<T>(sender: &Sender<T>, message: T) -> Result<(), Status> {
    let gone = |_| Status::cancelled("the reader has gone");
    sender.send(Ok(message)).await.map_err(gone)
}

fn optional_directory(field: &str, given: Option<&v1::Path>) -> Result<Vec<u8>, Status> {
    match given {
        None => Ok(Vec::new()),
        Some(given) => relative(Some(given)).map_err(|e| status::invalid(field, e)),
    }
}

fn absolute(relative: &[u8]) -> v1::Path {
    path::from_raw([b"/", relative].concat())
}

fn shown(path: &[u8], found: &Found, lacks: String) -> v1::Entry {
    let shown = match found {
        Found::Directory(stat) => directory(path, stat),
        Found::Entry(found) => entry(found),
        Found::Unknown => v1::Entry::default(),
    };
    v1::Entry { lacks, ..shown }
}

fn kind(kind: EntryKind) -> Option<Kind> {
    Some(match kind {
        EntryKind::Unspecified => return None,
        EntryKind::File => Kind::File,
        EntryKind::Directory => Kind::Directory,
        EntryKind::Symlink => Kind::Symlink,
        EntryKind::Fifo => Kind::Fifo,
        EntryKind::CharDevice => Kind::CharDevice,
        EntryKind::BlockDevice => Kind::BlockDevice,
    })
}

/// What is looked for, with every bad word noted.
fn wanted(request: &FindEntriesRequest) -> Result<Wanted, Status> {
    let mut bad = Violations::new();
    let directory = match &request.directory {
        None => Vec::new(),
        Some(given) => bad
            .read("directory", relative(Some(given)))
            .unwrap_or_default(),
    };
    let rules: Vec<_> = request
        .patterns
        .iter()
        .map(|p| selection::parse(p))
        .collect();
    if let Err(error) = selection::Rules::new(&rules) {
        let field = match request.patterns.get(error.rule) {
            Some(_) => format!("patterns[{}]", error.rule),
            None => "patterns".to_owned(),
        };
        bad.add(field, error.why);
    }
    let mut kinds = Vec::new();
    for (index, given) in request.kinds.iter().enumerate() {
        match EntryKind::try_from(*given).ok().and_then(kind) {
            Some(kind) => kinds.push(kind),
            None => bad.add(format!("kinds[{index}]"), "must be a kind of entry"),
        }
    }
    if request.max_size.is_some_and(|most| most < request.min_size) {
        bad.add("max_size", "is less than min_size");
    }
    let mut time = |field: &str, given: Option<prost_types::Timestamp>| {
        let given = given?;
        let nanos = u32::try_from(given.nanos)
            .ok()
            .filter(|n| *n < 1_000_000_000);
        let Some(nanos) = nanos else {
            bad.add(field, "must have nanos from 0 to 999999999");
            return None;
        };
        Some(Time {
            seconds: given.seconds,
            nanos,
        })
    };
    let modified = (
        time("modified_since", request.modified_since),
        time("modified_before", request.modified_before),
    );
    if !request.version.is_empty() && !request.plan.is_empty() {
        bad.add("plan", "can't be given together with a version");
    }
    bad.check()?;
    Ok(Wanted {
        directory,
        rules,
        kinds,
        size: (request.min_size, request.max_size),
        modified,
    })
}

/// Hits as they are told, in their order.
async fn found_entries(
    hits: &[Hit],
    line: &Line,
    places: &Places,
) -> Result<Vec<FoundEntry>, Error> {
    let path = |hit: &Hit| join(&hit.directory, &hit.entry.name);
    let mut lacks = match &line.partial {
        Some((_, view)) => {
            let shown = hits
                .iter()
                .map(|hit| (path(hit), gap::Shown::Entry(&hit.entry)));
            gap::lacks(view, &shown.collect::<Vec<_>>()).await?
        }
        None => vec![None; hits.len()],
    };
    let found = hits.iter().zip(&mut lacks).map(|(hit, lacks)| {
        let volumes = places.volumes(hit.entry.place, hit.entry.tar_length);
        FoundEntry {
            path: Some(absolute(&path(hit))),
            entry: Some(v1::Entry {
                lacks: lacks.take().unwrap_or_default(),
                ..entry(&hit.entry)
            }),
            version: names::version(line.versions.line(), hit.newest),
            plan: names::plan(&line.plan),
            oldest_number: hit.oldest as u64,
            version_count: hit.count,
            volumes: volumes.into_iter().map(names::volume).collect(),
            archive: line.archive,
        }
    });
    Ok(found.collect())
}

/// Gathers what is found into messages.
struct Finder {
    sender: Sender<FindEntriesResponse>,
    left: u64,
    entries: Vec<FoundEntry>,
    bytes: usize,
    scanned: u64,
    sent: Instant,
    /// What could not be looked at.
    lacks: Vec<String>,
}

impl Finder {
    async fn look(&mut self, app: &App, lines: Vec<Line>, wanted: &Wanted) -> Result<(), Status> {
        for line in lines {
            let places = Places::of_line(&app.store, line.versions.line()).await?;
            let found = search::find(&app.store, line.versions.clone(), wanted.clone())
                .map_err(|error| status::invalid("patterns", error))?;
            let mut found = pin!(found);
            while let Some(batch) = found.try_next().await? {
                self.scanned += batch.scanned;
                for entry in found_entries(&batch.hits, &line, &places).await? {
                    self.bytes += entry.encoded_len();
                    self.entries.push(entry);
                    self.left -= 1;
                    if self.left == 0 {
                        return self.send(false).await;
                    }
                    if self.entries.len() >= MESSAGE || self.bytes >= MESSAGE_BYTES {
                        self.send(false).await?;
                    }
                }
                // Somebody waits: what was found in a batch does not wait for the next one.
                if !self.entries.is_empty() || self.sent.elapsed() >= PROGRESS {
                    self.send(false).await?;
                }
            }
            if let Some((version, view)) = &line.partial {
                let told = gaps::told_below(view, version, &wanted.directory).await?;
                self.lacks.extend(told);
            }
        }
        self.send(true).await
    }

    async fn send(&mut self, complete: bool) -> Result<(), Status> {
        self.bytes = 0;
        self.sent = Instant::now();
        let message = FindEntriesResponse {
            entries: std::mem::take(&mut self.entries),
            scanned_count: self.scanned,
            complete,
            lacks: if complete {
                std::mem::take(&mut self.lacks)
            } else {
                Vec::new()
            },
        };
        send(&self.sender, message).await
    }
}

/// Differences as they are told, in their order.
async fn differences(
    before: &View,
    after: &View,
    found: &[search::Difference],
) -> Result<Vec<EntryDifference>, Error> {
    let of_before = told(before, found, |it| it.before.as_ref()).await?;
    let of_after = told(after, found, |it| it.after.as_ref()).await?;
    let both = found.iter().zip(of_before.into_iter().zip(of_after));
    let told = both.map(|(found, (before, after))| {
        let kind = match found.differs {
            Differs::Added => DifferenceKind::Added,
            Differs::Removed => DifferenceKind::Removed,
            Differs::Kind => DifferenceKind::Type,
            Differs::Content => DifferenceKind::Content,
            Differs::Metadata => DifferenceKind::Metadata,
        };
        EntryDifference {
            path: Some(absolute(&found.path)),
            kind: kind.into(),
            before,
            after,
        }
    });
    Ok(told.collect())
}

/// What one of the versions has of each difference.
async fn told(
    view: &View,
    found: &[search::Difference],
    side: impl Fn(&search::Difference) -> Option<&Found>,
) -> Result<Vec<Option<v1::Entry>>, Error> {
    let there = found
        .iter()
        .filter_map(|it| Some((it.path.clone(), side(it)?.into())));
    let mut lacks = gap::lacks(view, &there.collect::<Vec<_>>())
        .await?
        .into_iter();
    let told = found.iter().map(|it| {
        let found = side(it)?;
        let lacks = lacks.next().flatten().unwrap_or_default();
        Some(shown(&it.path, found, lacks))
    });
    Ok(told.collect())
}

#[tonic::async_trait]
impl CatalogService for Catalogs {
    async fn resolve_version(
        &self,
        request: Request<ResolveVersionRequest>,
    ) -> Result<Response<ResolveVersionResponse>, Status> {
        let request = request.into_inner();
        let plan = names::plan_id(&request.plan).map_err(|e| status::invalid("plan", e))?;
        if request.at.is_empty() {
            return Err(status::invalid("at", "must be a moment, as in 3 days ago"));
        }
        let now = moments::now(&request.time_zone)?;
        let filter = Filter {
            plan: Some(plan),
            archives: Some(request.archives),
            until: moments::read("at", &request.at, &now, Day::Ends)?,
            incomplete: true,
            ..Filter::default()
        };
        let client = self.app.store.client().await?;
        let found = versions::version_list(&client, None, filter, 1).await?;
        let version = found.first().ok_or_else(|| {
            status::fault_with(
                Code::NotFound,
                "NO_VERSION_THEN",
                format!(
                    "{} had no version at that moment ({})",
                    request.plan, request.at
                ),
                &[("plan", &request.plan)],
            )
        })?;
        let parts = parts::part_list_of_version(&client, version.line_id, version.version).await?;
        let mut told = message(version, &parts);
        gaps::tell(&client, version, &mut told).await?;
        Ok(Response::new(ResolveVersionResponse {
            version: Some(told),
        }))
    }

    type FindEntriesStream = Answers<FindEntriesResponse>;

    async fn find_entries(
        &self,
        request: Request<FindEntriesRequest>,
    ) -> Result<Response<Self::FindEntriesStream>, Status> {
        let request = request.into_inner();
        let wanted = wanted(&request)?;
        let versions = match request.version.as_str() {
            "" => self.versions(&request.plan, None).await?,
            name => vec![self.version("version", name).await?],
        };
        let lines = Line::of(&self.app.store, &versions).await?;
        let app = self.app.clone();
        self.answer(|sender| async move {
            let mut finder = Finder {
                sender,
                left: match request.limit {
                    0 => u64::MAX,
                    limit => limit,
                },
                entries: Vec::new(),
                bytes: 0,
                scanned: 0,
                sent: Instant::now(),
                lacks: Vec::new(),
            };
            finder.look(&app, lines, &wanted).await
        })
    }

    type DiffVersionsStream = Answers<DiffVersionsResponse>;

    async fn diff_versions(
        &self,
        request: Request<DiffVersionsRequest>,
    ) -> Result<Response<Self::DiffVersionsStream>, Status> {
        let request = request.into_inner();
        let directory = optional_directory("directory", request.directory.as_ref())?;
        let old = self.version("version", &request.version).await?;
        let new = self
            .version("other_version", &request.other_version)
            .await?;
        let before = View::of(&self.app.store, &old).await?;
        let after = View::of(&self.app.store, &new).await?;
        if before.stat(&directory).await?.is_none() && after.stat(&directory).await?.is_none() {
            return Err(no_such_path(&directory));
        }
        self.answer(|sender| async move {
            let mut found = pin!(search::diff(&before, &after, &directory));
            while let Some(some) = found.try_next().await? {
                let some = search::certain(&before, &after, some).await?;
                for some in some.chunks(MESSAGE) {
                    let message = DiffVersionsResponse {
                        differences: differences(&before, &after, some).await?,
                        ..DiffVersionsResponse::default()
                    };
                    send(&sender, message).await?;
                }
            }
            let mut last = DiffVersionsResponse {
                complete: true,
                ..DiffVersionsResponse::default()
            };
            for (view, version) in [(&before, &old), (&after, &new)] {
                let told = gaps::told_below(view, version, &directory).await?;
                last.lacks.extend(told);
            }
            send(&sender, last).await
        })
    }

    type TracePathStream = Answers<TracePathResponse>;

    async fn trace_path(
        &self,
        request: Request<TracePathRequest>,
    ) -> Result<Response<Self::TracePathStream>, Status> {
        let request = request.into_inner();
        let wanted = relative(request.path.as_ref()).map_err(|e| status::invalid("path", e))?;
        names::plan_id(&request.plan).map_err(|e| status::invalid("plan", e))?;
        let versions = self.versions(&request.plan, Some(request.archives)).await?;
        let store = self.app.store.clone();
        self.answer(|sender| async move {
            let lines: BTreeSet<i64> = versions.iter().map(|v| v.line_id).collect();
            let mut places: BTreeMap<i64, Places> = BTreeMap::new();
            for line in lines {
                places.insert(line, Places::of_line(&store, line).await?);
            }
            let mut states = pin!(search::states(&store, versions, wanted.clone()));
            while let Some(state) = states.try_next().await? {
                let (place, length) = match &state.found {
                    Some(Found::Entry(entry)) => (entry.place, entry.tar_length),
                    Some(Found::Directory(stat)) => (stat.place, stat.tar_length),
                    Some(Found::Unknown) | None => (None, 0),
                };
                let known = state
                    .found
                    .as_ref()
                    .filter(|it| !matches!(it, Found::Unknown));
                let volumes = places.get(&state.newest.line_id);
                let volumes = volumes.map_or_else(Vec::new, |line| line.volumes(place, length));
                let lacks = state.lacks.unwrap_or_default();
                let (of_entry, of_path) = match known {
                    Some(_) => (lacks, String::new()),
                    None => (String::new(), lacks),
                };
                let message = PathState {
                    entry: known.map(|it| shown(&wanted, it, of_entry)),
                    version: names::version(state.newest.line_id, state.newest.version),
                    start_time: Some(timestamp(state.newest.started_at)),
                    oldest_number: state.oldest.version as u64,
                    oldest_start_time: Some(timestamp(state.oldest.started_at)),
                    version_count: state.count,
                    volumes: volumes.into_iter().map(names::volume).collect(),
                    lacks: of_path,
                };
                let states = vec![message];
                send(&sender, TracePathResponse { states }).await?;
            }
            Ok(())
        })
    }

    type MeasureDirectoriesStream = Answers<MeasureDirectoriesResponse>;

    async fn measure_directories(
        &self,
        request: Request<MeasureDirectoriesRequest>,
    ) -> Result<Response<Self::MeasureDirectoriesStream>, Status> {
        let request = request.into_inner();
        let top = optional_directory("directory", request.directory.as_ref())?;
        let version = self.version("version", &request.version).await?;
        let view = View::of(&self.app.store, &version).await?;
        let found = view.stat(&top).await?;
        if !matches!(found, Some(Found::Directory(_) | Found::Unknown)) {
            return Err(no_such_path(&top));
        }
        let store = self.app.store.clone();
        let versions = search::Versions::of(&view).await?;
        self.answer(|sender| async move {
            let depth = request.depth as usize;
            let mut measures = pin!(search::measure(&store, versions, &top, depth));
            while let Some(some) = measures.try_next().await? {
                for some in some.chunks(MESSAGE) {
                    let directories = some.iter().map(|measure| DirectoryMeasure {
                        path: Some(absolute(&measure.directory)),
                        file_count: measure.files,
                        directory_count: measure.directories,
                        byte_count: measure.bytes,
                    });
                    let message = MeasureDirectoriesResponse {
                        directories: directories.collect(),
                        ..MeasureDirectoriesResponse::default()
                    };
                    send(&sender, message).await?;
                }
            }
            if let Some(lacks) = gaps::told_below(&view, &version, &top).await? {
                let message = MeasureDirectoriesResponse {
                    lacks: vec![lacks],
                    ..MeasureDirectoriesResponse::default()
                };
                send(&sender, message).await?;
            }
            Ok(())
        })
    }
}
