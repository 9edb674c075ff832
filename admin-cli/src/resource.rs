//! Names as people write them and as the API does: `daily` and `plans/daily`, `12` and `jobs/12`, `daily@3` and
//! `lines/7/versions/3`, `daily@a3` for its third archive; and paths, which are bytes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use taf_proto::v1::{
    self, GetPlanRequest, ListVersionsRequest, ResolveVersionRequest, Version, VersionType,
};

use crate::client::{Client, read};
use crate::failure::Failure;

/// The API's name: `collection/id`, whether or not the collection was written.
pub fn name(collection: &str, text: &str) -> String {
    match text
        .strip_prefix(collection)
        .and_then(|rest| rest.strip_prefix('/'))
    {
        Some(_) => text.to_owned(),
        None => format!("{collection}/{text}"),
    }
}

/// The same of what need not be given; empty if it is not.
pub fn optional_name(collection: &str, text: Option<&str>) -> String {
    text.map_or_else(String::new, |text| name(collection, text))
}

/// The id alone, as people write it.
pub fn id(name: &str) -> &str {
    name.split_once('/').map_or(name, |(_, id)| id)
}

/// An absolute path as the API takes it: no slash at its end, none doubled.
pub fn absolute(path: &OsStr) -> Result<v1::Path, Failure> {
    let raw = path.as_bytes();
    if !raw.starts_with(b"/") {
        return Err(Failure::usage(
            format!("{} is not an absolute path", taf_proto::path::display(raw)),
            "write the whole path, from / on",
        ));
    }
    let mut plain = Vec::with_capacity(raw.len());
    for component in raw
        .split(|&byte| byte == b'/')
        .filter(|c| !c.is_empty() && *c != b".")
    {
        if component == b".." {
            return Err(Failure::usage(
                format!("{} goes up with ..", taf_proto::path::display(raw)),
                "write the path without ..",
            ));
        }
        plain.push(b'/');
        plain.extend_from_slice(component);
    }
    if plain.is_empty() {
        plain.push(b'/');
    }
    Ok(taf_proto::path::from_raw(plain))
}

/// Several of them.
pub fn absolutes(paths: &[std::ffi::OsString]) -> Result<Vec<v1::Path>, Failure> {
    paths.iter().map(|path| absolute(path)).collect()
}

/// What a person wrote for a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionText {
    /// `lines/L/versions/N`.
    Name(String),
    /// A plan's newest, or a certain one of it.
    OfPlan(String, Option<Number>),
    /// The one of a plan that was the newest at a moment.
    At(String, String),
}

/// Which version of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number {
    /// Of archives, which are counted by themselves.
    pub archive: bool,
    /// Its number; the newest if not given.
    pub number: Option<u64>,
}

impl Number {
    fn read(text: &str) -> Option<Self> {
        let (archive, digits) = match text.strip_prefix('a') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let number = match digits {
            "" if archive => None,
            digits => Some(digits.parse().ok()?),
        };
        Some(Self { archive, number })
    }

    fn is(self, version: &Version) -> bool {
        self.archive == is_archive(version)
            && self.number.is_none_or(|number| number == version.number)
    }
}

fn is_archive(version: &Version) -> bool {
    version.r#type() == VersionType::Archive
}

/// Takes a version's text apart.
pub fn version_text(text: &str) -> Result<VersionText, Failure> {
    if text.starts_with("lines/") {
        return Ok(VersionText::Name(text.to_owned()));
    }
    let Some((plan, which)) = text.split_once('@') else {
        return Ok(VersionText::OfPlan(name("plans", text), None));
    };
    if which.is_empty() {
        return Err(Failure::usage(
            format!("{text} does not say which version"),
            format!(
                "write {plan}@1, {plan}@a1 for an archive, \"{plan}@3 days ago\", or {plan} alone for the newest"
            ),
        ));
    }
    let plan = name("plans", plan);
    Ok(match (which, Number::read(which)) {
        ("latest", _) => VersionText::OfPlan(plan, None),
        (_, Some(number)) => VersionText::OfPlan(plan, Some(number)),
        // What it means is the controller's to say.
        (moment, None) => VersionText::At(plan, moment.to_owned()),
    })
}

/// The name of this host's time zone, empty if it has none.
pub fn time_zone() -> String {
    let zone = jiff::tz::TimeZone::system();
    zone.iana_name().unwrap_or_default().to_owned()
}

