//! The leader election from the view of one candidate, without requests and without a clock.
//!
//! Invariant kept here: no two candidates may write at the same time, whatever is lost, late, paused or deleted. The
//! invariant rests on these rules:
//! - A candidate may write for `deadline` less `margin` after it *sent* a renewal that was confirmed.
//! - Another candidate takes the Lease only after it has seen no change for `lease`, which is longer. Each candidate
//!   uses its own clock; two clocks are never compared. The candidate replaces the very object that it saw, so a
//!   renewal that came between wins.
//! - A candidate takes a Lease immediately if its holder released it after the last write. The same holds if the
//!   holder was an earlier process in the same pod: that process is dead, or this one would not have been started. An
//!   empty Lease without the mark of a release fits neither case: a user created or replaced it, and the previous
//!   holder may still lead.
//! - An absent Lease may have been deleted while its holder leads. The candidate that creates it again begins to lead
//!   when that holder can no longer write.
//! - In a first installation there is no previous holder. Exactly one process creates the mark of the installation,
//!   and the mark stays. That process leads as soon as its Lease is confirmed, if this happens within
//!   `lease - deadline` after it sent the mark. Another process that saw the mark begins to lead `lease` after that or
//!   later. Its term rests on a renewal that it sent while the first process already led.
//!
//! The invariant assumes clocks of similar speed: the faster clock may run at most `lease / (deadline - margin)`
//! times as fast as the slower one.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use crate::cluster::client::boot_clock::Moment;
use crate::cluster::client::identity::Identity;
use crate::cluster::client::write_window::Term;
use crate::cluster::leader::lease_record::Record;

/// The durations of the election. All candidates should have the same values. If the values differ, the longer ones
/// count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Terms {
    /// A candidate may take a Lease that has not changed for this time.
    pub lease: Duration,
    /// A leader that cannot renew the Lease for this time has lost it; shorter than `lease`.
    pub deadline: Duration,
    /// The interval of the renewals, and the delay before a failed request is sent again.
    pub retry: Duration,
    /// How long before the deadline the last write may begin.
    pub margin: Duration,
}

impl Terms {
    /// The default margin. It is ample for the time between the last check of the clock and the transfer of the
    /// request to the kernel.
    pub const MARGIN: Duration = Duration::from_millis(500);
}

/// The reason why a process no longer leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Lost {
    /// The leader could not renew the Lease in time.
    #[error("it could not be renewed in time")]
    NotRenewed,
    /// Another process holds the Lease.
    #[error("'{0}' holds it now")]
    Taken(String),
    /// The Lease was deleted.
    #[error("it was deleted")]
    Deleted,
}

/// The next step of a candidate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step<O> {
    /// Read the Lease.
    Read,
    /// Write the Lease.
    Write(Write<O>),
    /// Do nothing before this moment, unless the Lease changes.
    Wait(Moment),
    /// End the process, because it led and has lost the Lease.
    End(Lost),
}

/// A write of the Lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Write<O> {
    /// The very object to replace, with its resource version; `None`: create the object.
    pub over: Option<O>,
    /// The new content.
    pub record: Record,
}

/// The last observation of the Lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Seen<O> {
    /// The object and its content; `None`: there is no Lease.
    lease: Option<(O, Record)>,
    /// When the candidate first saw this content.
    since: Moment,
}

/// A process that leads or wants to lead. `O` is the Lease as it was read, so that the write replaces the very object
/// that the decision is based on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Candidate<O> {
    me: Identity,
    terms: Terms,
    seen: Option<Seen<O>>,
    /// The last observation is out of date.
    outdated: bool,
    term: Option<Term>,
    /// The earliest time of the next read.
    reads_from: Moment,
    /// The earliest time of the next write.
    writes_from: Moment,
    /// When this process sent the mark of the installation; `None`: another process created the mark.
    installs: Option<Moment>,
    lost: Option<Lost>,
}

impl<O: Clone + PartialEq> Candidate<O> {
    /// A candidate that has not observed the Lease yet.
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

    /// Records that this process created the mark of the installation, with a request sent at `sent`. Therefore no
    /// other process of the installation ran before.
    pub fn installs(&mut self, sent: Moment) {
        self.installs = Some(sent);
    }

