//! A command on its way: its data come, it waits for its turn at its unit, runs, and is answered.
//!
//! Each unit has a queue and a thread of its own in every session, so that a drive that takes its time holds up neither
//! another drive nor the robot.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use taf_scsi::cdb;
use taf_scsi::status;
use taf_scsi::target::{Nexus, Response, carry_out};
use taf_scsi::transport::iscsi::keys::Agreed;
use taf_scsi::transport::iscsi::pdu::{Fault, Header, at, flag, op};

use super::Front;
use super::outlet::{Counts, Outlet};

/// Whether anybody still waits for a task.
#[derive(Debug, Clone, Default)]
pub(super) struct Fate(Arc<AtomicU8>);

const WAITED_FOR: u8 = 0;
const GIVEN_UP: u8 = 1;
const ANSWERED: u8 = 2;

impl Fate {
    fn decide(&self, fate: u8) -> bool {
        let (from, order) = (WAITED_FOR, Ordering::SeqCst);
        self.0.compare_exchange(from, fate, order, order).is_ok()
    }

    /// Gives the task up; false if it is answered already.
    pub(super) fn give_up(&self) -> bool {
        self.decide(GIVEN_UP)
    }

    pub(super) fn is_decided(&self) -> bool {
        self.0.load(Ordering::SeqCst) != WAITED_FOR
    }

    fn is_given_up(&self) -> bool {
        self.0.load(Ordering::SeqCst) == GIVEN_UP
    }
}

/// Which data of a command come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coming {
    /// Those that come unasked, up to this end at most.
    Unasked(usize),
    /// Those that were asked for with this tag, up to this end.
    Asked(u32, usize),
    /// All are there.
    Nothing,
}

/// One command.
#[derive(Debug)]
pub(super) struct Task {
    pub tag: u32,
    pub lun: u16,
    pub cdb: [u8; 16],
    /// Bytes that the initiator takes.
    pub capacity: usize,
    /// Bytes that the initiator expects to move, whatever the direction.
    pub expected: usize,
    pub data: Vec<u8>,
    pub received: usize,
    pub coming: Coming,
    pub data_sn: u32,
    pub r2t_sn: u32,
    /// What is answered without asking the unit.
    pub refusal: Option<Response>,
    pub fate: Fate,
    /// How often its unit had been reset when it came.
    pub resets: u64,
}

/// The queue of one unit in one session.
pub(super) struct Queue {
    /// In the order in which they came; the first may still wait for data.
    pub waiting: VecDeque<Task>,
    worker: mpsc::Sender<Task>,
}

/// What a worker works with.
#[derive(Clone)]
pub(super) struct Shop {
    pub front: Arc<Front>,
    pub outlet: Arc<Outlet>,
    pub agreed: Agreed,
    pub nexus: Nexus,
    /// Given up when the session ends.
    pub session: Fate,
}

impl Queue {
    pub(super) fn new(shop: Shop) -> std::io::Result<Self> {
        let (worker, tasks) = mpsc::channel::<Task>();
        thread::Builder::new()
            .name("iscsi-unit".to_owned())
            .spawn(move || {
                for task in tasks {
                    shop.work(&task);
                }
            })?;
        Ok(Self {
            waiting: VecDeque::new(),
            worker,
        })
    }

    /// Hands over what has all its data, in order.
    pub(super) fn advance(&mut self) {
        while self
            .waiting
            .front()
            .is_some_and(|task| task.coming == Coming::Nothing)
        {
            if let Some(task) = self.waiting.pop_front() {
                // A worker ends only with the session.
                let _ = self.worker.send(task);
            }
        }
    }
}

impl Shop {
    fn work(&self, task: &Task) {
        let response = match &task.refusal {
            Some(response) => Some(response.clone()),
            None => self.run(task),
        };
        let Some(response) = response else {
            self.outlet.gave_up();
            // The unit wants the connection broken, as a fault of its script says.
            if !self.is_over(task) {
                self.outlet.close();
            }
            return;
        };
        if !task.fate.decide(ANSWERED) {
            self.outlet.gave_up();
            return;
        }
        if let Err(fault) = answer(&self.outlet, &self.agreed, task, &response) {
            tracing::debug!(%fault, "an answer did not reach its initiator");
            self.outlet.close();
        }
    }

    fn is_over(&self, task: &Task) -> bool {
        let unit = self.front.units.get(usize::from(task.lun));
        task.fate.is_given_up()
            || self.session.is_given_up()
            || unit.is_some_and(|unit| unit.resets.load(Ordering::SeqCst) != task.resets)
    }

    fn run(&self, task: &Task) -> Option<Response> {
        let unit = self.front.units.get(usize::from(task.lun))?;
        if self.is_over(task) {
            return None;
        }
        let cdb = &task.cdb[..cdb::length(task.cdb[0]).unwrap_or(16)];
        let command = (cdb, &task.data[..], task.capacity);
        let mut over = || Ok::<_, std::convert::Infallible>(self.is_over(task));
        let outcome = match carry_out(&unit.target, self.nexus, command, &mut over) {
            Ok(outcome) => outcome,
            Err(never) => match never {},
        };
        // It is this initiator's only one that the unit has.
        if outcome.is_none() && task.fate.is_given_up() {
            unit.lock().aborted(self.nexus);
        }
        outcome
    }
}

/// Sends data and status.
fn answer(outlet: &Outlet, agreed: &Agreed, task: &Task, response: &Response) -> Result<(), Fault> {
    let data = &response.data_in[..response.data_in.len().min(task.capacity)];
    let moved = if task.data.is_empty() {
        data.len()
    } else {
        task.received
    };
    let missing = task.expected.saturating_sub(moved);
    let residual = |header: Header| {
        if missing == 0 {
            return header;
        }
        let flags = header.0[1] | flag::UNDERFLOW;
        header.flags(flags).with(at::RESIDUAL, missing as u32)
    };
    // A status that is good goes along with the last of the data.
    let along = response.status == status::GOOD && !data.is_empty();
    let (mut offset, mut number) = (0, 0);
    while offset < data.len() {
        let burst_end = (offset / agreed.max_burst + 1) * agreed.max_burst;
        let end = (offset + agreed.segment).min(burst_end).min(data.len());
        let last = end == data.len();
        let ends = last || end == burst_end;
        let mut header = Header::new(op::DATA_IN)
            .flags(if ends { flag::FINAL } else { 0 })
            .with(at::TASK_TAG, task.tag)
            .with(at::TRANSFER_TAG, taf_scsi::transport::iscsi::pdu::NO_TAG)
            .with(at::DATA_SN, number)
            .with(at::BUFFER_OFFSET, offset as u32);
        let mut counts = Counts::No;
        if last && along {
            header = residual(header.flags(flag::FINAL | flag::STATUS)).byte(3, response.status);
            counts = Counts::Command;
        }
        outlet.send(header, &data[offset..end], counts)?;
        offset = end;
        number += 1;
    }
    if along {
        return Ok(());
    }
    let mut segment = Vec::new();
    if !response.sense.is_empty() {
        segment.extend((response.sense.len() as u16).to_be_bytes());
        segment.extend(&response.sense);
    }
    let header = residual(Header::new(op::RESPONSE))
        .byte(3, response.status)
        .with(at::TASK_TAG, task.tag)
        .with(at::DATA_SN, number);
    outlet.send(header, &segment, Counts::Command)
}
