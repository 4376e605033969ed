//! A story over the simulated cluster: what people do, and when.

use serde_json::Value;

use super::invariants::{Invariant, Violation, broken};
use super::people;
use crate::server::object::Object;
use crate::server::store::Key;
use crate::server::world::World;

type When = Box<dyn Fn(&World) -> bool + Send + Sync>;
type Act = Box<dyn Fn(&mut World) + Send + Sync>;
type Must = Box<dyn Fn(&World) -> bool + Send + Sync>;

/// Something that a person does.
pub struct Step {
    /// As it is told.
    pub told: String,
    when: When,
    act: Act,
}

impl Step {
    /// Whether its time has come.
    pub fn may_begin(&self, world: &World) -> bool {
        (self.when)(world)
    }

    /// Does it.
    pub fn act(&self, world: &mut World) {
        (self.act)(world);
    }
}

/// A story.
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What comes in between at any moment, if something does.
    pub interruption: Option<Step>,
    alike: bool,
    world: World,
    others: Vec<(Key, Object)>,
    steps: Vec<Step>,
    ends: Vec<(Invariant, &'static str, Must)>,
}

impl Scenario {
    /// A story that nothing happens in yet, in a cluster where others live too.
    pub fn new(name: &'static str) -> Self {
        let world = people::a_cluster();
        let others = people::others(&world);
        Self { name, interruption: None, alike: true, world, others, steps: Vec::new(), ends: Vec::new() }
    }

    /// A person does this as soon as that is so.
    pub fn when(
        mut self,
        when: impl Fn(&World) -> bool + Send + Sync + 'static,
        told: impl Into<String>,
        act: impl Fn(&mut World) + Send + Sync + 'static,
    ) -> Self {
        self.steps.push(Step { told: told.into(), when: Box::new(when), act: Box::new(act) });
        self
    }

    /// A person does this at once.
    pub fn first(self, told: impl Into<String>, act: impl Fn(&mut World) + Send + Sync + 'static) -> Self {
        self.when(|_| true, told, act)
    }

    /// A person may do this at any moment, once.
    pub fn interrupted(
        mut self,
        told: impl Into<String>,
        act: impl Fn(&mut World) + Send + Sync + 'static,
    ) -> Self {
        self.interruption = Some(Step { told: told.into(), when: Box::new(|_| true), act: Box::new(act) });
        self
    }

    /// What must be so at the end.
    pub fn ends(
        mut self,
        invariant: Invariant,
        told: &'static str,
        must: impl Fn(&World) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.ends.push((invariant, told, Box::new(must)));
        self
    }

    /// Its end depends on what comes first.
    pub fn ends_differently(mut self) -> Self {
        self.alike = false;
        self
    }

    /// Whether it always has the same end: not if that depends on what came before the interruption.
    pub fn always_ends_alike(&self) -> bool {
        self.alike && self.interruption.is_none()
    }

    /// Others have nothing in the story's namespace.
    pub fn alone(mut self) -> Self {
        self.world = people::an_empty_cluster();
        self.others.clear();
        self
    }

    /// The cluster that it begins in.
    pub fn world(&self) -> World {
        self.world.clone()
    }

    /// The version that it begins at.
    pub fn begins_at(&self) -> u64 {
        self.world.store().version()
    }

    /// What a person does after so many steps.
    pub fn step(&self, told: usize) -> Option<&Step> {
        self.steps.get(told)
    }

    /// I5. What belongs to others is as it was.
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

    /// What must be so at the end is so.
    pub fn must_end(&self, world: &World) -> Result<(), Violation> {
        let broken_one = self.ends.iter().find(|(_, _, must)| !must(world));
        broken_one.map_or(Ok(()), |(invariant, told, _)| {
            Err(broken(*invariant, format!("it should end so: {told}")))
        })
    }
}
