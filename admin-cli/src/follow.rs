//! Following a job to its end. Leaving it early stops nothing: the job is the controller's.

use std::collections::VecDeque;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use taf_proto::v1::{Fault, Issue, Job, JobKind, JobState, ListIssuesRequest, WatchJobRequest};
use tonic::{Code, Status};

use crate::client::{Client, read};
use crate::failure::{Exit, Failure};
use crate::output::{Output, say};
use crate::resource::id;
use crate::{human, progress};

/// A controller may be away this long before following is given up.
const PATIENCE: Duration = Duration::from_mins(1);
/// Between two tries to reach it.
const PAUSE: Duration = Duration::from_millis(500);
/// Issues that are named at the end; `taf job issues` has all.
const ISSUES_SHOWN: i32 = 10;

/// Follows a job to its end, and then the jobs that it has begun by itself; says what came of each, and gives the exit status that
/// this is: that of the first one that did not end well. [`Exit::Failed`] is nobody's end: then following was left off.
pub async fn follow(client: &Client, name: &str, out: &mut Output) -> Result<Exit, Failure> {
    let mut ahead = VecDeque::from([name.to_owned()]);
    let mut exit = Ok(Exit::Done);
    while let Some(name) = ahead.pop_front() {
        let shown = Shown::new();
        let watched = tokio::select! {
            job = watch(client, &name, &shown) => Some(job?),
            // Where no handler can be had, Ctrl-C ends the program, and the job goes on all the same.
            Ok(()) = tokio::signal::ctrl_c() => None,
        };
        shown.clear();
        let Some(job) = watched else {
            let number = id(&name);
            say(format!(
                "job {number} goes on without you: taf job watch {number} follows it again, taf job cancel {number} stops it"
            ));
            return Ok(Exit::Failed);
        };
        // What it read for its backup is told with that one.
        if job.kind() != JobKind::Feed {
            let this = conclude(client, &job, out).await;
            exit = worse(exit, this);
        }
        ahead.extend(job.follow_up_jobs);
    }
    exit
}

/// Follows several jobs to their ends, as [`follow`] each. The first that did not end well decides, and the others go on all the same.
pub async fn follow_each(
    client: &Client,
    names: &[String],
    out: &mut Output,
) -> Result<Exit, Failure> {
    let mut exit = Ok(Exit::Done);
    for (at, name) in names.iter().enumerate() {
        let this = follow(client, name, out).await;
        // Whoever leaves one leaves all.
        if this == Ok(Exit::Failed) {
            if at + 1 < names.len() {
                say("so do the others: taf job list --active shows them");
            }
            return exit.and(this);
        }
        exit = worse(exit, this);
    }
    exit
}

/// Of two outcomes the one that a command ends with: a failure before issues, the earlier before the later.
fn worse(first: Result<Exit, Failure>, then: Result<Exit, Failure>) -> Result<Exit, Failure> {
    match (first, then) {
        (Err(first), _) => Err(first),
        (Ok(Exit::Done), then) => then,
        (Ok(first), Ok(_)) => Ok(first),
        (Ok(_), Err(failure)) => Err(failure),
    }
}

/// Follows a job to its end without a word of what came of it.
pub async fn until_ended(client: &Client, name: &str) -> Result<Job, Failure> {
    let shown = Shown::new();
    let job = watch(client, name, &shown).await;
    shown.clear();
    job
}

/// Shows how a job does while something is done with what comes of it.
pub async fn alongside<T>(
    client: &Client,
    name: &str,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let shown = Shown::new();
    tokio::pin!(work);
    let done = tokio::select! {
        done = &mut work => done,
        // The job has ended, and its last words are still on their way; or it can't be watched, which the work need not mind.
        _ = watch(client, name, &shown) => work.await,
    };
    shown.clear();
    done
}

/// The exit status that a job's end is.
pub fn conclude_quietly(job: &Job) -> Result<Exit, Failure> {
    match job.state() {
        JobState::Succeeded => Ok(Exit::Done),
        JobState::SucceededWithIssues => Ok(Exit::Issues),
        JobState::Cancelled => Err(Failure::new(
            "JOB_CANCELLED",
            format!("job {} was cancelled", id(&job.name)),
            "start it again when you like; what was committed stays",
        )),
        _ => Err(fault(job)),
    }
}

