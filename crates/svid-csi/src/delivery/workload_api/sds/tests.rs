use std::time::Duration;

use prost::Message;
use svid_csi_core::ca::{CertificateAuthority, SvidRequest};
use svid_csi_core::identity::{Candidate, PrivateKey};
use svid_csi_core::spiffe_id::{SpiffeId, TrustDomain};
use svid_csi_core::volume::SecretNames;
use svid_csi_core::x509_context::{Bundles, ContextCandidate, SvidCandidate, accept};
use svid_csi_proto::sds::data_source::Specifier;
use svid_csi_proto::sds::secret::Type;
use svid_csi_proto::sds::{DataSource, Node, Secret, SpiffeCertValidatorConfig, Status as Rejected};
use tonic::Code;

use super::*;
use crate::host::clock;

const OWN: &str = "spiffe://example.org";
const OTHER: &str = "spiffe://other.org";
const A: &str = "spiffe://example.org/a";
const B: &str = "spiffe://example.org/b";

fn authority(name: &str) -> CertificateAuthority {
    CertificateAuthority::create(&TrustDomain::parse(name).unwrap(), clock::now(), Duration::from_secs(3600)).unwrap()
}

/// Two SVIDs, and the bundle of another trust domain.
fn context() -> X509Context {
    let (own, other) = (authority("example.org"), authority("other.org"));
    let svid = |id: &str, hint: &str| {
        let (id, key) = (SpiffeId::parse(id).unwrap(), PrivateKey::generate_p256().unwrap());
        let request = SvidRequest::for_key(&key, id.clone(), Duration::from_secs(60));
        let leaf = own.sign(&request, clock::now(), [7; 16]).unwrap();
        let bundle = Some(vec![own.certificate_der().clone()]);
        SvidCandidate { id, candidate: Candidate { chain: vec![leaf], key, bundle }, hint: hint.to_owned() }
    };
    let svids = vec![svid(A, "a"), svid(B, "b"), svid(A, "c")];
    let federated = Bundles::from([(TrustDomain::parse("other.org").unwrap(), vec![other.certificate_der().clone()])]);
    let candidate = ContextCandidate { svids, federated, ..ContextCandidate::default() };
    accept(candidate, &TrustDomain::parse("example.org").unwrap(), clock::now()).unwrap()
}

fn text(source: Option<DataSource>) -> String {
    let Some(Specifier::InlineBytes(bytes)) = source.unwrap().specifier else { panic!("nothing inline") };
    String::from_utf8(bytes).unwrap()
}

/// A name and its secret.
fn described(resource: &prost_types::Any) -> String {
    assert_eq!(resource.type_url, SECRET_TYPE);
    let secret = Secret::decode(resource.value.as_slice()).unwrap();
    let what = match secret.r#type.unwrap() {
        Type::TlsCertificate(pair) => {
            let (chain, key) = (text(pair.certificate_chain), text(pair.private_key));
            assert!(
                chain.starts_with("-----BEGIN CERTIFICATE-----\n") && key.starts_with("-----BEGIN PRIVATE KEY-----\n")
            );
            "pair".to_owned()
        }
        Type::ValidationContext(context) => match context.custom_validator_config {
            Some(config) => {
                assert_eq!(config.name, "envoy.tls.cert_validator.spiffe");
                let config = SpiffeCertValidatorConfig::decode(config.typed_config.unwrap().value.as_slice()).unwrap();
                let names = config.trust_domains.into_iter().map(|domain| {
                    assert_eq!(text(domain.trust_bundle).matches("BEGIN CERTIFICATE").count(), 1);
                    domain.name
                });
                format!("trusts {}", names.collect::<Vec<_>>().join(" "))
            }
            None => format!("{} roots", text(context.trusted_ca).matches("BEGIN CERTIFICATE").count()),
        },
    };
    format!("{}: {what}", secret.name)
}

fn named(names: &[&str], validator: Validator) -> Result<Vec<String>, String> {
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let found = secrets::named(&context(), &SecretNames::default(), &names, validator);
    found.map(|found| found.iter().map(described).collect()).map_err(|status| {
        assert_eq!(status.code(), Code::InvalidArgument);
        status.message().to_owned()
    })
}

#[test]
fn secrets_have_the_names_that_spire_agents_use() {
    let everything = ["spiffe://example.org: trusts example.org", "spiffe://other.org: trusts other.org"];
    let everything = [&everything[..], &["spiffe://example.org/a: pair", "spiffe://example.org/b: pair"]].concat();
    for (names, found) in [
        (&["default"][..], &["default: pair"][..]),
        (&["ROOTCA"], &["ROOTCA: trusts example.org"]),
        (&["ALL"], &["ALL: trusts example.org other.org"]),
        (&[OTHER], &["spiffe://other.org: trusts other.org"]),
        (&[B, B, ""], &["spiffe://example.org/b: pair"]),
        (
            &["default", OWN, "ROOTCA"],
            &["ROOTCA: trusts example.org", "default: pair", "spiffe://example.org: trusts example.org"],
        ),
        (&[], &everything),
        (&[""], &everything),
    ] {
        assert_eq!(named(names, Validator::Spiffe).unwrap(), found, "{names:?}");
    }
}

