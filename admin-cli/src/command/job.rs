//! `taf job`: work that takes long.

use taf_proto::v1::{
    CancelJobRequest, GetJobRequest, Job, JobKind, JobStream, ListIssuesRequest, ListJobsRequest,
};

use super::{health, missing};
use crate::client::{Client, read, request_id};
use crate::failure::{Exit, Failure};
use crate::follow::{follow, issue_line};
use crate::output::{Output, Rows, say};
use crate::resource::{id, name};
use crate::{flow, human, progress};

/// Jobs: list, show, follow, cancel, issues
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    List(List),
    Show(Show),
    Watch(Watch),
    Cancel(Cancel),
    Issues(Issues),
}

impl Command {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        match self {
            Self::List(command) => command.run(out).await,
            Self::Show(command) => command.run(out).await,
            Self::Watch(command) => command.run(out).await,
            Self::Cancel(command) => command.run(out).await,
            Self::Issues(command) => command.run(out).await,
        }
    }
}

/// List jobs, newest first
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf job list
  taf job list --active
  taf job list --limit 1000 --json")]
pub struct List {
    /// Only jobs that have not ended
    #[arg(long)]
    active: bool,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

impl List {
    async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let limit = self.limit as usize;
        let mut jobs: Vec<Job> = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListJobsRequest {
                page_size: (limit - jobs.len()).min(1000) as i32,
                page_token,
                active_only: self.active,
            };
            let page = read(|| {
                let (mut jobs, request) = (client.jobs(), request.clone());
                async move { jobs.list_jobs(request).await }
            })
            .await?;
            jobs.extend(page.jobs);
            if page.next_page_token.is_empty() || jobs.len() >= limit {
                break;
            }
            page_token = page.next_page_token;
        }
        out.list("jobs", "Job", &jobs, rows)?;
        Ok(Exit::Done)
    }
}

/// Jobs as a table.
pub fn rows(jobs: &[Job]) -> Rows {
    let mut rows = Rows::new(&[
        "JOB", "WHAT", "STATE", ">FILES", ">BYTES", ">ISSUES", "ASKED", "TOOK",
    ]);
    for job in jobs {
        let number = |of: fn(&taf_proto::v1::Progress) -> u64| job.progress.as_ref().map_or(0, of);
        let took = human::between(job.start_time.as_ref(), job.end_time.as_ref());
        rows.push([
            id(&job.name).to_owned(),
            progress::what(job),
            progress::state(job.state()).to_owned(),
            human::count(number(|p| p.file_count)),
            human::size(number(|p| p.byte_count)),
            human::count(number(|p| p.issue_count)),
            human::time(job.create_time.as_ref()),
            took.map_or_else(|| "-".to_owned(), human::duration),
        ]);
    }
    rows
}

/// Show a job
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  taf job show 12")]
pub struct Show {
    /// Its number
    job: String,
}

impl Show {
    async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let request = GetJobRequest {
            name: name("jobs", &self.job),
        };
        let answer = read(|| {
            let (mut jobs, request) = (client.jobs(), request.clone());
            async move { jobs.get_job(request).await }
        })
        .await?;
        let job = answer.job.ok_or_else(|| missing("job"))?;
        if out.json() {
            out.message("Job", &job)?;
        } else {
            show(&job, out)?;
        }
        Ok(Exit::Done)
    }
}

/// The volumes that it has used, in order, or the one that it needs first.
fn volumes(job: &Job) -> String {
    let used: Vec<_> = job.volumes.iter().map(|volume| id(volume)).collect();
    if used.is_empty() {
        return id(&job.volume).to_owned();
    }
    used.join(" ")
}

/// One stream of a backup or restore, on one line.
fn stream(kind: JobKind, stream: &JobStream) -> String {
    let mut parts = vec![match id(&stream.drive) {
        // It has left it to others.
        "" => format!("{} no drive now", stream.number),
        drive => format!("{} drive {drive}", stream.number),
    }];
    if !stream.volumes.is_empty() {
        let used: Vec<_> = stream.volumes.iter().map(|volume| id(volume)).collect();
        parts.push(format!("volumes {}", used.join(" ")));
    }
    if stream.dropped {
        parts.push(match kind {
            JobKind::Restore => "dropped: others did what was left of it".to_owned(),
            _ => "dropped: there was nothing left for it".to_owned(),
        });
        return parts.join(", ");
    }
    if !stream.waiting_for.is_empty() {
        parts.push(format!("waits: {}", stream.waiting_for));
    }
    if let Some(p) = &stream.progress {
        if !p.phase.is_empty() {
            parts.push(p.phase.clone());
        }
        parts.push(human::counted(p.file_count, "file", "files"));
        parts.push(human::size(p.byte_count));
        if kind == JobKind::Backup {
            parts.push(format!("{} on tape", human::size(p.committed_byte_count)));
        }
        if p.drive_bytes_per_second > 0 {
            parts.push(format!("{}/s", human::size(p.drive_bytes_per_second)));
        }
    }
    parts.join(", ")
}

