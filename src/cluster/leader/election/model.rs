//! A model of all schedules of two candidates and one Lease. Writes and answers are lost or late. Processes are
//! paused, killed, terminated and started again. Clocks run at different speeds. An administrator deletes the Lease.
//! The model tries every order of events without a bound in time: worlds that differ only in the time of day are
//! equal. A process without an event is paused. Therefore a lost or late read needs no event of its own: it equals a
//! read that is sent later.

use std::collections::HashSet;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use crate::cluster::client::boot_clock::Moment;
use crate::cluster::client::identity::Identity;
use crate::cluster::leader::election::{Candidate, Step, Terms, Write};
use crate::cluster::leader::lease_record::Record;

/// The step of the schedule: a second of true time.
const SECOND: u32 = 1000;

/// The parameters of an exploration.
#[derive(Clone, Copy)]
#[allow(clippy::struct_excessive_bools)] // Each is a separate setting.
struct Scene {
    terms: Terms,
    /// How many milliseconds each clock counts in a true second.
    rates: [u32; 2],
    /// The largest number of requests that are still on their way after their sender abandoned them.
    ghosts: usize,
    /// The largest number of events.
    depth: u8,
    /// Whether an answer may arrive later than the state that it describes.
    late: bool,
    /// How often a process is killed and started again in the same place.
    kills: u8,
    /// How often a process is terminated and started in another place.
    ends: u8,
    /// How often the Lease is deleted.
    deletions: u8,
    /// How often a user replaces or creates the Lease as an empty one.
    recreations: u8,
    /// Whether the Lease exists at the start, and is free.
    free: bool,
    /// Whether the mark of the installation exists at the start.
    installed: bool,
    rules: Rules,
    /// Whether the exploration also checks that a process leads in the end.
    rest: bool,
}

/// The rules of the election, and each way to break them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rules {
    /// The rules without a change.
    Kept,
    /// A waiting candidate compares the time of the last renewal with its own clock.
    ClocksCompared,
    /// An absent Lease can be taken immediately.
    MadeAnewAtOnce,
    /// A Lease without a holder is free, even if a user created it.
    EmptyIsFree,
    /// A Lease is replaced without a check of its resource version.
    WithoutRevision,
    /// A renewal counts from the arrival of its answer.
    CountedFromTheAnswer,
    /// The first process of an installation leads immediately, however late its Lease is confirmed.
    FirstForEver,
}

#[derive(Clone)]
struct World {
    now: u32,
    lease: Option<(u32, Record)>,
    installed: bool,
    revisions: u32,
    processes: [Process; 2],
    /// Requests on their way; their order has no meaning.
    requests: Vec<Request>,
    kills: u8,
    ends: u8,
    deletions: u8,
    recreations: u8,
}

#[derive(Clone)]
struct Process {
    candidate: Candidate<u32>,
    /// How many processes ran in its place before it.
    restarts: u8,
    place: u8,
}

/// A write on its way.
#[derive(Clone, Debug)]
struct Request {
    by: usize,
    sent: Moment,
    write: Write<u32>,
    /// The answer of the API server, after the request arrived: the object, or a refusal.
    #[allow(clippy::option_option)] // No answer yet, a refusal, or the object.
    answer: Option<Option<(u32, Record)>>,
    /// Whether the sender still waits for the answer.
    awaited: bool,
}

/// The next event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Happening {
    Second,
    /// The process takes its next step: a read, a write, or an end with a new start.
    Acts(usize),
    /// A write arrives at the API server.
    Arrives(usize),
    /// The sender of a write receives the answer.
    Answered(usize),
    /// The sender of a write stops waiting. A request that has not arrived yet may arrive later, or is lost.
    GivenUp(usize),
    Killed(usize),
    ToldToEnd(usize),
    Deleted,
    Recreated,
}

