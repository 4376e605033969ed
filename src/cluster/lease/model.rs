//! Every schedule of a few candidates and one Lease, up to a time: requests and answers that are lost or late,
//! processes that are paused, killed, told to end and started again, clocks that run apart, an administrator who
//! deletes the Lease. What may happen next is tried in every order; a process to which nothing happens is paused.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use super::clock::Moment;
use super::election::{Candidate, Identity, Step, Terms, Write};
use super::record::Record;

/// A second of true time is a step of the schedule.
const SECOND: u32 = 1000;

/// What is explored.
#[derive(Clone, Copy)]
struct Scene {
    terms: Terms,
    /// How many milliseconds each clock counts in a true second.
    rates: [u32; 2],
    /// How long it is looked at, in true seconds.
    until: u32,
    /// How many requests may be on their way after their sender gave them up.
    ghosts: usize,
    /// How often a process is killed and started again in its place.
    kills: u8,
    /// How often a process is told to end, and started elsewhere.
    ends: u8,
    /// How often the Lease is deleted.
    deletions: u8,
    /// Whether the Lease is there at first, free.
    free: bool,
    rules: Rules,
}

/// The rules, and ways to break them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rules {
    /// As they are.
    Kept,
    /// Who waits compares the time of the last renewal with its own clock.
    ClocksCompared,
    /// A Lease that is gone is nobody's.
    MadeAnewAtOnce,
    /// A Lease is replaced whatever stands there now.
    WithoutRevision,
    /// A renewal counts from when its answer came.
    CountedFromTheAnswer,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct World {
    now: u32,
    lease: Option<(u32, Record)>,
    revisions: u32,
    processes: [Process; 2],
    /// Requests on their way; their order means nothing.
    requests: Vec<Request>,
    kills: u8,
    ends: u8,
    deletions: u8,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Process {
    candidate: Candidate<u32>,
    /// How many ran in its place before it.
    restarts: u8,
    place: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Request {
    by: usize,
    sent: Moment,
    what: What,
    /// What the API server did, once it has.
    answer: Option<Answer>,
    /// Whether its sender still waits for it.
    awaited: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum What {
    Read,
    Write(Write<u32>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Answer {
    Read(Option<(u32, Record)>),
    Written(u32, Record),
    Refused,
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Happening {
    Second,
    Asks(usize),
    Arrives(usize),
    Answered(usize),
    GivenUp(usize),
    Killed(usize),
    ToldToEnd(usize),
    Deleted,
}

impl Process {
    fn new(terms: Terms, place: u8, restarts: u8) -> Self {
        let me = Identity::new("p", Some(&place.to_string()), &restarts.to_string());
        Self { candidate: Candidate::new(me, terms), restarts, place }
    }
}

impl Scene {
    fn start(&self) -> World {
        World {
            now: 0,
            lease: self.free.then(|| (0, Record::default())),
            revisions: 1,
            processes: [Process::new(self.terms, 0, 0), Process::new(self.terms, 1, 0)],
            requests: Vec::new(),
            kills: self.kills,
            ends: self.ends,
            deletions: self.deletions,
        }
    }

    /// A process's own clock.
    fn clock(&self, world: &World, process: usize) -> Moment {
        Duration::from_millis(u64::from(world.now * self.rates[process]))
    }

    /// The clock on its wall: the second one is an hour behind.
    fn wall(&self, world: &World, process: usize) -> Timestamp {
        let behind = if process == 1 { 3_600_000 } else { 0 };
        Timestamp::from_millisecond(i64::from(world.now * self.rates[process]) + 10_000_000 - behind).unwrap()
    }

    fn leads(&self, world: &World, process: usize) -> bool {
        let term = world.processes[process].candidate.term();
        term.is_some_and(|mut term| {
            if self.rules == Rules::MadeAnewAtOnce {
                term.from = Moment::ZERO;
            }
            term.covers(self.clock(world, process))
        })
    }

    fn two_lead(&self, world: &World) -> bool {
        self.leads(world, 0) && self.leads(world, 1)
    }

    /// All that can happen, and what comes of it.
    fn next(&self, world: &World) -> Vec<(Happening, World)> {
        let mut all: Vec<Happening> = Vec::new();
        if world.now < self.until {
            all.push(Happening::Second);
        }
        for process in 0..2 {
            if !world.requests.iter().any(|request| request.by == process && request.awaited) {
                all.push(Happening::Asks(process));
            }
            if world.kills > 0 {
                all.push(Happening::Killed(process));
            }
            if world.ends > 0 {
                all.push(Happening::ToldToEnd(process));
            }
        }
        for (number, request) in world.requests.iter().enumerate() {
            match (&request.answer, request.awaited) {
                (None, _) => all.push(Happening::Arrives(number)),
                (Some(_), true) => all.push(Happening::Answered(number)),
                (Some(_), false) => {}
            }
            if request.awaited {
                all.push(Happening::GivenUp(number));
            }
        }
        if world.deletions > 0 && world.lease.is_some() {
            all.push(Happening::Deleted);
        }
        all.into_iter().filter_map(|what| Some((what, self.happens(world, what)?))).collect()
    }

    /// `None`: nothing comes of it.
    fn happens(&self, world: &World, what: Happening) -> Option<World> {
        let mut world = world.clone();
        match what {
            Happening::Second => world.now += 1,
            Happening::Asks(process) => self.asks(&mut world, process)?,
            Happening::Arrives(number) => self.arrives(&mut world, number),
            Happening::Answered(number) => {
                let request = world.requests.remove(number);
                self.answered(&mut world, request);
            }
            Happening::GivenUp(number) => {
                let request = &mut world.requests[number];
                request.awaited = false;
                world.processes[request.by].candidate.failed(request.sent);
            }
            Happening::Killed(process) => {
                world.kills -= 1;
                let place = world.processes[process].place;
                self.starts(&mut world, process, place);
            }
            Happening::ToldToEnd(process) => {
                world.ends -= 1;
                let now = self.clock(&world, process);
                if let Some(write) = world.processes[process].candidate.resign(now) {
                    let what = What::Write(write);
                    world.requests.push(Request {
                        by: process,
                        sent: now,
                        what,
                        answer: None,
                        awaited: false,
                    });
                }
                let place = world.processes[process].place + 2;
                self.starts(&mut world, process, place);
            }
            Happening::Deleted => {
                world.deletions -= 1;
                world.lease = None;
            }
        }
        // What nobody waits for any more, and was done, or only reads, is of no consequence.
        world.requests.retain(|r| r.awaited || (r.answer.is_none() && r.what != What::Read));
        let ghosts = world.requests.iter().filter(|request| !request.awaited).count();
        world.requests.sort_by_key(|request| (request.by, request.sent, request.awaited));
        (ghosts <= self.ghosts).then_some(world)
    }

    fn starts(&self, world: &mut World, process: usize, place: u8) {
        for request in world.requests.iter_mut().filter(|request| request.by == process) {
            request.awaited = false;
        }
        let restarts = world.processes[process].restarts + 1;
        world.processes[process] = Process::new(self.terms, place, restarts);
    }

    fn asks(&self, world: &mut World, process: usize) -> Option<()> {
        let (now, wall) = (self.clock(world, process), self.wall(world, process));
        let candidate = &mut world.processes[process].candidate;
        let mut step = candidate.next(now, wall);
        if self.rules == Rules::ClocksCompared && matches!(step, Step::Wait(_)) {
            let renewed = candidate.record().and_then(|record| record.renewed);
            let age = renewed.map(|at| wall.duration_since(at));
            if age.is_some_and(|age| age.unsigned_abs() >= self.terms.lease) {
                step = candidate.next(now + self.terms.lease, wall);
            }
        }
        let what = match step {
            Step::Read => What::Read,
            Step::Write(write) => What::Write(write),
            Step::Wait(_) => return None,
            Step::End(_) => {
                let place = world.processes[process].place;
                self.starts(world, process, place);
                return Some(());
            }
        };
        world.requests.push(Request { by: process, sent: now, what, answer: None, awaited: true });
        Some(())
    }

    fn arrives(&self, world: &mut World, number: usize) {
        let answer = match &world.requests[number].what {
            What::Read => Answer::Read(world.lease.clone()),
            What::Write(write) => {
                let there = world.lease.as_ref().map(|(revision, _)| *revision);
                let fits = there == write.over || (self.rules == Rules::WithoutRevision && there.is_some());
                if fits {
                    let record = write.record.clone();
                    world.lease = Some((world.revisions, record.clone()));
                    world.revisions += 1;
                    Answer::Written(world.revisions - 1, record)
                } else {
                    Answer::Refused
                }
            }
        };
        world.requests[number].answer = Some(answer);
    }

    fn answered(&self, world: &mut World, request: Request) {
        let now = self.clock(world, request.by);
        let sent = if self.rules == Rules::CountedFromTheAnswer { now } else { request.sent };
        let candidate = &mut world.processes[request.by].candidate;
        match request.answer {
            Some(Answer::Read(lease)) => candidate.saw(lease, now),
            Some(Answer::Written(revision, record)) => candidate.wrote(revision, record, sent, now),
            Some(Answer::Refused) => candidate.refused(request.sent),
            None => {}
        }
    }

    /// Nothing bad happens any more: requests are answered at once, and everybody does what it wants each second.
    /// Whether somebody leads in the end.
    fn comes_to_rest(&self, world: &World) -> bool {
        let mut world = world.clone();
        let calm = |world: &mut World, scene: &Self| {
            while let Some(number) = world.requests.iter().position(|request| request.answer.is_none()) {
                scene.arrives(world, number);
                let request = world.requests.remove(number);
                if request.awaited {
                    scene.answered(world, request);
                }
            }
        };
        for _ in 0..8 * self.terms.lease.as_secs() {
            world.requests.retain(|request| request.answer.is_none() || request.awaited);
            while let Some(number) = world.requests.iter().position(|request| request.answer.is_some()) {
                let request = world.requests.remove(number);
                self.answered(&mut world, request);
            }
            calm(&mut world, self);
            for process in 0..2 {
                for _ in 0..3 {
                    let _ = self.asks(&mut world, process);
                    calm(&mut world, self);
                }
            }
            if self.leads(&world, 0) != self.leads(&world, 1) {
                return true;
            }
            world.now += 1;
        }
        false
    }

    /// Looks at every world that can come about. The story of the first in which two lead, or of one in which
    /// nobody ever will; else how many worlds there are.
    fn explore(&self) -> Result<usize, String> {
        let mut known: HashMap<World, usize> = HashMap::new();
        let mut worlds: Vec<(World, Option<(usize, Happening)>)> = vec![(self.start(), None)];
        known.insert(self.start(), 0);
        let mut at = 0;
        while at < worlds.len() {
            let world = worlds[at].0.clone();
            if self.two_lead(&world) {
                return Err(self.story(&worlds, at, "two may write"));
            }
            if self.rules == Rules::Kept && !self.comes_to_rest(&world) {
                return Err(self.story(&worlds, at, "nobody ever leads"));
            }
            for (what, next) in self.next(&world) {
                if !known.contains_key(&next) {
                    known.insert(next.clone(), worlds.len());
                    worlds.push((next, Some((at, what))));
                }
            }
            at += 1;
        }
        Ok(worlds.len())
    }

    fn story(&self, worlds: &[(World, Option<(usize, Happening)>)], at: usize, end: &str) -> String {
        let mut steps = Vec::new();
        let mut number = at;
        while let Some((before, what)) = worlds[number].1 {
            steps.push((worlds[before].0.now, what, worlds[before].0.requests.clone()));
            number = before;
        }
        let mut story = String::new();
        for (now, what, requests) in steps.iter().rev() {
            let detail = match what {
                Happening::Arrives(n) | Happening::Answered(n) | Happening::GivenUp(n) => {
                    format!(" {:?}", requests[*n])
                }
                _ => String::new(),
            };
            let _ = writeln!(story, "{now:>3} s  {what:?}{detail}");
        }
        let now = worlds[at].0.now;
        let _ = writeln!(story, "{now:>3} s  {end}");
        story
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A short lease, so that every schedule can be looked at; in the proportions of the real one.
fn scene() -> Scene {
    let terms = Terms { lease: seconds(3), deadline: seconds(2), retry: seconds(1), margin: Duration::ZERO };
    Scene {
        terms,
        rates: [SECOND, SECOND],
        until: 8,
        ghosts: 1,
        kills: 0,
        ends: 0,
        deletions: 0,
        free: true,
        rules: Rules::Kept,
    }
}

#[test]
fn try_sizes() {
    for (name, scene) in [
        ("plain", scene()),
        ("kills", Scene { kills: 1, ..scene() }),
        ("ends", Scene { ends: 1, ..scene() }),
        ("deletions", Scene { deletions: 1, ..scene() }),
    ] {
        for until in [4, 5, 6] {
            let began = std::time::Instant::now();
            let result = Scene { until, ..scene }.explore();
            println!("{name} {until}: {result:?} {:?}", began.elapsed());
            if result.is_err() {
                break;
            }
        }
    }
}
