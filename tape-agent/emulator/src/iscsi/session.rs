//! One connection: the login, then whatever the initiator sends, until it goes, breaks the protocol, or is displaced.
//!
//! This thread hears and never waits for a unit; units are worked at by threads of their own.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use taf_scsi::cdb::opcode;
use taf_scsi::page::inquiry;
use taf_scsi::sense::{Key, Sense, code};
use taf_scsi::status;
use taf_scsi::target::Response;
use taf_scsi::transport::TRANSFER_MAX;
use taf_scsi::transport::iscsi::keys::{Agreed, Keys};
use taf_scsi::transport::iscsi::pdu::{Fault, Header, NO_TAG, Receiver, at, flag, op};

use super::login::{LoggedIn, log_in};
use super::outlet::{Counts, Outlet};
use super::task::{Coming, Fate, Queue, Shop, Task};
use super::{Front, Seat, Unit};

/// A silent initiator is asked so often, then it is given up.
const PINGS: u32 = 6;

/// Why a PDU is rejected (11.17.1).
mod reason {
    pub const DATA_DIGEST: u8 = 0x02;
    pub const SNACK: u8 = 0x03;
    pub const PROTOCOL_ERROR: u8 = 0x04;
    pub const NOT_SUPPORTED: u8 = 0x05;
}

/// What a task management request is answered (11.6.1).
mod task_response {
    pub const DONE: u8 = 0;
    pub const NO_SUCH_TASK: u8 = 1;
    pub const NO_SUCH_UNIT: u8 = 2;
    pub const NOT_SUPPORTED: u8 = 5;
}

/// How a session ends.
enum End {
    /// In good order.
    LoggedOut,
    /// The initiator broke the protocol: it is told with this reason.
    Wrong(u8, &'static str),
    /// The connection is of no use.
    Broken(String),
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Digest("data") => Self::Wrong(reason::DATA_DIGEST, "damaged data"),
            fault => Self::Broken(fault.to_string()),
        }
    }
}

fn wrong<T>(why: &'static str) -> Result<T, End> {
    Err(End::Wrong(reason::PROTOCOL_ERROR, why))
}

struct Session {
    front: Arc<Front>,
    rx: Receiver,
    outlet: Arc<Outlet>,
    agreed: Agreed,
    seat: Option<Seat>,
    exp_cmd_sn: u32,
    queues: BTreeMap<u16, Queue>,
    /// Tasks that a worker has, or had.
    handed: Vec<(u32, u16, Fate)>,
    next_tag: u32,
    ended: Fate,
    /// Where the initiator reached us.
    local: String,
}

/// Serves one connection; why it ended, if not in good order.
pub(super) fn converse(stream: TcpStream, front: &Arc<Front>) -> Result<(), String> {
    let local = stream.local_addr().map_err(|error| error.to_string())?;
    let LoggedIn {
        rx,
        outlet,
        agreed,
        cmd_sn,
        seat,
    } = log_in(stream, front)?;
    let mut session = Session {
        front: Arc::clone(front),
        rx,
        outlet,
        agreed,
        seat,
        exp_cmd_sn: cmd_sn,
        queues: BTreeMap::new(),
        handed: Vec::new(),
        next_tag: 0,
        ended: Fate::default(),
        local: local.to_string(),
    };
    let end = session.run();
    // Whatever still runs ends without an answer, and before the place is free for another.
    session.ended.give_up();
    if let (Err(End::Wrong(reason, _)), header) = (&end, session.last()) {
        let reject = Header::new(op::REJECT)
            .byte(2, *reason)
            .with(at::TASK_TAG, NO_TAG);
        // It may be gone.
        let _ = session.outlet.send(reject, &header, Counts::Status);
    }
    session.outlet.close();
    match end {
        Ok(()) | Err(End::LoggedOut) => Ok(()),
        Err(End::Wrong(_, why)) => Err(why.to_owned()),
        Err(End::Broken(why)) => Err(why),
    }
}

