//! A run executes a story from its start to its end, in virtual time, with all its faults.
//!
//! At every moment a set of moves is possible: the user does the next step of the story, a request reaches the server,
//! a watch delivers an event, a reconcile starts, a player acts, or time passes. The order of moves is fixed or drawn
//! from a seed, so that a run can be repeated exactly.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use town_operator::cluster::Clock;

use super::chance::Chance;
use super::fault::{Blindness, Fault, refusal};
use super::invariants::{By, Invariant, Violation, Witness, broken};
use super::line::Waiting;
use super::operator::{News, Operator, Part, Subject, Watched};
use super::scenario::Scenario;
use super::texts::Texts;
use super::{AT_MOST, EPOCH};
use crate::server::call::Call;
use crate::server::kinds::id;
use crate::server::object;
use crate::server::players;
use crate::server::world::World;

/// The faults of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Faults of requests, by the number of the request.
    pub faults: BTreeMap<usize, Fault>,
    /// Faults of watch events, by the number of the event.
    pub blind: BTreeMap<usize, Blindness>,
    /// The number of writes that the view of a new operator process misses.
    pub behind: u64,
    /// The request before which the interruption of the story occurs.
    pub interrupt: Option<usize>,
    /// The change of leader, while the first process is paused.
    pub hand_over: Option<HandOver>,
    /// The seed for the order of moves and for more faults.
    pub seed: Option<u64>,
}

/// Another process becomes leader. The former leader was paused and continues without knowledge of this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandOver {
    /// The request after whose answer the process is paused. Its sent requests take effect when the other already
    /// leads.
    pub after: usize,
    /// The number of requests of the other process before the first one continues.
    pub back_after: usize,
}

/// The time without a leader.
const LEASE: SignedDuration = SignedDuration::from_secs(15);

/// The result of a run.
pub struct End {
    /// The final state of the cluster.
    pub world: World,
    /// The requests of the operators, each with the version of the cluster before it.
    pub calls: Vec<(Call, u64)>,
    /// The number of watch events.
    pub news: usize,
    /// The number of moves.
    pub moves: usize,
    pub violation: Option<Violation>,
    /// The moves, line by line, if the caller requested them.
    pub story: Vec<String>,
}

#[derive(Clone, Debug)]
enum Move {
    /// The user does the next step.
    Person,
    /// A late request takes effect.
    Late(usize),
    /// A request reaches the server.
    Request(usize),
    /// A watch delivers an event.
    News(usize, Watched),
    /// A reconcile starts.
    Look(usize, Subject),
    /// A player acts.
    Player(players::Step),
}

/// A request of an operator.
struct Sent {
    from: usize,
    waiting: Waiting,
}

pub struct Run<'a> {
    scenario: &'a Scenario,
    plan: Plan,
    world: World,
    clock: Clock,
    began: Instant,
    waker: Waker,
    operators: Vec<Operator>,
    sent: Vec<Sent>,
    /// Late requests without an answer, and the times of their effects.
    late: Vec<(Timestamp, Call, By)>,
    /// Watches that are held back, until a move and a time.
    held: BTreeMap<(usize, Watched), Held>,
    /// Requests without an answer.
    hanging: Vec<Waiting>,
    calls: Vec<(Call, u64)>,
    news: usize,
    moves: usize,
    /// The number of completed steps.
    told: usize,
    interrupted: bool,
    /// The time when the other process becomes leader.
    leads_at: Option<Timestamp>,
    /// The request after which the first process continues.
    back_at: Option<usize>,
    chance: Option<Chance>,
    faults_left: usize,
    witness: Witness,
    /// The version up to which the witness has checked all events.
    witnessed: u64,
    /// The time of the last change, and the number of requests up to then.
    changed_at: Timestamp,
    calls_then: usize,
    story: Option<Vec<String>>,
    texts: Texts,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    moves: usize,
    until: Timestamp,
    relist: bool,
}

/// Runs a story to its end.
pub fn run(scenario: &Scenario, plan: &Plan, tell: bool) -> End {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let waker = poll_fn(|context| Poll::Ready(context.waker().clone())).await;
        Run::begin(scenario, plan.clone(), waker, tell).finish().await
    })
}

