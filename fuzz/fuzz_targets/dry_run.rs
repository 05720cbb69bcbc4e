//! The approver's judgement of any object: a request is approved only if it obeys the rules, written here once more, and if
//! the pods behind it do; a dry run has one printable line for each request, or judges nothing. YAML and JSON read the same.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use svid_csi::approver::dry_run;
use svid_csi::fuzzing::approver::{input, pod};
use svid_csi_core::approve::{Lookup, Mode, PodFacts, Policy, Request, Verdict, judge};
use svid_csi_core::cert_request::{CertificateRequest, IssuerRef};
use svid_csi_core::go_duration;
use svid_csi_core::identity::KeyType;
use svid_csi_core::spiffe_id::TrustDomain;
use svid_csi_fuzz::csr::{armour, edited, signed};
use svid_csi_fuzz::{ID, assert_printable};

const DRIVER: &str = "system:serviceaccount:cert-manager:csi";
const STAMP: &str = "authentication.kubernetes.io";

// The first byte selects the mode of the approver; then come an object, its pod and the driver's pod, with zeros between.
fuzz_target!(|bytes: &[u8]| {
    let [mode, rest @ ..] = bytes else { return };
    let mut parts = rest.split(|byte| *byte == 0);
    let text = parts.next().unwrap_or_default();
    let pods = [parts.next(), parts.next()].map(|json| json.and_then(|json| pod(json).ok()));
    let policy = policy(*mode);
    let read = input(text);
    check_dry_run(text, read.as_ref().ok().map(Vec::len), &policy);
    let Ok(requests) = read else { return };
    if let Ok(object) = serde_json::from_slice::<CertificateRequest>(text) {
        assert!(requests == [Request::from(&object)] || object.kind.ends_with("List"));
    }
    for mut request in requests {
        // A signature cannot be guessed.
        if request.csr == b"good" {
            request.csr.clone_from(&CSR);
        }
        let verdict = match judge(&request, &policy) {
            Verdict::Depends(reads) => {
                let [pod, driver] = pods.clone().map(|pod| pod.map_or(Lookup::Missing, Lookup::Found));
                reads.decide(&pod, reads.driver().map(|_| &driver), &policy)
            }
            verdict => verdict,
        };
        match verdict {
            Verdict::Approve if request.identity.is_none() => {
                assert!(policy.auto_approve_non_spiffe && !request.issuer.is_same_as(&ISSUER));
            }
            Verdict::Approve => check_approved(&request, &pods, &policy),
            Verdict::Deny(reasons) => assert_printable(&reasons.to_string()),
            Verdict::Depends(_) | Verdict::Ignore(_) => {}
        }
    }
});

fn check_dry_run(text: &[u8], requests: Option<usize>, policy: &Policy) {
    let mut output = Vec::new();
    match dry_run::run(text, &mut output, policy) {
        Ok(_) => {
            let lines = std::str::from_utf8(&output).expect("text").lines();
            assert_eq!(Some(lines.clone().count()), requests);
            lines.for_each(assert_printable);
        }
        Err(error) => {
            assert!(output.is_empty() && requests.is_none());
            assert_printable(&error.to_string());
            assert!(error.to_string().len() < 8192);
        }
    }
}

fn check_approved(request: &Request, pods: &[Option<PodFacts>; 2], policy: &Policy) {
    assert_eq!((request.identity.as_deref(), &request.csr), (Some(ID), &*CSR));
    assert!(!request.is_ca && request.decision.is_none() && request.issuer.is_same_as(&ISSUER));
    assert_eq!(go_duration::parse(request.duration.as_deref().expect("a duration")), Ok(policy.duration));
    let mut usages = request.usages.clone();
    usages.sort();
    assert_eq!(usages, ["client auth", "digital signature", "key encipherment", "server auth"]);
    let stamp = |name: &str| request.extra.get(&format!("{STAMP}/{name}")).map(Vec::as_slice);
    let pod_of = |name: &str| request.owners.iter().filter(|owner| owner.is_pod()).any(|owner| owner.name == name);
    match &policy.mode {
        Mode::Pod => assert_eq!(request.username, "system:serviceaccount:shop:cart"),
        mode => {
            assert_eq!((&*request.username, &*request.namespace), (DRIVER, "shop"));
            let pod = pods[0].as_ref().expect("a pod that exists");
            assert_eq!((&*pod.namespace, &*pod.service_account), ("shop", "cart"));
            assert!(pod_of(&pod.name) && request.owners.iter().any(|owner| owner.uid == pod.uid));
            if let Mode::NodeBound { .. } = mode {
                let driver = pods[1].as_ref().expect("a pod of the driver");
                assert_eq!((&*driver.namespace, &*driver.service_account), ("cert-manager", "csi"));
                assert_eq!(stamp("pod-uid"), Some(&[driver.uid.clone()][..]));
                assert_eq!(stamp("pod-name"), Some(&[driver.name.clone()][..]));
                assert_eq!(stamp("node-name"), Some(&[driver.node.clone()][..]));
                assert!(pod.node == driver.node && pod.csi_drivers.contains(&policy.driver_name));
                assert!(![&pod.phase, &driver.phase].iter().any(|phase| ["Succeeded", "Failed"].contains(&&***phase)));
                assert!(!pod.is_mirror);
            }
        }
    }
}

static CSR: LazyLock<Vec<u8>> = LazyLock::new(|| armour(&signed(edited(&[]))));

static ISSUER: LazyLock<IssuerRef> =
    LazyLock::new(|| IssuerRef { name: "spiffe-ca".to_owned(), ..IssuerRef::default() });

fn policy(mode: u8) -> Policy {
    let driver = DRIVER.parse().expect("a service account");
    Policy {
        driver_name: "spiffe.csi.cert-manager.io".to_owned(),
        trust_domain: TrustDomain::parse("example.org").expect("a trust domain"),
        duration: Duration::from_secs(3600),
        issuer: Some(ISSUER.clone()),
        former_issuers: Vec::new(),
        mode: match mode % 3 {
            0 => Mode::Pod,
            1 => Mode::OwnServiceAccount { driver },
            _ => Mode::NodeBound { driver },
        },
        key_types: KeyType::ALL.into(),
        auto_approve_non_spiffe: mode & 4 != 0,
    }
}
