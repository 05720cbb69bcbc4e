//! The layout of the files, and what else a volume says about them.

use super::extras::with_all;
use super::*;
use crate::files::{Extras, Federated, LAYOUTS, Layout, PerDomain};

fn spec(attributes: &[(&str, &str)]) -> FilesSpec {
    files_of(&with_all(attributes))
}

fn named(name: &Option<FileName>) -> &str {
    name.as_ref().map_or("", FileName::as_str)
}

#[test]
fn without_one_nothing_is_different() {
    let (usual, pem) = (spec(&[]), spec(&[("layout", "pem")]));
    assert_eq!((&usual, &usual.names, &*usual.extras), (&pem, &names(), &Extras::default()));
}

#[test]
fn each_brings_the_files_of_the_table() {
    for row in LAYOUTS {
        let FilesSpec { names, extras, .. } = spec(&[("layout", row.name)]);
        assert_eq!((names, *extras), (row.layout.names(), row.layout.extras()), "{}", row.name);
    }
    let gke = spec(&[("layout", "gke")]);
    assert_eq!(named(&gke.names.cert), "certificates.pem");
    assert_eq!((named(&gke.extras.bundle_map), gke.extras.federated), ("trust_bundles.json", Federated::Map));
    let spiffe = spec(&[("layout", "spiffe")]);
    assert_eq!((spiffe.names.cert, spiffe.names.key, spiffe.names.bundle), (None, None, None));
    assert_eq!((named(&spiffe.extras.hints), spiffe.extras.per_domain), ("hints.json", PerDomain::Every));
}

#[test]
fn the_operator_decides_for_volumes_that_name_none() {
    let rules = Rules { layout: Layout::Istio, ..files() };
    let parsed = |attributes: &[(&str, &str)]| match VolumeSpec::parse(&with_all(attributes), &rules).unwrap().content {
        Content::Files(files) => files.names,
        content => panic!("{content:?}"),
    };
    assert_eq!(parsed(&[]), Layout::Istio.names());
    assert_eq!(parsed(&[("layout", "gke")]), Layout::Gke.names());
    assert_eq!(parsed(&[("layout", "pem")]), names(), "the operator's names");
}

#[test]
fn a_name_that_the_volume_gives_counts_in_every_layout() {
    for row in LAYOUTS {
        let FilesSpec { names, extras, .. } = spec(&[
            ("layout", row.name),
            ("file-cert", "c"),
            ("file-key", "k"),
            ("file-bundle", "b"),
            ("file-credential-bundle", "both"),
            ("file-bundle-map", "map"),
            ("federated", "separate"),
        ]);
        assert_eq!((named(&names.cert), named(&names.key), named(&names.bundle)), ("c", "k", "b"), "{}", row.name);
        assert_eq!((named(&extras.credential_bundle), named(&extras.bundle_map)), ("both", "map"), "{}", row.name);
        assert_eq!(extras.federated, Federated::Separate, "{}", row.name);
    }
}

#[test]
fn each_contradiction_names_both_sides() {
    let long = "x".repeat(253);
    for (attributes, says) in [
        (
            &[("layout", "tls")][..],
            "volume attribute svid-csi/layout is \"tls\", but only `pem`, `spiffe`, `pod-certificate`, `gke`, `spiffe-helper`, \
             `istio` are possible",
        ),
        (&[("layout", "")], "svid-csi/layout is \"\", but only"),
        (&[("layout", "GKE")], "svid-csi/layout is \"GKE\", but only"),
        (
            &[("layout", "gke"), ("file-combined", "certificates.pem")],
            "the certificate and the combined certificate and key cannot both be in a file named `certificates.pem`: volume \
             attribute svid-csi/file-combined and svid-csi/layout `gke` name it",
        ),
        (
            &[("layout", "istio"), ("file-cert", "key.pem")],
            "in a file named `key.pem`: volume attribute svid-csi/file-cert and svid-csi/layout `istio` name it",
        ),
        (
            &[("layout", "spiffe"), ("audience", "a"), ("file-token", "hints.json")],
            "volume attribute svid-csi/file-token and svid-csi/layout `spiffe` name it",
        ),
        (
            &[("layout", "spiffe"), ("federated", "merged")],
            "svid-csi/federated is `merged`, but svid-csi/layout `spiffe` keeps trust domains apart",
        ),
        (
            &[("layout", "pod-certificate"), ("intermediates", "with-bundle")],
            "svid-csi/intermediates is `with-bundle`, but svid-csi/layout `pod-certificate` has no files with only",
        ),
        (
            &[("layout", "spiffe"), ("file-combined", "1.credential-bundle.private-key.x509.pem")],
            "give it another name (volume attribute svid-csi/layout is `spiffe`)",
        ),
        (
            &[("layout", "spiffe"), ("file-credential-bundle", &long)],
            "svid-csi/file-credential-bundle must have at most 252 bytes with svid-csi/layout `spiffe`",
        ),
        (&[("federated", "map")], "svid-csi/federated is `map`, but there is no bundle map: name one with"),
    ] {
        let mistakes = VolumeSpec::parse(&with_all(attributes), &files()).expect_err(says);
        assert!(mistakes.to_string().contains(says), "expected {says:?} in: {mistakes}");
        assert_eq!(mistakes.0.len(), 1, "{mistakes}");
    }
}

#[test]
fn records_keep_it_and_those_of_earlier_versions_are_read() {
    for row in LAYOUTS {
        let spec = VolumeSpec::parse(&with_all(&[("layout", row.name)]), &files()).unwrap();
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<VolumeSpec>(&json).unwrap(), spec);
        assert_eq!(json.contains("per_domain"), row.layout == Layout::Spiffe, "{json}");
    }
    let names: FileNames = serde_json::from_str(r#"{"cert":"svid.pem","key":"svid_key.pem","bundle":null}"#).unwrap();
    assert_eq!(named(&names.cert), "svid.pem");
}