    /// The term of this process, as far as it is known now.
    pub fn term(&self) -> Option<Term> {
        self.term
    }

    /// The last known content of the Lease.
    pub fn record(&self) -> Option<&Record> {
        self.seen.as_ref()?.lease.as_ref().map(|(_, record)| record)
    }

    /// Decides the next step. `wall` is the wall-clock time for users.
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

    /// The next begin or end of the own term.
    fn wakes(&self, now: Moment) -> Moment {
        self.term
            .map_or(Moment::MAX, |term| if now < term.from { term.from.min(term.until) } else { term.until })
    }

    /// The moment from which this candidate may write the Lease.
    fn ripe_at(&self, seen: &Seen<O>) -> Moment {
        let Some((_, record)) = &seen.lease else { return seen.since };
        // A previous process that never led only waited for the term of another to end. Its successor must wait for
        // that end too.
        let succeeds = self.me.succeeds(&record.holder) && record.acquired.is_some();
        if record.holder == self.me.holder() || record.is_free() || succeeds {
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
        let mine = before.holder == self.me.holder();
        let acquired = match before.acquired.filter(|_| mine) {
            Some(time) => Some(time),
            // The Lease is new: the process does not lead before the end of its wait.
            None if made || (mine && self.term.is_none_or(|term| now < term.from)) => None,
            None => Some(renewed),
        };
        let transitions =
            if mine || made { before.transitions } else { before.transitions.saturating_add(1) };
        let (holder, lease) = (self.me.holder().to_owned(), Some(self.terms.lease));
        Step::Write(Write {
            over,
            record: Record { holder, lease, acquired, renewed: Some(renewed), transitions, freed: false },
        })
    }

    /// Records a read of the Lease. `now` is the time at which the answer arrived.
    pub fn saw(&mut self, lease: Option<(O, Record)>, now: Moment) {
        self.outdated = false;
        let says = lease.as_ref().map(|(_, record)| record);
        if self.term.is_some() && says.is_none_or(|record| record.holder != self.me.holder()) {
            let why = says.map_or(Lost::Deleted, |record| Lost::Taken(record.holder.clone()));
            self.lose(why, now);
        }
        // If the object changed, the wait starts again even for an equal record: another process may have led
        // between.
        let same = self.seen.as_ref().filter(|seen| seen.lease == lease).map(|seen| seen.since);
        self.seen = Some(Seen { lease, since: same.unwrap_or(now) });
    }

    /// Records a confirmed write. `object` and `record` are the Lease now, and `sent` is the time at which the
    /// request was sent.
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
            // An answer after the end of the term does not extend the term.
            Some(term) if now >= term.until => self.lose(Lost::NotRenewed, now),
            Some(term) => self.term = Some(Term { until, ..term }),
            None if now < until && self.lost.is_none() => self.term = Some(Term { from: now + waits, until }),
            None => {}
        }
    }

    /// Records a refused write: the Lease has changed. The candidate reads it immediately, and writes again after
    /// `retry`.
    pub fn refused(&mut self, sent: Moment) {
        self.outdated = true;
        self.writes_from = sent + self.terms.retry;
    }

    /// Marks the observation as out of date, so that the candidate reads the Lease again.
    pub fn doubt(&mut self) {
        self.outdated = true;
    }

    /// Records a request that failed or got no answer.
    pub fn failed(&mut self, sent: Moment) {
        self.reads_from = sent + self.terms.retry;
        self.writes_from = sent + self.terms.retry;
    }

    /// Ends the candidacy: from now on the process may write nothing. A leader that holds the Lease releases it with
    /// the returned write.
    pub fn resign(&mut self, now: Moment) -> Option<Write<O>> {
        let led = self.term.take().is_some_and(|term| term.covers(now));
        let (object, record) = self.seen.as_ref()?.lease.as_ref()?;
        let mine = led && record.holder == self.me.holder();
        mine.then(|| Write { over: Some(object.clone()), record: record.freed() })
    }

    /// Ends the term. A candidate that had not begun to lead stays a candidate.
    fn lose(&mut self, why: Lost, now: Moment) {
        if self.term.take().is_some_and(|term| term.from <= now) {
            self.lost = Some(why);
        }
    }
}

#[cfg(test)]
mod model;
