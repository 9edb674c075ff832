//! Streams: one restore over several drives at once.
//!
//! The controller hands out volumes, see `CatalogService.TakeVolumes`: each *turn* to one stream. The first stream takes as many as are
//! left for it, and at the end gives all directories their metadata; a further one comes with a drive and does one turn. A stream that
//! loses its tape gives back what it has not restored, with the writer that knows what it has, and another one goes on exactly there:
//! nothing is restored twice, and nothing is left out. All else that goes wrong ends the restore.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::parts::Parts;
use super::passes::Rest;
use super::recall::Counts;
use super::write::Writer;
use crate::issues::Issues;
use crate::progress::Counters;

/// What the streams of a restore share.
#[derive(Debug, Default)]
pub(crate) struct Group {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Where those that have ended say on what their writers still meet. None when the first stream has ended.
    voice: Option<(Issues, Arc<Counters>)>,
    /// Recordings that streams are at work on.
    working: Vec<Bytes>,
    unfinished: Vec<Turn>,
    writers: Vec<Writer>,
    /// Of all turns that are done.
    counts: Counts,
}

/// A turn, and how far it is.
#[derive(Debug)]
pub(crate) struct Turn {
    /// The recordings.
    pub recordings: Vec<Bytes>,
    /// What is where.
    pub parts: Parts,
    /// What is still to be restored.
    pub rest: Rest,
    /// Who has restored what is not.
    pub writer: Writer,
}

/// A stream is at work on these recordings; when it goes, it is no more.
#[derive(Debug)]
pub(crate) struct Working {
    group: Arc<Group>,
    /// The recordings.
    pub recordings: Vec<Bytes>,
    /// What another stream has left of them.
    pub left: Option<Box<Turn>>,
}

impl Group {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins with some of these recordings: with what another stream has left of them, if there is any. Waits for a stream that has
    /// not yet let go of one.
    pub async fn begin(self: &Arc<Self>, recordings: &[Bytes]) -> Working {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(working) = self.try_begin(recordings) {
                return working;
            }
            changed.await;
        }
    }

    fn try_begin(self: &Arc<Self>, recordings: &[Bytes]) -> Option<Working> {
        let mut state = self.lock();
        if recordings.iter().any(|one| state.working.contains(one)) {
            return None;
        }
        let mut unfinished = state.unfinished.iter();
        let at =
            unfinished.position(|turn| turn.recordings.iter().any(|one| recordings.contains(one)));
        let left = at.map(|at| Box::new(state.unfinished.swap_remove(at)));
        let recordings = match &left {
            Some(turn) => turn.recordings.clone(),
            None => recordings.to_vec(),
        };
        state.working.extend(recordings.iter().cloned());
        Some(Working {
            group: Arc::clone(self),
            recordings,
            left,
        })
    }

    /// A further stream has done its turn. Gives the writer back if nobody is left to finish what it has written.
    pub fn done(&self, mut writer: Writer) -> Option<Writer> {
        let mut state = self.lock();
        let Some((issues, counters)) = &state.voice else {
            return Some(writer);
        };
        writer.speak_as(issues, counters);
        writer.rest();
        state.writers.push(writer);
        None
    }

    /// A stream can't go on with its turn: another one will. Gives it back if nobody is left.
    pub fn give_back(&self, mut turn: Turn) -> Option<Turn> {
        let mut state = self.lock();
        let Some((issues, counters)) = &state.voice else {
            return Some(turn);
        };
        turn.writer.speak_as(issues, counters);
        turn.rest.items.speak_as(issues, counters);
        state.unfinished.push(turn);
        None
    }

    /// This came in a turn that is done.
    pub fn count(&self, counts: Counts) {
        let mut state = self.lock();
        state.counts.entries += counts.entries;
        state.counts.beside = state.counts.beside.max(counts.beside);
    }

    /// Entries that were dealt with: what comes with each turn counts once.
    pub fn counted(&self) -> u64 {
        let state = self.lock();
        state.counts.entries + state.counts.beside
    }

    /// The first stream has ended. Gives the writers of those that ended before, which are to be finished.
    fn close(&self) -> Vec<Writer> {
        let mut state = self.lock();
        state.voice = None;
        let unfinished = std::mem::take(&mut state.unfinished);
        let mut writers = std::mem::take(&mut state.writers);
        writers.extend(unfinished.into_iter().map(|turn| turn.writer));
        writers
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        let recordings = &self.recordings;
        self.group
            .lock()
            .working
            .retain(|one| !recordings.contains(one));
        self.group.changed.notify_waiters();
    }
}

