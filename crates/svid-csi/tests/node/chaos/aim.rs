//! Faults that are aimed: an operation on one volume, and a call that it makes on the way.
//!
//! A fault at a random effect rarely hits the one call that matters, such as the write of the record that makes a volume ready.

use super::beliefs::{Belief, Beliefs, Slot};
use super::plan::{Aim, Error, Fault, Hit, Operation, Shape, Supervision, VOLUMES_A_POD};
use super::random::Random;
use super::swarm::Driver;

/// Long enough for the operation to reach the call.
const PATIENCE: u64 = 6000;

/// The operations during which a call is hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum During {
    First,
    OtherShape,
    Unpublish,
    Renewal,
    Withdrawal,
    Startup,
    /// A startup that removes what is left of a pod.
    Removal,
}

const ALL: [During; 7] = [
    During::First,
    During::OtherShape,
    During::Unpublish,
    During::Renewal,
    During::Withdrawal,
    During::Startup,
    During::Removal,
];

/// A call, and how often the operation makes it at most.
type Calls = (Aim, usize);

/// An aimed fault with the operations that reach it, and what the kubelet asks for next if they fail.
pub(crate) struct Aimed {
    pub(crate) operations: Vec<Operation>,
    pub(crate) fault: Fault,
    /// The volume, and what it was before.
    pub(crate) again: (usize, Option<Shape>),
}

/// Draws one, if there is a volume for it.
pub(crate) fn draw(random: &mut Random, beliefs: &Beliefs, driver: Driver, shapes: &[Shape]) -> Option<Aimed> {
    let volumes = |during| Vec::from_iter((0..beliefs.slots.len()).filter(|index| fits(during, *index, beliefs)));
    let possible: Vec<_> = ALL.into_iter().filter(|during| !volumes(*during).is_empty()).collect();
    let during = random.pick(&possible)?;
    let volume = random.pick(&volumes(during))?;
    let slot = &beliefs.slots[volume];
    let before = slot.shape();
    let publish = |shape| Operation::Publish { volume, shape, patience: PATIENCE };
    let pod = volume / VOLUMES_A_POD;
    let (operation, shape) = match during {
        During::First => {
            let shape = slot.wanted.or_else(|| random.pick(shapes))?;
            (Some(publish(shape)), shape)
        }
        During::OtherShape => {
            let others: Vec<_> = shapes.iter().copied().filter(|shape| Some(*shape) != before).collect();
            let shape = random.pick(&others)?;
            (Some(publish(shape)), shape)
        }
        During::Unpublish => (Some(Operation::Unpublish { volume, patience: PATIENCE }), before?),
        During::Renewal => (Some(Operation::Renew { pod: Some(pod) }), before?),
        During::Withdrawal => (Some(Operation::Withdraw { pod }), before?),
        During::Startup => (None, before?),
        During::Removal => (Some(Operation::Vanish { pod }), before?),
    };
    let (aim, most) = random.pick(&calls(during, before, shape))?;
    let nth = 1 + random.below(most);
    let hit = hit(random, during);
    let is_startup = matches!(during, During::Startup | During::Removal);
    let under = if during == During::Startup { Supervision::Looks } else { Supervision::Effects };
    let kill = (driver != Driver::Down && (is_startup || driver == Driver::Free)).then_some(Operation::Kill);
    let start = (is_startup || driver != Driver::Supervised).then_some(Operation::Start { under });
    // What disappears does so while the driver is down.
    let order = if is_startup { [kill, operation, start] } else { [kill, start, operation] };
    let operations = order.into_iter().flatten().collect();
    Some(Aimed { operations, fault: Fault::Aimed { volume, aim, nth, hit }, again: (volume, before) })
}

fn fits(during: During, index: usize, beliefs: &Beliefs) -> bool {
    let slot: &Slot = &beliefs.slots[index];
    let shape = slot.shape().filter(|_| slot.tampered.is_none());
    match during {
        During::First => slot.belief != Belief::Mounted,
        During::OtherShape | During::Unpublish | During::Startup => shape.is_some(),
        // A passthrough volume has no data.
        During::Removal => shape.is_some_and(|shape| shape != Shape::Passthrough),
        // cert-manager needs a token, which only a publish brings.
        During::Renewal => shape.is_some_and(|shape| shape != Shape::Passthrough && !shape.needs_token()),
        During::Withdrawal => shape.is_some_and(Shape::is_of_agent) && beliefs.entitled[index / VOLUMES_A_POD],
    }
}

