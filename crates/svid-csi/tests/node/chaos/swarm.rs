//! What a seed does next. Each seed has only a random half of the operations, faults and shapes, so that rare pairs meet.

use super::aim::{self, Aimed};
use super::beliefs::{Belief, Beliefs, Slot};
use super::plan::{ApiTrouble, Error, Fault, Header, Line, Operation, Shape, Supervision, VOLUMES_A_POD};
use super::random::Random;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    Republish,
    OtherShape,
    Nonsense,
    Unpublish,
    End,
    Vanish,
    Renew,
    Stats,
    Kill,
    Terminate,
    RestartKubelet,
    StopAgent,
    ReplaceAgent,
    RotateAgent,
    AgentRoot,
    Withdraw,
    Api,
    CertManagerRoot,
}

const DEEDS: [Deed; 18] = [
    Deed::Republish,
    Deed::OtherShape,
    Deed::Nonsense,
    Deed::Unpublish,
    Deed::End,
    Deed::Vanish,
    Deed::Renew,
    Deed::Stats,
    Deed::Kill,
    Deed::Terminate,
    Deed::RestartKubelet,
    Deed::StopAgent,
    Deed::ReplaceAgent,
    Deed::RotateAgent,
    Deed::AgentRoot,
    Deed::Withdraw,
    Deed::Api,
    Deed::CertManagerRoot,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blow {
    KillBefore,
    KillAfter,
    FailOnce,
    FailLasting,
    KillAt,
    TerminateAt,
    Stop,
    Full,
    NoInodes,
    Clock,
    Descriptors,
    Unmount,
    Cover,
    CutRecord,
    SwapRecords,
    LoseData,
}

const BLOWS: [Blow; 16] = [
    Blow::KillBefore,
    Blow::KillAfter,
    Blow::FailOnce,
    Blow::FailLasting,
    Blow::KillAt,
    Blow::TerminateAt,
    Blow::Stop,
    Blow::Full,
    Blow::NoInodes,
    Blow::Clock,
    Blow::Descriptors,
    Blow::Unmount,
    Blow::Cover,
    Blow::CutRecord,
    Blow::SwapRecords,
    Blow::LoseData,
];

/// More effects than it takes to create the CA.
const MOST_OF_FIRST_START: usize = 60;

/// The state of the driver's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Driver {
    Down,
    Free,
    Supervised,
}

/// In a soak, all pods end before each such heal.
const HEALS_UNTIL_REST: usize = 3;

/// The choices of a seed.
#[derive(Debug)]
pub(crate) struct Swarm {
    random: Random,
    deeds: Vec<Deed>,
    blows: Vec<Blow>,
    shapes: Vec<Shape>,
    /// Lines until the next `heal`.
    left: usize,
    heals: usize,
    soak: bool,
    /// The volume that the last fault was aimed at, and what it was before.
    again: Option<(usize, Option<Shape>)>,
    /// At which effect the first startups on the node are killed, one after the other.
    first_start: Option<usize>,
    /// Whether startup has cloned the mounts of volumes since the last one that another program has unmounted.
    has_clones: bool,
}

impl Swarm {
    pub(crate) fn of(seed: u64) -> (Header, Self) {
        let (header, mut random) = Self::header(seed, false);
        let (deeds, blows, shapes) = (random.half(&DEEDS), random.half(&BLOWS), random.half(&Shape::ALL));
        let first_start = random.one_in(2).then(|| 1 + random.below(4));
        (header, Swarm { first_start, ..Swarm::with(random, deeds, blows, shapes) })
    }

    /// Everything that does not end the driver. After a few heals all pods end.
    pub(crate) fn soak(seed: u64) -> (Header, Self) {
        use Blow::{CutRecord, KillAfter, KillAt, KillBefore, LoseData, SwapRecords, TerminateAt};
        let (header, random) = Self::header(seed, true);
        let kills = |deed: &Deed| matches!(deed, Deed::Kill | Deed::Terminate);
        let is_of_the_end = |blow: &Blow| {
            matches!(blow, KillBefore | KillAfter | KillAt | TerminateAt | CutRecord | SwapRecords | LoseData)
        };
        let deeds = DEEDS.into_iter().filter(|deed| !kills(deed)).collect();
        let blows = BLOWS.into_iter().filter(|blow| !is_of_the_end(blow)).collect();
        (header, Swarm { soak: true, ..Swarm::with(random, deeds, blows, Shape::ALL.to_vec()) })
    }

    fn with(random: Random, deeds: Vec<Deed>, blows: Vec<Blow>, shapes: Vec<Shape>) -> Self {
        let (again, first_start) = (None, None);
        Swarm { random, deeds, blows, shapes, left: 8, heals: 0, soak: false, again, first_start, has_clones: false }
    }