/// A world, with the number of its predecessor and the event between the two.
type Reached = (World, Option<(usize, Happening)>);

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
            lease: self.free.then(|| (0, Record::default().freed())),
            installed: self.installed,
            revisions: 1,
            processes: [Process::new(self.terms, 0, 0), Process::new(self.terms, 1, 0)],
            requests: Vec::new(),
            kills: self.kills,
            ends: self.ends,
            deletions: self.deletions,
            recreations: self.recreations,
        }
    }

    /// The monotonic clock of a process.
    fn clock(&self, world: &World, process: usize) -> Moment {
        Duration::from_millis(u64::from(world.now * self.rates[process]))
    }

    /// The wall clock of a process. The second one is an hour behind.
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

    /// The possible events, each with the resulting world.
    fn next(&self, world: &World) -> Vec<(Happening, World)> {
        let mut all = Vec::new();
        let answered = world.requests.iter().position(|request| request.answer.is_some());
        if let Some(number) = answered.filter(|_| !self.late) {
            all.extend([Happening::Answered(number), Happening::GivenUp(number)]);
            return all.into_iter().filter_map(|what| Some((what, self.happens(world, what)?))).collect();
        }
        all.push(Happening::Second);
        for process in 0..2 {
            if !world.requests.iter().any(|request| request.by == process && request.awaited) {
                all.push(Happening::Acts(process));
            }
            if world.kills > 0 {
                all.push(Happening::Killed(process));
            }
            if world.ends > 0 {
                all.push(Happening::ToldToEnd(process));
            }
        }
        for (number, request) in world.requests.iter().enumerate() {
            let next = if request.answer.is_none() { Happening::Arrives } else { Happening::Answered };
            all.push(next(number));
            if request.awaited {
                all.push(Happening::GivenUp(number));
            }
        }
        if world.deletions > 0 && world.lease.is_some() {
            all.push(Happening::Deleted);
        }
        if world.recreations > 0 {
            all.push(Happening::Recreated);
        }
        all.into_iter().filter_map(|what| Some((what, self.happens(world, what)?))).collect()
    }

    /// The world after an event; `None`: the event has no effect.
    fn happens(&self, world: &World, what: Happening) -> Option<World> {
        let mut world = world.clone();
        match what {
            Happening::Second => world.now += 1,
            Happening::Acts(process) => self.acts(&mut world, process)?,
            Happening::Arrives(number) => {
                self.arrives(&mut world, number);
                world.requests.retain(|request| request.awaited || request.answer.is_none());
            }
            Happening::Answered(number) => self.answered(&mut world, number),
            Happening::GivenUp(number) => {
                let ghosts = world.requests.iter().filter(|request| !request.awaited).count();
                let request = &mut world.requests[number];
                request.awaited = false;
                world.processes[request.by].candidate.failed(request.sent);
                if request.answer.is_some() || ghosts == self.ghosts {
                    world.requests.remove(number);
                }
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
                    let request = Request { by: process, sent: now, write, answer: None, awaited: false };
                    world.requests.push(request);
                }
                let place = world.processes[process].place + 2;
                self.starts(&mut world, process, place);
            }
            Happening::Deleted => {
                world.deletions -= 1;
                world.lease = None;
            }
            Happening::Recreated => {
                world.recreations -= 1;
                world.revisions += 1;
                world.lease = Some((world.revisions, Record::default()));
            }
        }
        Some(world)
    }

    fn starts(&self, world: &mut World, process: usize, place: u8) {
        for request in world.requests.iter_mut().filter(|request| request.by == process) {
            request.awaited = false;
        }
        world.requests.retain(|request| request.awaited || request.answer.is_none());
        let restarts = world.processes[process].restarts + 1;
        world.processes[process] = Process::new(self.terms, place, restarts);
    }

    fn acts(&self, world: &mut World, process: usize) -> Option<()> {
        let (now, wall) = (self.clock(world, process), self.wall(world, process));
        let candidate = &mut world.processes[process].candidate;
        let mut step = candidate.next(now, wall);
        if self.rules == Rules::ClocksCompared && matches!(step, Step::Wait(_)) {
            let renewed = candidate.record().and_then(|record| record.renewed);
            let age = renewed.map(|at| wall.duration_since(at));
            if age.is_some_and(|age| Duration::try_from(age).is_ok_and(|age| age >= self.terms.lease)) {
                step = candidate.next(now + self.terms.lease, wall);
            }
        }
        match step {
            Step::Read => {
                let mut found = world.lease.clone();
                if let Some((_, record)) = &mut found
                    && self.rules == Rules::EmptyIsFree
                {
                    record.freed = record.holder.is_empty();
                }
                // If there is no Lease, exactly one process creates the mark.
                let installs = found.is_none() && !std::mem::replace(&mut world.installed, true);
                candidate.saw(found, now);
                if installs {
                    candidate.installs(now);
                }
            }
            Step::Write(write) => {
                let request = Request { by: process, sent: now, write, answer: None, awaited: true };
                world.requests.push(request);
            }
            Step::Wait(_) => return None,
            Step::End(_) => {
                let place = world.processes[process].place;
                self.starts(world, process, place);
            }
        }
        Some(())
    }

    /// The API server executes or refuses a write.
    fn arrives(&self, world: &mut World, number: usize) {
        let write = world.requests[number].write.clone();
        let there = world.lease.as_ref().map(|(revision, _)| *revision);
        let fits = there == write.over || (self.rules == Rules::WithoutRevision && there.is_some());
        if fits {
            world.revisions += 1;
            world.lease = Some((world.revisions, write.record));
        }
        world.requests[number].answer = Some(world.lease.clone().filter(|_| fits));
    }

    fn answered(&self, world: &mut World, number: usize) {
        let Request { by, sent, answer, .. } = world.requests.remove(number);
        let now = self.clock(world, by);
        let counted_from = if self.rules == Rules::CountedFromTheAnswer { now } else { sent };
        let candidate = &mut world.processes[by].candidate;
        if self.rules == Rules::FirstForEver && candidate.installs.is_some() {
            candidate.installs(now);
        }
        match answer.flatten() {
            Some((revision, record)) => candidate.wrote(revision, record, counted_from, now),
            None => candidate.refused(sent),
        }
    }

    /// Runs the world without faults: each process takes its steps every second and gets its answers immediately.
    /// Returns whether a process leads in the end.
    fn comes_to_rest(&self, world: &World) -> bool {
        let mut world = world.clone();
        for _ in 0..8 * self.terms.lease.as_secs() {
            for process in [0, 1, 0, 1] {
                while let Some(request) = world.requests.first() {
                    if request.answer.is_none() {
                        self.arrives(&mut world, 0);
                    }
                    if world.requests[0].awaited {
                        self.answered(&mut world, 0);
                    } else {
                        world.requests.remove(0);
                    }
                }
                let _ = self.acts(&mut world, process);
            }
            if self.leads(&world, 0) != self.leads(&world, 1) {
                return true;
            }
            world.now += 1;
        }
        false
    }

    /// The state of a world for comparison. A time counts relative to now, as far as it matters. A resource version
    /// counts by its order, and a holder by the process that it names now.
    fn essence(&self, world: &World) -> Vec<u32> {
        let mut revisions: Vec<u32> = Vec::new();
        revisions.extend(world.lease.iter().map(|(revision, _)| *revision));
        for process in &world.processes {
            let lease = process.candidate.seen.as_ref().and_then(|seen| seen.lease.as_ref());
            revisions.extend(lease.map(|(revision, _)| *revision));
        }
        revisions.extend(world.requests.iter().filter_map(|request| request.write.over));
        let answers = world.requests.iter().filter_map(|request| request.answer.clone().flatten());
        revisions.extend(answers.map(|(revision, _)| revision));
        revisions.sort_unstable();
        revisions.dedup();
        let rank = |revision: u32| revisions.iter().position(|r| *r == revision).map_or(0, |n| number(n) + 2);
        let holder = |record: &Record| {
            let own = |p: &Process| p.candidate.me.holder() == record.holder;
            let before = |p: &Process| p.candidate.me.succeeds(&record.holder);
            match (world.processes.iter().position(own), world.processes.iter().position(before)) {
                (Some(n), _) => number(n),
                (None, Some(n)) => number(n) + 2,
                (None, None) if record.holder.is_empty() => 4 + u32::from(!record.is_free()),
                (None, None) => 6,
            }
        };
        let says = |record: &Record| holder(record) * 2 + u32::from(record.acquired.is_some());
        let millis = |time: Moment| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        let left = [world.kills, world.ends, world.deletions, world.recreations];
        let mut all: Vec<u32> = left.into_iter().map(u32::from).collect();
        all.push(u32::from(world.installed));
        all.extend(world.lease.iter().flat_map(|(revision, record)| [rank(*revision), says(record)]));
        for (process, Process { candidate, .. }) in world.processes.iter().enumerate() {
            let now = self.clock(world, process);
            let ahead = |time: Moment| millis(time.saturating_sub(now));
            let ago = |time: Moment| millis(now.saturating_sub(time).min(self.terms.lease));
            all.push(u32::MAX);
            all.push(u32::from(candidate.outdated) + 2 * u32::from(candidate.lost.is_some()));
            all.extend([ahead(candidate.reads_from), ahead(candidate.writes_from)]);
            all.extend(candidate.term.iter().flat_map(|term| [ahead(term.from), ahead(term.until)]));
            all.push(candidate.installs.map_or(u32::MAX, ago));
            all.push(u32::MAX);
            if let Some(seen) = &candidate.seen {
                all.push(ago(seen.since));
                all.extend(seen.lease.iter().flat_map(|(revision, record)| [rank(*revision), says(record)]));
            }
        }
        let mut requests: Vec<[u32; 5]> = Vec::new();
        for request in &world.requests {
            let age =
                millis(self.clock(world, request.by).saturating_sub(request.sent).min(self.terms.lease));
            let age = if request.awaited { age } else { u32::MAX };
            let over = request.write.over.map_or(1, rank);
            let answer = request.answer.as_ref();
            let answer = answer.map_or(0, |a| a.as_ref().map_or(1, |(revision, _)| rank(*revision)));
            requests.push([number(request.by), age, over, says(&request.write.record), answer]);
        }
        requests.sort_unstable();
        all.extend(requests.into_iter().flatten());
        all
    }

    /// Explores every reachable world. Returns the number of worlds. An error is the story of the first world in
    /// which two processes may write, or in which no process will ever lead.
    fn explore(&self) -> Result<usize, String> {
        let mut known: HashSet<Vec<u32>> = HashSet::new();
        let mut worlds: Vec<Reached> = vec![(self.start(), None)];
        let mut depths: Vec<u8> = vec![0];
        let mut at = 0;
        while at < worlds.len() {
            let world = worlds[at].0.clone();
            if self.leads(&world, 0) && self.leads(&world, 1) {
                return Err(story(&worlds, at, "two may write"));
            }
            if self.rest && !self.comes_to_rest(&world) {
                return Err(story(&worlds, at, "nobody ever leads"));
            }
            let depth = depths[at].saturating_add(1);
            for (what, next) in self.next(&world) {
                if depth <= self.depth && known.insert(self.essence(&next)) {
                    worlds.push((next, Some((at, what))));
                    depths.push(depth);
                }
            }
            at += 1;
        }
        Ok(worlds.len())
    }
}

