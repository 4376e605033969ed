//! Runs a story repeatedly, each time with another fault.

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

/// The amount of work of an exploration.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Runs.
    pub runs: usize,
    /// Moves in all runs.
    pub moves: usize,
    /// Requests in all runs.
    pub calls: usize,
    /// Different final states.
    pub ends: BTreeSet<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, moves, calls, ends } = self;
        write!(f, "{runs} runs, {calls} requests, {moves} states, {} different ends", ends.len())
    }
}

/// A violation and the plan that leads to it.
pub struct Found {
    pub plan: Plan,
    pub violation: Violation,
    /// The number of moves before the violation.
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

/// The runs of one story.
pub struct Explorer<'a> {
    scenario: &'a Scenario,
    /// The final state without faults.
    reference: Option<BTreeMap<String, Value>>,
    until: Option<Instant>,
    /// Selects the faults to run for a request.
    tries: fn(Fault, &Call) -> bool,
    /// Continue after a violation, to find the plan with the fewest moves.
    thorough: bool,
    found: Option<Found>,
    pub report: Report,
}

impl<'a> Explorer<'a> {
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

    /// Stops after this time, even if runs are left.
    pub fn within(mut self, time: Duration) -> Self {
        self.until = Some(Instant::now() + time);
        self
    }

    /// Limits the faults to those that the function accepts.
    pub fn tries(&mut self, tries: fn(Fault, &Call) -> bool) {
        self.tries = tries;
    }

    /// Searches for the violation with the fewest moves.
    #[cfg(feature = "mutations")]
    pub fn thorough(mut self) -> Self {
        self.thorough = true;
        self
    }

    /// The report, or the violation.
    pub fn found(self) -> Result<Report, Box<Found>> {
        self.found.map_or(Ok(self.report), |found| Err(Box::new(found)))
    }

    fn is_over(&self) -> bool {
        (self.found.is_some() && !self.thorough) || self.until.is_some_and(|until| Instant::now() > until)
    }

    /// Runs the story once; `None` if the run violates an invariant.
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

    /// I8. The final state equals the final state of the run without faults.
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

    /// The plan without faults. An interruption occurs before the first request.
    fn base(&self) -> Plan {
        Plan { interrupt: self.interrupted_at(1), ..Plan::default() }
    }

    /// The request before which the interruption occurs, if the story has one.
    fn interrupted_at(&self, number: usize) -> Option<usize> {
        self.scenario.interruption.is_some().then_some(number)
    }

    /// The run without faults.
    pub fn reference(&mut self) -> Option<End> {
        self.try_plan(&self.base())
    }

    /// Runs the story without faults twice and compares the requests. Prints the story on request.
    pub fn told(&mut self, tell: bool) {
        let (Some(one), Some(other)) = (self.reference(), self.reference()) else { return };
        // The name of an event contains the real time.
        let plain = |text: &str| text.split_once(" events ").map_or(text, |(verb, _)| verb).to_owned();
        let said = |end: &End| end.calls.iter().map(|(call, _)| plain(&call.to_string())).collect::<Vec<_>>();
        assert_eq!(said(&one), said(&other), "a run cannot be told again");
        if tell {
            let story = run(self.scenario, &self.base(), true).story;
            super::tests::say(&format!("{}:\n  {}", self.scenario.name, story.join("\n  ")));
        }
    }

    /// The faults to run after the request `after`, each with the number of its request. Redundant faults are omitted:
    /// a failed read is redundant if the same read met the same cluster before; a kill is redundant if nothing has
    /// happened since the last possible kill.
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

    /// Applies each fault to each request of the story.
    pub fn every_crash_point(&mut self) {
        if self.scenario.interruption.is_some() {
            // `every_interruption` covers this story.
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

    /// Interrupts the story before each request, and applies each fault to that request.
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

    /// Delays or loses each watch event, and starts processes with an older view.
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

    /// Pauses the operator before every write, after the answer to its last read. Another process becomes leader after
    /// a while. The first process continues immediately, or after some requests of the other. The first process must do
    /// no harm. An interruption occurs during the pause.
    pub fn every_hand_over(&mut self) {
        let Some(_) = self.reference() else { return };
        let undisturbed = run(self.scenario, &Plan::default(), false);
        let writes = undisturbed.calls.iter().enumerate().filter(|(_, (call, _))| call.is_write());
        // The number of the request before the write.
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

    /// Runs moves in a random order with random faults, once for each seed. With `in_turn`, another process also
    /// becomes leader at a random moment.
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

    /// Applies each pair of faults to each two requests of the story.
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

/// The delays and losses of watch events.
const BLINDNESS: [Blindness; 7] = [
    Blindness::Late(1),
    Blindness::Late(2),
    Blindness::Late(4),
    Blindness::Late(16),
    Blindness::LateBy(3),
    Blindness::LateBy(30),
    Blindness::Lost(30),
];
