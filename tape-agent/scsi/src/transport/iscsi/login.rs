//! Logging in (RFC 7143 sections 6 and 11.12): security, then what the two sides agree on, then the session.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use super::address::{PORT, Portal};
use super::chap::{self, Algorithm, Challenge, Secret};
use super::identity::Settings;
use super::keys::{Agreed, Keys, LOGIN_SEGMENT, TEXT_MAX, brief};
use super::pdu::{Header, Receiver, Sender, at, flag, op};
use super::session::Session;

/// A host that does not answer.
const DIAL: Duration = Duration::from_secs(15);
/// A whole login.
const PATIENCE: Duration = Duration::from_secs(30);
/// A target that sends us on and on has nowhere to go.
const REDIRECTS: usize = 4;
/// More steps than any login has.
const STEPS: usize = 16;

/// Stages of a login, as they stand in its flags.
mod stage {
    pub const SECURITY: u8 = 0;
    pub const OPERATIONAL: u8 = 1;
    pub const FULL: u8 = 3;
}

/// What a session is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose<'a> {
    /// Driving this unit of this target.
    Unit { target: &'a str, lun: u16 },
    /// Looking at what a target has, beside whatever sessions there are.
    Look { target: &'a str },
    /// Asking which targets there are.
    Discovery,
}

/// Why a login did not come to its end.
enum Stop {
    /// The target is elsewhere: host and port.
    Elsewhere(String, u16),
    /// It does not believe us.
    Denied(String),
    /// Anything else.
    Failed(String),
}

impl From<String> for Stop {
    fn from(reason: String) -> Self {
        Self::Failed(reason)
    }
}

impl From<&str> for Stop {
    fn from(reason: &str) -> Self {
        Self::Failed(reason.to_owned())
    }
}

/// Connects and logs in; the reason if that fails.
pub(super) fn log_in(
    portal: &Portal<'_>,
    purpose: Purpose<'_>,
    settings: &Settings,
) -> Result<Session, String> {
    let secret =
        match portal.user {
            None => None,
            Some(user) => Some(settings.secrets.of(user).ok_or_else(|| {
                format!("there is no secret of {user} in the file of iSCSI secrets")
            })?),
        };
    let isid = match purpose {
        Purpose::Unit { lun, .. } => settings.isid(lun),
        Purpose::Look { .. } | Purpose::Discovery => {
            let mut isid = super::random::<6>().map_err(|error| error.to_string())?;
            isid[0] = 0x80;
            isid
        }
    };
    let mut place = (portal.host.to_owned(), portal.port);
    let mut algorithms = Algorithm::OFFER;
    for _ in 0..REDIRECTS {
        let mut login = Login {
            wire: Wire::dial(&place.0, place.1)?,
            isid,
            tag: 0,
            exp_stat_sn: 0,
            tsih: 0,
            asked: Instant::now(),
        };
        match login.run(purpose, settings, secret, algorithms) {
            Ok(agreed) => {
                let Wire { mut tx, mut rx } = login.wire;
                tx.digests = agreed.digests;
                rx.digests = agreed.digests;
                rx.limit = settings.wishes.segment;
                return Ok(Session::new(tx, rx, agreed, login.exp_stat_sn));
            }
            Err(Stop::Elsewhere(host, port)) => {
                tracing::info!(host, port, "the iSCSI target sends us on");
                place = (host, port);
            }
            // Some targets (tgt, IET) call by the number of SHA-256 what is SHA-1.
            Err(Stop::Denied(_)) if secret.is_some() && algorithms == Algorithm::OFFER => {
                algorithms = "5";
            }
            Err(Stop::Denied(reason) | Stop::Failed(reason)) => return Err(reason),
        }
    }
    Err("the target sends us on and on".to_owned())
}

struct Wire {
    tx: Sender,
    rx: Receiver,
}

impl Wire {
    fn dial(host: &str, port: u16) -> Result<Self, String> {
        let failed = |error| format!("can't connect to {host}:{port}: {error}; is the target on?");
        let mut outcome = Err(format!("the host {host} is unknown"));
        for address in (host, port).to_socket_addrs().map_err(failed)? {
            outcome = TcpStream::connect_timeout(&address, DIAL).map_err(failed);
            if outcome.is_ok() {
                break;
            }
        }
        let stream = outcome?;
        let rx = stream.try_clone().map_err(failed)?;
        Ok(Self {
            tx: Sender::new(stream).map_err(failed)?,
            rx: Receiver::new(rx, LOGIN_SEGMENT.max(TEXT_MAX)),
        })
    }
}

struct Login {
    wire: Wire,
    isid: [u8; 6],
    tag: u32,
    exp_stat_sn: u32,
    tsih: u16,
    asked: Instant,
}

impl Login {
    fn run(
        &mut self,
        purpose: Purpose<'_>,
        settings: &Settings,
        secret: Option<&Secret>,
        algorithms: &str,
    ) -> Result<Agreed, Stop> {
        let mut keys = Keys::new().and("InitiatorName", settings.initiator.as_str());
        keys = match purpose {
            Purpose::Unit { target, .. } | Purpose::Look { target } => {
                keys.and("SessionType", "Normal").and("TargetName", target)
            }
            Purpose::Discovery => keys.and("SessionType", "Discovery"),
        };
        match secret {
            None => self.without_proof(keys.and("AuthMethod", "None"))?,
            Some(secret) => self.prove(&keys.and("AuthMethod", "CHAP"), secret, algorithms)?,
        }

        let mut agreed = Agreed::default();
        let normal = !matches!(purpose, Purpose::Discovery);
        let mut say = settings.wishes.offer(normal);
        for _ in 0..STEPS {
            let (heard, on) = self.exchange(&say, stage::OPERATIONAL, Some(stage::FULL))?;
            agreed.hear(&heard)?;
            if on {
                if self.tsih == 0 {
                    return Err("the target gave the session no handle".into());
                }
                return Ok(agreed);
            }
            say = Keys::new();
        }
        Err("the target does not come to an end with the login".into())
    }

    fn without_proof(&mut self, mut keys: Keys) -> Result<(), Stop> {
        for _ in 0..STEPS {
            let (heard, on) = self.exchange(&keys, stage::SECURITY, Some(stage::OPERATIONAL))?;
            if heard
                .get("AuthMethod")
                .is_some_and(|method| method != "None")
            {
                return Err(Stop::Denied(UNPROVED.to_owned()));
            }
            if on {
                return Ok(());
            }
            keys = Keys::new();
        }
        Err("the target does not come to an end with the login".into())
    }

    /// CHAP: proves ourselves, and has the target prove itself if its secret is known.
    fn prove(&mut self, keys: &Keys, secret: &Secret, algorithms: &str) -> Result<(), Stop> {
        let (heard, _) = self.exchange(keys, stage::SECURITY, None)?;
        if heard.get("AuthMethod") != Some("CHAP") {
            return Err(
                "the target knows no CHAP for us; leave the user out of the device's name".into(),
            );
        }
        let (heard, _) = self.exchange(
            &Keys::new().and("CHAP_A", algorithms),
            stage::SECURITY,
            None,
        )?;
        let algorithm = heard
            .get("CHAP_A")
            .filter(|chosen| algorithms.split(',').any(|one| one == *chosen))
            .and_then(Algorithm::first_of)
            .ok_or("the target knows no CHAP algorithm that we know")?;
        let identifier: u8 = heard
            .get("CHAP_I")
            .and_then(|value| value.parse().ok())
            .ok_or("the target's challenge has no number")?;
        let challenge = heard
            .get("CHAP_C")
            .and_then(chap::decode)
            .filter(|challenge| !challenge.is_empty())
            .ok_or("the target's challenge can't be read")?;
        let response = algorithm.response(identifier, &secret.secret, &challenge);
        let mut proof = Keys::new()
            .and("CHAP_N", secret.user.as_str())
            .and("CHAP_R", chap::encode(&response));
        let own = Challenge::new().map_err(|error| error.to_string())?;
        if secret.target.is_some() {
            proof = proof
                .and("CHAP_I", own.identifier.to_string())
                .and("CHAP_C", chap::encode(&own.bytes));
        }
        let (heard, mut on) = self.exchange(&proof, stage::SECURITY, Some(stage::OPERATIONAL))?;
        if let Some((name, proof)) = &secret.target {
            let believed = heard.get("CHAP_N") == Some(name)
                && heard
                    .get("CHAP_R")
                    .and_then(chap::decode)
                    .is_some_and(|response| own.proves(algorithm, proof, &response));
            if !believed {
                return Err(format!(
                    "the target did not prove that it is {name}: it may be another one, or its secret is another"
                )
                .into());
            }
        }
        for _ in 0..STEPS {
            if on {
                return Ok(());
            }
            (_, on) = self.exchange(&Keys::new(), stage::SECURITY, Some(stage::OPERATIONAL))?;
        }
        Err("the target does not come to an end with the login".into())
    }

    /// Says something in a stage and hears the whole answer; whether it goes on to the `next` stage.
    fn exchange(&mut self, say: &Keys, now: u8, next: Option<u8>) -> Result<(Keys, bool), Stop> {
        let mut text = say.build();
        let mut heard = Vec::new();
        loop {
            let flags = now << 2 | next.map_or(0, |next| flag::FINAL | next);
            let header = Header::new(op::LOGIN_REQUEST)
                .immediate()
                .flags(flags)
                .bytes(8, &self.isid)
                .with(at::TASK_TAG, self.tag)
                .with(at::CMD_SN, super::session::FIRST_CMD_SN)
                .with(at::EXP_STAT_SN, self.exp_stat_sn);
            let sent = self.wire.tx.send(header, &text);
            sent.map_err(|fault| format!("the login broke off: {fault}"))?;
            let header = self.hear()?;
            let more = self.wire.rx.data();
            heard.extend(more.map_err(|fault| format!("the login broke off: {fault}"))?);
            if heard.len() > TEXT_MAX {
                return Err("the target's answer to the login does not end".into());
            }
            let keys = |text: &[u8]| Keys::parse(text).map_err(Stop::Failed);
            match header.0[36] {
                0 => {}
                1 => return Err(elsewhere(&keys(&heard)?)),
                class => return Err(refused(class, header.0[37])),
            }
            if header.has(flag::CONTINUE) {
                text = Vec::new();
                continue;
            }
            let on = header.has(flag::FINAL);
            if (header.0[1] >> 2) & 3 != now || (on && Some(header.0[1] & 3) != next) {
                return Err("the target is at another stage of the login".into());
            }
            self.tsih = u16::from_be_bytes([header.0[14], header.0[15]]);
            return Ok((keys(&heard)?, on));
        }
    }

    fn hear(&mut self) -> Result<Header, Stop> {
        let left = PATIENCE.saturating_sub(self.asked.elapsed());
        let header = match self.wire.rx.next(left) {
            Ok(Some(header)) => header,
            Ok(None) => return Err("the target does not answer the login".into()),
            Err(fault) => return Err(format!("the login broke off: {fault}").into()),
        };
        if header.operation() != op::LOGIN_RESPONSE {
            return Err(format!(
                "the target answers the login with something else ({:02x}h)",
                header.operation()
            )
            .into());
        }
        self.exp_stat_sn = header.word(at::STAT_SN).wrapping_add(1);
        Ok(header)
    }
}

const UNPROVED: &str = "the target wants proof of who we are: name a user, iscsi://USER@HOST/…, and his secret in the file of \
                        iSCSI secrets";

/// Status classes 2 and 3 (11.13.5).
fn refused(class: u8, detail: u8) -> Stop {
    let words = match (class, detail) {
        // A proof of another length than expected is a fault to some.
        (2, 0 | 1) => {
            return Stop::Denied(format!(
                "the target does not believe who we are (status 02{detail:02x}): user, secret, or none named where it wants one; {UNPROVED}"
            ));
        }
        (2, 2) => "this host may not use the target: have its initiator name allowed there",
        (2, 3) => "there is no such target",
        (2, 4) => "the target was removed",
        (2, 5) => "it speaks no version of the protocol that we speak",
        (2, 6) => "it has too many connections already",
        (2, 10) => "it does not know the session",
        (2, _) => "it finds fault with the login",
        (3, 1) => "it is not in service now",
        (3, 2) => "it has no room for another session",
        _ => "something is wrong with it",
    };
    Stop::Failed(format!(
        "the target refuses the login: {words} (status {class:02x}{detail:02x})"
    ))
}

/// `TargetAddress=HOST[:PORT][,GROUP]`.
fn elsewhere(keys: &Keys) -> Stop {
    let address = keys.get("TargetAddress").unwrap_or_default();
    let place = address.split(',').next().unwrap_or_default();
    match Portal::parse(place) {
        Ok(portal) if portal.user.is_none() => {
            let port = if portal.port == 0 { PORT } else { portal.port };
            Stop::Elsewhere(portal.host.to_owned(), port)
        }
        _ => Stop::Failed(format!(
            "the target is elsewhere, but does not say where: {}",
            brief(address)
        )),
    }
}