impl<'a> Run<'a> {
    fn begin(scenario: &'a Scenario, plan: Plan, waker: Waker, tell: bool) -> Self {
        let began = Instant::now();
        let clock = Clock::new(move || at(began.elapsed()));
        let world = scenario.world();
        let witnessed = world.store().version();
        let mut run = Self {
            chance: plan.seed.map(Chance::of),
            faults_left: plan.seed.map_or(0, |seed| usize::try_from(seed % 4).unwrap_or(0)),
            scenario,
            witness: Witness::default(),
            plan,
            world,
            clock,
            began,
            waker,
            operators: Vec::new(),
            sent: Vec::new(),
            late: Vec::new(),
            held: BTreeMap::new(),
            hanging: Vec::new(),
            calls: Vec::new(),
            news: 0,
            moves: 0,
            told: 0,
            interrupted: false,
            leads_at: None,
            back_at: None,
            witnessed,
            changed_at: EPOCH,
            calls_then: 0,
            story: tell.then(Vec::new),
            texts: Texts::default(),
        };
        run.operators.push(run.process(0, Part::Leads, witnessed));
        if run.plan.hand_over.is_some() {
            run.operators.push(run.process(1, Part::StandsBy, witnessed));
        }
        run
    }

    /// A new process of the operator.
    fn process(&self, number: usize, part: Part, version: u64) -> Operator {
        let name = if number == 0 { "operator".to_owned() } else { format!("operator {}", number + 1) };
        Operator::start(&name, part, &self.world, self.clock.clone(), version)
    }

    fn now(&self) -> Timestamp {
        at(self.began.elapsed())
    }

    fn tell(&mut self, what: impl FnOnce() -> String) {
        if self.story.is_some() {
            let after = self.now().duration_since(EPOCH);
            let line = format!("{:>9.3} s  {}", after.as_secs_f64(), what());
            self.story.iter_mut().for_each(|story| story.push(line.clone()));
        }
    }

    async fn finish(mut self) -> End {
        let violation = match self.all_moves().await {
            Ok(()) => self.at_rest().err(),
            Err(violation) => Some(violation),
        };
        let Self { world, calls, news, moves, story, .. } = self;
        End { world, calls, news, moves, violation, story: story.unwrap_or_default() }
    }

    async fn all_moves(&mut self) -> Result<(), Violation> {
        loop {
            self.settle().await?;
            self.moves += 1;
            if self.moves > AT_MOST {
                return Err(broken(Invariant::NoHotLoop, format!("{AT_MOST} moves, and no end")));
            }
            match self.next_move() {
                Some(next) => {
                    self.make(next)?;
                    self.see_what_happened(By::Others)?;
                }
                None if self.pass_time().await => {}
                // The run had fewer requests than the planned number.
                None if self.is_interrupted_later() => self.interrupt()?,
                None => return Ok(()),
            }
        }
    }

    /// Continues every reconcile until each waits for an answer.
    async fn settle(&mut self) -> Result<(), Violation> {
        loop {
            let mut went_on = false;
            for number in 0..self.operators.len() {
                if self.operators[number].can_go_on() {
                    went_on = true;
                    let now = self.now();
                    for said in self.operators[number].go_on(now) {
                        self.tell(|| said);
                    }
                }
            }
            if !went_on {
                // The task of the client runs during this yield.
                tokio::task::yield_now().await;
                if !self.operators.iter().any(Operator::can_go_on) {
                    break;
                }
            }
        }
        for number in 0..self.operators.len() {
            for waiting in self.operators[number].line.take() {
                self.witness.sent(&waiting.call)?;
                self.sent.push(Sent { from: number, waiting });
            }
        }
        Ok(())
    }

    /// The next move; `None`: only time can pass.
    fn next_move(&mut self) -> Option<Move> {
        if self.chance.is_some() {
            return self.any_move();
        }
        let now = self.now();
        if self.person_may() {
            return Some(Move::Person);
        }
        if let Some(due) = self.late.iter().position(|(at, ..)| *at <= now) {
            return Some(Move::Late(due));
        }
        if !self.sent.is_empty() {
            return Some(Move::Request(0));
        }
        for number in 0..self.operators.len() {
            for watched in Watched::ALL {
                if !self.is_held(number, watched)
                    && self.operators[number].news(watched, &self.world).is_some()
                {
                    return Some(Move::News(number, watched));
                }
            }
        }
        for (number, operator) in self.operators.iter().enumerate() {
            if let Some(subject) = operator.startable().next() {
                return Some(Move::Look(number, subject.clone()));
            }
        }
        let step = players::steps(&self.world).into_iter().next()?;
        Some(Move::Player(step))
    }

