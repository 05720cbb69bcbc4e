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