    fn header(seed: u64, soak: bool) -> (Header, Random) {
        let mut random = Random::new(seed);
        let pods = usize::try_from(random.between(8, 60)).unwrap();
        let header = Header { seed, pods, lifetime: random.between(30, 90), survives: random.one_in(2), soak };
        (header, random)
    }

    /// The next line, for a world in this state.
    pub(crate) fn next(&mut self, beliefs: &Beliefs, driver: Driver) -> Line {
        if self.left == 0 {
            self.heals += 1;
            self.left = 8 + self.random.below(18);
            if self.soak && self.heals.is_multiple_of(HEALS_UNTIL_REST) {
                self.left = 0;
                let pods = 0..beliefs.entitled.len();
                return Line { operations: pods.map(|pod| Operation::End { pod }).collect(), fault: None, wait: 0 };
            }
            return Line { operations: vec![Operation::Heal], fault: None, wait: 0 };
        }
        if let Some(effect) = self.first_start.take().filter(|_| driver == Driver::Down) {
            return self.first_start(effect);
        }
        self.left -= 1;
        let again = self.again.take().and_then(|volume| self.retry(beliefs, volume));
        let aimed = self.aimed(beliefs, driver, again.as_ref().and_then(pod_of));
        let (mut operations, fault) = match aimed {
            Some(Aimed { operations, fault, again }) => {
                self.again = Some(again);
                (operations, Some(fault))
            }
            None if driver == Driver::Down && !self.random.one_in(3) => {
                let under = self.random.pick(&Supervision::ALL).unwrap();
                (vec![Operation::Start { under: if self.soak { Supervision::Effects } else { under } }], None)
            }
            None => (Vec::new(), None),
        };
        operations.extend(again);
        // At first, there is nothing that a fault could hit.
        let is_empty = beliefs.slots.iter().all(|slot| slot.belief == Belief::Unmounted);
        let most = if is_empty { 24 } else { 1 + self.random.below(12) };
        let mut pods: Vec<_> = operations.iter().filter_map(pod_of).chain(fault.as_ref().and_then(aimed_at)).collect();
        for _ in 0..most {
            let operation = self.operation(beliefs);
            // The kubelet has one call a volume at a time.
            let pod = operation.as_ref().and_then(pod_of);
            if let Some(operation) = operation.filter(|_| pod.is_none_or(|pod| !pods.contains(&pod))) {
                // It would end the driver before the call that is hit.
                if fault.is_some() && matches!(operation, Operation::Kill | Operation::Terminate) {
                    continue;
                }
                pods.extend(pod);
                operations.push(operation);
            }
        }
        let fault = match fault {
            None if self.has_clones && driver != Driver::Down => self.unmount(beliefs, &mut operations),
            None if self.random.one_in(2) => self.fault(beliefs, driver),
            fault => fault,
        };
        self.has_clones |= fault == Some(Fault::LoseData);
        let wait = if self.random.one_in(16) { self.random.between(2000, 8000) } else { self.random.between(0, 300) };
        Line { operations, fault, wait }
    }

    /// The node's data root and CA are created, as far as the driver gets. The next startup gets a little further.
    fn first_start(&mut self, effect: usize) -> Line {
        self.first_start = Some(effect + 1 + self.random.below(3)).filter(|next| *next <= MOST_OF_FIRST_START);
        let start = Operation::Start { under: Supervision::Effects };
        Line { operations: vec![start], fault: Some(Fault::KillBefore { effect }), wait: 0 }
    }

    /// Another program unmounts a volume whose folder is a clone, and the kubelet asks for it again.
    fn unmount(&mut self, beliefs: &Beliefs, operations: &mut Vec<Operation>) -> Option<Fault> {
        let is_free = |volume: &usize| operations.iter().filter_map(pod_of).all(|pod| pod != volume / VOLUMES_A_POD);
        let is_whole = |volume: &usize| beliefs.slots[*volume].tampered.is_none();
        let all = 0..beliefs.slots.len();
        let free: Vec<_> = all.filter(is_free).filter(is_whole).collect();
        let shape = |volume: usize| beliefs.slots[volume].shape().filter(|shape| *shape != Shape::Passthrough);
        let published: Vec<_> = free.into_iter().filter_map(|volume| Some((volume, shape(volume)?))).collect();
        let (volume, shape) = self.random.pick(&published)?;
        self.has_clones = false;
        operations.push(Operation::Publish { volume, shape, patience: 5000 });
        Some(Fault::Unmount { volume })
    }

