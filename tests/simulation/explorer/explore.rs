//! Everything that can go wrong in a story, one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::fault::{Blindness, Fault};
use super::invariants::{Invariant, Violation, broken};
use super::normal::{differences, normal_form};
use super::run::{End, HandOver, Plan, run};
use super::scenario::Scenario;
use crate::server::call::Call;

/// How much was looked at.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Runs.
    pub runs: usize,
    /// Moves in all of them.
    pub moves: usize,
    /// Requests in all of them.
    pub calls: usize,
    /// Different ends.
    pub ends: BTreeSet<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, moves, calls, ends } = self;
        write!(f, "{runs} runs, {calls} requests, {moves} states, {} different ends", ends.len())
    }
}

/// Something that does not hold, and how it came to that.
pub struct Found {
    /// What went wrong.
    pub plan: Plan,
    /// What does not hold.
    pub violation: Violation,
    /// How long the way to it is.
    pub moves: usize,
    story: &'static str,
    told: Vec<String>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.violation.invariant, self.violation.why)?;
        writeln!(f, "in the story \"{}\", with {:?}", self.story, self.plan)?;
        self.told.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{self}")
    }
}

/// Runs of one story.
pub struct Explorer<'a> {
    scenario: &'a Scenario,
    /// How it ends when nothing goes wrong.
    reference: Option<BTreeMap<String, Value>>,
    until: Option<Instant>,
    /// What of all that can go wrong with a request is tried.
    tries: fn(Fault, &Call) -> bool,
    /// Go on after something was found, to find the shortest way to it.
    thorough: bool,
    found: Option<Found>,
    /// What was looked at.
    pub report: Report,
}

impl<'a> Explorer<'a> {
    /// Of a story.
    pub fn of(scenario: &'a Scenario) -> Self {
        Self {
            scenario,
            reference: None,
            until: None,
            tries: |_, _| true,
            thorough: false,
            found: None,
            report: Report::default(),
        }
    }

    /// Ends after so much time, whatever is left to look at.
    pub fn within(mut self, time: Duration) -> Self {
        self.until = Some(Instant::now() + time);
        self
    }

    /// Tries only some of what can go wrong with a request.
    pub fn tries(&mut self, tries: fn(Fault, &Call) -> bool) {
        self.tries = tries;
    }

    /// Looks for the shortest way to what it finds.
    #[cfg(feature = "mutations")]
    pub fn thorough(mut self) -> Self {
        self.thorough = true;
        self
    }

    /// What was found.
    pub fn found(self) -> Result<Report, Box<Found>> {
        self.found.map_or(Ok(self.report), |found| Err(Box::new(found)))
    }

    fn is_over(&self) -> bool {
        (self.found.is_some() && !self.thorough) || self.until.is_some_and(|until| Instant::now() > until)
    }

    /// One run; `None` where it broke an invariant.
    fn try_plan(&mut self, plan: &Plan) -> Option<End> {
        let mut end = run(self.scenario, plan, false);
        self.report.runs += 1;
        self.report.moves += end.moves;
        self.report.calls += end.calls.len();
        if end.violation.is_none() {
            end.violation = self.compare(&end);
        }
        match end.violation.take() {
            None => Some(end),
            Some(violation) => {
                if self.found.as_ref().is_none_or(|found| end.moves < found.moves) {
                    let told = run(self.scenario, plan, true).story;
                    let (plan, story) = (plan.clone(), self.scenario.name);
                    self.found = Some(Found { plan, violation, moves: end.moves, story, told });
                }
                None
            }
        }
    }

    /// I8. The end is the one of the run in which nothing went wrong.
    fn compare(&mut self, end: &End) -> Option<Violation> {
        let form = normal_form(&end.world);
        self.report.ends.insert(serde_json::to_string(&form).expect("JSON"));
        if !self.scenario.always_ends_alike() {
            return None;
        }
        let Some(reference) = &self.reference else {
            self.reference = Some(form);
            return None;
        };
        let differ = differences(reference, &form);
        (!differ.is_empty()).then(|| broken(Invariant::EventuallyStable, differ.join("\n    ")))
    }

    /// Nothing goes wrong. What comes in between comes before anything has happened.
    fn base(&self) -> Plan {
        Plan { interrupt: self.interrupted_at(1), ..Plan::default() }
    }

    /// Before which request the story is interrupted, if it can be.
    fn interrupted_at(&self, number: usize) -> Option<usize> {
        self.scenario.interruption.is_some().then_some(number)
    }

    /// The run in which nothing goes wrong.
    pub fn reference(&mut self) -> Option<End> {
        self.try_plan(&self.base())
    }

    /// The run in which nothing goes wrong, twice: it is the same. It is told, if that is wished.
    pub fn told(&mut self, tell: bool) {
        let (Some(one), Some(other)) = (self.reference(), self.reference()) else { return };
        // An event is named after the machine's time.
        let plain = |text: &str| text.split_once(" events ").map_or(text, |(verb, _)| verb).to_owned();
        let said = |end: &End| end.calls.iter().map(|(call, _)| plain(&call.to_string())).collect::<Vec<_>>();
        assert_eq!(said(&one), said(&other), "a run cannot be told again");
        if tell {
            let story = run(self.scenario, &self.base(), true).story;
            super::tests::say(&format!("{}:\n  {}", self.scenario.name, story.join("\n  ")));
        }
    }

