//! `taf version hold`, `release`, `lock` and `tag`: what people say of how long one version is kept.

use taf_proto::v1::{
    HoldVersionRequest, LockVersionRequest, ReleaseVersionRequest, TagVersionRequest,
};

use crate::client::{Client, request_id};
use crate::failure::{Exit, Failure};
use crate::output::{Output, say};
use crate::resource::version;

/// Hold a version: it does not expire until it is released
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf version hold daily@3 --reason 'case 2026-17'
  taf version hold daily                 its newest")]
pub struct Hold {
    /// PLAN for its newest version, PLAN@N, PLAN@aN for an archive, or lines/L/versions/N
    #[arg(value_name = "PLAN[@N]")]
    version: String,
    /// Why, for people
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

/// Release a version that is held: the rules of its plan decide again
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  taf version release daily@3")]
pub struct Release {
    /// PLAN for its newest version, PLAN@N, PLAN@aN for an archive, or lines/L/versions/N
    #[arg(value_name = "PLAN[@N]")]
    version: String,
}

/// Lock a version until a day: nobody can let it expire before, and nobody can make that shorter
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  taf version lock daily@3 --until 2036-12-31")]
pub struct Lock {
    /// PLAN for its newest version, PLAN@N, PLAN@aN for an archive, or lines/L/versions/N
    #[arg(value_name = "PLAN[@N]")]
    version: String,
    /// Until the end of this day, UTC; or until a moment as in 2036-12-31T18:00:00Z
    #[arg(long, value_name = "DAY", value_parser = moment)]
    until: jiff::Timestamp,
}

/// Put tags on a version, or take them off
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf version tag daily@3 release before-upgrade
  taf version tag daily@3 --remove release")]
pub struct Tag {
    /// PLAN for its newest version, PLAN@N, PLAN@aN for an archive, or lines/L/versions/N
    #[arg(value_name = "PLAN[@N]")]
    version: String,
    /// Tags to put on: each 1 to 64 of a-z, 0-9, '.', '_', '-'
    #[arg(required_unless_present = "remove")]
    tags: Vec<String>,
    /// A tag to take off; may be given several times
    #[arg(long, value_name = "TAG")]
    remove: Vec<String>,
}

/// The end of a day, or a moment.
fn moment(text: &str) -> Result<jiff::Timestamp, String> {
    if let Ok(moment) = text.parse() {
        return Ok(moment);
    }
    let day: Option<jiff::civil::Date> = text.parse().ok();
    let next = day.and_then(|day| day.tomorrow().ok());
    let end = next.and_then(|day| day.to_zoned(jiff::tz::TimeZone::UTC).ok());
    end.map(|end| end.timestamp())
        .ok_or_else(|| "write a day as in 2036-12-31".to_owned())
}

impl Hold {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let request = HoldVersionRequest {
            name: version(&client, &self.version).await?,
            reason: self.reason,
            request_id: request_id(),
        };
        let answer = client.retention().hold_version(request).await?.into_inner();
        if out.json() {
            out.message("HoldVersionResponse", &answer)?;
        } else {
            let of = &self.version;
            say(format!("{of} is held; until: taf version release {of}"));
        }
        Ok(Exit::Done)
    }
}

impl Release {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let request = ReleaseVersionRequest {
            name: version(&client, &self.version).await?,
            request_id: request_id(),
        };
        let answer = client
            .retention()
            .release_version(request)
            .await?
            .into_inner();
        if out.json() {
            out.message("ReleaseVersionResponse", &answer)?;
        } else {
            say(format!("{} is not held any more", self.version));
        }
        Ok(Exit::Done)
    }
}

impl Lock {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let request = LockVersionRequest {
            name: version(&client, &self.version).await?,
            lock_time: Some(prost_types::Timestamp {
                seconds: self.until.as_second(),
                nanos: 0,
            }),
            request_id: request_id(),
        };
        let answer = client.retention().lock_version(request).await?.into_inner();
        if out.json() {
            out.message("LockVersionResponse", &answer)?;
        } else {
            say(format!("{} is locked until {}", self.version, self.until));
        }
        Ok(Exit::Done)
    }
}

impl Tag {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let request = TagVersionRequest {
            name: version(&client, &self.version).await?,
            add_tags: self.tags,
            remove_tags: self.remove,
            request_id: request_id(),
        };
        let answer = client.retention().tag_version(request).await?.into_inner();
        if out.json() {
            out.message("TagVersionResponse", &answer)?;
        } else {
            let tags = match answer.tags.join(" ") {
                none if none.is_empty() => "no tags".to_owned(),
                tags => tags,
            };
            say(format!("{} has {tags}", self.version));
        }
        Ok(Exit::Done)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_meant_to_its_end() {
        assert_eq!(
            moment("2036-12-31").unwrap().to_string(),
            "2037-01-01T00:00:00Z"
        );
        assert_eq!(
            moment("2036-12-31T18:00:00Z").unwrap().to_string(),
            "2036-12-31T18:00:00Z"
        );
        assert!(moment("someday").is_err());
    }
}
