//! Every layout, made from a complete identity: each file has the contents that the table says.

use proptest::prelude::*;
use serde_json::{Value, json};
use svid_csi_core::bundle_map::BundleMap;
use svid_csi_core::files::{Federated, Format, LAYOUTS, Layout, LayoutRow, MAX_VOLUME_BYTES, PerDomain, with_bundle};

use super::rewritten::copies;
use super::*;

const ID_OF_SECOND: &str = "spiffe://example.org/ns/shop/sa/second";

fn other_domain() -> (Bundles, Vec<CertificateDer<'static>>) {
    let foreign = vec![Authority::root(|_| {}).certificate, Authority::root(|_| {}).certificate];
    (Bundles::from([(domain("other.org"), foreign.clone())]), foreign)
}

fn in_layout(layout: Layout, before: Vec<RenderedFile>, context: &X509Context, at: SystemTime) -> Vec<RenderedFile> {
    let (names, extras) = (layout.names(), layout.extras());
    all(before, context, None, Wanted { names: &names, extras: &extras, password: None }, at).expect("files")
}

/// The certificates after the key.
fn of_credential_bundle(contents: &[u8], context: &X509Context, number: usize) -> Vec<CertificateDer<'static>> {
    let text = std::str::from_utf8(contents).expect("text");
    assert!(text.starts_with("-----BEGIN PRIVATE KEY-----\n"), "the key is first, in PKCS#8");
    assert_eq!(text.matches("-----BEGIN").count(), text.matches("-----BEGIN CERTIFICATE-----").count() + 1);
    let lines = text.lines().all(|line| line.starts_with("-----") || line.len() <= 64 && !line.contains([':', ' ']));
    assert!(lines, "neither headers nor text between blocks");
    let key = PrivateKeyDer::from_pem_slice(contents).expect("a key");
    assert_eq!(key.secret_der(), context.svids()[number].identity.key().der());
    certificates(contents)
}

fn check_format(format: Format, contents: &[u8], context: &X509Context) {
    let identity = context.default_svid();
    match format {
        Format::Chain => assert_eq!(certificates(contents), identity.chain(), "the leaf first"),
        Format::Key => {
            let key = PrivateKeyDer::from_pem_slice(contents).expect("a key");
            assert_eq!(key.secret_der(), identity.key().der());
        }
        Format::Bundle => assert_eq!(certificates(contents), context.bundle()),
        Format::CredentialBundle => assert_eq!(of_credential_bundle(contents, context, 0), identity.chain()),
        Format::BundlePerDomain => unreachable!("its name is that of a trust domain"),
        Format::BundleMap => {
            let json: Value = serde_json::from_slice(contents).expect("JSON");
            let map = json["trust_domains"].as_object().expect("a map");
            let wanted: Vec<_> = context.bundles().map(|(trust_domain, _)| trust_domain.as_str()).collect();
            assert_eq!(map.keys().collect::<Vec<_>>(), wanted);
            for (trust_domain, bundle) in context.bundles() {
                let keys = map[trust_domain.as_str()]["keys"].as_array().expect("an array");
                assert_eq!(keys.len(), bundle.len(), "one entry for each certificate");
                assert!(keys.iter().all(|key| key["use"] == "x509-svid" && key.get("kid").is_none()), "gRPC reads it");
                assert!(map[trust_domain.as_str()].get("spiffe_refresh_hint").is_none(), "section 5.1.1");
                assert!(map[trust_domain.as_str()]["spiffe_sequence"].is_u64());
            }
            let read = BundleMap::read(contents);
            assert!(context.bundles().all(|(trust_domain, bundle)| read.anchors(trust_domain) == Some(bundle)));
        }
        Format::Hints => {
            let json: Value = serde_json::from_slice(contents).expect("JSON");
            assert_eq!(json["hints"].as_array().map(Vec::len), Some(context.svids().len()));
        }
    }
}

#[test]
fn every_file_is_what_the_table_says() {
    let (bundles, foreign) = other_domain();
    let context = context(under_intermediate(&Authority::root(|_| {})), bundles);
    for LayoutRow { layout, name, files, federated, .. } in LAYOUTS {
        let rendered = in_layout(layout, Vec::new(), &context, now());
        let mut expected: Vec<String> = Vec::new();
        for file in files {
            if file.format == Format::BundlePerDomain {
                let own = format!("example.org{}", file.name);
                assert_eq!(certificates(found(&rendered, &own)), context.bundle());
                let others = format!("other.org{}", file.name);
                assert_eq!(certificates(found(&rendered, &others)), foreign);
                expected.extend([own, others]);
            } else {
                check_format(file.format, found(&rendered, file.name), &context);
                expected.push(file.name.to_owned());
            }
        }
        if federated == Federated::Separate && layout.extras().per_domain == PerDomain::Federated {
            assert_eq!(certificates(found(&rendered, "federated.other.org.pem")), foreign);
            expected.push("federated.other.org.pem".to_owned());
        }
        expected.sort();
        assert_eq!(file_names(&rendered), expected, "{name}: these and no others");
    }
}