/// The calls that an operation makes on a volume that has become `shape`.
fn calls(during: During, before: Option<Shape>, shape: Shape) -> Vec<Calls> {
    let is_passed = |shape: Shape| shape == Shape::Passthrough;
    let content: &[Calls] = match shape {
        Shape::Passthrough => &[],
        shape if shape.is_socket() => &[(Aim::Switch, 4)],
        _ => &[(Aim::File, 3), (Aim::Switch, 1)],
    };
    match during {
        During::First => [content, &[(Aim::Record, 2), (Aim::Clone, 1), (Aim::Attach, 1)]].concat(),
        During::OtherShape if before.is_some_and(is_passed) != is_passed(shape) => {
            [content, &[(Aim::Record, 3), (Aim::Clone, 2), (Aim::Attach, 1), (Aim::Detach, 1)]].concat()
        }
        During::OtherShape => [content, &[(Aim::Record, 2), (Aim::Remove, 4)]].concat(),
        During::Unpublish if is_passed(shape) => vec![(Aim::Detach, 1)],
        During::Unpublish => vec![(Aim::Record, 1), (Aim::Detach, 1), (Aim::Remove, 4)],
        During::Renewal if shape.is_socket() => vec![(Aim::Record, 1)],
        During::Renewal => [content, &[(Aim::Record, 1), (Aim::Remove, 4)]].concat(),
        During::Withdrawal => vec![(Aim::Record, 1), (Aim::Remove, 4)],
        During::Removal => vec![(Aim::Remove, 6)],
        During::Startup => vec![(Aim::Look, 8), (Aim::Open, 6), (Aim::Read, 2), (Aim::List, 1)],
    }
}

fn hit(random: &mut Random, during: During) -> Hit {
    let all = if during == During::Startup {
        // No disk is full for a check.
        &Error::ALL[1..]
    } else {
        &Error::ALL[..]
    };
    let error = random.pick(all).unwrap_or(Error::Eio);
    match random.below(8) {
        0 => Hit::KillBefore,
        1 | 2 => Hit::KillAfter,
        3 | 4 if during != During::Startup => Hit::KeepFailing(error),
        _ => Hit::FailOnce(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every pod has a volume of each kind, and one that is not published yet.
    fn beliefs() -> Beliefs {
        let mut beliefs = Beliefs::of(Shape::ALL.len());
        for (pod, shape) in Shape::ALL.into_iter().enumerate() {
            let slot = &mut beliefs.slots[pod * VOLUMES_A_POD];
            (slot.belief, slot.wanted, slot.may_be) = (Belief::Mounted, Some(shape), vec![shape]);
        }
        beliefs
    }

    #[test]
    fn everything_is_aimed_at_and_an_operation_comes_with_it() {
        let (beliefs, mut random) = (beliefs(), Random::new(1));
        let mut seen = Vec::new();
        for driver in [Driver::Down, Driver::Free, Driver::Supervised] {
            for _ in 0..2000 {
                let Some(aimed) = draw(&mut random, &beliefs, driver, &Shape::ALL) else { continue };
                let Fault::Aimed { volume, aim, .. } = aimed.fault else { panic!("{:?}", aimed.fault) };
                seen.push(format!("{aim:?}"));
                let is_about = |operation: &Operation| match operation {
                    Operation::Publish { volume: its, .. } | Operation::Unpublish { volume: its, .. } => *its == volume,
                    Operation::Renew { pod } => *pod == Some(volume / VOLUMES_A_POD),
                    Operation::Withdraw { pod } => *pod == volume / VOLUMES_A_POD,
                    Operation::Vanish { pod } => *pod == volume / VOLUMES_A_POD,
                    Operation::Start { under } => *under == Supervision::Looks,
                    _ => false,
                };
                assert!(aimed.operations.iter().any(is_about), "{:?}", aimed.operations);
                let starts = aimed.operations.iter().any(|operation| matches!(operation, Operation::Start { .. }));
                assert!(starts || driver == Driver::Supervised, "{:?}", aimed.operations);
            }
        }
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 11, "{seen:?}");
    }
}
