//! An initiator's login: who it is, what is agreed on.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use taf_scsi::transport::iscsi::chap::{self, Algorithm, Challenge};
use taf_scsi::transport::iscsi::keys::{Agreed, Keys, LOGIN_SEGMENT, TEXT_MAX};
use taf_scsi::transport::iscsi::pdu::{Header, Receiver, Sender, at, flag, op};

use super::outlet::{Counts, Outlet};
use super::{Front, Seat};

/// A whole login.
const PATIENCE: Duration = Duration::from_secs(15);
/// More steps than any login has.
const STEPS: usize = 24;
/// The longest name of an initiator.
const NAME_MAX: usize = 223;
/// Of the one group of portals that there is.
const GROUP: &str = "1";

const SECURITY: u8 = 0;
const OPERATIONAL: u8 = 1;
const FULL: u8 = 3;

/// Status class and detail (11.13.5).
type Status = (u8, u8);
const GOOD: Status = (0, 0);
const MOVED: Status = (1, 1);
const INITIATOR_ERROR: Status = (2, 0);
const DENIED: Status = (2, 1);
const NO_SUCH_TARGET: Status = (2, 3);
const NO_SUCH_VERSION: Status = (2, 5);
const MISSING: Status = (2, 7);
const NO_SUCH_SESSION: Status = (2, 10);

/// Who is logged in.
pub(super) struct LoggedIn {
    pub rx: Receiver,
    pub outlet: Arc<Outlet>,
    pub agreed: Agreed,
    pub cmd_sn: u32,
    /// None for a discovery session.
    pub seat: Option<Seat>,
}

/// Why a login ended otherwise.
enum Stop {
    /// The initiator is told.
    Told(Status, Keys, &'static str),
    /// The connection is of no use.
    Broken(String),
}

fn deny<T>(status: Status, why: &'static str) -> Result<T, Stop> {
    Err(Stop::Told(status, Keys::new(), why))
}

/// Whether a text was the last of a login.
enum Step {
    /// More is to be said.
    More,
    /// It was; the place is none for a discovery.
    In(Option<Seat>),
}

/// How far the proof is.
enum Proof {
    /// Nothing was said of it.
    Nothing,
    /// CHAP was chosen.
    Chap,
    /// The initiator has its challenge.
    Challenged(Algorithm, Challenge),
    /// All is proved, or nothing has to be.
    Done,
}

struct Login<'a> {
    front: &'a Arc<Front>,
    rx: Receiver,
    outlet: Arc<Outlet>,
    begun: Instant,
    /// The request that is answered next.
    request: Header,
    proof: Proof,
    agreed: Agreed,
    initiator: Option<String>,
    discovery: bool,
    declared: bool,
}

/// Lets an initiator log in; why not, if it doesn't.
pub(super) fn log_in(stream: TcpStream, front: &Arc<Front>) -> Result<LoggedIn, String> {
    let failed = |error: std::io::Error| error.to_string();
    let reading = stream.try_clone().map_err(failed)?;
    let mut rx = Receiver::new(reading, LOGIN_SEGMENT.max(TEXT_MAX));
    let first = rx
        .next(PATIENCE)
        .map_err(|fault| fault.to_string())?
        .ok_or("nothing was said")?;
    let tx = Sender::new(stream).map_err(failed)?;
    let cmd_sn = first.word(at::CMD_SN);
    let outlet = Outlet::new(tx, first.word(at::EXP_STAT_SN), cmd_sn).map_err(failed)?;
    let login = Login {
        front,
        rx,
        outlet: Arc::new(outlet),
        begun: Instant::now(),
        request: first,
        proof: Proof::Nothing,
        agreed: Agreed::default(),
        initiator: None,
        discovery: false,
        declared: false,
    };
    login.run(cmd_sn)
}

