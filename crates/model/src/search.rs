//! Visits all reachable states, breadth first: the first path to a violation is the shortest.

use std::collections::{HashMap, HashSet};

use crate::code::Mutation;
use crate::kubelet::Step;
use crate::properties::{self, Property};
use crate::run::{Choices, Run};
use crate::world::{Budget, Spec, World};

/// Enough rounds of retries for every state that settles.
const ROUNDS: usize = 16;

/// A state and how it was first reached.
struct Reached {
    world: World,
    /// `None` for the initial states.
    how: Option<How>,
}

/// The previous state, the step, and its outcomes.
struct How {
    from: usize,
    step: Step,
    choices: Vec<u8>,
}

/// The result of a search.
#[derive(Debug, Default)]
pub struct Found {
    /// How many states there are.
    pub states: usize,
    /// How many steps were taken, with each of their outcomes.
    pub steps: u64,
    /// How often the properties were checked.
    pub moments: u64,
    /// The shortest path to a violation of each property.
    pub broken: Vec<(Property, String)>,
}

impl Found {
    /// Whether that property is broken somewhere.
    pub fn breaks(&self, property: Property) -> bool {
        self.broken.iter().any(|(broken, _)| *broken == property)
    }
}

struct Search {
    mutation: Option<Mutation>,
    reached: Vec<Reached>,
    known: HashSet<World>,
    /// Which property is broken in the end, by state.
    ends: HashMap<World, Option<Property>>,
    found: Found,
}

/// Visits every state within the budget. Ends early if `wanted` is broken.
pub fn search(budget: Budget, mutation: Option<Mutation>, wanted: Option<Property>) -> Found {
    let mut search =
        Search { mutation, reached: Vec::new(), known: HashSet::new(), ends: HashMap::new(), found: Found::default() };
    for asks in [Spec::A, Spec::Passthrough] {
        let world = World::new(asks, budget);
        search.known.insert(world);
        search.reached.push(Reached { world, how: None });
    }
    let mut next = 0;
    while next < search.reached.len() && !wanted.is_some_and(|wanted| search.found.breaks(wanted)) {
        let world = search.reached[next].world;
        for step in Step::possible(&world) {
            search.take(next, world, step);
        }
        next += 1;
    }
    search.found.states = search.reached.len();
    search.found
}

impl Search {
    /// Takes one step with each of its outcomes.
    fn take(&mut self, from: usize, world: World, step: Step) {
        let mut choices = Choices::default();
        loop {
            let mut run = Run::new(world, &mut choices, self.mutation);
            run.step(step);
            let (after, broken, moments) = (run.world, run.broken, run.moments);
            self.found.steps += 1;
            self.found.moments += moments;
            let how = How { from, step, choices: choices.numbers() };
            let reached = Reached { world: after, how: Some(how) };
            if let Some(property) = broken.or_else(|| properties::broken_at_rest(&after)) {
                self.report(property, &reached, None);
            } else if self.known.insert(after) {
                if let Some(property) = self.broken_in_the_end(after) {
                    self.report(property, &reached, Some(heal(after, self.mutation).0));
                } else {
                    self.reached.push(reached);
                }
            }
            if !choices.advance() {
                break;
            }
        }
    }

    fn broken_in_the_end(&mut self, world: World) -> Option<Property> {
        let unhindered = World { left: Budget::default(), ..world };
        let mutation = self.mutation;
        *self.ends.entry(unhindered).or_insert_with(|| {
            let (end, broken) = heal(unhindered, mutation);
            broken.or_else(|| properties::broken_in_the_end(&end))
        })
    }

    /// Records the path to a violation as a story.
    fn report(&mut self, property: Property, last: &Reached, in_the_end: Option<World>) {
        if self.found.breaks(property) {
            return;
        }
        let mut path = Vec::new();
        let mut at = last;
        while let Some(how) = &at.how {
            path.push(how);
            at = &self.reached[how.from];
        }
        let mut sentences = vec![format!("The kubelet requests the volume as {:?}.", at.world.asks)];
        for how in path.into_iter().rev() {
            let mut choices = Choices::of(&how.choices);
            let mut run = Run::new(self.reached[how.from].world, &mut choices, self.mutation).with_story();
            run.step(how.step);
            sentences.extend(run.into_story());
        }
        sentences.push(match in_the_end {
            Some(world) => format!("Nothing else fails, and in the end: {world}"),
            None => format!("Now: {}", last.world),
        });
        self.found.broken.push((property, sentences.join("\n")));
    }
}

/// The state after the driver and the kubelet have retried everything while nothing fails, and the first property broken
/// on the way there.
fn heal(mut world: World, mutation: Option<Mutation>) -> (World, Option<Property>) {
    world.left = Budget::default();
    // A kubelet whose publish is denied retries forever.
    for _ in 0..ROUNDS {
        let before = world;
        for step in Step::possible(&world) {
            let is_retried = match step {
                Step::Publish => world.asks_again,
                Step::Unpublish | Step::RemovePodFolder | Step::Timer | Step::Renew | Step::Start => true,
                _ => false,
            };
            if is_retried && Step::possible(&world).contains(&step) {
                let mut choices = Choices::default();
                let mut run = Run::new(world, &mut choices, mutation);
                run.step(step);
                if run.broken.is_some() {
                    return (run.world, run.broken);
                }
                world = run.world;
            }
        }
        if world == before {
            break;
        }
    }
    (world, None)
}
