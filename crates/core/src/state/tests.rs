use std::time::UNIX_EPOCH;

use super::*;
use crate::plan::Issuer;
use crate::target::TargetPath;
use crate::volume::{SocketSpec, Subject};
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
fn a_passthrough_volume_knows_what_it_has_left_to_be_emptied() {
    let id = |inode| Some(FileId { device: 1, inode });
    let mut record = record(Phase::Ready);
    let passthrough = record.spec.clone();
    record.show(id(1), passthrough.clone(), None);
    record.show(id(2), passthrough.clone(), id(1));
    assert_eq!((record.formerly, record.filled()), (id(1), None), "both are the agent's");
    let sockets = SocketSpec {
        subject: Subject { issuer: Issuer::LocalCa, identity: None, hint: None },
        sockets: Vec::new(),
        secrets: Box::default(),
    };
    let filled = VolumeSpec { content: Content::WorkloadApi(sockets), ..VolumeSpec::clone(&passthrough) };
    record.show(id(3), filled.into(), id(2));
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
    let validity = Validity { not_before: UNIX_EPOCH, not_after: UNIX_EPOCH };
    let (serial, bundle_digest) = ("01".to_owned(), "ab".to_owned());
    let (spiffe_id, digest, untrusted, jwt) = (None, None, None, None);
    let bundle_text = Some("cd".into());
    record.issued = Some(Issued { serial, validity, spiffe_id, bundle_digest, bundle_text, digest, untrusted, jwt });
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
