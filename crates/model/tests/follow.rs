//! What the model says that can be seen of a volume, which depends on the order of the driver's steps.

use svid_csi_core::state::Phase;
use svid_csi_model::{Belief, Budget, Followed, Names, Seen, SeenRecord, SeenRoot, Spec, Step};

const NOTHING: Seen = Seen {
    record: None,
    folder: false,
    shown: None,
    is_recorded: false,
    beside: false,
    names: [Names::Missing; 2],
    mounts: [None; 3],
    target: false,
};

const INTENDED: SeenRecord = SeenRecord {
    phase: Phase::Intended,
    spec: Spec::A,
    root: Some(SeenRoot::Folder),
    formerly: None,
    unsettled: false,
    issued: None,
    withdrawn: false,
};

const READY: SeenRecord = SeenRecord { phase: Phase::Ready, issued: Some(true), ..INTENDED };

/// The files of an intended volume are complete.
const WRITTEN: Seen = Seen {
    record: Some(INTENDED),
    folder: true,
    shown: Some(Spec::A),
    names: [Names::Complete, Names::Missing],
    ..NOTHING
};

const PUBLISHED: Seen = Seen {
    record: Some(READY),
    is_recorded: true,
    mounts: [Some(SeenRoot::Folder), None, None],
    target: true,
    ..WRITTEN
};

fn killed_during(before: &[Step], step: Step) -> Followed {
    Followed::normally(Spec::A, before, Budget { kills: 1, ..Budget::default() }).then(step)
}

#[test]
fn a_publish_leads_to_the_moments_between_its_effects() {
    let publish = killed_during(&[], Step::Publish);
    let linking = Seen { shown: None, beside: true, names: [Names::Partial, Names::Missing], ..WRITTEN };
    for seen in
        [NOTHING, Seen { folder: true, ..NOTHING }, linking, WRITTEN, Seen { target: true, ..WRITTEN }, PUBLISHED]
    {
        assert!(publish.explains(&seen), "{seen:?}");
    }
    assert!(publish.ends_as(&PUBLISHED, Belief::Mounted) && !publish.ends_as(&PUBLISHED, Belief::Unmounted));
}

#[test]
fn a_kill_while_names_are_linked_leaves_some_of_them() {
    let restarted = killed_during(&[], Step::Publish).then(Step::Start);
    let some = [Names::Partial, Names::Missing];
    assert!(restarted.explains(&Seen { shown: None, beside: true, names: some, ..WRITTEN }));
    for never in [WRITTEN, PUBLISHED] {
        assert!(!restarted.explains(&Seen { names: some, ..never }), "{never:?}");
    }
}

#[test]
fn a_startup_that_changes_nothing_may_be_killed_too() {
    let start = killed_during(&[Step::Publish, Step::Kill], Step::Start);
    assert!(!start.clone().then(Step::Start).explains(&PUBLISHED), "the model kills only before an effect");
    assert!(start.and(Step::Kill).then(Step::Start).explains(&PUBLISHED));
}

#[test]
fn another_order_leads_elsewhere() {
    let publish = killed_during(&[], Step::Publish);
    let record_before_folder = Seen { record: Some(INTENDED), ..NOTHING };
    let mounted_before_recorded = Seen { folder: true, target: true, mounts: PUBLISHED.mounts, ..NOTHING };
    let ready_before_mounted = Seen { mounts: NOTHING.mounts, ..PUBLISHED };
    let mounted_before_written = Seen { shown: None, names: NOTHING.names, is_recorded: false, ..PUBLISHED };
    let partial = [Names::Partial, Names::Missing];
    let names_before_files = Seen { names: partial, record: Some(INTENDED), folder: true, ..NOTHING };
    let all = [
        record_before_folder,
        mounted_before_recorded,
        ready_before_mounted,
        mounted_before_written,
        names_before_files,
    ];
    for seen in all {
        assert!(!publish.explains(&seen), "{seen:?}");
    }
}

#[test]
fn a_removal_is_seen_as_it_proceeds() {
    let unpublish = killed_during(&[Step::Publish, Step::DeletePod], Step::Unpublish);
    let removing = SeenRecord { phase: Phase::Removing, ..READY };
    let unmounted = Seen { record: Some(removing), mounts: NOTHING.mounts, ..PUBLISHED };
    let unlinked = Seen { shown: None, is_recorded: false, beside: true, ..unmounted };
    for seen in [PUBLISHED, Seen { record: Some(removing), ..PUBLISHED }, unmounted, unlinked, NOTHING] {
        assert!(unpublish.explains(&seen), "{seen:?}");
    }
    let unmounted_before_recorded = Seen { mounts: NOTHING.mounts, ..PUBLISHED };
    assert!(!unpublish.explains(&unmounted_before_recorded));
}
