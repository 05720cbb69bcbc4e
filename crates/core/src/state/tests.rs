use std::time::UNIX_EPOCH;

use super::*;
use crate::files::Layout;
use crate::plan::Issuer;
use crate::target::TargetPath;
use crate::volume::{FilesSpec, SocketSpec, Subject};
use crate::volume_id::VolumeId;

fn record(phase: Phase) -> Record {
    let spec = VolumeSpec {
        id: VolumeId::parse("csi-1").unwrap(),
        target: TargetPath::parse("/pods/u/volumes/kubernetes.io~csi/v/mount").unwrap(),
        read_only: false,
        pod: None,
        content: Content::Passthrough,
    };
    Record { phase, ..Record::intended("csi.spiffe.io", spec.into(), None) }
}

/// The same volume, filled by the driver.
fn sockets(spec: &VolumeSpec) -> VolumeSpec {
    let subject = Subject { issuer: Issuer::LocalCa, identity: None, hint: None };
    let sockets = SocketSpec { subject, sockets: Vec::new(), secrets: Box::default() };
    VolumeSpec { content: Content::WorkloadApi(sockets), ..spec.clone() }
}

fn issued(serial: &str) -> Issued {
    Issued {
        serial: serial.to_owned(),
        validity: Validity { not_before: UNIX_EPOCH, not_after: UNIX_EPOCH },
        spiffe_id: None,
        bundle_digest: "ab".to_owned(),
        bundle_text: None,
        digest: Some("ef".to_owned()),
        untrusted: None,
        jwt: None,
    }
}

#[test]
fn every_state_of_the_node_has_its_step() {
    use self::{Phase::*, Pod::*, Target::*};
    let table = [
        (Ready, Ours, Present, Step::Serve),
        (Ready, Ours, Unknown, Step::Serve),
        (Ready, Folder, Present, Step::Mount),
        (Ready, Missing, Present, Step::Mount),
        (Ready, Missing, Unknown, Step::LeaveAlone),
        (Ready, Missing, Gone, Step::Remove),
        (Ready, Foreign, Present, Step::LeaveAlone),
        (Intended, Ours, Present, Step::AwaitPublish),
        (Intended, Folder, Present, Step::AwaitPublish),
        (Intended, Missing, Gone, Step::Remove),
        (Intended, Foreign, Present, Step::LeaveAlone),
        (Removing, Ours, Present, Step::Remove),
        (Removing, Folder, Unknown, Step::Remove),
        (Removing, Missing, Gone, Step::Remove),
        (Removing, Foreign, Present, Step::LeaveAlone),
    ];
    for (phase, target, pod, step) in table {
        let observed = Observed { target, pod, data: false };
        assert_eq!(recover(&record(phase), observed), step, "{phase:?} {target:?} {pod:?}");
    }
}

#[test]
fn a_volume_is_mounted_again_only_with_its_data() {
    for target in [Target::Folder, Target::Missing] {
        for (filled, data, step) in [
            (true, true, Step::Mount),
            (true, false, Step::AwaitPublish),
            (false, true, Step::Mount),
            (false, false, Step::Mount),
        ] {
            let mut record = record(Phase::Ready);
            if filled {
                record.spec = sockets(&record.spec).into();
            }
            let observed = Observed { target, pod: Pod::Present, data };
            assert_eq!(recover(&record, observed), step, "{target:?} filled={filled} data={data}");
        }
    }
}

#[test]
fn only_the_volume_of_a_pod_that_is_gone_and_one_that_was_being_removed_are_removed() {
    use self::{Phase::*, Pod::*, Target::*};
    for phase in [Intended, Ready, Removing] {
        for pod in [Present, Gone, Unknown] {
            for target in [Missing, Folder, Ours, Foreign] {
                for data in [true, false] {
                    let removes = (phase == Removing && target != Foreign) || (pod == Gone && target == Missing);
                    let step = recover(&record(phase), Observed { target, pod, data });
                    assert_eq!(step == Step::Remove, removes, "{phase:?} {pod:?} {target:?}");
                    assert_eq!(
                        step == Step::LeaveAlone,
                        target == Foreign || (phase, pod, target) == (Ready, Unknown, Missing)
                    );
                }
            }
        }
    }
}

#[test]
fn an_announced_identity_is_known_before_it_is_delivered() {
    let mut record = record(Phase::Ready);
    let (passthrough, filled) = (record.spec.clone(), sockets(&record.spec));
    record.withdrawn = true;
    record.announce(&passthrough, issued("01"));
    assert!(record.is_settled() && !record.withdrawn, "the same spec");
    assert_eq!(record.issued, Some(Issued { digest: None, ..issued("01") }), "nothing was delivered yet");
    record.give(Some(issued("01")));
    record.announce(&filled, issued("02"));
    assert_eq!(record.issued, Some(Issued { digest: None, ..issued("01") }), "the earlier one comes first");
    assert!(record.unsettled && !record.is_settled());
    record.announce(&passthrough, issued("03"));
    assert!(record.unsettled, "until a publish has succeeded");
    record.settle();
    assert!(record.is_settled());
}