    /// What is tried of all that can go wrong with the requests of a run after so many, each by its number. A read
    /// that meets a cluster that it has met before is asked in vain once more: what fails there failed before. A
    /// process that is killed when nothing has happened since it could have been is killed there.
    fn faults(&self, end: &End, after: usize) -> Vec<(usize, Fault)> {
        let mut met = BTreeSet::new();
        let mut killed_at = None;
        let mut all = Vec::new();
        for (place, (call, version)) in end.calls.iter().enumerate().skip(after) {
            let of = if call.resource == "events" { Fault::of_a_word() } else { Fault::of(call) };
            let again = !call.is_write() && !met.insert((call.to_string(), *version));
            let known = |fault: &Fault| match fault {
                Fault::CrashBefore => killed_at == Some(*version),
                _ => again,
            };
            let tried = of.into_iter().filter(|fault| !known(fault) && (self.tries)(*fault, call));
            all.extend(tried.map(|fault| (place + 1, fault)));
            killed_at = Some(version + u64::from(call.is_write()));
        }
        all
    }

    /// Every request of the story, with everything that can go wrong with it.
    pub fn every_crash_point(&mut self) {
        if self.scenario.interruption.is_some() {
            // Told again for every moment that it may come in.
            return;
        }
        let Some(reference) = self.reference() else { return };
        for (number, fault) in self.faults(&reference, 0) {
            if self.is_over() {
                return;
            }
            self.try_plan(&Plan { faults: BTreeMap::from([(number, fault)]), ..self.base() });
        }
    }

    /// The story interrupted before every request, and what can go wrong with that request.
    pub fn every_interruption(&mut self) {
        if self.scenario.interruption.is_none() {
            return;
        }
        let uninterrupted = run(self.scenario, &Plan::default(), false);
        for number in 1..=uninterrupted.calls.len() {
            let plan = Plan { interrupt: Some(number), ..Plan::default() };
            let Some(end) = self.try_plan(&plan) else {
                if self.is_over() {
                    return;
                }
                continue;
            };
            for (at, fault) in self.faults(&end, number - 1).into_iter().filter(|(at, _)| *at == number) {
                if self.is_over() {
                    return;
                }
                self.try_plan(&Plan { faults: BTreeMap::from([(at, fault)]), ..plan.clone() });
            }
        }
    }

    /// All that watches bring, each held back or lost; and processes that begin with an older view.
    pub fn every_stale_view(&mut self) {
        let Some(reference) = self.reference() else { return };
        for number in 1..=reference.news {
            for blindness in BLINDNESS {
                if self.is_over() {
                    return;
                }
                self.try_plan(&Plan { blind: BTreeMap::from([(number, blindness)]), ..self.base() });
            }
        }
        for number in 1..=reference.calls.len() {
            for behind in [1, 3, 9, 27] {
                if self.is_over() {
                    return;
                }
                let faults = BTreeMap::from([(number, Fault::CrashAfter)]);
                self.try_plan(&Plan { faults, behind, ..self.base() });
            }
        }
    }

    /// Before every write the operator is paused, with the answer to what it read last; another leads after a while, and the
    /// first goes on at once or when the other has done something: it must do no harm. What comes in between comes
    /// while it is paused.
    pub fn every_hand_over(&mut self) {
        let Some(_) = self.reference() else { return };
        let undisturbed = run(self.scenario, &Plan::default(), false);
        let writes = undisturbed.calls.iter().enumerate().filter(|(_, (call, _))| call.is_write());
        // The number of the request before it.
        for after in writes.map(|(place, _)| place) {
            for back_after in [1, 12, 48] {
                if self.is_over() {
                    return;
                }
                let hand_over = Some(HandOver { after, back_after });
                let interrupt = self.interrupted_at(after + 1);
                self.try_plan(&Plan { interrupt, hand_over, ..Plan::default() });
            }
        }
    }

    /// Moves in any order, with faults at any place, as each seed draws them; and if it is wished another takes over at
    /// some moment.
    pub fn any_order(&mut self, seeds: impl IntoIterator<Item = u64>, in_turn: bool) {
        let Some(reference) = self.reference() else { return };
        for seed in seeds {
            if self.is_over() {
                return;
            }
            let number = usize::try_from(seed).unwrap_or(0);
            let moment = |step: usize| number * step % reference.calls.len().max(1) + 1;
            let interrupt = self.interrupted_at(moment(1));
            let hand_over = in_turn.then(|| HandOver { after: moment(7), back_after: 1 + number % 40 });
            self.try_plan(&Plan { interrupt, hand_over, seed: Some(seed), ..Plan::default() });
        }
    }

    /// Every two requests of the story, with everything that can go wrong with both.
    pub fn every_pair(&mut self) {
        let Some(reference) = self.reference() else { return };
        for (number, fault) in self.faults(&reference, 0) {
            let one = Plan { faults: BTreeMap::from([(number, fault)]), ..self.base() };
            let Some(end) = self.try_plan(&one) else { continue };
            for (next, second) in self.faults(&end, number) {
                if self.is_over() {
                    return;
                }
                let mut two = one.clone();
                two.faults.insert(next, second);
                self.try_plan(&two);
            }
        }
    }
}

/// How news is held back or lost.
const BLINDNESS: [Blindness; 7] = [
    Blindness::Late(1),
    Blindness::Late(2),
    Blindness::Late(4),
    Blindness::Late(16),
    Blindness::LateBy(3),
    Blindness::LateBy(30),
    Blindness::Lost(30),
];
