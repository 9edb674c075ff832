//! Unit attentions: what each initiator has yet to be told.
//!
//! Everybody who is connected when something happens is told of it. Whoever connects later is told what nobody
//! was told yet: several connections of one host stand for one port of a real drive, which would not hear of
//! the same power cut again for having been opened anew.

use std::collections::{BTreeMap, VecDeque};

use taf_scsi::target::Nexus;

/// Additional sense code and qualifier of a unit attention.
type Code = (u8, u8);

/// The queues of one logical unit.
#[derive(Debug, Default)]
pub(crate) struct Attentions {
    queues: BTreeMap<Nexus, VecDeque<Code>>,
    /// What nobody was told yet.
    untold: VecDeque<Code>,
}

fn push(queue: &mut VecDeque<Code>, code: Code) {
    if !queue.contains(&code) {
        queue.push_back(code);
    }
}

impl Attentions {
    /// Something happened that every initiator must be told.
    pub fn tell_all(&mut self, code: Code) {
        for queue in self.queues.values_mut() {
            push(queue, code);
        }
        push(&mut self.untold, code);
    }

    /// An initiator did something that the others who are connected must be told.
    pub fn tell_others(&mut self, nexus: Nexus, code: Code) {
        for (_, queue) in self.queues.iter_mut().filter(|(other, _)| **other != nexus) {
            push(queue, code);
        }
    }

    /// One initiator must be told, if it is still connected.
    pub fn tell(&mut self, nexus: Nexus, code: Code) {
        if let Some(queue) = self.queues.get_mut(&nexus) {
            push(queue, code);
        }
    }

    /// An initiator sends a command; from now on it is told what happens.
    pub fn connected(&mut self, nexus: Nexus) {
        let untold = &self.untold;
        self.queues.entry(nexus).or_insert_with(|| untold.clone());
    }

    /// Whether an initiator has sent a command and is not gone.
    pub fn knows(&self, nexus: Nexus) -> bool {
        self.queues.contains_key(&nexus)
    }

    /// The next that this initiator is to be told, which it thereby was.
    pub fn take(&mut self, nexus: Nexus) -> Option<Code> {
        let code = self.queues.get_mut(&nexus)?.pop_front()?;
        self.untold.retain(|one| *one != code);
        Some(code)
    }

    /// Power was lost: nothing from before matters any more.
    pub fn forget(&mut self) {
        self.queues.values_mut().for_each(VecDeque::clear);
        self.untold.clear();
    }

    /// The initiator is gone.
    pub fn disconnected(&mut self, nexus: Nexus) {
        self.queues.remove(&nexus);
    }
}