impl Login<'_> {
    fn run(mut self, cmd_sn: u32) -> Result<LoggedIn, String> {
        for _ in 0..STEPS {
            match self.step() {
                Ok(Step::More) => {}
                Ok(Step::In(seat)) => {
                    let Self {
                        mut rx,
                        outlet,
                        agreed,
                        ..
                    } = self;
                    rx.digests = agreed.digests;
                    rx.limit = self.front.options.wishes.segment;
                    outlet.agree(agreed.digests);
                    return Ok(LoggedIn {
                        rx,
                        outlet,
                        agreed,
                        cmd_sn,
                        seat,
                    });
                }
                Err(Stop::Told(status, keys, why)) => {
                    // What it makes of it is its business.
                    let _ = self.answer(&keys, status, 0, 0);
                    return Err(why.to_owned());
                }
                Err(Stop::Broken(why)) => return Err(why),
            }
        }
        Err("a login that does not end".to_owned())
    }

    /// Hears one text and answers it.
    fn step(&mut self) -> Result<Step, Stop> {
        let said = self.hear()?;
        if self.initiator.is_none() {
            self.introduce(&said)?;
        }
        let flags = self.request.0[1];
        let (now, next) = ((flags >> 2) & 3, flags & 3);
        let on = self.request.has(flag::FINAL);
        let mut reply = match now {
            SECURITY => self.security(&said)?,
            OPERATIONAL => self.operational(&said)?,
            _ => return deny(INITIATOR_ERROR, "a stage that there is not"),
        };
        if !self.declared {
            self.declared = true;
            if !self.discovery {
                reply = reply.and("TargetPortalGroupTag", GROUP);
            }
        }
        let proved = matches!(self.proof, Proof::Done);
        // It stays at this stage until all is said that this stage is for.
        let goes = on && (now == OPERATIONAL || proved);
        if goes && (next <= now || next == 2 || (next == FULL && !proved)) {
            return deny(INITIATOR_ERROR, "a stage that can't come next");
        }
        if !goes {
            self.answer(&reply, GOOD, now << 2, 0)?;
            return Ok(Step::More);
        }
        let flags = flag::FINAL | now << 2 | next;
        if next != FULL {
            self.answer(&reply, GOOD, flags, 0)?;
            return Ok(Step::More);
        }
        let seat = (!self.discovery).then(|| {
            let mut isid = [0; 6];
            isid.copy_from_slice(&self.request.0[8..14]);
            let name = self.initiator.clone().unwrap_or_default();
            self.front.admit((name, isid), &self.outlet)
        });
        let handle = seat.as_ref().map_or(1, |seat| seat.handle);
        self.answer(&reply, GOOD, flags, handle)?;
        Ok(Step::In(seat))
    }

    /// One whole text, which may come in several PDUs.
    fn hear(&mut self) -> Result<Keys, Stop> {
        let broken = |why: &str| Stop::Broken(why.to_owned());
        let mut text = Vec::new();
        let mut first = self.initiator.is_none();
        loop {
            if !first {
                let left = PATIENCE.saturating_sub(self.begun.elapsed());
                self.request = self
                    .rx
                    .next(left)
                    .map_err(|fault| Stop::Broken(fault.to_string()))?
                    .ok_or_else(|| broken("a login that takes too long"))?;
            }
            first = false;
            if self.request.operation() != op::LOGIN_REQUEST {
                return Err(broken("something else than a login"));
            }
            let more = self.rx.data();
            text.extend(more.map_err(|fault| Stop::Broken(fault.to_string()))?);
            if text.len() > TEXT_MAX {
                return deny(INITIATOR_ERROR, "a text without an end");
            }
            if !self.request.has(flag::CONTINUE) {
                return Keys::parse(&text)
                    .or_else(|_| deny(INITIATOR_ERROR, "a text that is none"));
            }
            self.answer(&Keys::new(), GOOD, self.request.0[1] & 0x0c, 0)?;
        }
    }

    /// The first request: who it is and what it wants.
    fn introduce(&mut self, said: &Keys) -> Result<(), Stop> {
        let name = said.get("InitiatorName").unwrap_or_default();
        self.initiator = Some(name.to_owned());
        // The lowest version that it speaks; there is but 0.
        if self.request.0[3] != 0 {
            return deny(
                NO_SUCH_VERSION,
                "a version of the protocol that there is not",
            );
        }
        if name.is_empty() || name.len() > NAME_MAX {
            return deny(MISSING, "no name of an initiator");
        }
        if self.request.0[14..16] != [0, 0] {
            return deny(NO_SUCH_SESSION, "a further connection of a session");
        }
        self.discovery = said.get("SessionType") == Some("Discovery");
        if !self.discovery {
            match said.get("TargetName") {
                None => return deny(MISSING, "no name of a target"),
                Some(name) if name == self.front.options.name => {}
                Some(_) => return deny(NO_SUCH_TARGET, "the name of another target"),
            }
            if let Some(place) = &self.front.options.redirect {
                let keys = Keys::new().and("TargetAddress", place.as_str());
                return Err(Stop::Told(MOVED, keys, "it is sent on"));
            }
        }
        if self.front.options.secrets.is_empty() {
            self.proof = Proof::Done;
        }
        Ok(())
    }

    fn security(&mut self, said: &Keys) -> Result<Keys, Stop> {
        let secrets = &self.front.options.secrets;
        let methods = said.get("AuthMethod");
        let offers = |method| methods.is_some_and(|list| list.split(',').any(|one| one == method));
        match std::mem::replace(&mut self.proof, Proof::Nothing) {
            Proof::Done => {
                self.proof = Proof::Done;
                if methods.is_none() {
                    Ok(Keys::new())
                } else if offers("None") {
                    Ok(Keys::new().and("AuthMethod", "None"))
                } else {
                    deny(
                        DENIED,
                        "it wants proof by CHAP, and there are no secrets here",
                    )
                }
            }
            Proof::Nothing if offers("CHAP") => {
                self.proof = Proof::Chap;
                Ok(Keys::new().and("AuthMethod", "CHAP"))
            }
            Proof::Nothing => deny(DENIED, "no proof of who it is"),
            Proof::Chap => {
                let Some(algorithm) = said.get("CHAP_A").and_then(Algorithm::first_of) else {
                    return deny(DENIED, "no CHAP algorithm that is known here");
                };
                let challenge =
                    Challenge::new().map_err(|error| Stop::Broken(error.to_string()))?;
                let reply = Keys::new()
                    .and("CHAP_A", algorithm.number().to_string())
                    .and("CHAP_I", challenge.identifier.to_string())
                    .and("CHAP_C", chap::encode(&challenge.bytes));
                self.proof = Proof::Challenged(algorithm, challenge);
                Ok(reply)
            }
            Proof::Challenged(algorithm, challenge) => {
                let secret = said.get("CHAP_N").and_then(|user| secrets.of(user));
                let response = said.get("CHAP_R").and_then(chap::decode);
                let (Some(secret), Some(response)) = (secret, response) else {
                    return deny(DENIED, "a user who is unknown, or no proof");
                };
                if !challenge.proves(algorithm, &secret.secret, &response) {
                    return deny(DENIED, "a wrong secret");
                }
                let reply = match said.get("CHAP_C") {
                    None => Keys::new(),
                    Some(theirs) => {
                        let theirs =
                            chap::decode(theirs).filter(|theirs| *theirs != challenge.bytes);
                        let number = said.get("CHAP_I").and_then(|number| number.parse().ok());
                        let (Some(theirs), Some(number), Some((name, own))) =
                            (theirs, number, &secret.target)
                        else {
                            return deny(
                                DENIED,
                                "it wants proof of the target, which has no secret for that",
                            );
                        };
                        let proof = algorithm.response(number, own, &theirs);
                        Keys::new()
                            .and("CHAP_N", name.as_str())
                            .and("CHAP_R", chap::encode(&proof))
                    }
                };
                self.proof = Proof::Done;
                Ok(reply)
            }
        }
    }

    fn operational(&mut self, said: &Keys) -> Result<Keys, Stop> {
        if !matches!(self.proof, Proof::Done) {
            return deny(DENIED, "no proof of who it is");
        }
        let wishes = &self.front.options.wishes;
        let answer = self
            .agreed
            .answer(said, wishes)
            .or_else(|_| deny(INITIATOR_ERROR, "an offer that can't be understood"))?;
        Ok(answer.and("MaxRecvDataSegmentLength", wishes.segment.to_string()))
    }

    fn answer(&self, keys: &Keys, status: Status, flags: u8, handle: u16) -> Result<(), Stop> {
        let header = Header::new(op::LOGIN_RESPONSE)
            .flags(flags)
            .bytes(8, &self.request.0[8..14])
            .bytes(14, &handle.to_be_bytes())
            .with(at::TASK_TAG, self.request.word(at::TASK_TAG))
            .byte(36, status.0)
            .byte(37, status.1);
        self.outlet
            .send(header, &keys.build(), Counts::Status)
            .map_err(|fault| Stop::Broken(fault.to_string()))
    }
}
