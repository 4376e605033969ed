//! Who leads: one candidate's part in it, without requests and without a clock.
//!
//! Invariant kept here: no two candidates may write at the same time, whatever is lost, late, paused or deleted.
//! It rests on this:
//! - A candidate may write for a while after it *sent* a renewal that was confirmed: for `deadline`, less `margin`.
//! - Another takes the Lease only after it has not seen it change for `lease`, which is longer, each by its own
//!   clock; no two clocks are ever compared. It takes the very object that it saw: a renewal that came between wins.
//! - A Lease that its holder gave up, after its last write, is taken at once. So is one that an earlier process in the
//!   same pod held: it is dead, or this one would not have been started. An empty Lease without the mark of a holder
//!   that gave it up is none of these: somebody created or replaced it, and the holder before may lead still.
//! - A Lease that is not there may have been deleted under its holder. Whoever makes it anew begins to lead when
//!   that holder can no longer write.
//! - In a first installation there is no such holder. One process alone creates the mark of the installation, which
//!   stays. It leads as soon as its Lease is confirmed, if that is within `lease - deadline` after it sent the mark:
//!   another process that saw the mark begins to lead `lease` after it or later, and by a renewal that was sent when
//!   this one led already.
//!
//! It rests on clocks that run alike: the faster may run `lease / (deadline - margin)` times as fast as the slower.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use super::clock::Moment;
use super::record::Record;

/// How long, and how often. All candidates should have the same; where they have not, the longer ones count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Terms {
    /// A Lease that has not changed for so long is anybody's.
    pub lease: Duration,
    /// Who cannot renew it for so long has lost it; shorter than `lease`.
    pub deadline: Duration,
    /// How often it is renewed, and how soon a request that failed is sent again.
    pub retry: Duration,
    /// The last write is begun so long before the deadline.
    pub margin: Duration,
}

impl Terms {
    /// What the margin is: ample from the last look at the clock until the bytes of a request are handed over.
    pub const MARGIN: Duration = Duration::from_millis(500);
}

/// When writes may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Term {
    /// Not before this.
    pub from: Moment,
    /// Not at this or later.
    pub until: Moment,
}

impl Term {
    /// Whether a write may be sent now.
    pub fn covers(&self, now: Moment) -> bool {
        self.from <= now && now < self.until
    }
}

/// Who a process is, among all that ever were.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    holder: String,
    /// How those begin that ran in the same pod before.
    pod: Option<String>,
}

impl Identity {
    /// A process: its name for people, the UID of its pod if it runs in one that runs no other of its kind, and
    /// what no other process has.
    pub fn new(name: &str, pod_uid: Option<&str>, instance: &str) -> Self {
        let pod = pod_uid.map(|uid| format!("{name}_{uid}_"));
        let holder =
            pod.as_ref().map_or_else(|| format!("{name}_{instance}"), |pod| format!("{pod}{instance}"));
        Self { holder, pod }
    }

    /// How the Lease names it.
    pub fn holder(&self) -> &str {
        &self.holder
    }

    /// Whether the holder is a process that ran in this pod before this one, and so is dead.
    fn succeeds(&self, holder: &str) -> bool {
        holder != self.holder && self.pod.as_ref().is_some_and(|pod| holder.starts_with(pod.as_str()))
    }
}

/// Why a leader leads no more.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Lost {
    /// It could not renew in time.
    #[error("it could not be renewed in time")]
    NotRenewed,
    /// Somebody else holds it.
    #[error("'{0}' holds it now")]
    Taken(String),
    /// It is gone.
    #[error("somebody deleted it")]
    Deleted,
}

/// What a candidate wants to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step<O> {
    /// Read the Lease.
    Read,
    /// Write it.
    Write(Write<O>),
    /// Nothing before this, unless the Lease changes.
    Wait(Moment),
    /// It led, and must not go on.
    End(Lost),
}

/// A write of the Lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Write<O> {
    /// The very object that is replaced, with its revision; `None`: there is none, and it is made.
    pub over: Option<O>,
    /// What it is to say.
    pub record: Record,
}

/// What was seen of the Lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Seen<O> {
    /// The object as it was read, and what it says; `None`: there is none.
    lease: Option<(O, Record)>,
    /// When it was first seen to say so.
    since: Moment,
}

/// One who leads or wants to. `O` is the Lease as it was read, so that what is replaced is what was decided on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Candidate<O> {
    me: Identity,
    terms: Terms,
    seen: Option<Seen<O>>,
    /// What was seen is no longer true.
    outdated: bool,
    term: Option<Term>,
    /// The Lease is not read before this.
    reads_from: Moment,
    /// Nor written before this.
    writes_from: Moment,
    /// When it sent the mark of the installation, if it alone created that.
    installs: Option<Moment>,
    lost: Option<Lost>,
}

impl<O: Clone + PartialEq> Candidate<O> {
    /// One who knows nothing yet.
    pub fn new(me: Identity, terms: Terms) -> Self {
        let (reads_from, writes_from) = (Moment::ZERO, Moment::ZERO);
        Self {
            me,
            terms,
            seen: None,
            outdated: true,
            term: None,
            reads_from,
            writes_from,
            installs: None,
            lost: None,
        }
    }

    /// This process alone created the mark of the installation, by a request that was sent then: no other process of the
    /// installation ran before.
    pub fn installs(&mut self, sent: Moment) {
        self.installs = Some(sent);
    }

    /// When it may write, as far as it is known now.
    pub fn term(&self) -> Option<Term> {
        self.term
    }

    /// What the Lease said last.
    pub fn record(&self) -> Option<&Record> {
        self.seen.as_ref()?.lease.as_ref().map(|(_, record)| record)
    }