/// The version of a plan that was the newest at a moment.
pub async fn version_at(
    client: &Client,
    plan: String,
    at: String,
    archives: bool,
) -> Result<Version, Failure> {
    let request = ResolveVersionRequest {
        plan,
        at,
        time_zone: time_zone(),
        archives,
    };
    let answer = read(|| {
        let (mut catalog, request) = (client.catalog(), request.clone());
        async move { catalog.resolve_version(request).await }
    })
    .await?;
    answer.version.ok_or_else(|| {
        Failure::new(
            "INVALID_ANSWER",
            "the controller's answer has no version",
            "use a controller of the same version as this program",
        )
    })
}

/// The API's name of a version. A plan's newest is an archive only if it has nothing else.
pub async fn version(client: &Client, text: &str) -> Result<String, Failure> {
    let (plan, number) = match version_text(text)? {
        VersionText::Name(name) => return Ok(name),
        VersionText::At(plan, at) => return Ok(version_at(client, plan, at, false).await?.name),
        VersionText::OfPlan(plan, number) => (plan, number),
    };
    let mut page_token = String::new();
    let mut archive = None;
    loop {
        let request = ListVersionsRequest {
            page_size: if number.is_some() { 1000 } else { 10 },
            page_token,
            plan: plan.clone(),
            ..ListVersionsRequest::default()
        };
        let page = read(|| {
            let (mut versions, request) = (client.versions(), request.clone());
            async move { versions.list_versions(request).await }
        })
        .await?;
        for version in page.versions {
            match number {
                Some(number) if number.is(&version) => return Ok(version.name),
                Some(_) => {}
                None if is_archive(&version) => archive = archive.or(Some(version.name)),
                None => return Ok(version.name),
            }
        }
        if page.next_page_token.is_empty() {
            break;
        }
        page_token = page.next_page_token;
    }
    if let Some(archive) = archive {
        return Ok(archive);
    }
    let plan = id(&plan);
    Err(match number {
        None => nothing_of(client, plan).await?,
        Some(Number { archive, number }) => {
            let what = if archive { "archive" } else { "version" };
            let number = number.map_or_else(String::new, |number| format!(" {number}"));
            Failure::new(
                "RESOURCE_NOT_FOUND",
                format!("plan {plan} has no {what}{number}"),
                format!("see which there are: taf versions --plan {plan}"),
            )
        }
    })
}

/// Why there is no version of a plan: it has none yet, or there is no such plan.
async fn nothing_of(client: &Client, plan: &str) -> Result<Failure, Failure> {
    let request = GetPlanRequest {
        name: name("plans", plan),
    };
    read(|| {
        let (mut plans, request) = (client.plans(), request.clone());
        async move { plans.get_plan(request).await }
    })
    .await?;
    Ok(Failure::new(
        "RESOURCE_NOT_FOUND",
        format!("plan {plan} has no version yet"),
        format!("make one: taf run {plan}"),
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_may_be_short() {
        assert_eq!(name("jobs", "12"), "jobs/12");
        assert_eq!(name("jobs", "jobs/12"), "jobs/12");
        assert_eq!(name("plans", "plans"), "plans/plans");
        assert_eq!(id("plans/daily"), "daily");
    }

    #[test]
    fn versions_are_named_by_plan_and_number() {
        let of = |plan: &str, number| VersionText::OfPlan(plan.into(), number);
        assert_eq!(version_text("daily").unwrap(), of("plans/daily", None));
        let number = |archive, number| Some(Number { archive, number });
        for (text, meant) in [
            ("daily@3", number(false, Some(3))),
            ("daily@a3", number(true, Some(3))),
            ("daily@a", number(true, None)),
        ] {
            assert_eq!(version_text(text).unwrap(), of("plans/daily", meant));
        }
        assert_eq!(
            version_text("daily@latest").unwrap(),
            of("plans/daily", None)
        );
        for moment in ["3 days ago", "a week ago", "2026-11-20 14:00", "x"] {
            let meant = VersionText::At("plans/daily".into(), moment.into());
            assert_eq!(version_text(&format!("daily@{moment}")).unwrap(), meant);
        }
        assert!(version_text("daily@").unwrap_err().usage);
        assert_eq!(
            version_text("lines/1/versions/2").unwrap(),
            VersionText::Name("lines/1/versions/2".into())
        );
    }

    #[test]
    fn paths_are_made_plain() {
        let plain = |text: &str| absolute(OsStr::new(text)).map(|path| path.display);
        assert_eq!(plain("//srv/./a/").unwrap(), "/srv/a");
        assert_eq!(plain("/").unwrap(), "/");
        assert!(plain("srv").unwrap_err().usage);
        assert!(plain("/a/../b").unwrap_err().usage);
    }
}
