//! Records on disk: one that is read is the same when it was written and read again, and every state of its volume has one
//! step of recovery, which removes nothing of a pod that may exist.
#![no_main]

use libfuzzer_sys::fuzz_target;
use svid_csi_core::state::{Observed, Phase, Pod, Record, Step, Target, recover};

fuzz_target!(|json: &[u8]| {
    let Ok(record) = Record::from_json(json) else { return };
    assert_eq!(Record::from_json(&record.to_json()).expect("it is read back"), record);
    for target in [Target::Missing, Target::Folder, Target::Ours, Target::Foreign] {
        for pod in [Pod::Present, Pod::Gone, Pod::Unknown] {
            for data in [true, false] {
                let step = recover(&record, Observed { target, pod, data });
                let may_go = record.phase == Phase::Removing || (pod == Pod::Gone && target == Target::Missing);
                assert!(step != Step::Remove || may_go, "{step:?} of {record:?}");
                assert!(target != Target::Foreign || step == Step::LeaveAlone, "{step:?} of {record:?}");
            }
        }
    }
});