    /// A random move.
    fn any_move(&mut self) -> Option<Move> {
        let now = self.now();
        let mut all = Vec::new();
        if self.person_may() {
            all.push(Move::Person);
        }
        all.extend(
            self.late.iter().enumerate().filter(|(_, (at, ..))| *at <= now).map(|(due, _)| Move::Late(due)),
        );
        all.extend((0..self.sent.len()).map(Move::Request));
        for number in 0..self.operators.len() {
            for watched in Watched::ALL {
                if self.operators[number].news(watched, &self.world).is_some() {
                    all.push(Move::News(number, watched));
                }
            }
            all.extend(self.operators[number].startable().map(|subject| Move::Look(number, subject.clone())));
        }
        all.extend(players::steps(&self.world).into_iter().map(Move::Player));
        let chance = self.chance.as_mut()?;
        if all.is_empty() { None } else { Some(all.swap_remove(chance.below(all.len()))) }
    }

    fn person_may(&self) -> bool {
        self.scenario.step(self.told).is_some_and(|step| step.may_begin(&self.world))
    }

    fn is_held(&mut self, number: usize, watched: Watched) -> bool {
        let Some(held) = self.held.get(&(number, watched)).copied() else { return false };
        let waits = self.moves < held.moves || self.now() < held.until;
        if !waits {
            self.held.remove(&(number, watched));
            if held.relist {
                let version = self.world.store().version();
                let name = self.operators[number].name.clone();
                self.tell(|| format!("{name}: the watch of {watched:?} lists anew"));
                self.operators[number].relist(watched, &self.world, version);
            }
        }
        waits
    }

    fn make(&mut self, next: Move) -> Result<(), Violation> {
        self.world.now = self.now();
        match next {
            Move::Person => {
                let step = self.scenario.step(self.told).expect("a step");
                self.told += 1;
                self.tell(|| step.told.clone());
                step.act(&mut self.world);
                Ok(())
            }
            Move::Late(due) => {
                let (_, call, by) = self.late.remove(due);
                let answer = self.world.handle(&call);
                self.tell(|| format!("late: {call} takes effect ({})", answer.code));
                self.see_what_happened(by)
            }
            Move::Request(place) => self.pass(place),
            Move::News(number, watched) => {
                self.bring(number, watched);
                Ok(())
            }
            Move::Look(number, subject) => {
                let name = self.operators[number].name.clone();
                self.tell(|| format!("{name}: looks at {subject}"));
                self.operators[number].look(&subject, &self.waker);
                Ok(())
            }
            Move::Player(step) => {
                self.tell(|| step.to_string());
                players::take(&mut self.world, &step);
                Ok(())
            }
        }
    }

    /// Passes a request to the server, or applies its fault.
    fn pass(&mut self, place: usize) -> Result<(), Violation> {
        let number = self.calls.len() + 1;
        if self.plan.interrupt == Some(number) && self.is_interrupted_later() {
            return self.interrupt();
        }
        if self.back_at.is_some_and(|back| back <= number) {
            self.goes_on();
        }
        let Sent { from, waiting } = self.sent.remove(place);
        self.calls.push((waiting.call.clone(), self.world.store().version()));
        let fault = self.fault(number, &waiting.call);
        let by = By::Operator { knew: self.operators[from].knew(), ended: false };
        let name = self.operators[from].name.clone();
        let call = waiting.call.clone();
        if let Some(fault) = fault {
            self.tell(|| format!("{name}: {call}  [request {number}: {fault}]"));
        }
        let takes_effect =
            matches!(fault, None | Some(Fault::CrashAfter | Fault::TimeoutAfter | Fault::ResetAfter));
        let answer = takes_effect.then(|| self.world.handle(&call));
        if fault.is_none()
            && let Some(answer) = &answer
        {
            self.tell(|| format!("{name}: {call} -> {}", answer.code));
        }
        match fault {
            None => waiting.answer(Ok(self.texts.response(answer.expect("an answer")))),
            Some(Fault::Refused(code)) => waiting.answer(Ok(self.texts.response(refusal(&call, code)))),
            Some(Fault::TimeoutAfter) => waiting.answer(Ok(self.texts.response(refusal(&call, 504)))),
            Some(Fault::ResetBefore | Fault::ResetAfter) => waiting.answer(Err("connection reset by peer")),
            Some(Fault::CrashBefore | Fault::CrashAfter) => {}
            Some(Fault::Late(seconds) | Fault::CrashThenLate(seconds)) => {
                let at = self.now() + SignedDuration::from_secs(seconds.into());
                let ended = fault.is_some_and(Fault::kills);
                let by = By::Operator { knew: self.operators[from].knew(), ended };
                self.late.push((at, call, by));
                if matches!(fault, Some(Fault::Late(_))) {
                    // The hanging request has no answer: the client times out.
                    self.hanging.push(waiting);
                }
            }
        }
        self.see_what_happened(by)?;
        if fault.is_some_and(Fault::kills) {
            self.restart(from);
        }
        if let Some(hand_over) = self.plan.hand_over.filter(|hand_over| hand_over.after == number) {
            self.pause();
            self.back_at = Some(number + hand_over.back_after);
        }
        Ok(())
    }