impl Session {
    /// The header of the PDU that came last.
    fn last(&self) -> [u8; 48] {
        self.rx.last().0
    }

    fn run(&mut self) -> Result<(), End> {
        let mut heard = Instant::now();
        let ping = self.front.options.ping;
        loop {
            let Some(header) = self.rx.next(ping)? else {
                if heard.elapsed() > ping * PINGS {
                    return Err(End::Broken("the initiator is silent".to_owned()));
                }
                self.ping()?;
                continue;
            };
            heard = Instant::now();
            self.take(&header)?;
        }
    }

    fn ping(&mut self) -> Result<(), End> {
        let ping = Header::new(op::NOP_IN)
            .with(at::TASK_TAG, NO_TAG)
            .with(at::TRANSFER_TAG, self.tag());
        Ok(self.outlet.send(ping, &[], Counts::No)?)
    }

    fn tag(&mut self) -> u32 {
        self.next_tag = (self.next_tag + 1) % NO_TAG;
        self.next_tag
    }

    fn take(&mut self, header: &Header) -> Result<(), End> {
        if !matches!(header.operation(), op::DATA_OUT | op::SNACK) && !self.in_turn(header)? {
            return Ok(());
        }
        match header.operation() {
            op::COMMAND if self.seat.is_some() => self.command(header),
            op::DATA_OUT => self.data_out(header),
            op::TASK_REQUEST if self.seat.is_some() => self.manage(header),
            op::NOP_OUT => self.nop(header),
            op::TEXT_REQUEST => self.text(header),
            op::LOGOUT_REQUEST => self.log_out(header),
            op::SNACK => Err(End::Wrong(
                reason::SNACK,
                "a SNACK, without recovery agreed on",
            )),
            _ => Err(End::Wrong(
                reason::NOT_SUPPORTED,
                "something that has no place here",
            )),
        }
    }

    /// Whether a request comes in its turn. One from outside the window is ignored (4.2.2.1).
    fn in_turn(&mut self, header: &Header) -> Result<bool, End> {
        let command = header.operation() == op::COMMAND;
        let number = header.word(at::CMD_SN);
        if !header.is_immediate() {
            let ahead = number.wrapping_sub(self.exp_cmd_sn);
            if ahead > super::outlet::WINDOW {
                return Ok(false);
            }
            // Over one connection nothing comes later than it was sent.
            if ahead != 0 {
                return wrong("a command is missing");
            }
            self.exp_cmd_sn = self.exp_cmd_sn.wrapping_add(1);
        }
        if self.outlet.took(self.exp_cmd_sn, command) {
            Ok(true)
        } else {
            wrong("more commands at once than allowed")
        }
    }

    fn unit(&self, lun: Option<u16>) -> Option<(u16, &Unit)> {
        let lun = lun?;
        self.front
            .units
            .get(usize::from(lun))
            .map(|unit| (lun, unit))
    }

