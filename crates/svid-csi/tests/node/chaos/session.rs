//! One run of a plan.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use svid_csi_testkit::effects::Effect;

use super::calls::{Verdict, Violation};
use super::checks::Usage;
use super::plan::{Fault, Header, Line, Operation, Shape};
use super::reader::Reader;
use super::shrink;
use super::swarm::Driver;
use super::world::World;

/// How long after an operation it may reach a call that is hit.
const LONGEST_AIM: Duration = Duration::from_secs(5);
/// How long a driver may take to end after SIGTERM.
const LONGEST_END: Duration = Duration::from_secs(60);
const LINES_OF_A_STORY: usize = 60;

/// What a run has done.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) steps: usize,
    pub(crate) heals: usize,
    pub(crate) kills: usize,
    pub(crate) looks: usize,
    pub(crate) renewals: usize,
    /// Publishes that succeeded.
    pub(crate) published: BTreeMap<Shape, usize>,
    pub(crate) most: Usage,
    /// What the first driver used after each `heal` without any volume.
    pub(crate) at_rest: Vec<Usage>,
    /// How often each fault was tried, and how often it happened.
    pub(crate) faults: BTreeMap<String, (usize, usize)>,
    /// Aimed faults whose operation did not make the call.
    pub(crate) missed: usize,
    pub(crate) took: Duration,
}

/// How a run ended.
pub(crate) struct Outcome {
    pub(crate) tally: Tally,
    /// The violation that ended it in its last step.
    pub(crate) violation: Option<Told>,
}

/// A violation with its story.
pub(crate) struct Told {
    pub(crate) volume: Option<usize>,
    pub(crate) story: String,
}

/// Does one line after the other, until there is none or one ends in a violation.
pub(crate) async fn run(header: Header, mut next: impl FnMut(&World) -> Option<Line>) -> Outcome {
    let mut world = World::new(header);
    let lifetime = Duration::from_secs(header.lifetime);
    let reader = Reader::start(world.shared.clone(), world.agent.clone(), lifetime);
    let began = Instant::now();
    let (mut tally, mut done) = (Tally::default(), Vec::new());
    let violation = loop {
        let line = next(&world);
        let is_over = line.is_none();
        let verdict = if let Some(line) = line {
            done.push(line.clone());
            tally.steps += 1;
            world.step(&line, &reader, &mut tally).await
        } else {
            // It may not have seen yet what the last line has done.
            reader.looks_again().await;
            Ok(())
        };
        match verdict.and_then(|()| reader.verdict()) {
            Err(violation) => {
                let says = world.says_of(violation.volume).await;
                let story = story(&world, &done, &violation) + &says;
                break Some(Told { volume: violation.volume, story });
            }
            Ok(()) if is_over => break None,
            Ok(()) => {}
        }
    };
    reader.notes(|notes| (tally.looks, tally.renewals) = (notes.looks, notes.renewals));
    tally.published = world.published.take();
    tally.took = began.elapsed();
    Outcome { tally, violation }
}

impl World {
    async fn step(&mut self, line: &Line, reader: &Reader, tally: &mut Tally) -> Verdict {
        if line.operations.contains(&Operation::Heal) {
            tally.heals += 1;
            self.heal(reader).await?;
            tally.at_rest.extend(self.at_rest().await);
            self.shared().calm.calmed(Instant::now());
            return Ok(());
        }
        let disturbs = |operation: &Operation| {
            use Operation::{AgentRoot, Api, Kill, ReplaceAgent, StopAgent, Terminate};
            matches!(operation, Kill | Terminate | StopAgent | ReplaceAgent | AgentRoot | Api { .. })
        };
        if line.fault.is_some() || line.operations.iter().any(disturbs) || !self.is_calm() {
            self.shared().calm.disturbed(Instant::now());
            self.troubled_since.get_or_insert_with(Instant::now);
        }
        let watch = self.watch(line.fault.as_ref());
        let mut fired = line.fault.as_ref().is_some_and(|fault| self.strike(fault));
        if self.driver == Driver::Supervised {
            self.node.watched().watch(watch.clone());
        }
        let mut starts = false;
        for operation in &line.operations {
            tally.kills += usize::from(matches!(operation, Operation::Kill) && self.driver != Driver::Down);
            starts |= matches!(operation, Operation::Start { .. }) && self.driver == Driver::Down;
            self.prepare(operation, &watch).await?;
        }
        let during = async {
            match &line.fault {
                Some(fault) => self.during(fault).await,
                None => false,
            }
        };
        let (called, hit) = tokio::join!(self.call(&line.operations), during);
        fired |= hit;
        self.reaches_aim(line).await;
        tokio::time::sleep(Duration::from_millis(line.wait)).await;
        if self.driver == Driver::Supervised {
            let run = self.node.watched().finish();
            fired |= run.fired;
            self.trace = run.trace;
        }
        if let Some(fault) = &line.fault {
            let count = tally.faults.entry(fault.name()).or_default();
            count.0 += 1;
            count.1 += usize::from(fired);
            tally.missed += usize::from(matches!(fault, Fault::Aimed { .. }) && !fired);
        }
        self.left_alone |= starts && fired;
        self.attaching_failed |= fired && line.fault.as_ref().is_some_and(Fault::keeps_mounts_away);
        self.survives(line, fired, starts, tally).await?;
        called?;
        if fired && line.fault.as_ref().is_some_and(|fault| matches!(fault, Fault::Aimed { .. }) && fault.kills()) {
            // What pods can read at such a moment is lost with the next startup.
            reader.looks_again().await;
        }
        self.empty_after_withdrawals().await?;
        self.left_alone_is_queued().await?;
        self.check_shared_directories()?;
        self.age(line.fault.as_ref().filter(|_| fired));
        self.check_mounts()?;
        let usage = self.usage()?;
        tally.most.descriptors = tally.most.descriptors.max(usage.descriptors);
        tally.most.resident_kib = tally.most.resident_kib.max(usage.resident_kib);
        if self.is_calm() {
            self.shared().calm.calmed(Instant::now());
        }
        Ok(())
    }