    /// An aimed fault. Fewer while the driver runs at full speed, because they need one that is supervised.
    fn aimed(&mut self, beliefs: &Beliefs, driver: Driver, busy: Option<usize>) -> Option<Aimed> {
        let one_in = match driver {
            Driver::Supervised => 2,
            Driver::Down => 3,
            Driver::Free => 8,
        };
        if !self.random.one_in(one_in) {
            return None;
        }
        let aimed = aim::draw(&mut self.random, beliefs, driver, &self.shapes)?;
        let ends = aimed.fault.kills() || aimed.operations.contains(&Operation::Kill);
        (!(self.soak && ends) && (aimed_at(&aimed.fault) != busy || busy.is_none())).then_some(aimed)
    }

    /// The kubelet asks again for a volume after a fault; now and then for what it was before.
    fn retry(&mut self, beliefs: &Beliefs, (volume, before): (usize, Option<Shape>)) -> Option<Operation> {
        let wanted = beliefs.slots[volume].wanted?;
        let shape = before.filter(|_| self.random.one_in(3)).unwrap_or(wanted);
        Some(Operation::Publish { volume, shape, patience: 5000 })
    }

    fn operation(&mut self, beliefs: &Beliefs) -> Option<Operation> {
        let volume = self.random.below(beliefs.slots.len());
        let patience = if self.random.one_in(4) { self.random.between(1, 100) } else { self.random.between(200, 2500) };
        let publish = |shape| Operation::Publish { volume, shape, patience };
        let slot = &beliefs.slots[volume];
        let pod = volume / VOLUMES_A_POD;
        if self.random.one_in(2) {
            return Some(publish(slot.wanted.or_else(|| self.random.pick(&self.shapes))?));
        }
        Some(match self.random.pick(&self.deeds)? {
            Deed::Republish => publish(slot.wanted?),
            Deed::OtherShape => publish(self.random.pick(&self.shapes)?),
            Deed::Nonsense => publish(Shape::Nonsense),
            Deed::Unpublish if slot.belief == Belief::Unmounted => return None,
            Deed::Unpublish => Operation::Unpublish { volume, patience },
            Deed::End => Operation::End { pod },
            Deed::Vanish => Operation::Vanish { pod },
            Deed::Renew => Operation::Renew { pod: (!self.random.one_in(4)).then_some(pod) },
            Deed::Stats => Operation::Stats { volume },
            Deed::Kill => Operation::Kill,
            Deed::Terminate => Operation::Terminate,
            Deed::RestartKubelet => Operation::RestartKubelet,
            Deed::StopAgent if self.random.one_in(2) => Operation::StartAgent,
            Deed::StopAgent => Operation::StopAgent,
            Deed::ReplaceAgent => Operation::ReplaceAgent,
            Deed::RotateAgent => Operation::RotateAgent,
            Deed::AgentRoot => Operation::AgentRoot,
            Deed::Withdraw if beliefs.entitled[pod] => {
                Operation::Withdraw { pod: self.random.pick(&with_identity_of_agent(beliefs)).unwrap_or(pod) }
            }
            Deed::Withdraw => Operation::Entitle { pod },
            Deed::Api => Operation::Api { trouble: self.random.pick(&ApiTrouble::ALL)? },
            Deed::CertManagerRoot => Operation::CertManagerRoot,
        })
    }

    fn fault(&mut self, beliefs: &Beliefs, driver: Driver) -> Option<Fault> {
        let is_possible = |blow: &Blow| match blow {
            Blow::KillBefore | Blow::KillAfter | Blow::FailOnce | Blow::FailLasting => driver != Driver::Free,
            Blow::Stop => driver == Driver::Free,
            Blow::Clock => driver == Driver::Supervised,
            Blow::KillAt | Blow::TerminateAt | Blow::Descriptors => driver != Driver::Down,
            Blow::CutRecord | Blow::SwapRecords | Blow::LoseData => driver == Driver::Down,
            Blow::Full | Blow::NoInodes | Blow::Unmount | Blow::Cover => true,
        };
        let possible: Vec<_> = self.blows.iter().copied().filter(is_possible).collect();
        let mounted = |slot: &usize| beliefs.slots[*slot].belief == Belief::Mounted;
        let mounted: Vec<_> = (0..beliefs.slots.len()).filter(mounted).collect();
        let most = self.random.pick(&[10, 40, 150]).unwrap();
        let effect = 1 + self.random.below(most);
        Some(match self.random.pick(&possible)? {
            Blow::KillBefore => Fault::KillBefore { effect },
            Blow::KillAfter => Fault::KillAfter { effect },
            Blow::FailOnce => Fault::Fail { effect, error: self.random.pick(&Error::ALL)?, lasting: false },
            Blow::FailLasting => Fault::Fail { effect, error: self.random.pick(&Error::ALL)?, lasting: true },
            Blow::KillAt => Fault::KillAt { after: self.random.between(0, 120) },
            Blow::TerminateAt => Fault::TerminateAt { after: self.random.between(0, 120) },
            Blow::Stop if self.random.one_in(6) => Fault::Stop { millis: self.random.between(10_000, 40_000) },
            Blow::Stop => Fault::Stop { millis: self.random.between(1000, 4000) },
            Blow::Full => Fault::Full { lines: 1 + self.random.below(5) },
            Blow::NoInodes => Fault::NoInodes { lines: 1 + self.random.below(5) },
            Blow::Clock => Fault::Clock { hours: self.random.pick(&[-2, 2])?, lines: 1 + self.random.below(5) },
            Blow::Descriptors => Fault::Descriptors { more: self.random.between(0, 8) },
            Blow::Unmount => Fault::Unmount { volume: self.random.pick(&mounted)? },
            Blow::Cover => Fault::Cover { volume: self.random.pick(&mounted)? },
            Blow::CutRecord => Fault::CutRecord { volume: self.random.pick(&mounted)? },
            Blow::SwapRecords => {
                Fault::SwapRecords { volume: self.random.pick(&mounted)?, with: self.random.pick(&mounted)? }
            }
            Blow::LoseData => Fault::LoseData,
        })
    }
}