#[test]
fn an_identity_that_is_given_ends_a_withdrawal_and_one_that_ended_is_forgotten() {
    let mut record = record(Phase::Ready);
    record.withdrawn = true;
    record.give(Some(issued("01")));
    assert_eq!((record.withdrawn, &record.issued), (false, &Some(issued("01"))));
    (record.withdrawn, record.unsettled) = (true, true);
    record.end_identity();
    assert_eq!((record.withdrawn, record.unsettled, &record.issued), (false, false, &None));
}

#[test]
fn a_passthrough_volume_is_settled_once_its_files_are_gone() {
    let id = |inode| Some(FileId { device: 1, inode });
    let mut record = record(Phase::Ready);
    let (passthrough, filled) = (record.spec.clone(), Arc::new(sockets(&record.spec)));
    assert!(record.is_settled());
    record.show(id(1), filled, None);
    assert!(record.is_settled(), "its files are its own");
    record.show(id(2), passthrough.clone(), id(1));
    assert!(!record.is_settled(), "the pod may still read the files");
    record.settle();
    assert!(record.is_settled());
    record.show(id(2), passthrough, id(2));
    assert_eq!((record.root, record.formerly), (id(2), None), "the same folder is not a former one");
}

#[test]
fn a_volume_that_was_taken_over_keeps_its_names_and_its_group() {
    let names = FileNames { bundle: None, ..Layout::Pem.names() };
    let subject = Subject { issuer: Issuer::LocalCa, identity: None, hint: None };
    let asked = |fs_group| {
        let files =
            FilesSpec { subject: subject.clone(), names: Layout::Pem.names(), fs_group, extras: Box::default() };
        VolumeSpec { content: Content::Files(files), ..VolumeSpec::clone(&record(Phase::Ready).spec) }
    };
    for (known, requested, group) in [(Some(1), None, Some(1)), (Some(1), Some(2), Some(2)), (None, Some(2), Some(2))] {
        let shaped = Adopted { names: names.clone(), fs_group: known }.shape(&asked(requested));
        let Content::Files(files) = &shaped.content else { panic!("files: {shaped:?}") };
        assert_eq!((&files.names, files.fs_group), (&names, group));
    }
}

#[test]
fn a_phase_has_the_name_that_is_recorded() {
    for phase in [Phase::Intended, Phase::Ready, Phase::Removing] {
        assert_eq!(serde_json::to_value(phase).unwrap(), phase.name());
    }
}

#[test]
fn an_unknown_size_is_not_recorded() {
    let mut record = record(Phase::Ready);
    assert!(!String::from_utf8(record.to_json()).unwrap().contains("bytes"));
    record.bytes = 7;
    assert_eq!(Record::from_json(&record.to_json()).unwrap().bytes, 7);
}

#[test]
fn a_passthrough_volume_knows_what_it_has_left_to_be_emptied() {
    let id = |inode| Some(FileId { device: 1, inode });
    let mut record = record(Phase::Ready);
    let passthrough = record.spec.clone();
    record.show(id(1), passthrough.clone(), None);
    record.show(id(2), passthrough.clone(), id(1));
    assert_eq!((record.formerly, record.filled()), (id(1), None), "both are the agent's");
    record.show(id(3), sockets(&passthrough).into(), id(2));
    assert_eq!((record.formerly, record.filled()), (id(2), id(3)));
    // The agent may create its directory again and again, while the former one stays mounted or nothing is mounted.
    for mounted in [id(3), id(3), None] {
        for root in [2, 4, 5] {
            record.show(id(root), passthrough.clone(), mounted);
            assert_eq!((record.root, record.formerly, record.filled()), (id(root), id(3), id(3)), "{mounted:?}");
        }
    }
    assert_eq!(Record::from_json(&record.to_json()).unwrap(), record);
    record.settle();
    assert_eq!((record.formerly, record.filled()), (None, None));
}

#[test]
fn a_record_reads_back_as_written() {
    let record = record(Phase::Ready);
    assert_eq!(Record::from_json(&record.to_json()).unwrap(), record);
}

#[test]
fn records_of_an_identity_are_those_of_other_versions() {
    let mut record = record(Phase::Ready);
    record.issued = Some(Issued { bundle_text: Some("cd".into()), digest: None, ..issued("01") });
    let json = record.to_json();
    assert_eq!(Record::from_json(&json).unwrap(), record);
    let earlier = String::from_utf8(json).unwrap().replace(r#","bundle_text":"cd""#, "");
    record.issued.as_mut().unwrap().bundle_text = None;
    assert_eq!(Record::from_json(earlier.as_bytes()).unwrap(), record);
    let later = earlier.replace(r#""serial""#, r#""something_new":"1","serial""#);
    assert_eq!(Record::from_json(later.as_bytes()).unwrap(), record, "what this version does not know is ignored");
}

#[test]
fn a_record_cut_anywhere_is_garbled_and_never_a_panic() {
    let json = record(Phase::Ready).to_json();
    for length in 0..json.len() {
        assert!(matches!(Record::from_json(&json[..length]), Err(RecordError::Garbled(_))), "{length}");
    }
}

#[test]
fn a_record_of_a_later_version_says_so() {
    let newer = br#"{"version":2,"shape":"unknown"}"#;
    assert!(matches!(Record::from_json(newer), Err(RecordError::Newer(2))));
}
