//! A scenario: the actions of users on the simulated cluster, and their times.

use serde_json::Value;

use super::invariants::{Invariant, Violation, broken};
use super::people;
use crate::server::object::Object;
use crate::server::store::Key;
use crate::server::world::World;

type When = Box<dyn Fn(&World) -> bool + Send + Sync>;
type Act = Box<dyn Fn(&mut World) + Send + Sync>;
type Must = Box<dyn Fn(&World) -> bool + Send + Sync>;

/// An action of a user.
pub struct Step {
    /// The description in the story.
    pub told: String,
    when: When,
    act: Act,
}

impl Step {
    /// Whether the condition of the step is met.
    pub fn may_begin(&self, world: &World) -> bool {
        (self.when)(world)
    }

    pub fn act(&self, world: &mut World) {
        (self.act)(world);
    }
}

pub struct Scenario {
    pub name: &'static str,
    /// The action that can occur at any moment, if the story has one.
    pub interruption: Option<Step>,
    alike: bool,
    world: World,
    others: Vec<(Key, Object)>,
    steps: Vec<Step>,
    ends: Vec<(Invariant, &'static str, Must)>,
}

impl Scenario {
    /// A story without steps, in a cluster with foreign objects.
    pub fn new(name: &'static str) -> Self {
        let world = people::a_cluster();
        let others = people::others(&world);
        Self { name, interruption: None, alike: true, world, others, steps: Vec::new(), ends: Vec::new() }
    }

    /// A user acts as soon as the condition is true.
    pub fn when(
        mut self,
        when: impl Fn(&World) -> bool + Send + Sync + 'static,
        told: impl Into<String>,
        act: impl Fn(&mut World) + Send + Sync + 'static,
    ) -> Self {
        self.steps.push(Step { told: told.into(), when: Box::new(when), act: Box::new(act) });
        self
    }

    /// A user acts at the start.
    pub fn first(self, told: impl Into<String>, act: impl Fn(&mut World) + Send + Sync + 'static) -> Self {
        self.when(|_| true, told, act)
    }

    /// A user acts once, at any moment.
    pub fn interrupted(
        mut self,
        told: impl Into<String>,
        act: impl Fn(&mut World) + Send + Sync + 'static,
    ) -> Self {
        self.interruption = Some(Step { told: told.into(), when: Box::new(|_| true), act: Box::new(act) });
        self
    }

    /// A condition that must be true at the end.
    pub fn ends(
        mut self,
        invariant: Invariant,
        told: &'static str,
        must: impl Fn(&World) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.ends.push((invariant, told, Box::new(must)));
        self
    }

    /// The final state depends on the order of moves.
    pub fn ends_differently(mut self) -> Self {
        self.alike = false;
        self
    }

    /// Whether the final state is always the same. An interruption at different moments leads to different states.
    pub fn always_ends_alike(&self) -> bool {
        self.alike && self.interruption.is_none()
    }

    /// Removes the foreign objects from the namespace of the story.
    pub fn alone(mut self) -> Self {
        self.world = people::an_empty_cluster();
        self.others.clear();
        self
    }

    /// The initial cluster.
    pub fn world(&self) -> World {
        self.world.clone()
    }

    /// The version of the initial cluster.
    pub fn begins_at(&self) -> u64 {
        self.world.store().version()
    }

    /// The step after this number of steps.
    pub fn step(&self, told: usize) -> Option<&Step> {
        self.steps.get(told)
    }

    /// I5. Foreign objects are unchanged.
    pub fn others_are_untouched(&self, world: &World) -> Result<(), Violation> {
        for (key, object) in &self.others {
            let now = world.store().get(key);
            if now.is_none_or(|now| Value::clone(now) != **object) {
                let why = format!("{} belongs to others, and is not as it was", key.path);
                return Err(broken(Invariant::OnlyOurs, why));
            }
        }
        Ok(())
    }

    /// Checks the conditions at the end.
    pub fn must_end(&self, world: &World) -> Result<(), Violation> {
        let broken_one = self.ends.iter().find(|(_, _, must)| !must(world));
        broken_one.map_or(Ok(()), |(invariant, told, _)| {
            Err(broken(*invariant, format!("it should end so: {told}")))
        })
    }
}