    /// What to do now. `wall`: the time for people.
    pub fn next(&mut self, now: Moment, wall: Timestamp) -> Step<O> {
        if let Some(term) = self.term
            && now >= term.until
        {
            self.lose(Lost::NotRenewed, now);
        }
        if let Some(lost) = &self.lost {
            return Step::End(lost.clone());
        }
        let wakes = self.wakes(now);
        let Some(seen) = self.seen.as_ref().filter(|_| !self.outdated) else {
            let due = self.reads_from;
            return if now < due { Step::Wait(due.min(wakes)) } else { Step::Read };
        };
        let due = self.ripe_at(seen).max(self.writes_from);
        if now < due { Step::Wait(due.min(wakes)) } else { self.write(now, wall) }
    }

    /// When its own term begins or ends next.
    fn wakes(&self, now: Moment) -> Moment {
        self.term
            .map_or(Moment::MAX, |term| if now < term.from { term.from.min(term.until) } else { term.until })
    }

    /// From when on the Lease is this candidate's to write.
    fn ripe_at(&self, seen: &Seen<O>) -> Moment {
        let Some((_, record)) = &seen.lease else { return seen.since };
        // One who never led has nothing to leave: it only waited for another to end, and so must its successor.
        let succeeds = self.me.succeeds(&record.holder) && record.acquired.is_some();
        if record.holder == self.me.holder || record.is_free() || succeeds {
            seen.since
        } else {
            seen.since + record.lease.unwrap_or_default().max(self.terms.lease)
        }
    }

    fn write(&self, now: Moment, wall: Timestamp) -> Step<O> {
        let found = self.seen.as_ref().and_then(|seen| seen.lease.clone());
        let (over, before) = found.map_or((None, None), |(object, record)| (Some(object), Some(record)));
        let made = before.is_none();
        let before = before.unwrap_or_default();
        let renewed = before.renewal(wall);
        let mine = before.holder == self.me.holder;
        let acquired = match before.acquired.filter(|_| mine) {
            Some(time) => Some(time),
            // Made anew: it does not lead before its time has come.
            None if made || (mine && self.term.is_none_or(|term| now < term.from)) => None,
            None => Some(renewed),
        };
        let transitions =
            if mine || made { before.transitions } else { before.transitions.saturating_add(1) };
        let (holder, lease) = (self.me.holder.clone(), Some(self.terms.lease));
        Step::Write(Write {
            over,
            record: Record { holder, lease, acquired, renewed: Some(renewed), transitions, freed: false },
        })
    }

    /// The Lease was read; `now`: when the answer was there.
    pub fn saw(&mut self, lease: Option<(O, Record)>, now: Moment) {
        self.outdated = false;
        let says = lease.as_ref().map(|(_, record)| record);
        if self.term.is_some() && says.is_none_or(|record| record.holder != self.me.holder) {
            let why = says.map_or(Lost::Deleted, |record| Lost::Taken(record.holder.clone()));
            self.lose(why, now);
        }
        // Two records that say the same are not the same if the object changed between them: others may have led.
        let same = self.seen.as_ref().filter(|seen| seen.lease == lease).map(|seen| seen.since);
        self.seen = Some(Seen { lease, since: same.unwrap_or(now) });
    }

    /// A write was confirmed: this is what the Lease is now. `sent`: when the request was sent.
    pub fn wrote(&mut self, object: O, record: Record, sent: Moment, now: Moment) {
        let made = self.seen.as_ref().is_some_and(|seen| seen.lease.is_none());
        let in_time = |first: Moment| now < first + self.terms.lease.saturating_sub(self.terms.deadline);
        let first = made && self.installs.is_some_and(in_time);
        let waits = if first || record.acquired.is_some() { Duration::ZERO } else { self.terms.lease };
        self.writes_from = sent + self.terms.retry;
        self.outdated = false;
        self.seen = Some(Seen { lease: Some((object, record)), since: now });
        let until = sent + self.terms.deadline.saturating_sub(self.terms.margin);
        match self.term {
            // What comes after the end does not undo it.
            Some(term) if now >= term.until => self.lose(Lost::NotRenewed, now),
            Some(term) => self.term = Some(Term { until, ..term }),
            None if now < until && self.lost.is_none() => self.term = Some(Term { from: now + waits, until }),
            None => {}
        }
    }

    /// A write was refused, because the Lease is not what it was: it is read at once, and written again in its time.
    pub fn refused(&mut self, sent: Moment) {
        self.outdated = true;
        self.writes_from = sent + self.terms.retry;
    }

    /// What was seen may not be true any more: the Lease is read again.
    pub fn doubt(&mut self) {
        self.outdated = true;
    }

    /// A request failed, or was not answered.
    pub fn failed(&mut self, sent: Moment) {
        self.reads_from = sent + self.terms.retry;
        self.writes_from = sent + self.terms.retry;
    }

    /// Gives up: from now on nothing may be written. Who has led and holds the Lease frees it by this write.
    pub fn resign(&mut self, now: Moment) -> Option<Write<O>> {
        let led = self.term.take().is_some_and(|term| term.covers(now));
        let (object, record) = self.seen.as_ref()?.lease.as_ref()?;
        let mine = led && record.holder == self.me.holder;
        mine.then(|| Write { over: Some(object.clone()), record: record.freed() })
    }

    /// The term is over. One who had not begun to lead is a candidate as before.
    fn lose(&mut self, why: Lost, now: Moment) {
        if self.term.take().is_some_and(|term| term.from <= now) {
            self.lost = Some(why);
        }
    }
}

#[cfg(test)]
mod model;