/// Two SVIDs, the second with a hint.
fn two_svids() -> X509Context {
    let root = Authority::root(|_| {});
    let svid = |id: &str, hint: &str| {
        let mut candidate = root.leaf(|params| params.subject_alt_names = vec![crate::forge::uri(id)]);
        candidate.bundle = Some(vec![root.certificate.clone()]);
        SvidCandidate { id: SpiffeId::parse(id).expect("an ID"), candidate, hint: hint.to_owned() }
    };
    let svids = vec![svid(ID, ""), svid(ID_OF_SECOND, "external")];
    accept(ContextCandidate { svids, ..ContextCandidate::default() }, &domain("example.org"), now()).expect("two SVIDs")
}

#[test]
fn spiffe_has_every_svid_and_its_hint() {
    let context = two_svids();
    let files = in_layout(Layout::Spiffe, Vec::new(), &context, now());
    assert_eq!(
        file_names(&files),
        [
            "1.credential-bundle.private-key.x509.pem",
            "credential-bundle.private-key.x509.pem",
            "example.org.spiffe-trust-bundle.x509.pem",
            "hints.json",
        ]
    );
    for (number, file) in
        ["credential-bundle.private-key.x509.pem", "1.credential-bundle.private-key.x509.pem"].into_iter().enumerate()
    {
        let chain = of_credential_bundle(found(&files, file), &context, number);
        assert_eq!(chain, context.svids()[number].identity.chain());
    }
    let json: Value = serde_json::from_slice(found(&files, "hints.json")).expect("JSON");
    let fingerprint = |number: usize| {
        let leaf = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &context.svids()[number].identity.chain()[0]);
        let bytes: Vec<_> = leaf.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        format!("sha256:{}", bytes.join(":"))
    };
    let expected = json!({"hints": [
        {"hint": "", "id": 0, "fingerprint": fingerprint(0)},
        {"hint": "external", "id": 1, "fingerprint": fingerprint(1)},
    ]});
    assert_eq!(json, expected);
    let gke = in_layout(Layout::Gke, Vec::new(), &context, now());
    assert_eq!(gke.len(), 5, "others have the default SVID alone");
}

#[test]
fn a_credential_bundle_ends_before_the_trust_anchor() {
    let root = Authority::root(|_| {});
    let mut candidate = under_intermediate(&root);
    candidate.chain.push(root.certificate.clone());
    let context = context(candidate, Bundles::new());
    let chain = context.default_svid().chain();
    let files = in_layout(Layout::Spiffe, Vec::new(), &context, now());
    let written = of_credential_bundle(found(&files, "credential-bundle.private-key.x509.pem"), &context, 0);
    assert_eq!((written.as_slice(), chain.len()), (&chain[..2], 3));
}

#[test]
fn a_credential_bundle_keeps_an_intermediate_that_is_trusted_too() {
    let mut candidate = under_intermediate(&Authority::root(|_| {}));
    let intermediate = candidate.chain[1].clone();
    candidate.bundle.as_mut().expect("a bundle").push(intermediate);
    let context = context(candidate, Bundles::new());
    let files = in_layout(Layout::Spiffe, Vec::new(), &context, now());
    let written = of_credential_bundle(found(&files, "credential-bundle.private-key.x509.pem"), &context, 0);
    assert_eq!(written.as_slice(), context.default_svid().chain());
}

#[test]
fn a_map_without_a_bundle_is_not_written() {
    let mut candidate = good();
    candidate.bundle = None;
    let context = context(candidate, Bundles::new());
    let files = in_layout(Layout::Gke, Vec::new(), &context, now());
    assert_eq!(file_names(&files), ["certificates.pem", "credential-bundle.pem", "private_key.pem"]);
}