    /// Waits for the call that is hit, where the driver makes it after the operation.
    async fn reaches_aim(&self, line: &Line) {
        let acts_later =
            |operation: &Operation| matches!(operation, Operation::Renew { .. } | Operation::Withdraw { .. });
        let is_aimed = matches!(line.fault, Some(Fault::Aimed { .. })) && line.operations.iter().any(acts_later);
        if !is_aimed || self.driver != Driver::Supervised {
            return;
        }
        let (watched, began) = (self.node.watched(), Instant::now());
        while !watched.has_fired() && watched.ended().is_none() && began.elapsed() < LONGEST_AIM {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Only a kill ends the driver, or a startup that fails where a fault is at work.
    async fn survives(&mut self, line: &Line, fired: bool, starts: bool, tally: &mut Tally) -> Verdict {
        if self.driver == Driver::Down {
            return Ok(());
        }
        if fired && line.fault.as_ref().is_some_and(Fault::kills) {
            tally.kills += 1;
            let ended = tokio::time::timeout(LONGEST_END, self.reaped()).await;
            return ended.map_err(|_| Violation { volume: None, what: "the driver does not end".to_owned() });
        }
        if !self.node.has_ended() {
            return Ok(());
        }
        self.reaped().await;
        if starts && (fired || !self.active.is_empty()) {
            return Ok(());
        }
        Err(Violation { volume: None, what: "the driver has ended by itself".to_owned() })
    }

    /// One line has passed for faults that last.
    fn age(&mut self, new: Option<&Fault>) {
        let lines = match new {
            Some(Fault::Full { lines } | Fault::NoInodes { lines } | Fault::Clock { lines, .. }) => *lines,
            Some(Fault::Descriptors { .. }) => 1,
            Some(Fault::Cover { .. }) => usize::MAX,
            _ => 0,
        };
        if let Some(fault) = new.filter(|_| lines > 0) {
            self.active.push((fault.clone(), lines));
        }
        let (over, active) = std::mem::take(&mut self.active)
            .into_iter()
            .map(|(fault, left)| (fault, left - 1))
            .partition(|(_, left)| *left == 0);
        self.active = active;
        let over: Vec<(Fault, usize)> = over;
        over.iter().for_each(|(fault, _)| self.relieve(fault));
    }
}

/// What happened, with what concerns the volume: lines of the plan, effects of the last step, and the log.
fn story(world: &World, done: &[Line], violation: &Violation) -> String {
    let json = |line: &Line| serde_json::to_string(line).unwrap();
    let (seed, step) = (world.header.seed, done.len());
    let mut story = format!("seed {seed}, step {step}: {}\n  {}\n", violation.what, json(done.last().unwrap()));
    let mut words = Vec::new();
    if let Some(index) = violation.volume {
        let volume = world.any(index);
        story += &format!("volume {index}: {} of pod {} ({})\n", volume.id(), volume.pod.name, volume.pod.uid);
        story += &format!("{:?}\n", world.shared().beliefs.slots[index]);
        words.extend([volume.id().as_str().to_owned(), volume.pod.uid.clone(), format!("shop/{} ", volume.pod.name)]);
        let of_volume = done.iter().enumerate().filter(|(_, line)| shrink::names(line, index));
        of_volume.for_each(|(step, line)| story += &format!("  {}: {}\n", step + 1, json(line)));
    }
    let is_told = |text: &str| words.is_empty() || words.iter().any(|word| text.contains(word.as_str()));
    let effects = world.trace.iter().map(|effect: &Effect| format!("{effect:?}")).filter(|text| is_told(text));
    let (log, whole) = (world.node.log(), super::folder().join(format!("{seed}.log")));
    match fs::write(&whole, &log) {
        Ok(()) => story += &format!("the whole log: {}\n", whole.display()),
        Err(error) => story += &format!("the whole log cannot be kept: {error}\n"),
    }
    let log = log.lines().map(str::to_owned).filter(|line| is_told(line));
    for (title, lines) in [("effects of the last step", Vec::from_iter(effects)), ("log", Vec::from_iter(log))] {
        story += &format!("{title}:\n");
        let first = lines.len().saturating_sub(LINES_OF_A_STORY);
        lines[first..].iter().for_each(|line| story += &format!("  {line}\n"));
    }
    story
}
