//! The smallest part of a plan that still fails.

use std::fmt;

use super::plan::{Fault, Line, Operation, VOLUMES_A_POD};

/// How often a candidate is replayed before it counts as one that does not fail.
pub(crate) const REPLAYS: usize = 3;

/// How a replay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replayed {
    /// It failed in its last line, after that many, because of that volume.
    Failed {
        lines: usize,
        volume: Option<usize>,
    },
    Passed,
    /// There is no time for more replays.
    OutOfTime,
}

impl fmt::Display for Replayed {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Replayed::Failed { lines, .. } => write!(to, "fails in line {lines}"),
            Replayed::Passed => to.write_str("passes"),
            Replayed::OutOfTime => to.write_str("stopped, because the time is over"),
        }
    }
}

/// Removes from a plan that fails everything about other pods, then large parts, then lines, then faults, then pods, then
/// operations, as long as it still fails. Hands each smaller plan to `keep`. Returns the smallest; `None` if the plan did not fail.
pub(crate) async fn shrink(
    plan: Vec<Line>,
    replay: impl AsyncFnMut(&[Line]) -> Replayed,
    keep: impl FnMut(&[Line]),
) -> Option<Vec<Line>> {
    let mut shrinking = Shrinking { smallest: Vec::new(), volume: None, is_over: false, replay, keep };
    if !shrinking.still_fails(plan).await {
        return None;
    }
    shrinking.only_one_pod().await;
    shrinking.without_parts().await;
    shrinking.without_faults().await;
    for pod in pods(&shrinking.smallest) {
        let candidate = without(&shrinking.smallest, pod);
        if candidate != shrinking.smallest {
            shrinking.still_fails(candidate).await;
        }
    }
    shrinking.without_operations().await;
    Some(shrinking.smallest)
}

struct Shrinking<R, K> {
    smallest: Vec<Line>,
    /// What the last failure was about.
    volume: Option<usize>,
    is_over: bool,
    replay: R,
    keep: K,
}

impl<R: AsyncFnMut(&[Line]) -> Replayed, K: FnMut(&[Line])> Shrinking<R, K> {
    /// Whether the candidate fails too. Then it is the smallest, up to the line in which it fails.
    async fn still_fails(&mut self, mut candidate: Vec<Line>) -> bool {
        for _ in 0..REPLAYS {
            if self.is_over || candidate.is_empty() {
                return false;
            }
            match (self.replay)(&candidate).await {
                Replayed::Failed { lines, volume } => {
                    candidate.truncate(lines);
                    (self.smallest, self.volume) = (candidate, volume);
                    (self.keep)(&self.smallest);
                    return true;
                }
                Replayed::Passed => {}
                Replayed::OutOfTime => self.is_over = true,
            }
        }
        false
    }

    async fn only_one_pod(&mut self) {
        let Some(pod) = self.volume.map(|volume| volume / VOLUMES_A_POD) else { return };
        let others = pods(&self.smallest).into_iter().filter(|other| *other != pod);
        let candidate = others.fold(self.smallest.clone(), |plan, other| without(&plan, other));
        if candidate != self.smallest {
            self.still_fails(candidate).await;
        }
    }

    /// A line may matter although its fault does not. Without the fault, other lines may not matter any more.
    async fn without_faults(&mut self) {
        let lines = self.smallest.len();
        let mut has_changed = false;
        for line in (0..lines).rev() {
            let mut candidate = self.smallest.clone();
            if candidate.get_mut(line).is_some_and(|line| line.fault.take().is_some()) {
                has_changed |= self.still_fails(candidate).await;
            }
        }
        if has_changed {
            self.without_parts().await;
        }
    }

    async fn without_operations(&mut self) {
        for line in (0..self.smallest.len()).rev() {
            let operations = self.smallest.get(line).map_or(0, |line| line.operations.len());
            for operation in (0..operations).rev() {
                let mut candidate = self.smallest.clone();
                let Some(line) = candidate.get_mut(line).filter(|line| operation < line.operations.len()) else {
                    continue;
                };
                line.operations.remove(operation);
                candidate.retain(|line| !line.operations.is_empty() || line.fault.is_some());
                self.still_fails(candidate).await;
            }
        }
    }