/// The restores under way that others may join, by the attempt of their first stream.
#[derive(Debug, Default)]
pub struct Groups {
    groups: Mutex<HashMap<u64, Arc<Group>>>,
}

/// A restore that others may join, until it goes.
#[derive(Debug)]
pub(crate) struct Leading<'a> {
    groups: &'a Groups,
    attempt: u64,
    /// What it shares with them.
    pub group: Arc<Group>,
}

impl Groups {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Group>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A restore begins.
    pub(crate) fn lead(
        &self,
        attempt: u64,
        issues: Issues,
        counters: Arc<Counters>,
    ) -> Leading<'_> {
        let group = Arc::new(Group::default());
        group.lock().voice = Some((issues, counters));
        self.lock().insert(attempt, Arc::clone(&group));
        Leading {
            groups: self,
            attempt,
            group,
        }
    }

    /// A restore that may be joined.
    pub(crate) fn get(&self, attempt: u64) -> Option<Arc<Group>> {
        self.lock().get(&attempt).map(Arc::clone)
    }
}

impl Leading<'_> {
    /// It has ended. Gives the writers of those that ended before.
    pub fn close(&self) -> Vec<Writer> {
        self.groups.lock().remove(&self.attempt);
        self.group.close()
    }
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        drop(self.close());
    }
}

#[cfg(test)]
mod tests {
    use super::super::recall::Items;
    use super::super::write::Outlet;
    use super::*;
    use crate::issues;

    fn voice() -> (Issues, Arc<Counters>) {
        let counters = Arc::new(Counters::default());
        let (issues, _) = issues::queue(Arc::clone(&counters), b"");
        (issues, counters)
    }

    fn writer() -> Writer {
        let (issues, counters) = voice();
        Writer::new(Outlet::nowhere(), issues, counters)
    }

    fn turn(recordings: &[Bytes]) -> Turn {
        Turn {
            recordings: recordings.to_vec(),
            parts: Parts::default(),
            rest: Rest::of(Items::given(Vec::new())),
            writer: writer(),
        }
    }

    #[tokio::test]
    async fn what_a_stream_has_left_goes_to_who_gets_its_volumes() {
        let (issues, counters) = voice();
        let groups = Groups::default();
        let leading = groups.lead(7, issues, counters);
        let group = groups.get(7).unwrap_or_default();
        assert!(groups.get(8).is_none());
        let [a, b, c] = [&b"a"[..], b"b", b"c"].map(Bytes::from_static);
        let both = [a.clone(), b.clone()];
        let working = group.begin(&both).await;
        assert!(working.left.is_none());
        // Until it has let go of them nobody else begins; others are nothing to it.
        assert!(group.try_begin(&[b.clone(), c.clone()]).is_none());
        assert!(group.try_begin(std::slice::from_ref(&c)).is_some());
        let waiting = tokio::spawn({
            let (group, wanted) = (Arc::clone(&group), [b.clone(), c.clone()]);
            async move { group.begin(&wanted).await }
        });
        assert!(group.give_back(turn(&both)).is_none());
        drop(working);
        let next = waiting.await.ok();
        let next = next.filter(|next| next.left.is_some());
        // It goes on with that turn, and asks again for what else it was given.
        assert_eq!(
            next.map(|next| next.recordings.clone()),
            Some(both.to_vec())
        );
        assert!(
            group
                .try_begin(&[c])
                .is_some_and(|working| working.left.is_none())
        );
        assert!(leading.close().is_empty());
    }

    #[test]
    fn who_ends_after_the_first_stream_finishes_what_it_has_written_itself() {
        let (issues, counters) = voice();
        let groups = Groups::default();
        let leading = groups.lead(7, issues, counters);
        let group = Arc::clone(&leading.group);
        assert!(group.done(writer()).is_none());
        assert!(group.give_back(turn(&[])).is_none());
        assert_eq!(leading.close().len(), 2);
        assert!(group.done(writer()).is_some());
        assert!(group.give_back(turn(&[])).is_some());
        assert!(groups.get(7).is_none());
    }

    #[test]
    fn what_comes_along_with_each_turn_counts_once() {
        let group = Group::default();
        for entries in [10, 5] {
            group.count(Counts { entries, beside: 3 });
        }
        assert_eq!(group.counted(), 18);
    }
}
