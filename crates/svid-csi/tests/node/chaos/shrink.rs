//! The smallest part of a plan that still fails.

use super::plan::{Fault, Line, Operation, VOLUMES_A_POD};

/// How often a candidate is replayed before it counts as one that does not fail.
pub(crate) const REPLAYS: usize = 3;

/// Removes from a plan that fails first large parts, then lines, then pods, as long as it still fails.
pub(crate) async fn shrink(plan: Vec<Line>, mut fails: impl AsyncFnMut(&[Line]) -> bool) -> Vec<Line> {
    let mut fails_once = async |candidate: &[Line]| {
        for _ in 0..REPLAYS {
            if fails(candidate).await {
                return true;
            }
        }
        false
    };
    let mut plan = plan;
    let mut part = plan.len().div_ceil(2);
    while part > 0 && !plan.is_empty() {
        let mut from = 0;
        while from < plan.len() {
            let mut candidate = plan.clone();
            candidate.drain(from..(from + part).min(plan.len()));
            if !candidate.is_empty() && fails_once(&candidate).await {
                plan = candidate;
            } else {
                from += part;
            }
        }
        part = if part == 1 { 0 } else { part.div_ceil(2) };
    }
    for pod in pods(&plan) {
        let candidate = without(&plan, pod);
        if !candidate.is_empty() && candidate != plan && fails_once(&candidate).await {
            plan = candidate;
        }
    }
    plan
}

fn pods(plan: &[Line]) -> Vec<usize> {
    let mut pods: Vec<_> = plan.iter().flat_map(|line| line.operations.iter().filter_map(pod_of)).collect();
    pods.sort_unstable();
    pods.dedup();
    pods
}

/// The plan without a pod's operations, and without lines that do nothing.
fn without(plan: &[Line], pod: usize) -> Vec<Line> {
    let rest = plan.iter().map(|line| {
        let operations = line.operations.iter().filter(|operation| pod_of(operation) != Some(pod)).cloned().collect();
        Line { operations, ..line.clone() }
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

/// Whether a line is about a volume.
pub(crate) fn names(line: &Line, volume: usize) -> bool {
    let of_fault = match line.fault {
        Some(Fault::Unmount { volume } | Fault::Cover { volume } | Fault::CutRecord { volume }) => vec![volume],
        Some(Fault::SwapRecords { volume, with }) => vec![volume, with],
        _ => Vec::new(),
    };
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
    use super::super::plan::Shape;
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

    #[tokio::test]
    async fn what_does_not_matter_is_dropped() {
        let mut plan: Vec<_> = (0..40).map(|volume| line(vec![publish(volume), publish(volume + 100)])).collect();
        plan[23].operations.push(Operation::Kill);
        let needed = publish(7);
        let fails = async |plan: &[Line]| {
            let killed = plan.iter().position(|line| line.operations.contains(&Operation::Kill));
            let published = plan.iter().position(|line| line.operations.contains(&needed));
            published.is_some_and(|published| killed.is_some_and(|killed| published < killed))
        };
        let shrunk = shrink(plan, fails).await;
        assert_eq!(shrunk, [line(vec![needed.clone()]), line(vec![Operation::Kill])]);
    }

    #[tokio::test]
    async fn a_failure_that_comes_and_goes_is_not_lost() {
        let plan: Vec<_> = (0..16).map(|volume| line(vec![publish(volume * VOLUMES_A_POD)])).collect();
        let mut replays = 0;
        let fails = async |plan: &[Line]| {
            replays += 1;
            replays % REPLAYS == 0 && has(plan, &publish(15))
        };
        assert_eq!(shrink(plan, fails).await, [line(vec![publish(15)])]);
    }

    #[tokio::test]
    async fn what_needs_everything_stays_whole() {
        let plan: Vec<_> = (0..9).map(|volume| line(vec![publish(volume * VOLUMES_A_POD)])).collect();
        let whole = plan.clone();
        assert_eq!(shrink(plan, async |plan: &[Line]| plan == whole).await, whole);
    }
}