    async fn without_parts(&mut self) {
        let mut part = self.smallest.len().div_ceil(2);
        while part > 0 && !self.is_over {
            let mut from = 0;
            while from < self.smallest.len() && !self.is_over {
                let mut candidate = self.smallest.clone();
                candidate.drain(from..(from + part).min(candidate.len()));
                if !self.still_fails(candidate).await {
                    from += part;
                }
            }
            part = if part == 1 { 0 } else { part.div_ceil(2) };
        }
    }
}

fn pods(plan: &[Line]) -> Vec<usize> {
    let mut pods: Vec<_> = plan.iter().flat_map(|line| line.operations.iter().filter_map(pod_of)).collect();
    pods.sort_unstable();
    pods.dedup();
    pods
}

/// The plan without a pod's operations and the faults aimed at it, and without lines that do nothing.
fn without(plan: &[Line], pod: usize) -> Vec<Line> {
    let is_other = |fault: &Fault| volumes_of(fault).iter().all(|volume| volume / VOLUMES_A_POD != pod);
    let rest = plan.iter().map(|line| Line {
        operations: line.operations.iter().filter(|operation| pod_of(operation) != Some(pod)).cloned().collect(),
        fault: line.fault.clone().filter(is_other),
        wait: line.wait,
    });
    rest.filter(|line| !line.operations.is_empty() || line.fault.is_some()).collect()
}

/// The pod that an operation is about.
fn pod_of(operation: &Operation) -> Option<usize> {
    match operation {
        Operation::Publish { volume, .. } | Operation::Unpublish { volume, .. } | Operation::Stats { volume } => {
            Some(volume / VOLUMES_A_POD)
        }
        Operation::End { pod }
        | Operation::Vanish { pod }
        | Operation::Withdraw { pod }
        | Operation::Entitle { pod } => Some(*pod),
        Operation::Renew { pod } => *pod,
        _ => None,
    }
}

/// The volumes that a fault is about.
fn volumes_of(fault: &Fault) -> Vec<usize> {
    match *fault {
        Fault::Unmount { volume } | Fault::Cover { volume } | Fault::CutRecord { volume } => vec![volume],
        Fault::SwapRecords { volume, with } => vec![volume, with],
        Fault::Aimed { volume, .. } => vec![volume],
        _ => Vec::new(),
    }
}

