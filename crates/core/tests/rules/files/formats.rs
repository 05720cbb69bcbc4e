//! Every format, made from a complete identity.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::PrivateKeyDer;
use serde_json::Value;
use svid_csi_core::bundle_document::BundleDocument;
use svid_csi_core::files::{Federated, Intermediates, MAX_VOLUME_BYTES, federated_name};
use svid_csi_core::jwt::{JwtBundle, validate};

use super::*;

fn federated() -> (Bundles, CertificateDer<'static>) {
    let foreign = Authority::root(|_| {}).certificate;
    (Bundles::from([(domain("other.org"), vec![foreign.clone()])]), foreign)
}

#[test]
fn combined_is_the_chain_and_then_the_key() {
    let context = context(under_intermediate(&Authority::root(|_| {})), Bundles::new());
    for intermediates in [Intermediates::WithCert, Intermediates::WithBundle] {
        let extras = Extras { combined: Some(name("both.pem")), intermediates, ..Extras::default() };
        let files = rendered(&context, &extras).expect("files");
        let both = found(&files, "both.pem");
        assert_eq!(certificates(both), context.default_svid().chain(), "all that TLS sends");
        let key = PrivateKeyDer::from_pem_slice(both).expect("a key");
        assert_eq!(key.secret_der(), context.default_svid().key().der());
        let text = std::str::from_utf8(both).expect("text");
        assert!(text.find("BEGIN PRIVATE KEY") > text.rfind("END CERTIFICATE"), "the key last");
    }
}

#[test]
fn intermediates_go_to_the_requested_file() {
    let context = context(under_intermediate(&Authority::root(|_| {})), Bundles::new());
    let chain = context.default_svid().chain();
    let extras = Extras { intermediates: Intermediates::WithBundle, ..Extras::default() };
    let files = rendered(&context, &extras).expect("files");
    assert_eq!(certificates(found(&files, "tls.crt")), chain[..1]);
    assert_eq!(certificates(found(&files, "ca.crt")), [context.bundle(), &chain[1..]].concat());
}

#[test]
fn other_trust_domains_have_files_of_their_own_unless_requested_otherwise() {
    let (bundles, foreign) = federated();
    let context = context(good(), bundles);
    let files = |federated| rendered(&context, &Extras { federated, ..Extras::default() }).expect("files");
    let separate = files(Federated::Separate);
    assert_eq!(file_names(&separate), ["ca.crt", "federated.other.org.pem", "tls.crt", "tls.key"]);
    assert_eq!(certificates(found(&separate, "federated.other.org.pem")), std::slice::from_ref(&foreign));
    assert_eq!(certificates(found(&separate, "ca.crt")), context.bundle());
    let merged = files(Federated::Merged);
    assert_eq!(file_names(&merged), ["ca.crt", "tls.crt", "tls.key"]);
    assert_eq!(certificates(found(&merged, "ca.crt")), [context.bundle(), &[foreign]].concat());
    let none = files(Federated::None);
    assert_eq!(file_names(&none), ["ca.crt", "tls.crt", "tls.key"]);
    assert_eq!(certificates(found(&none, "ca.crt")), context.bundle());
    assert_eq!(federated_name(&domain("other.org")).as_str(), "federated.other.org.pem");
}

#[test]
fn stores_need_a_password() {
    let context = context(good(), Bundles::new());
    let extras = Extras { key_store: Some(name("key.p12")), trust_store: Some(name("trust.p12")), ..Extras::default() };
    let files = rendered(&context, &extras).expect("files");
    for store in ["key.p12", "trust.p12"] {
        assert_eq!(found(&files, store)[0], 0x30, "{store} is DER");
    }
    let names = names(None);
    let wanted = Wanted { names: &names, extras: &extras, password: None };
    let error = all(Vec::new(), &context, None, wanted, now()).expect_err("no password");
    assert_eq!(error, RenderError::NoPassword);
}

#[test]
fn tokens_and_bundles_are_in_files_of_their_own() {
    let context = context(good(), Bundles::new());
    let extras = Extras {
        tokens: token_files(&[("vault", "v.jwt"), ("db", "d.jwt")]),
        jwt_bundle: Some(name("jwt_bundles.json")),
        bundle_json: Some(name("bundle.json")),
        ..Extras::default()
    };
    let (tokens, bundles) = jwt(&["vault", "db"], now());
    let names = names(Some("ca.crt"));
    let wanted = Wanted { names: &names, extras: &extras, password: None };
    let given = JwtGiven { tokens: &tokens, bundles: &bundles };
    let files = all(Vec::new(), &context, Some(&given), wanted, now()).expect("files");
    let expected = ["bundle.json", "ca.crt", "d.jwt", "jwt_bundles.json", "tls.crt", "tls.key", "v.jwt"];
    assert_eq!(file_names(&files), expected);
    for (file, audience) in [("v.jwt", "vault"), ("d.jwt", "db")] {
        let token = std::str::from_utf8(found(&files, file)).expect("text, without a line break");
        assert_eq!(validate(token, audience, &bundles, now()).expect("it is valid").id.as_str(), ID);
    }
    let json: Value = serde_json::from_slice(found(&files, "jwt_bundles.json")).expect("JSON");
    assert_eq!(json.as_object().map(serde_json::Map::len), Some(2));
    for (trust_domain, bundle) in &bundles {
        let jwks = STANDARD.decode(json[trust_domain.as_str()].as_str().expect("text")).expect("base64");
        assert_eq!(JwtBundle::read(&jwks).as_ref(), Ok(&**bundle), "{trust_domain}");
    }
    let document = BundleDocument::read(found(&files, "bundle.json")).expect("a document");
    assert_eq!((document.anchors.as_slice(), &document.jwt), (context.bundle(), &*bundles[&domain("example.org")]));

    let few = JwtGiven { tokens: &tokens[..1], bundles: &bundles };
    let error = all(Vec::new(), &context, Some(&few), wanted, now()).expect_err("a token is missing");
    assert_eq!(error, RenderError::Tokens { found: 1, wanted: 2 });
}

#[test]
fn an_empty_document_is_not_written() {
    let mut candidate = good();
    candidate.bundle = None;
    let context = context(candidate, Bundles::new());
    let extras = Extras { bundle_json: Some(name("bundle.json")), ..Extras::default() };
    let files = rendered(&context, &extras).expect("files");
    assert_eq!(file_names(&files), ["tls.crt", "tls.key"], "it would revoke everything");
}

#[test]
fn a_volume_has_a_size_limit() {
    let large = || {
        let extension = rcgen::CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![0; 55_000]);
        Authority::root(|params| params.custom_extensions.push(extension)).certificate
    };
    let bundle: Vec<_> = std::iter::repeat_with(large).take(22).collect();
    let bundles: Bundles = ["b.org", "c.org", "d.org"].map(|name| (domain(name), bundle.clone())).into();
    let context = context(good(), bundles);
    let error = rendered(&context, &Extras::default()).expect_err("too large");
    assert!(matches!(error, RenderError::TooLarge { bytes } if bytes > MAX_VOLUME_BYTES), "{error}");
    assert!(error.to_string().contains("svid-csi/federated: none"), "{error}");
    assert!(rendered(&context, &Extras { federated: Federated::None, ..Extras::default() }).is_ok());
}
