//! One step from one state with one sequence of outcomes: each effect succeeds, fails, or does not happen because the
//! driver is killed before it.

use std::fmt;

use crate::code::Mutation;
use crate::properties::{self, Property};
use crate::record::Remembered;
use crate::seen::Seen;
use crate::world::{Driver, Later, Volume, World};

/// The outcomes of one run, and the iteration over those of all other runs: the last outcome changes first.
#[derive(Debug, Clone, Default)]
pub struct Choices {
    taken: Vec<(u8, u8)>,
    position: usize,
}

impl Choices {
    /// The recorded outcomes, to repeat a run.
    pub fn of(numbers: &[u8]) -> Self {
        Choices { taken: numbers.iter().map(|number| (*number, u8::MAX)).collect(), position: 0 }
    }

    fn next(&mut self, count: u8) -> u8 {
        if self.position == self.taken.len() {
            self.taken.push((0, count));
        }
        self.position += 1;
        self.taken[self.position - 1].0
    }

    pub fn numbers(&self) -> Vec<u8> {
        self.taken.iter().map(|(number, _)| *number).collect()
    }

    /// Continues with the next sequence. False if there is none.
    pub fn advance(&mut self) -> bool {
        self.position = 0;
        while let Some((number, count)) = self.taken.pop() {
            if number + 1 < count {
                self.taken.push((number + 1, count));
                return true;
            }
        }
        false
    }
}

/// Why a call ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The driver was killed.
    Killed,
    /// The kubelet timed out.
    GivenUp,
    Failed(Failure),
}

/// The failure, as far as it makes a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// A system call.
    Call,
    /// Another program's mount is at the target.
    Foreign,
    /// The folder above the target does not exist.
    NoParent,
    /// The source has no identity for the pod.
    Source,
    /// Any of these, after the call changed something that is still there.
    Begun,
}

pub type Done<T = ()> = Result<T, Stop>;

/// As `VolumeError::begun`: the failure of a call that has already changed something.
pub fn begun(stop: Stop) -> Stop {
    match stop {
        Stop::Failed(_) => Stop::Failed(Failure::Begun),
        other => other,
    }
}

/// Whether it succeeded, if failure is harmless.
pub fn tolerated(done: Done) -> Done<bool> {
    match done {
        Err(Stop::Failed(_)) => Ok(false),
        other => other.map(|()| true),
    }
}

#[derive(Debug)]
pub struct Run<'a> {
    pub world: World,
    choices: &'a mut Choices,
    pub mutation: Option<Mutation>,
    story: Option<Vec<String>>,
    /// What can be seen at each moment, if that is wanted.
    pub seen: Vec<Seen>,
    is_watched: bool,
    pub broken: Option<Property>,
    /// How often the properties were checked.
    pub moments: u64,
}

impl<'a> Run<'a> {
    pub fn new(world: World, choices: &'a mut Choices, mutation: Option<Mutation>) -> Self {
        Run { world, choices, mutation, story: None, seen: Vec::new(), is_watched: false, broken: None, moments: 0 }
    }

    /// Notes what can be seen from now on.
    pub fn watched(mut self) -> Self {
        (self.seen, self.is_watched) = (vec![self.world.seen()], true);
        self
    }

    pub fn with_story(mut self) -> Self {
        self.story = Some(Vec::new());
        self
    }

    pub fn into_story(self) -> Vec<String> {
        self.story.unwrap_or_default()
    }

    pub fn is(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    pub fn say(&mut self, sentence: fmt::Arguments) {
        if let Some(story) = &mut self.story {
            story.push(sentence.to_string());
        }
    }

    pub fn breaks(&mut self, property: Property) {
        self.broken.get_or_insert(property);
    }

    /// One of `count` outcomes; the first is the usual one.
    pub fn choose(&mut self, count: u8) -> u8 {
        if count == 1 { 0 } else { self.choices.next(count) }
    }

    /// Whether an event with a budget happens here.
    pub fn happens(&mut self, left: impl Fn(&mut World) -> &mut u8) -> bool {
        let happens = *left(&mut self.world) > 0 && self.choose(2) == 1;
        if happens {
            *left(&mut self.world) -= 1;
        }
        happens
    }

    /// A system call that changes something.
    pub fn effect(&mut self, what: &str, change: impl FnOnce(&mut World)) -> Done {
        self.survives(what)?;
        if self.happens(|world| &mut world.left.faults) {
            self.say(format_args!("The driver fails at {what}."));
            return Err(Stop::Failed(Failure::Call));
        }
        change(&mut self.world);
        self.world.forget_unmounted();
        self.say(format_args!("The driver succeeds in {what}."));
        self.moment();
        Ok(())
    }

    /// A system call that changes nothing.
    pub fn look(&mut self, at: &str) -> Done {
        if self.happens(|world| &mut world.left.looks) {
            self.say(format_args!("The driver fails at looking at {at}."));
            return Err(Stop::Failed(Failure::Call));
        }
        Ok(())
    }

    /// Continues, unless the driver is killed here.
    pub fn survives(&mut self, before: &str) -> Done {
        if !self.happens(|world| &mut world.left.kills) {
            return Ok(());
        }
        self.world.driver = None;
        self.say(format_args!("The driver is killed before {before}."));
        Err(Stop::Killed)
    }

    /// Checks the properties that hold at every moment.
    pub fn moment(&mut self) {
        self.moments += 1;
        if self.is_watched {
            self.seen.push(self.world.seen());
        }
        if let Some(property) = properties::broken_now(&self.world) {
            self.breaks(property);
        }
    }

    pub fn driver(&mut self) -> &mut Driver {
        self.world.driver.as_mut().expect("it runs")
    }

    /// The volume whose lock is held.
    pub fn volume(&mut self) -> &mut Volume {
        self.driver().volume.as_mut().expect("it is known")
    }

    pub fn known(&self) -> Option<Remembered> {
        self.world.volume().map(|volume| volume.record)
    }

    /// As `Later::again`.
    pub fn again(&mut self) {
        self.driver().later = Some(Later::Again);
    }

    /// As `Later::forgotten`: what comes first stays.
    pub fn forgotten(&mut self) {
        self.driver().later.get_or_insert(Later::Forgotten);
    }
}