/// Follows several jobs to their ends, and says what came of each: as `{"jobs": [Job]}` if JSON is asked for. [`Exit::Failed`] says that
/// following was left off, and not how they ended.
pub async fn follow_all(
    client: &Client,
    names: &[String],
    out: &mut Output,
) -> Result<Exit, Failure> {
    follow_all_but(client, names, &mut |_| None, out).await
}

/// What a job has found that failed, in a few words, if that is all that was wanted of it.
pub type Excuse<'a> = &'a mut (dyn FnMut(&Job) -> Option<String> + Send);

/// The same that takes no job for failed that `excuse` has words for.
pub async fn follow_all_but(
    client: &Client,
    names: &[String],
    excuse: Excuse<'_>,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let shown = Shown::new();
    let mut tally = Tally::default();
    if out.json() {
        out.begin("jobs")?;
    }
    for name in names {
        let watched = tokio::select! {
            job = watch(client, name, &shown) => Some(job?),
            Ok(()) = tokio::signal::ctrl_c() => None,
        };
        shown.clear();
        let Some(job) = watched else {
            say("the jobs go on without you: taf job list --active shows them");
            return Ok(Exit::Failed);
        };
        let excused = excuse(&job);
        if out.json() {
            out.item("Job", &job)?;
        } else if let Some(words) = &excused {
            say(words);
        } else {
            say(progress::summary(&job));
            if let Some(error) = &job.error {
                say(format!("  {} ({})", error.message, error.reason));
            }
            if job.state() == JobState::SucceededWithIssues {
                let count = job.progress.as_ref().map_or(0, |p| p.issue_count);
                tell_issues(client, &job, count).await?;
            }
        }
        tally.count(job.state(), excused.is_some());
    }
    if out.json() {
        out.end()?;
    }
    tally.exit()
}

/// What came of several jobs.
#[derive(Debug, Default)]
struct Tally {
    all: usize,
    failed: usize,
    with_issues: usize,
}

impl Tally {
    fn count(&mut self, state: JobState, excused: bool) {
        self.all += 1;
        match state {
            JobState::Succeeded => {}
            JobState::SucceededWithIssues => self.with_issues += 1,
            _ => self.failed += usize::from(!excused),
        }
    }

    /// The exit status that this is.
    fn exit(&self) -> Result<Exit, Failure> {
        match (self.failed, self.with_issues) {
            (0, 0) => Ok(Exit::Done),
            (0, _) => Ok(Exit::Issues),
            (failed, _) => Err(Failure::new(
                "JOBS_FAILED",
                format!("{failed} of {} jobs did not succeed", self.all),
                "see why above, or with taf job list; asking again does what is left",
            )),
        }
    }
}

/// Says that jobs go on by themselves.
pub fn detached_all(names: &[String], out: &mut Output) -> Result<Exit, Failure> {
    if out.json() {
        out.document(&serde_json::json!({ "jobs": names }))?;
    } else {
        for name in names {
            out.line(name)?;
        }
        say("taf job list --active shows them, taf job watch JOB follows one");
    }
    Ok(Exit::Done)
}

/// Says that a job goes on by itself.
pub fn detached(name: &str, out: &mut Output) -> Result<Exit, Failure> {
    let number = id(name);
    if out.json() {
        out.document(&serde_json::json!({ "job": name }))?;
    } else {
        out.line(name)?;
        say(format!(
            "taf job watch {number} follows it, taf job cancel {number} stops it"
        ));
    }
    Ok(Exit::Done)
}

