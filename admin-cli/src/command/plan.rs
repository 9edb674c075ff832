//! `taf plan`: how a source is backed up, and where to.

use taf_format::segment::Method;
use taf_proto::v1::{
    CompressionMethod, CreatePlanRequest, DeletePlanRequest, GetPlanRequest, ListPlansRequest,
    Plan, Retention, UpdatePlanRequest, VersionType,
};

use super::compression::Compression;
use super::keep::{Rules, words};
use super::missing;
use super::version_type::{Type, word};
use crate::client::{Client, all, read, request_id};
use crate::failure::{Exit, Failure};
use crate::human;
use crate::output::{Output, Rows, say};
use crate::resource::{id, name};

/// How a source is backed up, and where to
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Create(Create),
    Update(Update),
    List(List),
    Show(Show),
    Delete(Delete),
}

impl Command {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        match self {
            Self::Create(command) => command.run(out).await,
            Self::Update(command) => command.run(out).await,
            Self::List(command) => command.run(out).await,
            Self::Show(command) => command.run(out).await,
            Self::Delete(command) => command.run(out).await,
        }
    }
}

/// How a plan's versions are made.
#[derive(Debug, clap::Args)]
struct Settings {
    /// How archives are stored; zstd unless told otherwise
    #[arg(long, value_name = "METHOD")]
    compression: Option<Compression>,
    /// Level of the method, from fastest to smallest: zstd 1 to 19, 3 unless told otherwise; gzip 1 to 9, 6; 7z 1
    /// to 9, 5; tar has none
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=19))]
    level: Option<i32>,
    /// What a run makes unless it says otherwise; full unless told
    #[arg(long, value_name = "TYPE")]
    r#type: Option<Type>,
    /// Compressor threads; 0, as many as the host has cores, unless told otherwise
    #[arg(long, value_parser = clap::value_parser!(i32).range(0..=256))]
    threads: Option<i32>,
    /// Drives that a backup may write to at once, split at directories; 1 unless told otherwise. Further drives are taken when
    /// they are free and the pool has a volume for each; they are never waited for
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=8))]
    streams: Option<u32>,
    /// Of mirrors: make the next one whole once less than this share of what its archives hold still belongs to it, in percent; 50
    /// unless told otherwise
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(1..=100))]
    mirror_living: Option<u32>,
}

impl Settings {
    /// Refuses a level that the method does not have, which is `known` if none was given.
    fn check(&self, known: Option<Method>) -> Result<(), Failure> {
        if let Some(warning) = self.compression.and_then(Compression::warning) {
            say(warning);
        }
        let method = self.compression.map(Compression::method).or(known);
        let (Some(method), Some(level)) = (method, self.level) else {
            return Ok(());
        };
        method.level(level).map(|_| ()).map_err(|words| {
            let name = method.name();
            Failure::usage(
                format!("--level {level} does not fit --compression {name}"),
                words,
            )
        })
    }

    /// Puts into the plan what was given, and says which fields that are.
    fn put(&self, plan: &mut Plan) -> Vec<String> {
        let mut fields = Vec::new();
        let mut given = |field: &str| fields.push(field.to_owned());
        if let Some(compression) = self.compression {
            plan.compression_method = CompressionMethod::from(compression.method()).into();
            given("compression_method");
        }
        if let Some(level) = self.level {
            plan.compression_level = level;
            given("compression_level");
        }
        if let Some(kind) = self.r#type {
            plan.set_type(Type::of(Some(kind)));
            given("type");
        }
        if let Some(threads) = self.threads {
            plan.compression_threads = threads;
            given("compression_threads");
        }
        if let Some(streams) = self.streams {
            plan.streams = streams;
            given("streams");
        }
        if let Some(percent) = self.mirror_living {
            plan.mirror_living_percent = percent;
            given("mirror_living_percent");
        }
        fields
    }
}

/// Make a plan
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf plan create daily --source home --pool default
  taf plan create hourly --source home --pool default --type incremental
  taf plan create archive --source films --pool offsite --level 1 --threads 4
  taf plan create exchange --source papers --pool offsite --compression gzip --level 9
  taf plan create films --source films --pool offsite --compression tar
  taf plan create replica --source home --pool default --type mirror
  taf plan create large --source projects --pool default --streams 2
  taf plan create office --source office --pool default --keep-last 7 --keep-daily 14 --keep-monthly 12")]
pub struct Create {
    /// Name: 1 to 64 of a-z, 0-9, '.', '_', '-'
    name: String,
    /// What is backed up
    #[arg(long)]
    source: String,
    /// Whose volumes take it
    #[arg(long)]
    pool: String,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    keep: Rules,
}

impl Create {
    async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        self.settings.check(Some(Method::Zstd))?;
        let mut plan = Plan {
            source: name("sources", &self.source),
            pool: name("pools", &self.pool),
            ..Plan::default()
        };
        self.settings.put(&mut plan);
        let mut retention = Retention::default();
        plan.retention = self.keep.put(&mut retention).then_some(retention);
        let request = CreatePlanRequest {
            plan_id: id(&self.name).to_owned(),
            plan: Some(plan),
            request_id: request_id(),
        };
        let client = Client::signed_in().await?;
        let answer = client.plans().create_plan(request).await?.into_inner();
        let plan = answer.plan.ok_or_else(|| missing("plan"))?;
        if out.json() {
            out.message("Plan", &plan)?;
        } else {
            let made = id(&plan.name);
            say(format!("made plan {made}; next: taf run {made}"));
        }
        Ok(Exit::Done)
    }
}

/// Change a plan, for its next runs: what is given replaces what it had, all else stays
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The pool and the number of streams can't be changed while a run of the plan is under way.