    /// Whether the interruption is still to come.
    fn is_interrupted_later(&self) -> bool {
        self.plan.interrupt.is_some() && !self.interrupted
    }

    /// Executes the interruption.
    fn interrupt(&mut self) -> Result<(), Violation> {
        self.interrupted = true;
        let Some(step) = &self.scenario.interruption else { return Ok(()) };
        self.tell(|| step.told.clone());
        self.world.now = self.now();
        step.act(&mut self.world);
        self.see_what_happened(By::Others)
    }

    /// Pauses the first process. Its sent requests take effect when the other process already leads.
    fn pause(&mut self) {
        let (at, by) = (self.now() + LEASE, By::Operator { knew: self.operators[0].knew(), ended: true });
        self.operators[0].pause();
        self.leads_at = Some(at);
        let (sent, others) = std::mem::take(&mut self.sent).into_iter().partition(|sent| sent.from == 0);
        self.sent = others;
        for Sent { waiting, .. } in sent {
            self.late.push((at + SignedDuration::from_secs(1), waiting.call.clone(), by));
            self.hanging.push(waiting);
        }
        self.tell(|| "operator: is paused".into());
    }

    /// The paused process continues its reconciles.
    fn goes_on(&mut self) {
        self.back_at = None;
        if self.operators[0].part == Part::Paused {
            self.operators[0].part = Part::Ends;
            self.tell(|| "operator: goes on".into());
        }
    }

    /// The other process becomes leader, if the time has come.
    fn hands_over(&mut self) {
        let now = self.now();
        if self.leads_at.is_some_and(|at| at <= now) && self.operators[1].part == Part::StandsBy {
            self.tell(|| "operator 2: leads".into());
            self.operators[1].lead(&self.world);
        }
    }

    /// The fault of this request.
    fn fault(&mut self, number: usize, call: &Call) -> Option<Fault> {
        if let Some(fault) = self.plan.faults.get(&number) {
            return Some(*fault);
        }
        let chance = self.chance.as_mut()?;
        if self.faults_left == 0 || !chance.once_in(20) {
            return None;
        }
        self.faults_left -= 1;
        Some(chance.one_of(&Fault::of(call)))
    }

    /// Replaces the process by a new one.
    fn restart(&mut self, number: usize) {
        self.sent.retain(|sent| sent.from != number);
        self.held.retain(|(of, _), _| *of != number);
        let version =
            self.world.store().version().saturating_sub(self.plan.behind).max(self.scenario.begins_at());
        // A former leader restarts as standby, because another process leads.
        let part = match self.operators[number].part {
            Part::Leads => Part::Leads,
            Part::StandsBy | Part::Paused | Part::Ends => Part::StandsBy,
        };
        self.operators[number] = self.process(number, part, version);
        let name = self.operators[number].name.clone();
        let behind = self.plan.behind;
        self.tell(|| match behind {
            0 => format!("{name}: starts anew"),
            behind => format!("{name}: starts anew, {behind} writes behind"),
        });
        if behind > 0 {
            for watched in Watched::ALL {
                self.held
                    .insert((number, watched), Held { moves: self.moves + 12, until: EPOCH, relist: false });
            }
        }
    }

