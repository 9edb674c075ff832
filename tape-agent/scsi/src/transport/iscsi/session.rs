//! A session in full feature phase, as its initiator has it: commands with their data, one at a time, and what the target
//! says besides.

use std::time::{Duration, Instant};

use super::keys::{Agreed, Keys, TEXT_MAX};
use super::pdu::{Fault, Header, NO_TAG, Receiver, Sender, at, flag, op};
use crate::sense::LENGTH_MAX;
use crate::transport::{Completion, Data};

/// The first command's number.
pub(super) const FIRST_CMD_SN: u32 = 1;
/// A target that has said nothing for so long is asked whether it is there.
const PING: Duration = Duration::from_secs(10);
/// A target that answers no ping for so long is gone.
const SILENCE: Duration = Duration::from_mins(1);
/// For the answer to an abort or a logout.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long a look at an idle connection waits for something to come.
const GLANCE: Duration = Duration::from_millis(1);

/// The session is of no more use.
#[derive(Debug)]
pub(super) enum Failure {
    /// No answer in time.
    Timeout,
    /// Why.
    Lost(String),
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Lost(fault.to_string())
    }
}

fn lost<T>(reason: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Lost(reason.into()))
}

/// See the module.
#[derive(Debug)]
pub(super) struct Session {
    tx: Sender,
    rx: Receiver,
    agreed: Agreed,
    cmd_sn: u32,
    max_cmd_sn: u32,
    exp_stat_sn: u32,
    tag: u32,
    heard: Instant,
    /// When it was last asked whether it is there.
    pinged: Instant,
    /// Why the target wants to see the last of us.
    leaving: Option<&'static str>,
}

/// Whether `a` comes before `b` in the circle of serial numbers (RFC 1982).
fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

impl Session {
    pub(super) fn new(tx: Sender, rx: Receiver, agreed: Agreed, exp_stat_sn: u32) -> Self {
        let now = Instant::now();
        Self {
            tx,
            rx,
            agreed,
            cmd_sn: FIRST_CMD_SN,
            max_cmd_sn: FIRST_CMD_SN,
            exp_stat_sn,
            tag: 0,
            heard: now,
            pinged: now,
            leaving: None,
        }
    }

    fn next_tag(&mut self) -> u32 {
        self.tag = self.tag.wrapping_add(1);
        if self.tag == NO_TAG {
            self.tag = 1;
        }
        self.tag
    }

    /// Runs one command of a logical unit.
    pub(super) fn run(
        &mut self,
        lun: u16,
        cdb: &[u8],
        mut data: Data<'_>,
        timeout: Duration,
    ) -> Result<Completion, Failure> {
        let deadline = Instant::now() + timeout;
        if let Some(reason) = self.leaving {
            self.log_out()?;
            return lost(reason);
        }
        self.await_window(deadline)?;
        let tag = self.next_tag();
        self.send_command(lun, tag, cdb, &data)?;
        match self.answer(tag, &mut data, deadline) {
            Err(Failure::Timeout) => {
                let aborted = self.abort(lun, tag);
                tracing::warn!(lun, ?aborted, "an iSCSI command had no answer in time");
                Err(Failure::Timeout)
            }
            outcome => outcome,
        }
    }