Examples:
  taf plan update daily --type differential
  taf plan update daily --pool offsite --level 9
  taf plan update daily --compression gzip
  taf plan update daily --keep-last 7 --keep-daily 14 --time-zone Europe/Berlin
  taf plan update daily --keep-anew --keep-days 180"
)]
pub struct Update {
    /// Its name
    name: String,
    /// Whose volumes take its versions from now on; those that are there stay where they are
    #[arg(long)]
    pool: Option<String>,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    keep: Rules,
}

impl Update {
    async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        self.settings.check(None)?;
        let mut plan = Plan {
            name: name("plans", &self.name),
            ..Plan::default()
        };
        let mut paths = self.settings.put(&mut plan);
        if let Some(pool) = &self.pool {
            plan.pool = name("pools", pool);
            paths.push("pool".to_owned());
        }
        let client = Client::signed_in().await?;
        if self.keep.is_given() {
            // Rules that are not given stay, so what there is is read first, and must still be so when it is changed.
            let known = known(&client, &self.name).await?;
            let mut retention = known.retention.unwrap_or_default();
            self.keep.put(&mut retention);
            (plan.retention, plan.etag) = (Some(retention), known.etag);
            paths.push("retention".to_owned());
        }
        if paths.is_empty() {
            return Err(Failure::usage(
                "nothing is to change",
                "name what; what there is: taf plan update --help",
            ));
        }
        let request = UpdatePlanRequest {
            plan: Some(plan),
            update_mask: Some(prost_types::FieldMask { paths }),
            request_id: request_id(),
        };
        let answer = client.plans().update_plan(request).await?.into_inner();
        let plan = answer.plan.ok_or_else(|| missing("plan"))?;
        if out.json() {
            out.message("Plan", &plan)?;
        } else {
            say(format!("changed plan {}", id(&plan.name)));
        }
        Ok(Exit::Done)
    }
}

/// List plans
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  taf plan list")]
pub struct List {}

impl List {
    async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let plans = all(async |page_token| {
            let request = ListPlansRequest {
                page_size: 1000,
                page_token,
            };
            let page = read(|| {
                let (mut plans, request) = (client.plans(), request.clone());
                async move { plans.list_plans(request).await }
            })
            .await?;
            Ok((page.plans, page.next_page_token))
        })
        .await?;
        out.list("plans", "Plan", &plans, |plans| {
            let mut rows = Rows::new(&[
                "PLAN",
                "SOURCE",
                "POOL",
                "TYPE",
                "COMPRESSION",
                ">STREAMS",
                "MADE",
            ]);
            for plan in plans {
                rows.push([
                    id(&plan.name).to_owned(),
                    id(&plan.source).to_owned(),
                    id(&plan.pool).to_owned(),
                    word(plan.r#type()).to_owned(),
                    compression(plan),
                    plan.streams.max(1).to_string(),
                    human::time(plan.create_time.as_ref()),
                ]);
            }
            rows
        })?;
        Ok(Exit::Done)
    }
}

/// A plan as it is.
async fn known(client: &Client, plan: &str) -> Result<Plan, Failure> {
    let request = GetPlanRequest {
        name: name("plans", plan),
    };
    let answer = read(|| {
        let (mut plans, request) = (client.plans(), request.clone());
        async move { plans.get_plan(request).await }
    })
    .await?;
    answer.plan.ok_or_else(|| missing("plan"))
}

/// Method and level that are used.
fn compression(plan: &Plan) -> String {
    let Ok(method) = Method::of_api(plan.compression_method) else {
        return "of a later version".to_owned();
    };
    match method.level(plan.compression_level) {
        Ok(0) => method.name().to_owned(),
        Ok(level) => format!("{} {level}", method.name()),
        Err(_) => format!("{} {}", method.name(), plan.compression_level),
    }
}

/// Show a plan
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  taf plan show daily")]
pub struct Show {
    /// Its name
    name: String,
}

impl Show {
    async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let plan = known(&client, &self.name).await?;
        if out.json() {
            out.message("Plan", &plan)?;
            return Ok(Exit::Done);
        }
        let threads = match plan.compression_threads {
            0 => "as many as cores".to_owned(),
            threads => threads.to_string(),
        };
        out.line(format!("plan     {}", id(&plan.name)))?;
        out.line(format!("source   {}", id(&plan.source)))?;
        out.line(format!("pool     {}", id(&plan.pool)))?;
        out.line(format!("type     {}", word(plan.r#type())))?;
        out.line(format!("stored   {}", compression(&plan)))?;
        out.line(format!("threads  {threads}"))?;
        out.line(format!("streams  {}", plan.streams.max(1)))?;
        if plan.r#type() == VersionType::Mirror {
            let percent = plan.mirror_living_percent;
            out.line(format!("whole    if less than {percent} % is living"))?;
        }
        let keeps = plan.retention.as_ref().map_or("all".to_owned(), words);
        out.line(format!("keeps    {}", human::clean(&keeps)))?;
        out.line(format!(
            "made     {}",
            human::time(plan.create_time.as_ref())
        ))?;
        Ok(Exit::Done)
    }
}

/// Delete a plan; its versions stay
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  taf plan delete daily")]
pub struct Delete {
    /// Its name
    name: String,
}

impl Delete {
    async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let request = DeletePlanRequest {
            name: name("plans", &self.name),
            etag: String::new(),
            request_id: request_id(),
        };
        let answer = client.plans().delete_plan(request).await?.into_inner();
        if out.json() {
            out.message("DeletePlanResponse", &answer)?;
        } else {
            say(format!(
                "deleted plan {}; its versions stay",
                id(&self.name)
            ));
        }
        Ok(Exit::Done)
    }
}
