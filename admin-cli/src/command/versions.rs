//! `taf versions`: what can be restored.

use taf_proto::v1::{ListVersionsRequest, Version};

use super::version_type::{Type, named, word};
use crate::client::{Client, all, read};
use crate::failure::{Exit, Failure};
use crate::human;
use crate::output::{Output, Rows};
use crate::resource::{id, optional_name, time_zone};

/// List versions, newest first
///
/// Those that are not whole after a rebuild of the catalog say what they lack; see taf catalog rebuild --status.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf versions
  taf versions --since '2 weeks ago' --until yesterday
  taf version list --plan daily --type full
  taf version list --plan daily --why    why each is kept, and until when")]
pub struct Versions {
    /// Only those of this plan
    #[arg(long, value_name = "PLAN")]
    plan: Option<String>,
    /// Only those of this type
    #[arg(long, value_name = "TYPE")]
    r#type: Option<Type>,
    /// Only those with this tag
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// Only those that began then or later: as in 'PLAN@WHEN' (taf ls --help); a day means its beginning
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// Only those that began then or earlier
    #[arg(long, value_name = "WHEN")]
    until: Option<String>,
    /// Show why each is kept, and until when, instead of what it holds
    #[arg(long)]
    why: bool,
}

impl Versions {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let wanted = ListVersionsRequest {
            page_size: 1000,
            plan: optional_name("plans", self.plan.as_deref()),
            r#type: Type::of(self.r#type).into(),
            since: self.since.unwrap_or_default(),
            until: self.until.unwrap_or_default(),
            time_zone: time_zone(),
            tag: self.tag.unwrap_or_default(),
            ..ListVersionsRequest::default()
        };
        let versions = all(async |page_token| {
            let request = ListVersionsRequest {
                page_token,
                ..wanted.clone()
            };
            let page = read(|| {
                let (mut versions, request) = (client.versions(), request.clone());
                async move { versions.list_versions(request).await }
            })
            .await?;
            Ok((page.versions, page.next_page_token))
        })
        .await?;
        let rows = if self.why { why } else { rows };
        out.list("versions", "Version", &versions, rows)?;
        Ok(Exit::Done)
    }
}

fn rows(versions: &[Version]) -> Rows {
    let mut rows = Rows::new(&[
        "VERSION", "TYPE", "BEGUN", ">FILES", ">DIRS", ">BYTES", ">ON TAPE", ">ISSUES", "VOLUMES",
        "JOB", "VERIFIED",
    ]);
    for version in versions {
        let volumes: Vec<_> = version.volumes.iter().map(|volume| id(volume)).collect();
        let mut volumes = volumes.join(" ");
        if !version.incomplete_reason.is_empty() {
            volumes = format!("{volumes} (not whole: {})", lacking(version));
        }
        rows.push([
            named(version),
            word(version.r#type()).to_owned(),
            human::time(version.start_time.as_ref()),
            human::count(version.file_count),
            human::count(version.directory_count),
            human::size(version.byte_count),
            human::size(version.stored_byte_count),
            human::count(version.issue_count),
            volumes.trim_start().to_owned(),
            id(&version.job).to_owned(),
            match version.damaged_part_count {
                0 => human::time(version.verify_time.as_ref()),
                damaged => format!("{} damaged", human::counted(damaged, "part", "parts")),
            },
        ]);
    }
    rows
}

/// What a version that is not whole lacks, in few words.
fn lacking(version: &Version) -> String {
    let volumes = version.lacking_volumes.iter().map(|volume| id(volume));
    let volumes: Vec<_> = volumes.collect();
    let lacks = if volumes.is_empty() {
        "lacks volumes".to_owned()
    } else {
        format!("lacks {}", volumes.join(" "))
    };
    match version.unknown_since_number {
        _ if version.nothing_known => format!("{lacks}, nothing known"),
        0 => lacks,
        since => format!("{lacks}, unknown since version {since}"),
    }
}

/// Why they are kept.
fn why(versions: &[Version]) -> Rows {
    let mut rows = Rows::new(&["VERSION", "BEGUN", "TAGS", "UNTIL", "WHY"]);
    for version in versions {
        let mut reasons = version.keep_reasons.clone();
        if let Some(time) = &version.rebuild_time {
            reasons.push(format!("rebuilt {}", human::time(Some(time))));
        }
        rows.push([
            named(version),
            human::time(version.start_time.as_ref()),
            version.tags.join(" "),
            human::time(version.keep_time.as_ref()),
            human::clean(&reasons.join("; ")).into_owned(),
        ]);
    }
    rows
}
