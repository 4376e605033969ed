//! One run: a story told to its end, in virtual time, with everything that goes wrong in it.
//!
//! At every moment there are moves: a person does the next thing of the story, a request passes the line, a watch
//! brings news, a look begins, a player moves, time passes. Which comes first is fixed, or drawn from a seed; so
//! a run can be told again, move by move.

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

/// What goes wrong in a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// What goes wrong with a request, by its number.
    pub faults: BTreeMap<usize, Fault>,
    /// What goes wrong with news, by its number.
    pub blind: BTreeMap<usize, Blindness>,
    /// By how many writes the view of an operator that starts anew lies behind.
    pub behind: u64,
    /// Before which request the story is interrupted, if it can be.
    pub interrupt: Option<usize>,
    /// When another takes over while the first is paused.
    pub hand_over: Option<HandOver>,
    /// Where the order of moves, and more faults, are drawn from.
    pub seed: Option<u64>,
}

/// Another leads, and the one before, which was paused, goes on without knowing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandOver {
    /// After which request it is paused, with the answer. What it has sent takes effect when the other leads already.
    pub after: usize,
    /// After how many requests of the other it goes on.
    pub back_after: usize,
}

/// How long nobody leads then.
const LEASE: SignedDuration = SignedDuration::from_secs(15);

/// What came of a run.
pub struct End {
    /// The cluster as it is then.
    pub world: World,
    /// Requests that operators sent, and the version of the cluster that each met.
    pub calls: Vec<(Call, u64)>,
    /// News that watches brought.
    pub news: usize,
    /// Moves that were made.
    pub moves: usize,
    /// What did not hold.
    pub violation: Option<Violation>,
    /// What happened, line by line, if it was to be told.
    pub story: Vec<String>,
}

/// A move.
#[derive(Clone, Debug)]
enum Move {
    /// A person does the next thing.
    Person,
    /// A request that came late takes effect.
    Late(usize),
    /// A request passes the line.
    Request(usize),
    /// A watch brings news.
    News(usize, Watched),
    /// A look begins.
    Look(usize, Subject),
    /// A player moves.
    Player(players::Step),
}

/// A request of an operator.
struct Sent {
    from: usize,
    waiting: Waiting,
}

/// A run.
pub struct Run<'a> {
    scenario: &'a Scenario,
    plan: Plan,
    world: World,
    clock: Clock,
    began: Instant,
    waker: Waker,
    operators: Vec<Operator>,
    sent: Vec<Sent>,
    /// Requests of which no answer goes anywhere, and when they take effect.
    late: Vec<(Timestamp, Call, By)>,
    /// Watches that are held back: until which move, and until when.
    held: BTreeMap<(usize, Watched), Held>,
    /// Requests that nobody answers.
    hanging: Vec<Waiting>,
    calls: Vec<(Call, u64)>,
    news: usize,
    moves: usize,
    /// How far the story is.
    told: usize,
    interrupted: bool,
    /// When the other leads.
    leads_at: Option<Timestamp>,
    /// After which request the first goes on.
    back_at: Option<usize>,
    chance: Option<Chance>,
    faults_left: usize,
    witness: Witness,
    /// Up to which version the witness has seen everything.
    witnessed: u64,
    /// When something last happened, and how many requests there had been by then.
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

/// Tells a story to its end.
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

    /// A process of the operator that has just begun.
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
                // There were fewer requests than it takes to come to it.
                None if self.is_interrupted_later() => self.interrupt()?,
                None => return Ok(()),
            }
        }
    }

    /// Lets every look that can go on do so, until all wait.
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
                // The client's own task runs while we wait for a turn.
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

    /// What happens next; `None`: nothing, unless time passes.
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

    /// Any move that can be made, by chance.
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

    /// A request passes the line, or what was to go wrong with it does.
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
        let by = By::Operator { knew: self.operators[from].knew() };
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
                self.late.push((at, call, by));
                if matches!(fault, Some(Fault::Late(_))) {
                    // Nobody answers: the client gives up by itself.
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

    /// Whether something is to come in between, and has not.
    fn is_interrupted_later(&self) -> bool {
        self.plan.interrupt.is_some() && !self.interrupted
    }

    /// What comes in between does.
    fn interrupt(&mut self) -> Result<(), Violation> {
        self.interrupted = true;
        let Some(step) = &self.scenario.interruption else { return Ok(()) };
        self.tell(|| step.told.clone());
        self.world.now = self.now();
        step.act(&mut self.world);
        self.see_what_happened(By::Others)
    }

    /// The first is paused. What it has sent arrives when the other leads.
    fn pause(&mut self) {
        let (at, by) = (self.now() + LEASE, By::Operator { knew: self.operators[0].knew() });
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

    /// The one that was paused goes on with what it was at.
    fn goes_on(&mut self) {
        self.back_at = None;
        if self.operators[0].part == Part::Paused {
            self.operators[0].part = Part::Ends;
            self.tell(|| "operator: goes on".into());
        }
    }

    /// The other leads, if it is time.
    fn hands_over(&mut self) {
        let now = self.now();
        if self.leads_at.is_some_and(|at| at <= now) && self.operators[1].part == Part::StandsBy {
            self.tell(|| "operator 2: leads".into());
            self.operators[1].lead(&self.world);
        }
    }

    /// What goes wrong with this request.
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

    /// The process is gone, and another one begins.
    fn restart(&mut self, number: usize) {
        self.sent.retain(|sent| sent.from != number);
        self.held.retain(|(of, _), _| *of != number);
        let version =
            self.world.store().version().saturating_sub(self.plan.behind).max(self.scenario.begins_at());
        // Whoever has led before stands by: somebody else leads.
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

    /// Asks every invariant about everything that happened since it was asked last.
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

    /// Lets time pass until something can happen. Whether anything can.
    async fn pass_time(&mut self) -> bool {
        let now = self.now();
        let timers = self.operators.iter().filter_map(Operator::next_timer);
        let late = self.late.iter().map(|(at, ..)| *at);
        let held = self.held.values().map(|held| held.until.max(now));
        let leads = self.leads_at.filter(|at| *at > now);
        let next = timers.chain(late).chain(held).chain(leads).min();
        let busy = self.operators.iter().any(Operator::is_busy);
        // What is held back for some moves only is brought before time passes.
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

    /// What must hold when nothing happens any more.
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
    /// I7 and I11. Nothing is asked any more; or, where something fails for good, ever more rarely.
    fn idle_is_free(&self) -> Result<(), Violation> {
        let since = self.calls.len() - self.calls_then;
        let failing = self.operators.iter().any(Operator::is_failing);
        // A few requests to see that nothing is to be done; with a failure, so many for each attempt.
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
