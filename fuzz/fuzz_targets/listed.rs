//! Certificate requests that the API server lists, as the approver and the driver read them: both read the same, a decision
//! changes nothing but its condition, the memory they take is bounded, and what is deleted is forgotten.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use svid_csi::fuzzing::approver::ListedRequest;
use svid_csi::fuzzing::requests::{KnownRequests, WatchReport, judged};
use svid_csi::kube::cert_request::CertificateRequest;
use svid_csi_core::cert_request::Condition;

// Lines of a letter and an object: an object of a list, a changed or a deleted one, or another letter for the begin or end of
// a list.
fuzz_target!(|input: &[u8]| {
    let (known, mut objects) = (KnownRequests::default(), Vec::new());
    for line in input.split(|byte| *byte == b'\n') {
        let [letter, json @ ..] = line else { continue };
        let report = match letter {
            b'l' => WatchReport::Listed,
            b'c' => WatchReport::Changed,
            b'd' => WatchReport::Deleted,
            b'b' => {
                known.listing_begins();
                continue;
            }
            _ => {
                known.listing_ends();
                continue;
            }
        };
        let listed = ListedRequest::read(json).ok();
        if let Some(listed) = &listed {
            check(listed, json);
        }
        let Ok(object) = serde_json::from_slice::<CertificateRequest>(json) else { continue };
        if let Some(listed) = listed {
            assert_eq!(listed.request(), judged(&object));
        }
        known.take(report, &object);
        assert!(known.held() <= objects.len() + 1);
        objects.push(object);
    }
    known.listing_ends();
    objects.iter().for_each(|object| known.take(WatchReport::Deleted, object));
    assert_eq!(known.held(), 0);
});

fn check(listed: &ListedRequest, json: &[u8]) {
    assert!(listed.weight() <= 4096 + 8 * json.len(), "{} for {}", listed.weight(), json.len());
    // The fields that are not read may contain what is not JSON, which no API server sends.
    let Ok(read) = serde_json::from_slice::<Value>(json) else { return };
    let written: Value = serde_json::from_slice(&listed.with(&CONDITION).expect("JSON")).expect("JSON");
    for name in ["name", "namespace", "uid", "resourceVersion"] {
        assert_eq!(written["metadata"][name], read["metadata"][name]);
    }
    let conditions = written["status"]["conditions"].as_array().expect("a list");
    let decided = serde_json::to_value(&*CONDITION).expect("JSON");
    let (last, others) = conditions.split_last().expect("the new one");
    assert_eq!(*last, decided);
    let former = read["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let former: Vec<_> = former.into_iter().filter(|condition| condition["type"] != decided["type"]).collect();
    assert_eq!(others, former);
    let mut rest = written["status"].clone();
    rest["conditions"] = Value::Null;
    let mut before = read["status"].clone();
    if !before.is_object() {
        before = Value::Object(serde_json::Map::new());
    }
    before["conditions"] = Value::Null;
    assert_eq!(rest, before);
}

static CONDITION: LazyLock<Condition> = LazyLock::new(|| Condition {
    kind: "Approved".to_owned(),
    status: "True".to_owned(),
    reason: "spiffe.csi.cert-manager.io".to_owned(),
    ..Condition::default()
});