    fn command(&mut self, header: &Header) -> Result<(), End> {
        let tag = header.word(at::TASK_TAG);
        self.handed.retain(|(_, _, fate)| !fate.is_decided());
        if tag == NO_TAG || self.is_open(tag) {
            return wrong("a task's tag that is none, or taken");
        }
        let mut cdb = [0; 16];
        cdb.copy_from_slice(&header.0[32..48]);
        let expected = header.word(at::EXPECTED_LENGTH) as usize;
        let (reads, writes) = (header.has(flag::READ), header.has(flag::WRITE));
        let too_much =
            expected > TRANSFER_MAX || (reads && writes) || header.additional_length() > 0;
        let refusal = if too_much {
            Some(check(code::INVALID_FIELD_IN_CDB))
        } else {
            self.of_the_target(header.to_lun(), &cdb)
        };
        let lun = header.to_lun().unwrap_or(u16::MAX);
        let resets = self
            .unit(header.to_lun())
            .map_or(0, |(_, unit)| unit.resets.load(Ordering::SeqCst));
        let length = if writes && !too_much { expected } else { 0 };
        let mut task = Task {
            tag,
            lun,
            cdb,
            capacity: if reads && !too_much { expected } else { 0 },
            expected,
            data: vec![0; length],
            received: 0,
            coming: Coming::Nothing,
            data_sn: 0,
            r2t_sn: 0,
            refusal,
            fate: Fate::default(),
            resets,
        };
        let immediate = header.data_length();
        let unasked = length.min(self.agreed.first_burst);
        if immediate > 0 && (!self.agreed.immediate_data || immediate > unasked) {
            return wrong("more data with a command than agreed on");
        }
        self.rx.data_into(&mut task.data[..immediate])?;
        task.received = immediate;
        if writes && !header.has(flag::FINAL) {
            if self.agreed.initial_r2t {
                return wrong("data that nobody asked for");
            }
            task.coming = Coming::Unasked(unasked);
        } else {
            self.ask(&mut task)?;
        }
        if !self.queues.contains_key(&lun) {
            let queue = self
                .queue()
                .map_err(|error| End::Broken(error.to_string()))?;
            self.queues.insert(lun, queue);
        }
        self.handed.push((tag, lun, task.fate.clone()));
        if let Some(queue) = self.queues.get_mut(&lun) {
            queue.waiting.push_back(task);
            queue.advance();
        }
        Ok(())
    }

    fn queue(&self) -> std::io::Result<Queue> {
        let nexus = self.seat.as_ref().map(|seat| seat.nexus);
        Queue::new(Shop {
            front: Arc::clone(&self.front),
            outlet: Arc::clone(&self.outlet),
            agreed: self.agreed,
            nexus: nexus.ok_or_else(|| std::io::Error::other("a discovery has no units"))?,
            session: self.ended.clone(),
        })
    }

    fn is_open(&self, tag: u32) -> bool {
        self.handed
            .iter()
            .any(|(other, _, fate)| *other == tag && !fate.is_decided())
    }

    /// Asks for the data that are still missing, a burst at a time.
    fn ask(&mut self, task: &mut Task) -> Result<(), End> {
        let begin = task.received;
        let end = task.data.len().min(begin + self.agreed.max_burst);
        // What is refused anyway needs no data.
        if begin == end || task.refusal.is_some() {
            task.coming = Coming::Nothing;
            return Ok(());
        }
        let tag = self.tag();
        let header = Header::new(op::R2T)
            .lun(task.lun)
            .with(at::TASK_TAG, task.tag)
            .with(at::TRANSFER_TAG, tag)
            .with(at::DATA_SN, task.r2t_sn)
            .with(at::BUFFER_OFFSET, begin as u32)
            .with(at::DESIRED_LENGTH, (end - begin) as u32);
        task.coming = Coming::Asked(tag, end);
        task.data_sn = 0;
        task.r2t_sn += 1;
        Ok(self.outlet.send(header, &[], Counts::No)?)
    }

    fn data_out(&mut self, header: &Header) -> Result<(), End> {
        let tag = header.word(at::TASK_TAG);
        let place = self.queues.iter().find_map(|(lun, queue)| {
            let index = queue.waiting.iter().position(|task| task.tag == tag)?;
            Some((*lun, index))
        });
        // Data of a task that was given up may still be on their way.
        let Some((lun, index)) = place else {
            self.rx.data()?;
            return Ok(());
        };
        let Some(mut task) = self
            .queues
            .get_mut(&lun)
            .and_then(|queue| queue.waiting.remove(index))
        else {
            return Ok(());
        };
        let (transfer, end) = match task.coming {
            Coming::Unasked(end) => (NO_TAG, end),
            Coming::Asked(transfer, end) => (transfer, end),
            Coming::Nothing => return wrong("data of a command that has all"),
        };
        let offset = header.word(at::BUFFER_OFFSET) as usize;
        let next = task.received.saturating_add(header.data_length());
        if header.word(at::TRANSFER_TAG) != transfer
            || header.word(at::DATA_SN) != task.data_sn
            || offset != task.received
            || next > end
        {
            return wrong("data out of order, or more than asked for");
        }
        self.rx.data_into(&mut task.data[offset..next])?;
        task.received = next;
        task.data_sn += 1;
        if header.has(flag::FINAL) {
            if transfer != NO_TAG && next != end {
                return wrong("fewer data than asked for");
            }
            self.ask(&mut task)?;
        }
        if let Some(queue) = self.queues.get_mut(&lun) {
            queue.waiting.insert(index, task);
            queue.advance();
        }
        Ok(())
    }

