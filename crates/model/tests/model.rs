//! Every state of a volume has every property, and mistakes in the driver's steps are found.

#![allow(clippy::print_stdout, reason = "a violation is reported as a story")]

use std::time::Instant;

use svid_csi_model::{Budget, Mutation, Property, search};

const NOTHING: Budget = Budget {
    kills: 0,
    faults: 0,
    looks: 0,
    given_up: 0,
    specs: 0,
    renewals: 0,
    withdrawals: 0,
    restarts: 0,
    foreign: 0,
    losses: 0,
    unmounts: 0,
};

/// Asserts that every state within the budget has every property.
#[track_caller]
fn keeps_every_property(budget: Budget) {
    let begun = Instant::now();
    let found = search(budget, None, None);
    let (states, steps, checks) = (found.states, found.steps, found.moments);
    println!("{budget:?}: {states} states, {steps} steps, {checks} checks, {:?}", begun.elapsed());
    for (property, story) in &found.broken {
        println!("\n{property:?} is broken:\n{story}");
    }
    assert_eq!(found.broken.len(), 0, "see the stories above");
}

/// Asserts that the search finds a violation of that property.
#[track_caller]
fn breaks(budget: Budget, mutation: Mutation, property: Property) {
    let found = search(budget, Some(mutation), Some(property));
    let story = found.broken.iter().find(|(broken, _)| *broken == property);
    let (_, story) = story.unwrap_or_else(|| panic!("{mutation:?} does not break {property:?}"));
    println!("\n{mutation:?} breaks {property:?}:\n{story}");
}

#[test]
fn one_spec_keeps_every_property() {
    keeps_every_property(Budget { kills: 2, faults: 2, looks: 1, given_up: 1, ..NOTHING });
}

#[test]
fn another_spec_keeps_every_property() {
    keeps_every_property(Budget { kills: 1, faults: 2, looks: 1, specs: 1, ..NOTHING });
}

#[test]
fn another_spec_and_back_keeps_every_property() {
    keeps_every_property(Budget { kills: 1, faults: 1, specs: 2, ..NOTHING });
}

#[test]
fn renewals_and_withdrawals_keep_every_property() {
    keeps_every_property(Budget { kills: 1, faults: 1, renewals: 1, withdrawals: 2, ..NOTHING });
    keeps_every_property(Budget { faults: 1, specs: 1, renewals: 1, withdrawals: 1, ..NOTHING });
}

#[test]
fn foreign_mounts_keep_every_property() {
    keeps_every_property(Budget { kills: 1, faults: 1, looks: 1, specs: 1, foreign: 1, ..NOTHING });
}

#[test]
fn a_restarted_kubelet_keeps_every_property() {
    keeps_every_property(Budget { kills: 1, faults: 1, looks: 1, given_up: 1, restarts: 2, ..NOTHING });
    keeps_every_property(Budget { faults: 1, looks: 1, specs: 1, restarts: 1, ..NOTHING });
}

#[test]
fn a_lost_tmpfs_keeps_every_property() {
    keeps_every_property(Budget { kills: 1, faults: 1, looks: 1, specs: 1, losses: 1, ..NOTHING });
}

#[test]
fn an_unmounted_volume_keeps_every_property() {
    keeps_every_property(Budget { kills: 1, faults: 1, specs: 1, unmounts: 1, ..NOTHING });
    keeps_every_property(Budget { kills: 1, faults: 1, looks: 1, losses: 1, unmounts: 1, ..NOTHING });
}

#[test]
#[ignore = "millions of states: cargo test --profile bench -p svid-csi-model --test model -- --ignored"]
fn everything_at_once_keeps_every_property() {
    let budget = Budget { looks: 1, given_up: 1, specs: 1, withdrawals: 1, ..NOTHING };
    keeps_every_property(Budget { kills: 1, faults: 1, renewals: 2, foreign: 1, ..budget });
    keeps_every_property(Budget { kills: 2, faults: 2, renewals: 1, ..budget });
    keeps_every_property(Budget { kills: 1, faults: 1, renewals: 1, losses: 1, ..budget });
}

#[test]
fn mistakes_are_found() {
    let fault = Budget { faults: 1, ..NOTHING };
    let kill = Budget { kills: 1, ..NOTHING };
    let republish = Budget { specs: 1, ..NOTHING };
    let mistakes = [
        (Mutation::RecordAfterMemory, fault, Property::P2),
        (Mutation::FinalAfterEffects, fault, Property::P3),
        (Mutation::FinalThoughPublished, Budget { looks: 1, given_up: 1, ..NOTHING }, Property::P3),
        (Mutation::FinalThoughPublished, Budget { looks: 1, restarts: 1, ..NOTHING }, Property::P3),
        (Mutation::UnreadIsUnknown, Budget { looks: 1, foreign: 1, ..kill }, Property::P7),
        (Mutation::UnreadIsOrphan, Budget { looks: 1, ..kill }, Property::P1),
        (Mutation::StartOnlyOnce, Budget { faults: 1, withdrawals: 1, ..kill }, Property::P3),
        (Mutation::StartOnlyOnce, Budget { looks: 1, ..kill }, Property::P1),
        (Mutation::TimerDropsReady, fault, Property::P6),
        (Mutation::ForeignTakenForOurs, Budget { foreign: 1, ..NOTHING }, Property::P7),
        (Mutation::MountsOnTop, republish, Property::P4),
        (Mutation::AuditAfterwards, NOTHING, Property::P9),
        (Mutation::NotAnnounced, Budget { faults: 1, withdrawals: 1, ..republish }, Property::P5),
        (Mutation::NotAnnounced, Budget { faults: 1, renewals: 1, withdrawals: 2, ..NOTHING }, Property::P5),
        (Mutation::NotAnnounced, Budget { faults: 1, specs: 2, ..NOTHING }, Property::P1),
        (Mutation::UnsettledIsPublished, Budget { faults: 1, specs: 2, ..NOTHING }, Property::P1),
        (Mutation::UnsettledIsPublished, Budget { faults: 1, specs: 2, ..NOTHING }, Property::P10),
        (Mutation::WithdrawalKeepsFiles, Budget { withdrawals: 1, ..NOTHING }, Property::P5),
        (Mutation::WithdrawalForgotten, Budget { withdrawals: 1, ..kill }, Property::P5),
        (Mutation::HiddenTakenForGone, Budget { faults: 1, withdrawals: 1, ..kill }, Property::P5),
        (Mutation::MountTakenForFolder, republish, Property::P10),
        (Mutation::DetachFirst, Budget { looks: 1, ..republish }, Property::P8),
        (Mutation::FormerMountLost, Budget { faults: 1, ..republish }, Property::P8),
        (Mutation::CloneBypassed, Budget { losses: 1, unmounts: 1, ..kill }, Property::P1),
        (Mutation::UnseenDataReplaced, Budget { looks: 1, ..kill }, Property::P1),
        (Mutation::NamesLeft, Budget { faults: 1, ..republish }, Property::P8),
    ];
    for (mutation, budget, property) in mistakes {
        breaks(budget, mutation, property);
    }
}