/// Snapshots until the job has ended, through interruptions.
async fn watch(client: &Client, name: &str, shown: &Shown) -> Result<Job, Failure> {
    let mut heard = Instant::now();
    let mut lost = false;
    loop {
        let request = WatchJobRequest { name: name.into() };
        let broken = match client.jobs().watch_job(request).await {
            Ok(stream) => {
                let mut stream = stream.into_inner();
                loop {
                    match stream.message().await {
                        Ok(Some(snapshot)) => {
                            heard = Instant::now();
                            lost = false;
                            let Some(job) = snapshot.job else { continue };
                            if progress::ended(&job) {
                                return Ok(job);
                            }
                            shown.job(&job);
                        }
                        Ok(None) => break None,
                        Err(status) => break Some(status),
                    }
                }
            }
            Err(status) => Some(status),
        };
        if let Some(status) = broken
            && (!passing(&status) || heard.elapsed() > PATIENCE)
        {
            return Err(status.into());
        }
        if !lost {
            shown.say(&format!(
                "job {}: the controller is away; trying again",
                id(name)
            ));
            lost = true;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether a broken stream may come back: the controller restarts, or the network does.
fn passing(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::Unknown
            | Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Internal
    )
}

/// Says what came of a job: data on standard output if JSON is asked for, else a line of talk; then what went wrong.
pub async fn conclude(client: &Client, job: &Job, out: &mut Output) -> Result<Exit, Failure> {
    if out.json() {
        out.message("Job", job)?;
    } else {
        say(progress::summary(job));
    }
    let issues = job.progress.as_ref().map_or(0, |p| p.issue_count);
    let with_issues = issues > 0 || job.state() == JobState::SucceededWithIssues;
    if with_issues && !out.json() {
        tell_issues(client, job, issues).await?;
    }
    conclude_quietly(job)
}

async fn tell_issues(client: &Client, job: &Job, count: u64) -> Result<(), Failure> {
    let request = ListIssuesRequest {
        job: job.name.clone(),
        page_size: ISSUES_SHOWN,
        page_token: String::new(),
    };
    let page = read(|| {
        let (mut jobs, request) = (client.jobs(), request.clone());
        async move { jobs.list_issues(request).await }
    })
    .await?;
    for issue in &page.issues {
        say(format!("  {}", issue_line(issue)));
    }
    let shown = page.issues.len() as u64;
    if !page.next_page_token.is_empty() || shown < count {
        let number = id(&job.name);
        say(format!("  … all of them: taf job issues {number}"));
    }
    Ok(())
}

/// An issue on one line.
pub fn issue_line(issue: &Issue) -> String {
    let path = human::path(issue.path.as_ref());
    format!(
        "{path}: {} ({})",
        human::clean(&issue.message),
        issue.reason
    )
}

/// Why a job failed.
fn fault(job: &Job) -> Failure {
    let Fault {
        reason,
        message,
        next_step,
    } = job.error.clone().unwrap_or_default();
    let number = id(&job.name);
    let or = |text: String, other: &str| {
        if text.is_empty() {
            other.to_owned()
        } else {
            text
        }
    };
    Failure::new(
        or(reason, "JOB_FAILED"),
        or(message, &format!("job {number} failed")),
        or(next_step, &format!("see more of it: taf job show {number}")),
    )
}

/// What shows progress: two lines that change on a terminal, else a line at each change.
struct Shown {
    bar: Option<ProgressBar>,
    last: std::cell::RefCell<String>,
}

impl Shown {
    fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self {
            bar,
            last: String::new().into(),
        }
    }

    fn job(&self, job: &Job) {
        if let Some(bar) = &self.bar {
            let width = usize::from(console::Term::stderr().size().1).saturating_sub(4);
            let (first, second) = progress::lines(job);
            let cut = |line: &str| console::truncate_str(line, width, "…").into_owned();
            bar.set_message(format!(
                "{}\n  {}",
                cut(&human::clean(&first)),
                cut(&second)
            ));
            return;
        }
        self.say(&progress::quiet(job));
    }

    fn say(&self, line: &str) {
        if self.last.replace(line.to_owned()) == line {
            return;
        }
        match &self.bar {
            Some(bar) => bar.println(human::clean(line)),
            None => say(line),
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn several_jobs_end_as_the_worst_of_them_that_is_not_excused() {
        let of = |jobs: &[(JobState, bool)]| {
            let mut tally = Tally::default();
            for (state, excused) in jobs {
                tally.count(*state, *excused);
            }
            tally.exit()
        };
        let (well, blank) = ((JobState::Succeeded, false), (JobState::Failed, true));
        let issues = (JobState::SucceededWithIssues, false);
        assert_eq!(of(&[well, blank]).unwrap(), Exit::Done);
        assert_eq!(of(&[well, issues, blank]).unwrap(), Exit::Issues);
        for failed in [JobState::Failed, JobState::Cancelled] {
            let failure = of(&[blank, issues, (failed, false), well]).unwrap_err();
            assert_eq!(failure.reason, "JOBS_FAILED");
            assert!(failure.message.contains("1 of 4"), "{failure}");
        }
    }
}