/// The history of a world, one line for each event.
fn story(worlds: &[Reached], at: usize, end: &str) -> String {
    let mut lines = vec![format!("{:>3} s  {end}", worlds[at].0.now)];
    let mut number = at;
    while let Some((before, what)) = worlds[number].1 {
        let world = &worlds[before].0;
        let write = match what {
            Happening::Arrives(n) | Happening::Answered(n) | Happening::GivenUp(n) => {
                let Request { by, write, .. } = &world.requests[n];
                format!(": process {by} lets the lease be held by '{}'", write.record.holder)
            }
            _ => String::new(),
        };
        lines.push(format!("{:>3} s  {what:?}{write}", world.now));
        number = before;
    }
    lines.reverse();
    lines.join("\n")
}

fn number(number: usize) -> u32 {
    u32::try_from(number).unwrap()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Parameters with a short lease, so that every schedule can be explored, in the proportions of the real ones.
fn scene() -> Scene {
    let terms = Terms { lease: seconds(3), deadline: seconds(2), retry: seconds(1), margin: Duration::ZERO };
    Scene {
        terms,
        rates: [SECOND, SECOND],
        ghosts: 0,
        depth: u8::MAX,
        late: false,
        kills: 0,
        ends: 0,
        deletions: 0,
        recreations: 0,
        free: true,
        installed: true,
        rules: Rules::Kept,
        rest: false,
    }
}

/// Parameters with little time between the end of one term and the begin of the next. The second clock is faster by a
/// seventh.
fn tight(margin: Duration) -> Scene {
    let terms = Terms { lease: seconds(12), deadline: seconds(11), retry: seconds(4), margin };
    Scene { terms, rates: [3500, 4000], ..scene() }
}

#[track_caller]
fn holds(scene: Scene) {
    match scene.explore() {
        Ok(worlds) => println!("{worlds} worlds"),
        Err(story) => panic!("{story}"),
    }
}

#[track_caller]
fn breaks(scene: Scene) {
    let story = scene.explore().expect_err("nothing breaks without this rule");
    println!("{story}");
    assert!(story.ends_with("two may write"), "{story}");
}

#[test]
fn election_has_one_writer_and_ends_with_a_leader_after_losses_and_pauses() {
    holds(Scene { rest: true, ..scene() });
}

/// The largest number of events in explorations that would take long without a bound. Every known fault of a broken
/// rule occurs within fewer events.
const SOON: u8 = 12;

#[test]
fn election_has_one_writer_when_the_leader_is_killed_or_resigns() {
    holds(Scene { kills: 1, depth: SOON, ..scene() });
    holds(Scene { ends: 1, depth: SOON, ..scene() });
}

#[test]
fn election_has_one_writer_when_the_lease_is_deleted_and_created_again() {
    holds(Scene { free: false, depth: SOON, ..scene() });
    holds(Scene { deletions: 1, depth: SOON, ..scene() });
}

// C4.
#[test]
fn election_has_one_writer_when_the_lease_is_restored_or_replaced() {
    holds(Scene { recreations: 1, depth: SOON, ..scene() });
    holds(Scene { free: false, recreations: 1, depth: SOON, ..scene() });
    holds(Scene { deletions: 1, recreations: 1, depth: 10, ..scene() });
}

#[test]
fn first_process_of_an_installation_leads_alone() {
    let first = Scene { free: false, installed: false, ..scene() };
    holds(Scene { rest: true, depth: SOON, ..first });
    holds(Scene { kills: 1, depth: SOON, ..first });
    holds(Scene { deletions: 1, depth: 14, ..first });
    holds(Scene { deletions: 1, recreations: 1, depth: 10, ..first });
    holds(Scene { deletions: 1, rates: [1000, 1499], depth: SOON, ..first });
}

#[test]
fn election_has_one_writer_when_clocks_drift_as_far_as_the_terms_allow() {
    holds(Scene { rates: [1000, 1499], ..scene() });
    holds(Scene { depth: SOON, ..tight(seconds(1)) });
}

/// The same without a bound, with late answers, and with writes that the API server executes long after their sender
/// abandoned them.
#[test]
#[ignore = "takes minutes even if optimised: cargo test --release --lib -- --ignored what_comes_late"]
fn election_has_one_writer_when_answers_and_writes_are_late() {
    holds(Scene { late: true, rest: true, kills: 1, ..scene() });
    holds(Scene { late: true, ends: 1, ..scene() });
    holds(Scene { late: true, deletions: 1, ..scene() });
    holds(Scene { ghosts: 1, rest: true, kills: 1, ..scene() });
    holds(Scene { ghosts: 1, ends: 1, ..scene() });
    holds(Scene { ghosts: 1, deletions: 2, ..scene() });
    let first = Scene { free: false, installed: false, ..scene() };
    holds(Scene { late: true, deletions: 1, ..first });
    holds(Scene { ghosts: 1, deletions: 1, ..first });
}

/// Each rule is necessary: without it the model finds two processes that may write.
#[test]
fn election_allows_two_writers_without_any_one_of_its_rules() {
    breaks(Scene { rules: Rules::ClocksCompared, ..scene() });
    breaks(Scene { rules: Rules::WithoutRevision, ..scene() });
    breaks(Scene { rules: Rules::CountedFromTheAnswer, late: true, ..scene() });
    breaks(Scene { rules: Rules::EmptyIsFree, recreations: 1, ..scene() });
    breaks(Scene { rules: Rules::MadeAnewAtOnce, deletions: 1, ..scene() });
    let first = Scene { free: false, installed: false, ..scene() };
    breaks(Scene { rules: Rules::FirstForEver, deletions: 1, ..first });
    breaks(tight(Duration::ZERO));
    breaks(Scene { rates: [750, 1500], ..scene() });
}
