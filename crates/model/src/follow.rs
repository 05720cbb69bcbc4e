//! What can be seen of a volume while one step is taken, whatever happens within a budget.

use std::collections::HashSet;

use crate::kubelet::Step;
use crate::run::{Choices, Run};
use crate::seen::Seen;
use crate::world::{Belief, Budget, Spec, World};

/// Steps of the driver and the source alone.
const BACKGROUND: [Step; 3] = [Step::Renew, Step::Timer, Step::IssueNext];

/// The states that a step leads to, and what can be seen on the way.
#[derive(Debug, Clone)]
pub struct Followed {
    worlds: HashSet<World>,
    effects: HashSet<(Seen, Seen)>,
}

impl Followed {
    /// Takes these steps, in which nothing happens but what must. Everything in the budget may happen from then on.
    ///
    /// # Panics
    /// If one of them is not possible.
    pub fn normally(asks: Spec, steps: &[Step], budget: Budget) -> Self {
        let plenty = Budget { kills: 1, specs: 1, renewals: 2, withdrawals: 1, ..Budget::default() };
        let mut world = World::new(asks, plenty);
        for step in steps {
            assert!(Step::possible(&world).contains(step), "{step:?} is not possible: {world}");
            let mut choices = Choices::default();
            let mut run = Run::new(world, &mut choices, None);
            run.step(*step);
            world = run.world;
        }
        world.left = budget;
        Followed { worlds: [world].into(), effects: [(world.seen(), world.seen())].into() }
    }

    /// Takes one step from each state in which it is possible. Earlier effects are forgotten.
    #[must_use]
    pub fn then(self, step: Step) -> Self {
        let mut after = Followed { worlds: HashSet::new(), effects: HashSet::new() };
        for world in self.worlds {
            after.take(world, step);
        }
        after
    }

    /// Also takes this step from each state in which it is possible.
    #[must_use]
    pub fn and(mut self, step: Step) -> Self {
        for world in self.worlds.clone() {
            self.take(world, step);
        }
        self
    }

    /// Also takes the steps for which the kubelet does nothing, in every order.
    #[must_use]
    pub fn in_the_background(mut self) -> Self {
        let mut open: Vec<_> = self.worlds.iter().copied().collect();
        while let Some(world) = open.pop() {
            for step in BACKGROUND {
                open.append(&mut self.take(world, step));
            }
        }
        self
    }

    /// Takes the step with each of its outcomes. Returns the states that are new.
    fn take(&mut self, world: World, step: Step) -> Vec<World> {
        let mut new = Vec::new();
        if !Step::possible(&world).contains(&step) {
            return new;
        }
        let mut choices = Choices::default();
        loop {
            let mut run = Run::new(world, &mut choices, None).watched();
            run.step(step);
            self.effects.extend(run.seen.windows(2).map(|pair| (pair[0], pair[1])));
            if self.worlds.insert(run.world) {
                new.push(run.world);
            }
            if !choices.advance() {
                return new;
            }
        }
    }

    /// Whether a volume can look like that at some moment of the step.
    ///
    /// The model links all names of a volume's files at once. If it is killed in the midst of that, some of them are still
    /// there after the restart. That is explained if none of them and all of them are.
    pub fn explains(&self, seen: &Seen) -> bool {
        let is_state = |seen: &Seen| self.effects.iter().any(|(before, after)| before == seen || after == seen);
        self.effects.iter().any(|(before, after)| seen.is_between(before, after))
            || seen.with_whole_names().is_some_and(|seen| seen.iter().all(is_state))
    }

    /// Whether it can look like that after the step, while the kubelet believes that.
    pub fn ends_as(&self, seen: &Seen, belief: Belief) -> bool {
        self.worlds.iter().any(|world| world.driver.is_some() && world.belief == belief && world.seen() == *seen)
    }

    /// The most similar state that it can have, for messages.
    pub fn closest(&self, seen: &Seen) -> Option<Seen> {
        let words = |seen: &Seen| format!("{seen:?}").split(", ").map(str::to_owned).collect::<Vec<_>>();
        let wanted = words(seen);
        let distance = |other: &Seen| words(other).iter().zip(&wanted).filter(|(one, other)| one != other).count();
        self.effects.iter().map(|(_, after)| *after).min_by_key(distance)
    }
}
