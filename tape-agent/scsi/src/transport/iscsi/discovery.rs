//! Which targets a portal has, and which tape drives and media changers are behind them.

use std::time::Duration;

use super::address::{Address, Portal};
use super::identity::Settings;
use super::keys::Keys;
use super::login::{Purpose, log_in};
use super::session::{Failure, Session};
use crate::host::Kind;
use crate::page::inquiry::{self, Inquiry};
use crate::page::vpd;
use crate::transport::Data;
use crate::{cdb, status};

/// A unit says who it is within this.
const ASKING: Duration = Duration::from_secs(30);
/// More units than anybody has at one target.
const UNITS_MAX: usize = 1024;

/// A device behind a portal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name: `iscsi://…`.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// What it says of itself.
    pub inquiry: Inquiry,
    /// Unit serial number, if it tells one.
    pub serial: Option<String>,
}

/// The tape drives and media changers behind a portal (`[USER@]HOST[:PORT]`). Only asks who is there: no unit attention
/// is taken, and nobody's session is disturbed. The reason if that fails.
pub fn scan(portal: &str, settings: &Settings) -> Result<Vec<Found>, String> {
    let portal = Portal::parse(portal)?;
    // Many portals tell everybody which targets they have, and know no users there.
    let anybody = Portal {
        user: None,
        ..portal
    };
    let mut session = match log_in(&portal, Purpose::Discovery, settings) {
        Err(why) if portal.user.is_some() => {
            log_in(&anybody, Purpose::Discovery, settings).map_err(|_| why)?
        }
        outcome => outcome?,
    };
    let said = session
        .text(&Keys::new().and("SendTargets", "All"))
        .map_err(reason)?;
    let peer = session.peer().map(|address| address.to_string());
    // What was asked is known; a target that does not say good-bye changes nothing.
    let _ = session.log_out();
    let mut found = Vec::new();
    for (target, addresses) in targets(&said) {
        // Where we asked, if the target is there too, by the name that we were given.
        let elsewhere = addresses
            .first()
            .filter(|_| !addresses.contains(&peer.as_deref().unwrap_or_default()));
        let place = match elsewhere {
            None => portal,
            Some(place) => Portal {
                user: portal.user,
                ..Portal::parse(place)?
            },
        };
        let purpose = Purpose::Look { target };
        match log_in(&place, purpose, settings) {
            Ok(mut session) => {
                found.extend(units(&mut session, &place, target)?);
                let _ = session.log_out();
            }
            Err(reason) => tracing::warn!(target, reason, "an iSCSI target can't be looked at"),
        }
    }
    Ok(found)
}

/// The device with this serial number behind the portals that are configured.
pub fn find_serial(
    serial: &str,
    kind: Option<Kind>,
    settings: &Settings,
) -> Result<Option<Found>, String> {
    let mut failed = None;
    for portal in &settings.portals {
        match scan(portal, settings) {
            Ok(found) => {
                let one = found.into_iter().find(|one| {
                    one.serial.as_deref() == Some(serial)
                        && kind.is_none_or(|kind| one.kind == kind)
                });
                if one.is_some() {
                    return Ok(one);
                }
            }
            Err(reason) => failed = Some(format!("{portal}: {reason}")),
        }
    }
    failed.map_or(Ok(None), Err)
}

fn reason(failure: Failure) -> String {
    match failure {
        Failure::Lost(reason) => reason,
        Failure::Timeout => "the target does not answer".to_owned(),
    }
}

/// Names of targets, each with the addresses that follow it.
fn targets(said: &Keys) -> Vec<(&str, Vec<&str>)> {
    let mut targets: Vec<(&str, Vec<&str>)> = Vec::new();
    for (key, value) in said.iter() {
        match (key, targets.last_mut()) {
            ("TargetName", _) => targets.push((value, Vec::new())),
            ("TargetAddress", Some((_, addresses))) => {
                addresses.push(value.split(',').next().unwrap_or_default());
            }
            _ => {}
        }
    }
    targets
}

fn units(session: &mut Session, place: &Portal<'_>, target: &str) -> Result<Vec<Found>, String> {
    let mut found = Vec::new();
    for lun in luns(session)? {
        let data = ask(
            session,
            lun,
            &cdb::inquiry(inquiry::LENGTH as u16),
            inquiry::LENGTH,
        )?;
        let Some(inquiry) = data.and_then(|data| Inquiry::parse(&data).ok()) else {
            continue;
        };
        let Some(kind) = Kind::from_type(inquiry.device_type).filter(|_| inquiry.qualifier == 0)
        else {
            continue;
        };
        let page = ask(
            session,
            lun,
            &cdb::inquiry_vpd(vpd::SERIAL_NUMBER, 252),
            252,
        )?;
        let address = Address {
            portal: *place,
            target,
            lun,
        };
        found.push(Found {
            name: address.to_string(),
            kind,
            inquiry,
            serial: page
                .and_then(|page| vpd::serial_parse(&page).ok())
                .filter(|serial| !serial.is_empty()),
        });
    }
    Ok(found)
}

/// The units that a target has, in their order.
fn luns(session: &mut Session) -> Result<Vec<u16>, String> {
    const CAPACITY: usize = 8 + 8 * UNITS_MAX;
    let list = ask(session, 0, &cdb::report_luns(CAPACITY as u32), CAPACITY)?.unwrap_or_default();
    let told = list
        .first_chunk::<4>()
        .map_or(0, |length| u32::from_be_bytes(*length) as usize);
    let mut luns = Vec::new();
    let entries = list.get(8..).unwrap_or_default();
    for entry in entries.chunks_exact(8).take(told / 8) {
        let header = super::pdu::Header::new(0).bytes(8, entry);
        luns.extend(header.to_lun());
    }
    if luns.is_empty() {
        luns.push(0);
    }
    Ok(luns)
}

/// What a unit answers; `None` if it says no.
fn ask(
    session: &mut Session,
    lun: u16,
    cdb: &[u8],
    capacity: usize,
) -> Result<Option<Vec<u8>>, String> {
    let mut data = vec![0; capacity];
    let done = session
        .run(lun, cdb, Data::In(&mut data), ASKING)
        .map_err(reason)?;
    data.truncate(done.transferred);
    Ok((done.status == status::GOOD).then_some(data))
}
