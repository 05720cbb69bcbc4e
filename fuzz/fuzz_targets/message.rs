//! Messages of agents with SVIDs: what is accepted obeys the rules, fits into a message, and is the same when it is stored
//! and read again, or sent on to the pod.
#![no_main]

use std::collections::BTreeSet;
use std::time::{Duration, UNIX_EPOCH};

use libfuzzer_sys::fuzz_target;
use prost::Message;
use svid_csi::fuzzing::{MOST_BYTES, bundles, read, read_for_workload, read_own, svids};
use svid_csi_core::spiffe_id::TrustDomain;
use svid_csi_core::x509_context::{MAX_SVIDS, X509Context, split};
use svid_csi_fuzz::{now, svid};
use svid_csi_proto::workload::X509svidResponse;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

// A 0 is followed by a message; a 4 by a position, a number of bytes to remove from a good one, and those to insert there;
// any other byte by steps that build one: which, the size of its text, and this.
fuzz_target!(|input: &[u8]| {
    let [kind, rest @ ..] = input else { return };
    let message = match kind {
        0 => X509svidResponse::decode(rest).ok(),
        4 => spliced(rest),
        _ => Some(built(rest)),
    };
    let Some(message) = message else { return };
    let now = match kind {
        2 => UNIX_EPOCH,
        3 => UNIX_EPOCH + Duration::from_secs(1 << 40),
        _ => now(),
    };
    let for_workload = read_for_workload(message.clone(), now);
    match read(message, now) {
        Ok(context) => {
            assert_eq!(for_workload.expect("a workload accepts it, too").digest(), context.digest());
            check(&context);
            let message = svids(&context);
            assert!(message.encoded_len() <= MOST_BYTES);
            let stored = read_own(message.clone(), now).expect("the driver reads what it stored");
            assert_eq!((stored.digest(), stored.held()), (context.digest(), context.held()));
            let sent = read(message, now).expect("a workload reads what it is sent");
            assert_eq!((sent.digest(), sent.held()), (context.digest(), context.held()));
        }
        Err(error) => assert_one_line(&error.to_string()),
    }
});

fn check(context: &X509Context) {
    let ids = context.svids();
    assert!((1..=MAX_SVIDS).contains(&ids.len()));
    let hints: Vec<_> = ids.iter().map(|svid| &svid.hint).filter(|hint| !hint.is_empty()).collect();
    assert_eq!(hints.iter().collect::<BTreeSet<_>>().len(), hints.len(), "hints are distinct");
    for svid in ids {
        let identity = &svid.identity;
        assert_eq!(identity.id().trust_domain(), context.trust_domain());
        let (_, leaf) = x509_parser::certificate::X509Certificate::from_der(&identity.chain()[0]).expect("a leaf");
        assert_eq!(leaf.tbs_certificate.subject_pki.raw, identity.key().public_key_der());
        let names = leaf.extensions().iter().filter_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => Some(names.general_names.clone()),
            _ => None,
        });
        let uris = names.flatten().filter(|name| matches!(name, GeneralName::URI(_))).collect::<Vec<_>>();
        assert_eq!(uris, [GeneralName::URI(identity.id().as_str())]);
    }
    assert!(!context.federated().contains_key(context.trust_domain()));
    let all = bundles(context).bundles;
    assert_eq!(all.len(), context.bundles().count());
    for (name, bundle) in all {
        TrustDomain::parse(name.strip_prefix("spiffe://").expect("a trust domain")).expect("its name");
        assert!(!split(&bundle).expect("it is read back").is_empty());
    }
    context.damaged().values().for_each(|problem| assert_one_line(problem));
}

fn assert_one_line(text: &str) {
    assert!(!text.is_empty() && !text.contains(|c: char| c.is_control()), "{text:?}");
}

fn spliced(edit: &[u8]) -> Option<X509svidResponse> {
    let [high, low, cut, text @ ..] = edit else { return None };
    let mut bytes = X509svidResponse { svids: vec![svid(&[])], ..Default::default() }.encode_to_vec();
    let start = bytes.len().min(usize::from(u16::from_be_bytes([*high, *low])));
    let end = bytes.len().min(start + usize::from(*cut));
    bytes.splice(start..end, text.iter().copied());
    X509svidResponse::decode(&*bytes).ok()
}

fn built(mut steps: &[u8]) -> X509svidResponse {
    let mut message = X509svidResponse::default();
    while let [step, size, rest @ ..] = steps {
        let (text, rest) = rest.split_at(rest.len().min(usize::from(*size)));
        steps = rest;
        let word = || String::from_utf8_lossy(text).into_owned();
        let good = svid(&[]);
        match (step % 9, message.svids.last_mut()) {
            (0, _) => message.svids.push(svid(text)),
            (1, _) => message.svids.push(svid_csi_proto::workload::X509svid { hint: word(), ..good }),
            (2, _) => _ = message.federated_bundles.insert(format!("spiffe://{}", word()), good.bundle),
            (3, _) => _ = message.federated_bundles.insert(word(), text.to_vec()),
            (4, _) => message.crl.push(text.to_vec()),
            (5, Some(last)) => last.spiffe_id = word(),
            (6, Some(last)) => last.bundle.extend(text),
            (7, Some(last)) => last.x509_svid.extend(text),
            (_, Some(last)) => last.x509_svid_key.truncate(usize::from(*size)),
            (_, None) => {}
        }
    }
    message
}