#[test]
fn federated_domains_are_in_the_map_unless_they_are_not_wanted_at_all() {
    let (bundles, foreign) = other_domain();
    let context = context(good(), bundles);
    for (federated, in_map, in_files) in [
        (Federated::Separate, true, true),
        (Federated::Map, true, false),
        (Federated::Merged, true, false),
        (Federated::None, false, false),
    ] {
        let extras = Extras { bundle_map: Some(name("map.json")), federated, ..Extras::default() };
        let files = rendered(&context, &extras).expect("files");
        let map = BundleMap::read(found(&files, "map.json"));
        assert_eq!(map.anchors(&domain("example.org")), Some(context.bundle()));
        assert_eq!(map.anchors(&domain("other.org")), Some(foreign.as_slice()).filter(|_| in_map), "{federated:?}");
        assert_eq!(contents(&files, "federated.other.org.pem").is_some(), in_files, "{federated:?}");
    }
}

#[test]
fn sequence_numbers_grow_with_the_bundle_that_changes() {
    let (own, other) = (domain("example.org"), domain("other.org"));
    let (bundles, _) = other_domain();
    let candidate = good();
    let anchors = candidate.bundle.clone().expect("a bundle");
    let context = context(candidate, bundles);
    let map_of = |files: &[RenderedFile]| BundleMap::read(found(files, "trust_bundles.json"));
    let first = in_layout(Layout::Gke, Vec::new(), &context, now());
    let again = in_layout(Layout::Gke, copies(&first), &context, now() + HOUR);
    assert_eq!(found(&first, "trust_bundles.json"), found(&again, "trust_bundles.json"), "nothing has changed");

    // At the same second.
    let (names, extras) = (Layout::Gke.names(), Layout::Gke.extras());
    let wanted = Wanted { names: &names, extras: &extras, password: None };
    let more = [anchors.as_slice(), &[Authority::root(|_| {}).certificate]].concat();
    let (changed, _) = with_bundle(copies(&first), &more, wanted, now()).expect("files");
    let (before, after) = (map_of(&first), map_of(&changed));
    assert!(after.sequence(&own) > before.sequence(&own));
    assert_eq!(after.anchors(&own), Some(more.as_slice()));
    assert_eq!((after.sequence(&other), after.anchors(&other)), (before.sequence(&other), before.anchors(&other)));
    let (gone, _) = with_bundle(copies(&changed), &[], wanted, now()).expect("files");
    assert_eq!((map_of(&gone).anchors(&own), map_of(&gone).anchors(&other)), (None, before.anchors(&other)));
}

#[test]
fn another_bundle_of_its_own_trust_domain_changes_every_layout() {
    let context = context(under_intermediate(&Authority::root(|_| {})), other_domain().0);
    let more = [context.bundle(), &[Authority::root(|_| {}).certificate]].concat();
    for LayoutRow { layout, name, .. } in LAYOUTS {
        let before = in_layout(layout, Vec::new(), &context, now());
        let (names, extras) = (layout.names(), layout.extras());
        let wanted = Wanted { names: &names, extras: &extras, password: None };
        let (after, chain) = with_bundle(copies(&before), &more, wanted, now()).expect("files");
        assert_eq!(chain, context.default_svid().chain(), "{name}: the chain is read from the files");
        assert_eq!(file_names(&before), file_names(&after), "{name}");
        let is_of_bundle = |file: &str| match layout {
            Layout::Spiffe => file == "example.org.spiffe-trust-bundle.x509.pem",
            _ => layout.names().bundle.is_some_and(|bundle| bundle.as_str() == file) || file == "trust_bundles.json",
        };
        for file in file_names(&before) {
            assert_eq!(contents(&before, file) != contents(&after, file), is_of_bundle(file), "{name}: {file}");
        }
        let (without, _) = with_bundle(after, &[], wanted, now()).expect("files");
        assert_eq!(contents(&without, "example.org.spiffe-trust-bundle.x509.pem"), None, "{name}");
    }
}

#[test]
fn a_layout_has_its_limits_too() {
    let large = CertificateDer::from(vec![0; MAX_VOLUME_BYTES / 2]);
    let extras = Extras { bundle_map: Some(name("map.json")), ..Extras::default() };
    let names = names(Some("ca.crt"));
    let context = context(good(), Bundles::new());
    let before = rendered(&context, &extras).expect("files");
    let wanted = Wanted { names: &names, extras: &extras, password: None };
    let several = [large.clone(), large];
    assert!(matches!(with_bundle(before, &several, wanted, now()), Err(RenderError::TooLarge { .. })));
}

proptest! {
    #[test]
    fn whatever_a_map_holds_is_read_back_or_left_out(text in ".{0,200}", name in "[a-z.]{1,20}") {
        prop_assert!(BundleMap::read(text.as_bytes()).is_empty());
        let json = json!({"trust_domains": {name: {"keys": text}}});
        prop_assert!(BundleMap::read(json.to_string().as_bytes()).is_empty());
    }
}