    /// Waits until the target takes a further command, which it says with a ping or an answer to one.
    fn await_window(&mut self, deadline: Instant) -> Result<(), Failure> {
        while before(self.max_cmd_sn, self.cmd_sn) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return lost("the target takes no command; none was sent");
            }
            match self.rx.next(left.min(PING))? {
                None => self.ask()?,
                Some(header) => {
                    if let Some(header) = self.take(header)? {
                        return lost(format!("the target answers what nobody asked ({header:?})"));
                    }
                }
            }
        }
        Ok(())
    }

    /// The command, and of its data what goes unasked.
    fn send_command(
        &mut self,
        lun: u16,
        tag: u32,
        cdb: &[u8],
        data: &Data<'_>,
    ) -> Result<(), Failure> {
        const SIMPLE: u8 = 1;
        let (direction, length, out): (u8, usize, &[u8]) = match data {
            Data::None => (0, 0, &[]),
            Data::In(buffer) => (flag::READ, buffer.len(), &[]),
            Data::Out(bytes) => (flag::WRITE, bytes.len(), bytes),
        };
        let first = out.len().min(self.agreed.first_burst);
        let immediate = if self.agreed.immediate_data {
            first.min(self.agreed.segment)
        } else {
            0
        };
        let unasked = if self.agreed.initial_r2t {
            immediate
        } else {
            first
        };
        let last = if unasked > immediate { 0 } else { flag::FINAL };
        let header = Header::new(op::COMMAND)
            .flags(last | direction | SIMPLE)
            .lun(lun)
            .with(at::TASK_TAG, tag)
            .with(at::EXPECTED_LENGTH, length as u32)
            .with(at::CMD_SN, self.cmd_sn)
            .with(at::EXP_STAT_SN, self.exp_stat_sn)
            .bytes(32, cdb);
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        self.tx.send(header, &out[..immediate])?;
        if unasked > immediate {
            let header = Header::new(op::DATA_OUT)
                .lun(lun)
                .with(at::TASK_TAG, tag)
                .with(at::TRANSFER_TAG, NO_TAG);
            self.send_data(header, out, immediate..unasked)?;
        }
        Ok(())
    }

    /// One sequence of Data-Out.
    fn send_data(
        &mut self,
        header: Header,
        out: &[u8],
        range: std::ops::Range<usize>,
    ) -> Result<(), Failure> {
        let mut offset = range.start;
        for number in 0.. {
            let end = (offset + self.agreed.segment).min(range.end);
            let last = end == range.end;
            let header = header
                .flags(if last { flag::FINAL } else { 0 })
                .with(at::EXP_STAT_SN, self.exp_stat_sn)
                .with(at::DATA_SN, number)
                .with(at::BUFFER_OFFSET, offset as u32);
            self.tx.send(header, &out[offset..end])?;
            if last {
                break;
            }
            offset = end;
        }
        Ok(())
    }

    /// What comes of the command with this tag.
    fn answer(
        &mut self,
        tag: u32,
        data: &mut Data<'_>,
        deadline: Instant,
    ) -> Result<Completion, Failure> {
        let mut received = 0;
        loop {
            let header = self.hear(deadline)?;
            if header.word(at::TASK_TAG) != tag {
                return lost(format!("the target answers what nobody asked ({header:?})"));
            }
            match (header.operation(), &mut *data) {
                (op::DATA_IN, Data::In(buffer)) => {
                    let length = header.data_length();
                    let offset = header.word(at::BUFFER_OFFSET) as usize;
                    if offset != received || length > buffer.len() - received {
                        return lost("the target's data don't fit what was asked for");
                    }
                    self.rx
                        .data_into(&mut buffer[received..received + length])?;
                    received += length;
                    if header.has(flag::STATUS) {
                        return Ok(completion(&header, Vec::new(), received, buffer.len()));
                    }
                }
                (op::R2T, Data::Out(out)) => {
                    let offset = header.word(at::BUFFER_OFFSET) as usize;
                    let length = header.word(at::DESIRED_LENGTH) as usize;
                    let end = offset.checked_add(length).filter(|end| *end <= out.len());
                    let Some(end) = end.filter(|_| length > 0) else {
                        return lost("the target asks for data that the command hasn't");
                    };
                    let answer = Header::new(op::DATA_OUT)
                        .bytes(8, &header.0[8..16])
                        .with(at::TASK_TAG, tag)
                        .with(at::TRANSFER_TAG, header.word(at::TRANSFER_TAG));
                    self.send_data(answer, out, offset..end)?;
                }
                (op::RESPONSE, data) => {
                    let segment = self.rx.data()?;
                    if header.0[2] != 0 {
                        return lost(format!(
                            "the target failed to carry the command out (response {:02x}h)",
                            header.0[2]
                        ));
                    }
                    let (moved, asked) = match data {
                        Data::None => (0, 0),
                        Data::In(buffer) => (received, buffer.len()),
                        Data::Out(out) => (out.len(), out.len()),
                    };
                    return Ok(completion(&header, sense(&segment), moved, asked));
                }
                _ => {
                    return lost(format!(
                        "the target answers something else than it was asked ({header:?})"
                    ));
                }
            }
        }
    }

    /// The next that the target says of what was asked. What it says besides is dealt with here.
    fn hear(&mut self, deadline: Instant) -> Result<Header, Failure> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Failure::Timeout);
            }
            match self.rx.next(left.min(PING))? {
                Some(header) => {
                    if let Some(header) = self.take(header)? {
                        return Ok(header);
                    }
                }
                None => self.ask()?,
            }
        }
    }

    /// Asks a target that is silent whether it is there.
    fn ask(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        if now - self.heard > SILENCE {
            return lost(format!(
                "the target has not answered for {} s",
                SILENCE.as_secs()
            ));
        }
        if now - self.heard >= PING && now - self.pinged >= PING {
            self.pinged = now;
            let tag = self.next_tag();
            let ping = Header::new(op::NOP_OUT)
                .immediate()
                .with(at::TASK_TAG, tag)
                .with(at::TRANSFER_TAG, NO_TAG)
                .with(at::CMD_SN, self.cmd_sn)
                .with(at::EXP_STAT_SN, self.exp_stat_sn);
            self.tx.send(ping, &[])?;
        }
        Ok(())
    }

    /// Keeps the numbers, and deals with what the target says of its own accord; `None` if that was all.
    fn take(&mut self, header: Header) -> Result<Option<Header>, Failure> {
        self.heard = Instant::now();
        let operation = header.operation();
        let max = header.word(at::MAX_CMD_SN);
        // RFC 7143 4.2.2.1: others are to be ignored.
        if !before(max, header.word(at::EXP_CMD_SN).wrapping_sub(1))
            && !before(max, self.max_cmd_sn)
        {
            self.max_cmd_sn = max;
        }
        let of_nobody = header.word(at::TASK_TAG) == NO_TAG;
        let counts = match operation {
            op::R2T => false,
            op::DATA_IN => header.has(flag::STATUS),
            op::NOP_IN => !of_nobody,
            _ => true,
        };
        if counts {
            self.exp_stat_sn = header.word(at::STAT_SN).wrapping_add(1);
        }
        match operation {
            op::NOP_IN => {
                let data = self.rx.data()?;
                let tag = header.word(at::TRANSFER_TAG);
                if tag != NO_TAG {
                    let answer = Header::new(op::NOP_OUT)
                        .immediate()
                        .bytes(8, &header.0[8..16])
                        .with(at::TASK_TAG, NO_TAG)
                        .with(at::TRANSFER_TAG, tag)
                        .with(at::CMD_SN, self.cmd_sn)
                        .with(at::EXP_STAT_SN, self.exp_stat_sn);
                    self.tx.send(answer, &data)?;
                }
                Ok(None)
            }
            op::ASYNC => {
                let sense = self.rx.data()?;
                self.event(header.0[36], &sense);
                Ok(None)
            }
            op::REJECT => lost(format!(
                "the target rejects what we sent (reason {:02x}h)",
                header.0[2]
            )),
            _ => Ok(Some(header)),
        }
    }

    /// An asynchronous message (11.9.1).
    fn event(&mut self, event: u8, data: &[u8]) {
        match event {
            // The unit attention itself comes with the next command.
            0 => tracing::info!(sense = ?sense(data), "the target reports an event"),
            1 => self.leaving = Some("the target asked us to log out"),
            2 | 3 => self.leaving = Some("the target said that it would drop the connection"),
            _ => tracing::debug!(event, "the target says something that we need not know"),
        }
    }

    /// Has the target give up a task; whether it says that it is gone. The session ends in any case.
    fn abort(&mut self, lun: u16, task: u32) -> Result<bool, Failure> {
        const ABORT_TASK: u8 = 1;
        let tag = self.next_tag();
        let request = Header::new(op::TASK_REQUEST)
            .immediate()
            .flags(flag::FINAL | ABORT_TASK)
            .lun(lun)
            .with(at::TASK_TAG, tag)
            .with(at::REFERENCED_TASK, task)
            .with(at::CMD_SN, self.cmd_sn)
            .with(at::EXP_STAT_SN, self.exp_stat_sn)
            // RefCmdSN: the command was the one before.
            .with(32, self.cmd_sn.wrapping_sub(1));
        self.tx.send(request, &[])?;
        let header = self.await_answer(tag, op::TASK_RESPONSE)?;
        // 0: done; 1: there is no such task (any more).
        Ok(header.0[2] <= 1)
    }

    /// The answer to what has this tag; whatever else comes is of no interest any more.
    fn await_answer(&mut self, tag: u32, operation: u8) -> Result<Header, Failure> {
        let deadline = Instant::now() + FAREWELL;
        loop {
            let header = self.hear(deadline)?;
            if header.word(at::TASK_TAG) == tag && header.operation() == operation {
                return Ok(header);
            }
        }
    }

    /// Ends the session in good order.
    pub(super) fn log_out(&mut self) -> Result<(), Failure> {
        let tag = self.next_tag();
        let request = Header::new(op::LOGOUT_REQUEST)
            .immediate()
            .with(at::TASK_TAG, tag)
            .with(at::CMD_SN, self.cmd_sn)
            .with(at::EXP_STAT_SN, self.exp_stat_sn);
        self.tx.send(request, &[])?;
        self.await_answer(tag, op::LOGOUT_RESPONSE).map(|_| ())
    }

    /// Asks something by a text request and hears the whole answer.
    pub(super) fn text(&mut self, say: &Keys) -> Result<Keys, Failure> {
        let mut text = say.build();
        let mut heard = Vec::new();
        let mut transfer = NO_TAG;
        let tag = self.next_tag();
        loop {
            let request = Header::new(op::TEXT_REQUEST)
                .immediate()
                .with(at::TASK_TAG, tag)
                .with(at::TRANSFER_TAG, transfer)
                .with(at::CMD_SN, self.cmd_sn)
                .with(at::EXP_STAT_SN, self.exp_stat_sn);
            self.tx.send(request, &text)?;
            let header = self.await_answer(tag, op::TEXT_RESPONSE)?;
            heard.extend(self.rx.data()?);
            if heard.len() > TEXT_MAX {
                return lost("the target's answer does not end");
            }
            if header.has(flag::FINAL) {
                return Keys::parse(&heard).map_err(Failure::Lost);
            }
            transfer = header.word(at::TRANSFER_TAG);
            text = Vec::new();
        }
    }

    /// Hears what came while nothing was asked, and asks whether the target is there if that is long ago. An error is the
    /// reason why the session is of no more use.
    pub(super) fn look(&mut self) -> Result<(), String> {
        let looked = loop {
            match self.rx.next(GLANCE) {
                Ok(None) => break self.ask(),
                Ok(Some(header)) => match self.take(header) {
                    Ok(None) => {}
                    Ok(Some(header)) => {
                        break lost(format!("the target answers what nobody asked ({header:?})"));
                    }
                    Err(failure) => break Err(failure),
                },
                Err(fault) => break Err(fault.into()),
            }
        };
        match (looked, self.leaving) {
            (Ok(()), None) => Ok(()),
            (Ok(()), Some(reason)) => {
                // It asked for it; what it answers changes nothing.
                let _ = self.log_out();
                Err(reason.to_owned())
            }
            (Err(Failure::Lost(reason)), _) => Err(reason),
            (Err(Failure::Timeout), _) => Err("the target does not answer".to_owned()),
        }
    }

    /// The address at the other end.
    pub(super) fn peer(&self) -> Option<std::net::SocketAddr> {
        self.tx.stream().peer_addr().ok()
    }
}

/// The sense data of a response: two bytes of length before them.
fn sense(segment: &[u8]) -> Vec<u8> {
    let Some((length, rest)) = segment.split_first_chunk::<2>() else {
        return Vec::new();
    };
    let length = usize::from(u16::from_be_bytes(*length));
    rest[..length.min(rest.len()).min(LENGTH_MAX)].to_vec()
}

/// `moved` bytes of `asked` were seen to go; a target may say that of these fewer count.
fn completion(header: &Header, sense: Vec<u8>, moved: usize, asked: usize) -> Completion {
    let counted = if header.has(flag::UNDERFLOW) {
        asked.saturating_sub(header.word(at::RESIDUAL) as usize)
    } else {
        asked
    };
    Completion {
        status: header.0[3],
        sense,
        transferred: moved.min(counted),
    }
}