/// The pods with something to withdraw.
fn with_identity_of_agent(beliefs: &Beliefs) -> Vec<usize> {
    let has_one = |slot: &Slot| slot.shape().is_some_and(Shape::is_of_agent);
    let pods = beliefs.slots.chunks(VOLUMES_A_POD).enumerate();
    pods.filter(|(_, slots)| slots.iter().any(has_one)).map(|(pod, _)| pod).collect()
}

/// The pod of the volume that a fault is aimed at.
fn aimed_at(fault: &Fault) -> Option<usize> {
    match fault {
        Fault::Aimed { volume, .. } => Some(volume / VOLUMES_A_POD),
        _ => None,
    }
}

fn pod_of(operation: &Operation) -> Option<usize> {
    match operation {
        Operation::Publish { volume, .. } | Operation::Unpublish { volume, .. } | Operation::Stats { volume } => {
            Some(volume / VOLUMES_A_POD)
        }
        Operation::End { pod } | Operation::Vanish { pod } => Some(*pod),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn lines(seed: u64, driver: Driver) -> Vec<Line> {
        let (header, mut swarm) = Swarm::of(seed);
        let beliefs = Beliefs::of(header.pods);
        (0..300).map(|_| swarm.next(&beliefs, driver)).collect()
    }

    #[test]
    fn a_seed_is_always_the_same_and_heals_now_and_then() {
        assert_eq!(lines(1, Driver::Free), lines(1, Driver::Free));
        assert_ne!(lines(1, Driver::Free), lines(2, Driver::Free));
        for seed in 0..20 {
            let heals = lines(seed, Driver::Free).iter().filter(|line| line.operations == [Operation::Heal]).count();
            assert!((10..40).contains(&heals), "{heals}");
        }
    }

    #[test]
    fn each_seed_has_a_part_and_all_seeds_have_everything() {
        let swarms: Vec<_> = (0..50).map(|seed| Swarm::of(seed).1).collect();
        assert!(swarms.iter().all(|swarm| swarm.deeds.len() < DEEDS.len() && swarm.blows.len() < BLOWS.len()));
        for deed in DEEDS {
            assert!(swarms.iter().any(|swarm| swarm.deeds.contains(&deed)), "{deed:?}");
        }
        for blow in BLOWS {
            assert!(swarms.iter().any(|swarm| swarm.blows.contains(&blow)), "{blow:?}");
        }
    }

    #[test]
    fn two_calls_at_once_are_about_two_pods() {
        for line in lines(3, Driver::Supervised) {
            let pods: Vec<_> = line.operations.iter().filter_map(pod_of).collect();
            assert_eq!(pods.iter().collect::<HashSet<_>>().len(), pods.len(), "{line:?}");
        }
    }

    #[test]
    fn what_needs_a_supervisor_or_a_driver_that_is_down_waits_for_it() {
        for seed in 0..30 {
            for line in lines(seed, Driver::Free) {
                let is_right =
                    !matches!(line.fault, Some(Fault::KillBefore { .. } | Fault::Fail { .. } | Fault::LoseData));
                assert!(is_right, "{line:?}");
            }
            for line in lines(seed, Driver::Down) {
                assert!(!matches!(line.fault, Some(Fault::Stop { .. } | Fault::KillAt { .. })), "{line:?}");
            }
        }
    }
}