/// The version that it makes or reads, as people name it and as programs do.
fn title(job: &Job) -> String {
    match job.version_title.as_str() {
        "" => job.version.clone(),
        title => format!("{title} ({})", job.version),
    }
}

fn show(job: &Job, out: &mut Output) -> Result<(), Failure> {
    let mut lines = vec![
        ("job", id(&job.name).to_owned()),
        ("what", progress::what(job)),
        ("state", progress::state(job.state()).to_owned()),
        ("waits", job.waiting_for.clone()),
        ("version", title(job)),
        ("makes", progress::promotion(job).unwrap_or_default()),
        ("agent", id(&job.agent).to_owned()),
        ("volumes", volumes(job)),
        ("drive", id(&job.drive).to_owned()),
        ("target", human::path(job.target.as_ref())),
        ("asked by", id(&job.creator).to_owned()),
    ];
    if let Some(p) = &job.progress {
        lines.extend([
            ("phase", p.phase.clone()),
            ("files", human::count(p.file_count)),
            ("directories", human::count(p.directory_count)),
            ("bytes", human::size(p.byte_count)),
            ("stored", human::size(p.stored_byte_count)),
            ("on tape", human::size(p.committed_byte_count)),
            ("issues", progress::issues(p)),
        ]);
        if p.kept_count > 0 {
            lines.push(("kept", human::counted(p.kept_count, "entry", "entries")));
        }
        if let Some(flow) = &p.drive_flow {
            lines.extend(if progress::ended(job) {
                flow::outcome(flow)
            } else {
                flow::lines(flow)
            });
        }
    }
    lines.extend(
        job.streams
            .iter()
            .map(|of| ("stream", stream(job.kind(), of))),
    );
    let numbers: Vec<_> = job.follow_up_jobs.iter().map(|name| id(name)).collect();
    lines.push(("begun by", id(&job.cause_job).to_owned()));
    lines.push(("has begun", numbers.join(" ")));
    lines.extend([
        ("asked", human::time(job.create_time.as_ref())),
        ("began", human::time(job.start_time.as_ref())),
        ("ended", human::time(job.end_time.as_ref())),
    ]);
    if let Some(error) = &job.error {
        lines.extend([
            ("error", format!("{} ({})", error.message, error.reason)),
            ("next", error.next_step.clone()),
        ]);
    }
    for (key, value) in lines {
        if !value.is_empty() {
            out.line(format!("{key:<12} {}", human::clean(&value)))?;
        }
    }
    health::alerts(&job.alerts, out)
}

/// Follow a job to its end
///
/// The exit status is that of the job: 0 done, 1 failed or cancelled, 3 done with issues. Ctrl-C only ends the following.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  taf job watch 12")]
pub struct Watch {
    /// Its number
    job: String,
}

impl Watch {
    async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        follow(&client, &name("jobs", &self.job), out).await
    }
}

/// Stop a job; what is committed stays
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  taf job cancel 12")]
pub struct Cancel {
    /// Its number
    job: String,
}

impl Cancel {
    async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let request = CancelJobRequest {
            name: name("jobs", &self.job),
            request_id: request_id(),
        };
        let answer = client.jobs().cancel_job(request).await?.into_inner();
        let job = answer.job.ok_or_else(|| missing("job"))?;
        if out.json() {
            out.message("Job", &job)?;
        } else if progress::ended(&job) {
            say(format!(
                "job {} is {}",
                id(&job.name),
                progress::state(job.state())
            ));
        } else {
            let number = id(&job.name);
            say(format!(
                "job {number} is stopping; taf job watch {number} shows when it has"
            ));
        }
        Ok(Exit::Done)
    }
}

/// List the files that a job could not take or restore as they are
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  taf job issues 12")]
pub struct Issues {
    /// Its number
    job: String,
}

impl Issues {
    async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        list_issues(&client, &name("jobs", &self.job), out).await?;
        Ok(Exit::Done)
    }
}

/// Writes all issues of a job.
pub async fn list_issues(client: &Client, job: &str, out: &mut Output) -> Result<(), Failure> {
    let mut request = ListIssuesRequest {
        job: job.to_owned(),
        page_size: 10_000,
        page_token: String::new(),
    };
    let mut begun = false;
    loop {
        let page = read(|| {
            let (mut jobs, request) = (client.jobs(), request.clone());
            async move { jobs.list_issues(request).await }
        })
        .await?;
        if out.json() && !begun {
            out.begin("issues")?;
            begun = true;
        }
        for issue in &page.issues {
            if out.json() {
                out.item("Issue", issue)?;
            } else {
                out.line(issue_line(issue))?;
            }
        }
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    if out.json() {
        out.end()?;
    }
    Ok(())
}