    /// What the target answers in place of a unit.
    fn of_the_target(&self, lun: Option<u16>, cdb: &[u8; 16]) -> Option<Response> {
        let there = self.unit(lun).is_some();
        match cdb[0] {
            opcode::REPORT_LUNS => {
                let list = self.luns();
                let room = u32::from_be_bytes([cdb[6], cdb[7], cdb[8], cdb[9]]) as usize;
                Some(data(&list[..list.len().min(room)]))
            }
            _ if there => None,
            opcode::INQUIRY if cdb[1] & 1 == 0 => {
                // Nothing can be connected here (SPC-5 6.6.2).
                let mut nobody = [0; inquiry::LENGTH];
                nobody[0] = 0x7f;
                nobody[2] = 0x06;
                nobody[3] = 0x02;
                nobody[4] = (inquiry::LENGTH - 5) as u8;
                let room = usize::from(u16::from_be_bytes([cdb[3], cdb[4]]));
                Some(data(&nobody[..nobody.len().min(room)]))
            }
            _ => Some(check(code::LOGICAL_UNIT_NOT_SUPPORTED)),
        }
    }

    fn luns(&self) -> Vec<u8> {
        let count = self.front.units.len();
        let mut list = ((count * 8) as u32).to_be_bytes().to_vec();
        list.extend([0; 4]);
        for lun in 0..count {
            list.extend(&Header::new(0).lun(lun as u16).0[8..16]);
        }
        list
    }

    /// Task management (11.5).
    fn manage(&mut self, header: &Header) -> Result<(), End> {
        const ABORT_TASK: u8 = 1;
        const ABORT_TASK_SET: u8 = 2;
        const CLEAR_TASK_SET: u8 = 4;
        const LOGICAL_UNIT_RESET: u8 = 5;
        const TARGET_WARM_RESET: u8 = 6;
        const TARGET_COLD_RESET: u8 = 7;
        self.rx.data()?;
        let function = header.0[1] & 0x7f;
        let unit = self.unit(header.to_lun()).map(|(lun, _)| lun);
        let response = match (function, unit) {
            (ABORT_TASK | ABORT_TASK_SET | CLEAR_TASK_SET | LOGICAL_UNIT_RESET, None) => {
                task_response::NO_SUCH_UNIT
            }
            (ABORT_TASK, Some(lun)) => {
                if self.give_up(lun, Some(header.word(at::REFERENCED_TASK))) > 0 {
                    task_response::DONE
                } else {
                    task_response::NO_SUCH_TASK
                }
            }
            // Each initiator has a task set of its own.
            (ABORT_TASK_SET | CLEAR_TASK_SET, Some(lun)) => {
                self.give_up(lun, None);
                task_response::DONE
            }
            (LOGICAL_UNIT_RESET, Some(lun)) => {
                self.give_up(lun, None);
                self.front.units[usize::from(lun)].reset();
                task_response::DONE
            }
            (TARGET_WARM_RESET | TARGET_COLD_RESET, _) => {
                for lun in 0..self.front.units.len() {
                    self.give_up(lun as u16, None);
                    self.front.units[lun].reset();
                }
                task_response::DONE
            }
            _ => task_response::NOT_SUPPORTED,
        };
        tracing::info!(function, ?unit, response, "task management");
        let answer = Header::new(op::TASK_RESPONSE)
            .byte(2, response)
            .with(at::TASK_TAG, header.word(at::TASK_TAG));
        self.outlet.send(answer, &[], Counts::Status)?;
        if function == TARGET_COLD_RESET {
            for live in self.front.register().live.values() {
                live.outlet.close();
            }
        }
        Ok(())
    }