    fn bring(&mut self, number: usize, watched: Watched) {
        let Some((version, news)) = self.operators[number].news(watched, &self.world) else { return };
        self.news += 1;
        let now = self.now();
        let held = |moves: usize, seconds: u8, relist| Held {
            moves: self.moves + moves,
            until: now + SignedDuration::from_secs(seconds.into()),
            relist,
        };
        let name = &self.operators[number].name;
        let what = match &news {
            News::Apply(object) => format!("{name}: sees {watched:?} {} at {version}", object::name(object)),
            News::Delete(object) => format!("{name}: sees {watched:?} {} gone", object::name(object)),
        };
        match self.plan.blind.get(&self.news).copied() {
            None => {
                self.tell(|| what);
                self.operators[number].deliver(watched, version, &news);
            }
            Some(blindness) => {
                let held = match blindness {
                    Blindness::Late(moves) => held(moves.into(), 0, false),
                    Blindness::LateBy(seconds) => held(0, seconds, false),
                    Blindness::Lost(seconds) => {
                        self.operators[number].pass_over(watched, version);
                        held(0, seconds, true)
                    }
                };
                self.held.insert((number, watched), held);
                self.tell(|| format!("{what}  [news {blindness}]"));
            }
        }
    }

    /// Checks the invariants for all events since the last call.
    fn see_what_happened(&mut self, by: By) -> Result<(), Violation> {
        if self.world.store().version() == self.witnessed {
            return Ok(());
        }
        let (world, now) = (&self.world, self.now());
        for event in world.store().since(self.witnessed) {
            if event.key.kind != id::EVENT {
                (self.changed_at, self.calls_then) = (now, self.calls.len());
            }
            self.witness.see(world, event, by)?;
        }
        self.witnessed = world.store().version();
        Ok(())
    }

    /// Advances the time until a move is possible. The result tells whether one is.
    async fn pass_time(&mut self) -> bool {
        let now = self.now();
        let timers = self.operators.iter().filter_map(Operator::next_timer);
        let late = self.late.iter().map(|(at, ..)| *at);
        let held = self.held.values().map(|held| held.until.max(now));
        let leads = self.leads_at.filter(|at| *at > now);
        let next = timers.chain(late).chain(held).chain(leads).min();
        let busy = self.operators.iter().any(Operator::is_busy);
        // A delay in moves ends before time passes.
        let mut due = false;
        for held in self.held.values_mut().filter(|held| held.until <= now) {
            (held.moves, due) = (0, true);
        }
        if due {
            return true;
        }
        let far = next.is_none_or(|next| next.duration_since(now) > super::AT_REST_AFTER);
        if now.duration_since(self.changed_at) > super::AT_REST_AFTER || (far && !busy) {
            return false;
        }
        let operators = &self.operators;
        let woken =
            poll_fn(
                |_| {
                    if operators.iter().any(Operator::can_go_on) { Poll::Ready(()) } else { Poll::Pending }
                },
            );
        match next {
            Some(next) => {
                let until = Duration::try_from(next.duration_since(EPOCH)).unwrap_or_default();
                tokio::select! {
                    biased;
                    () = woken => {}
                    () = tokio::time::sleep_until(self.began + until) => {}
                }
            }
            None => woken.await,
        }
        let now = self.now();
        self.operators.iter_mut().for_each(|operator| operator.ring(now));
        self.hands_over();
        true
    }

    /// Checks the invariants that must hold at rest.
    fn at_rest(&mut self) -> Result<(), Violation> {
        if let Some(step) = self.scenario.step(self.told) {
            return Err(broken(Invariant::EventuallyStable, format!("it never came to this: {}", step.told)));
        }
        if let Some(going) = self.witness.still_going(&self.world).first() {
            return Err(broken(Invariant::DeletionTerminates, format!("{going} is still there")));
        }
        if let Some(left) = self.witness.leaked(&self.world).first() {
            return Err(broken(Invariant::NoLeak, format!("{left} is there, and its owner is gone")));
        }
        self.idle_is_free()?;
        self.scenario.others_are_untouched(&self.world)?;
        self.scenario.must_end(&self.world)
    }
}

impl Run<'_> {
    /// I7 and I11. The operator sends no requests at rest; with a permanent failure, requests become less and less
    /// frequent.
    fn idle_is_free(&self) -> Result<(), Violation> {
        let since = self.calls.len() - self.calls_then;
        let failing = self.operators.iter().any(Operator::is_failing);
        // A few requests verify that no work is left. With a failure, each attempt has as many.
        let (invariant, bound) =
            if failing { (Invariant::NoHotLoop, 600) } else { (Invariant::IdleIsFree, 40) };
        if since <= bound {
            Ok(())
        } else {
            Err(broken(invariant, format!("{since} requests, and nothing changed")))
        }
    }
}

fn at(elapsed: Duration) -> Timestamp {
    EPOCH + SignedDuration::try_from(elapsed).unwrap_or(SignedDuration::MAX)
}
