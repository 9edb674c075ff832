//! `taf drive health`, `down`, `up`: what a drive is worth, and whether it gets work.

use taf_proto::v1::{Cleaning, GetDriveHealthRequest, PutDriveUpRequest, TakeDriveDownRequest};

use crate::client::{Client, read, request_id};
use crate::command::{health, missing};
use crate::failure::{Exit, Failure};
use crate::human;
use crate::output::{Output, say};
use crate::resource::{id, name};

/// Show what a drive is worth and why: score, alerts, drive-or-tape verdict, its last mounts
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  taf drive health DRIVE1")]
pub struct Show {
    /// Its serial number
    #[arg(value_name = "DRIVE")]
    serial: String,
}

impl Show {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let request = GetDriveHealthRequest {
            name: name("drives", &self.serial),
        };
        let answer = read(|| {
            let (mut service, request) = (client.health(), request.clone());
            async move { service.get_drive_health(request).await }
        })
        .await?;
        if out.json() {
            out.message("GetDriveHealthResponse", &answer)?;
            return Ok(Exit::Done);
        }
        let found = answer.health.as_ref().ok_or_else(|| missing("health"))?;
        let cleaning = match answer.cleaning() {
            Cleaning::Unspecified => "",
            Cleaning::NotWanted => "not wanted",
            Cleaning::Requested => "asked for: when it is idle",
            Cleaning::Required => "needed now",
        };
        for (key, value) in [
            ("drive", id(&self.serial)),
            ("down", &answer.down_reason),
            ("cleaning", cleaning),
        ] {
            if !value.is_empty() {
                out.line(format!("{key:<13} {}", human::clean(value)))?;
            }
        }
        health::show(found, out)?;
        if !answer.mounts.is_empty() {
            out.line("")?;
            out.table(&health::mounts(&answer.mounts))?;
        }
        Ok(Exit::Done)
    }
}

/// Give a drive no more work; what it works at goes on
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  taf drive down DRIVE1 --because \"new firmware\"")]
pub struct Down {
    /// Its serial number
    #[arg(value_name = "DRIVE")]
    serial: String,
    /// Why, for others
    #[arg(long, value_name = "TEXT")]
    because: String,
}

impl Down {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let request = TakeDriveDownRequest {
            name: name("drives", &self.serial),
            reason: self.because,
            request_id: request_id(),
        };
        let answer = client.health().take_drive_down(request).await?.into_inner();
        if out.json() {
            out.message("TakeDriveDownResponse", &answer)?;
            return Ok(Exit::Done);
        }
        say(format!("drive {} gets no more work", id(&self.serial)));
        Ok(Exit::Done)
    }
}

/// Give a drive work again that an alert or a person took down
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  taf drive up DRIVE1")]
pub struct Up {
    /// Its serial number
    #[arg(value_name = "DRIVE")]
    serial: String,
}

impl Up {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let request = PutDriveUpRequest {
            name: name("drives", &self.serial),
            request_id: request_id(),
        };
        let answer = client.health().put_drive_up(request).await?.into_inner();
        if out.json() {
            out.message("PutDriveUpResponse", &answer)?;
            return Ok(Exit::Done);
        }
        say(format!("drive {} gets work again", id(&self.serial)));
        Ok(Exit::Done)
    }
}