    /// Gives up the tasks at a unit, or one of them; how many there were. One that the unit has is taken from it by the thread
    /// that gave it, within a moment.
    fn give_up(&mut self, lun: u16, tag: Option<u32>) -> usize {
        let ours = |other: u32| tag.is_none_or(|tag| tag == other);
        let mut count = 0;
        for (other, unit, fate) in &self.handed {
            if *unit == lun && ours(*other) && fate.give_up() {
                count += 1;
            }
        }
        if let Some(queue) = self.queues.get_mut(&lun) {
            let before = queue.waiting.len();
            queue.waiting.retain(|task| !ours(task.tag));
            for _ in queue.waiting.len()..before {
                self.outlet.gave_up();
            }
            queue.advance();
        }
        count
    }

    fn nop(&mut self, header: &Header) -> Result<(), End> {
        let mut data = self.rx.data()?;
        let tag = header.word(at::TASK_TAG);
        // The answer to a ping of ours.
        if tag == NO_TAG {
            return Ok(());
        }
        data.truncate(self.agreed.segment);
        let answer = Header::new(op::NOP_IN)
            .bytes(8, &header.0[8..16])
            .with(at::TASK_TAG, tag)
            .with(at::TRANSFER_TAG, NO_TAG);
        Ok(self.outlet.send(answer, &data, Counts::Status)?)
    }

    fn text(&mut self, header: &Header) -> Result<(), End> {
        if header.has(flag::CONTINUE) || header.word(at::TRANSFER_TAG) != NO_TAG {
            return wrong("a text in several pieces");
        }
        let Ok(said) = Keys::parse(&self.rx.data()?) else {
            return wrong("a text that is none");
        };
        let mut reply = Keys::new();
        let name = &self.front.options.name;
        for (key, value) in said.iter() {
            match key {
                // All that there are, the one that is named, or the one of this session.
                "SendTargets" if value == "All" || value == name || value.is_empty() => {
                    reply = reply
                        .and("TargetName", name.as_str())
                        .and("TargetAddress", format!("{},1", self.local));
                }
                "SendTargets" => {}
                _ => reply = reply.and(key, "NotUnderstood"),
            }
        }
        let answer = Header::new(op::TEXT_RESPONSE)
            .with(at::TASK_TAG, header.word(at::TASK_TAG))
            .with(at::TRANSFER_TAG, NO_TAG);
        let text = reply.build();
        let text = &text[..text.len().min(self.agreed.segment)];
        Ok(self.outlet.send(answer, text, Counts::Status)?)
    }

    fn log_out(&mut self, header: &Header) -> Result<(), End> {
        const FOR_RECOVERY: u8 = 2;
        const RECOVERY_NOT_SUPPORTED: u8 = 2;
        let recovery = header.0[1] & 0x7f == FOR_RECOVERY;
        let answer = Header::new(op::LOGOUT_RESPONSE)
            .byte(2, if recovery { RECOVERY_NOT_SUPPORTED } else { 0 })
            .with(at::TASK_TAG, header.word(at::TASK_TAG));
        self.outlet.send(answer, &[], Counts::Status)?;
        if recovery {
            return Ok(());
        }
        Err(End::LoggedOut)
    }
}

fn data(bytes: &[u8]) -> Response {
    Response {
        data_in: bytes.to_vec(),
        ..Response::default()
    }
}

fn check(code: (u8, u8)) -> Response {
    Response {
        status: status::CHECK_CONDITION,
        sense: Sense::new(Key::IllegalRequest, code).to_fixed(),
        ..Response::default()
    }
}