/// Whether a line is about a volume.
pub(crate) fn names(line: &Line, volume: usize) -> bool {
    let of_fault = line.fault.as_ref().map(volumes_of).unwrap_or_default();
    let is_of_pod = |operation: &Operation| match operation {
        Operation::Publish { volume: one, .. }
        | Operation::Unpublish { volume: one, .. }
        | Operation::Stats { volume: one } => *one == volume,
        other => pod_of(other) == Some(volume / VOLUMES_A_POD),
    };
    of_fault.contains(&volume) || line.operations.iter().any(is_of_pod)
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Aim, Error, Hit, Shape, Supervision};
    use super::*;

    fn publish(volume: usize) -> Operation {
        Operation::Publish { volume, shape: Shape::Files, patience: 1 }
    }

    fn line(operations: Vec<Operation>) -> Line {
        Line { operations, fault: None, wait: 0 }
    }

    fn has(plan: &[Line], wanted: &Operation) -> bool {
        plan.iter().any(|line| line.operations.contains(wanted))
    }

    /// A replayer of a driver that fails in the first line up to which the plan satisfies `fails`, and says it was that volume.
    fn failing(volume: Option<usize>, mut fails: impl FnMut(&[Line]) -> bool) -> impl AsyncFnMut(&[Line]) -> Replayed {
        async move |plan: &[Line]| match (1..=plan.len()).find(|lines| fails(&plan[..*lines])) {
            Some(lines) => Replayed::Failed { lines, volume },
            None => Replayed::Passed,
        }
    }

    /// A plan in which a publish of volume 7 and a later kill matter, and a function that knows it.
    fn kill_after_publish() -> (Vec<Line>, impl FnMut(&[Line]) -> bool) {
        let mut plan: Vec<_> = (0..40).map(|volume| line(vec![publish(volume), publish(volume + 100)])).collect();
        plan[23].operations.push(Operation::Kill);
        let fails = |plan: &[Line]| {
            let killed = plan.iter().position(|line| line.operations.contains(&Operation::Kill));
            let published = plan.iter().position(|line| line.operations.contains(&publish(7)));
            published.is_some_and(|published| killed.is_some_and(|killed| published < killed))
        };
        (plan, fails)
    }

    #[tokio::test]
    async fn what_does_not_matter_is_dropped() {
        let smallest = [line(vec![publish(7)]), line(vec![Operation::Kill])];
        for volume in [None, Some(7)] {
            let (plan, fails) = kill_after_publish();
            let mut kept = Vec::new();
            let shrunk = shrink(plan, failing(volume, fails), |lines| kept.push(lines.len())).await;
            assert_eq!(shrunk.as_deref(), Some(&smallest[..]), "{volume:?}");
            assert_eq!((kept[0], kept.last()), (24, Some(&2)), "what follows the failure is dropped first: {kept:?}");
            assert!(kept.is_sorted_by(|one, next| one >= next), "{kept:?}");
        }
    }

    #[tokio::test]
    async fn a_fault_goes_although_its_line_stays_and_so_do_the_lines_that_only_it_needs() {
        let start = Operation::Start { under: Supervision::Effects };
        let killed = |effect| Line {
            fault: Some(Fault::KillBefore { effect }),
            ..line(vec![start.clone(), Operation::RotateAgent])
        };
        let plan = vec![killed(5), killed(6), killed(7), line(vec![publish(7), Operation::AgentRoot])];
        // Each startup gets a little further, and the last one to its end.
        let fails = |plan: &[Line]| {
            let starts = plan.iter().filter(|line| line.operations.contains(&start));
            let runs = starts.clone().any(|line| line.fault.is_none()) || starts.count() == 3;
            runs && has(plan, &publish(7))
        };
        let shrunk = shrink(plan, failing(None, fails), |_| {}).await;
        assert_eq!(shrunk, Some(vec![line(vec![start.clone()]), line(vec![publish(7)])]));
    }

    #[tokio::test]
    async fn a_failure_that_comes_and_goes_is_not_lost() {
        let plan: Vec<_> = (0..16).map(|volume| line(vec![publish(volume * VOLUMES_A_POD)])).collect();
        let mut replays = 0;
        let fails = async |plan: &[Line]| {
            replays += 1;
            let fails = replays % REPLAYS == 0 && has(plan, &publish(15));
            if fails { Replayed::Failed { lines: plan.len(), volume: None } } else { Replayed::Passed }
        };
        assert_eq!(shrink(plan, fails, |_| {}).await, Some(vec![line(vec![publish(15)])]));
    }

    #[tokio::test]
    async fn what_needs_everything_stays_whole() {
        let plan: Vec<_> = (0..9).map(|volume| line(vec![publish(volume * VOLUMES_A_POD)])).collect();
        let whole = plan.clone();
        let shrunk = shrink(plan.clone(), failing(None, move |plan| plan == whole), |_| {}).await;
        assert_eq!(shrunk, Some(plan));
    }

    #[tokio::test]
    async fn a_plan_that_does_not_fail_has_no_smallest_part() {
        assert_eq!(shrink(vec![line(vec![publish(1)])], failing(None, |_| false), |_| panic!("kept")).await, None);
    }

    #[tokio::test]
    async fn when_the_time_is_over_the_smallest_so_far_is_kept() {
        let (plan, fails) = kill_after_publish();
        let mut replay = failing(Some(7), fails);
        let (mut replays, mut kept) = (0, Vec::new());
        let in_time = async |plan: &[Line]| {
            replays += 1;
            if replays > 3 { Replayed::OutOfTime } else { replay(plan).await }
        };
        let shrunk = shrink(plan, in_time, |lines| kept = lines.to_vec()).await.unwrap();
        assert_eq!((replays, &shrunk), (4, &kept));
        assert!((2..24).contains(&shrunk.len()), "{}", shrunk.len());
    }

    #[test]
    fn a_pod_goes_with_the_faults_that_are_aimed_at_it() {
        let hit = Hit::FailOnce(Error::Eio);
        let fault = Fault::Aimed { volume: 7, aim: Aim::Record, nth: 1, hit };
        let plan = [Line { fault: Some(fault), ..line(vec![publish(7)]) }, line(vec![publish(8), publish(9)])];
        assert_eq!(without(&plan, 7 / VOLUMES_A_POD), [line(vec![publish(9)])]);
    }
}
