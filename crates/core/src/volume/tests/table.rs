//! The parser agrees with the table of attributes, which the reference shows.

use super::*;
use crate::plan::{Delivery, Source};

const SOURCES: [Source; 4] = [Source::Socket, Source::Broker, Source::CertManager, Source::LocalCa];
const DELIVERIES: [Delivery; 3] = [Delivery::SocketDir, Delivery::Files, Delivery::WorkloadApi];

fn plans() -> impl Iterator<Item = Plan> {
    SOURCES.into_iter().flat_map(|source| DELIVERIES.map(|delivery| Plan::new(source, delivery))).flatten()
}

fn asks_with(attribute: &Attribute, value: &str, plan: Plan) -> Result<VolumeSpec, RequestMistakes> {
    let mut request = with(&format!("{OWN_PREFIX}{}", attribute.name), value);
    let needs = [("file-token", "audience", "vault,database"), ("pkcs12-alias", "file-pkcs12", "keystore.p12")];
    if let Some((_, other, value)) = needs.iter().find(|(name, ..)| *name == attribute.name) {
        request.context.insert(format!("{OWN_PREFIX}{other}"), (*value).to_owned());
    }
    let mut rules = rules(plan);
    // Source and delivery request a plan of their own.
    rules.allowed_plans = plans().collect();
    VolumeSpec::parse(&request, &rules)
}

#[test]
fn an_attribute_is_accepted_only_with_its_sources_and_deliveries() {
    for attribute in ATTRIBUTES.iter().filter(|attribute| !["source", "delivery"].contains(&attribute.name)) {
        for plan in plans() {
            let is_for = attribute.sources.contains(&plan.source()) && attribute.deliveries.contains(&plan.delivery());
            let taken = asks_with(attribute, attribute.example, plan);
            assert_eq!(taken.is_ok(), is_for, "{} with {plan}: {taken:?}", attribute.name);
        }
    }
}

#[test]
fn every_attribute_changes_the_volume() {
    let rules = |plan| Rules { allowed_plans: plans().collect(), ..rules(plan) };
    for attribute in ATTRIBUTES {
        let differs = |plan: &Plan| {
            let without = VolumeSpec::parse(&request(), &rules(*plan)).unwrap();
            asks_with(&attribute, attribute.example, *plan).is_ok_and(|spec| spec != without)
        };
        assert!(plans().any(|plan| differs(&plan)), "{} = {}", attribute.name, attribute.example);
    }
}

#[test]
fn no_attribute_accepts_every_value() {
    for attribute in ATTRIBUTES {
        let (bad, plan) = match attribute.name {
            "hint" => (String::new(), Plan::WorkloadApi(Issuer::Broker)),
            "socket-name" => ("../x".to_owned(), Plan::WorkloadApi(Issuer::Broker)),
            "audience" => ("x".repeat(257), Plan::Files(Issuer::Broker)),
            "pkcs12-alias" => ("a b".to_owned(), Plan::Files(Issuer::Broker)),
            _ => ("../x".to_owned(), Plan::Files(Issuer::Broker)),
        };
        let refused = asks_with(&attribute, &bad, plan).expect_err(attribute.name);
        let names = |mistake: &String| mistake.contains(attribute.name);
        assert!(refused.0.iter().any(names), "{}: {refused}", attribute.name);
    }
}

/// Values that no attribute has a use for, and a list of them.
fn hostile_values() -> Vec<String> {
    let texts = ["../x", "..", "..data", "/etc/passwd", "a/../../b", "a\0b", "\n", "\u{202e}txt.yek", "", ","];
    let long = ["n".repeat(300), "n,".repeat(5_000), "\u{1f600}".repeat(50_000), "x".repeat(1 << 20)];
    texts.map(str::to_owned).into_iter().chain(long).collect()
}

#[test]
fn hostile_values_are_refused_with_a_short_error_that_names_the_attribute() {
    // Those whose value is compared or sent, and never part of a path.
    let free = ["audience", "hint", "pkcs12-alias", "sds-svid-name", "sds-bundle-name", "sds-all-bundles-name"];
    for attribute in ATTRIBUTES {
        for (value, plan) in hostile_values().iter().flat_map(|value| plans().map(move |plan| (value, plan))) {
            let shown: String = value.escape_debug().take(20).collect();
            let what = format!("{} = {shown:?} ({} bytes) with {plan}", attribute.name, value.len());
            match asks_with(&attribute, value, plan) {
                Ok(_) => {
                    let is_name = !value.contains('/') && !value.contains('\0') && !value.starts_with("..");
                    let is_free = free.contains(&attribute.name) && !value.is_empty();
                    assert!(value.len() <= 300 && (is_free || is_name), "{what} is accepted");
                }
                Err(mistakes) => {
                    let names = format!("{OWN_PREFIX}{}", attribute.name);
                    assert!(mistakes.0.iter().any(|mistake| mistake.contains(&names)), "{what}: {mistakes}");
                    let said = mistakes.to_string();
                    assert!(said.len() < 8_000, "{what}: {} bytes", said.len());
                    assert!(!said.contains(['\0', '\n', '\u{202e}']), "{what}: {said:?}");
                }
            }
        }
    }
}

#[test]
fn forged_pod_info_is_refused_with_the_field_named() {
    for (key, value, says) in [
        ("pod.uid", "another", "csi.storage.k8s.io/pod.uid disagrees"),
        ("pod.uid", "../../x", "csi.storage.k8s.io/pod.uid disagrees"),
        ("pod.name", "", "csi.storage.k8s.io/pod.name is missing"),
        ("pod.namespace", "../kube-system", "the namespace of a SPIFFE ID"),
        ("pod.namespace", "a\0b", "the namespace of a SPIFFE ID"),
        ("serviceAccount.name", "a/../b", "the service account of a SPIFFE ID"),
        ("serviceAccount.name", "\u{202e}nimda", "the service account of a SPIFFE ID"),
        ("ephemeral", "false", "only ephemeral volumes are supported"),
    ] {
        refused(&with(&format!("csi.storage.k8s.io/{key}"), value), &files(), says);
    }
}