#[test]
fn an_error_fits_into_the_headers_that_clients_accept() {
    let names: Vec<_> = (0..NAMES).map(|number| format!("{number:0160}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let error = named(&names, Validator::Spiffe).unwrap_err();
    assert!(error.starts_with("this pod has no secret \"0000") && error.len() < 2048, "{error}");
    assert!(error.ends_with(" and 93 more: ask for default, ROOTCA, ALL, spiffe://example.org, spiffe://other.org, spiffe://example.org/a, spiffe://example.org/b"), "{error}");
}

#[test]
fn an_envoy_without_the_validator_gets_one_list_and_never_all_of_them() {
    assert_eq!(
        named(&["ROOTCA", OTHER], Validator::Roots).unwrap(),
        ["ROOTCA: 1 roots", "spiffe://other.org: 1 roots"]
    );
    let refused = named(&["ALL"], Validator::Roots).unwrap_err();
    assert!(refused.contains("SPIFFE validator of Envoy 1.18"), "{refused}");
}

#[test]
fn secrets_that_the_pod_does_not_have_are_named() {
    let refused = named(&["default", "spiffe://example.org/c\n", "x"], Validator::Spiffe).unwrap_err();
    let missing = r#"this pod has no secret "spiffe://example.org/c\n", "x": ask for default, ROOTCA, ALL, spiffe://example.org, "#;
    assert!(refused.starts_with(missing), "{refused}");
}

fn asking(names: &[&str]) -> DiscoveryRequest {
    let resource_names = names.iter().map(|&name| name.to_owned()).collect();
    DiscoveryRequest { resource_names, type_url: SECRET_TYPE.to_owned(), ..Default::default() }
}

/// An Envoy's acknowledgement of a response.
fn taking(response: &DiscoveryResponse, names: &[&str]) -> DiscoveryRequest {
    let (version_info, response_nonce) = (response.version_info.clone(), response.nonce.clone());
    DiscoveryRequest { version_info, response_nonce, ..asking(names) }
}

#[test]
fn only_changes_are_sent() {
    let context = context();
    let mut talk = Conversation::default();
    let due = |talk: &mut Conversation| talk.respond(&context).unwrap();
    talk.changed();
    assert!(due(&mut talk).is_none(), "nothing was asked for");
    talk.handle(asking(&["default"]));
    let first = due(&mut talk).unwrap();
    assert_eq!((first.version_info.as_str(), first.resources.len()), ("2", 1));
    talk.handle(taking(&first, &["default"]));
    assert!(due(&mut talk).is_none(), "it was taken");

    talk.changed();
    let second = due(&mut talk).unwrap();
    assert_eq!(second.version_info, "3");
    assert_ne!(second.nonce, first.nonce);
    talk.handle(taking(&first, &["ROOTCA"]));
    assert!(due(&mut talk).is_none(), "that is about an older response");
    let error_detail = Some(Rejected { code: 13, message: "no".to_owned() });
    talk.handle(DiscoveryRequest { version_info: first.version_info, error_detail, ..taking(&second, &["default"]) });
    assert!(due(&mut talk).is_none(), "what was refused is not said again");

    talk.handle(taking(&second, &["ROOTCA", "default"]));
    let third = due(&mut talk).unwrap();
    assert_eq!((third.version_info.as_str(), third.resources.len()), ("3", 2));
    talk.handle(taking(&third, &["default", "ROOTCA", "default"]));
    assert!(due(&mut talk).is_none(), "the same names in another order");
}

#[test]
fn the_properties_of_an_envoy_are_remembered() {
    let context = context();
    let mut talk = Conversation::default();
    let fields = [("disable_spiffe_cert_validation".to_owned(), true.into())].into();
    let metadata = prost_types::Struct { fields }.encode_to_vec();
    let node = Some(Node { metadata, ..Default::default() });
    talk.handle(DiscoveryRequest { node, ..asking(&["ROOTCA"]) });
    let first = talk.respond(&context).unwrap().unwrap();
    talk.handle(taking(&first, &["ROOTCA"]));
    talk.changed();
    assert_eq!(described(&talk.respond(&context).unwrap().unwrap().resources[0]), "ROOTCA: 1 roots");
}

#[test]
fn requests_that_no_envoy_sends_are_refused() {
    let many: Vec<_> = (0..=NAMES).map(|number| number.to_string()).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    check(&asking(&many[1..])).unwrap();
    assert!(check(&asking(&many)).unwrap_err().message().contains("at most 100"));
    assert!(check(&asking(&[""; NAMES + 1])).unwrap_err().message().contains("at most 100"), "the same one often");
    assert!(check(&asking(&["a".repeat(2049).as_str()])).unwrap_err().message().contains("more than 2048 bytes"));
    let long = "a".repeat(2048);
    check(&asking(&[long.as_str(); 8])).unwrap();
    assert!(check(&asking(&[long.as_str(); 9])).unwrap_err().message().contains("more than 16384 bytes"));
    let clusters =
        DiscoveryRequest { type_url: "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned(), ..asking(&[]) };
    assert!(check(&clusters).unwrap_err().message().contains("only secrets are served here"));
}
