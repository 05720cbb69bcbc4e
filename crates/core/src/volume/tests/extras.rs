//! Files other than certificate, key and bundle.

use super::*;
use crate::files::{Federated, Intermediates};

pub(super) fn with_all(attributes: &[(&str, &str)]) -> PublishRequest {
    let mut request = request();
    request.context.extend(attributes.iter().map(|(name, value)| (format!("svid-csi/{name}"), (*value).to_owned())));
    request
}

fn extras(attributes: &[(&str, &str)]) -> Extras {
    *files_of(&with_all(attributes)).extras
}

fn tokens(extras: &Extras) -> Vec<(&str, &str)> {
    extras.tokens.iter().map(|token| (token.audience.as_slice()[0].as_str(), token.name.as_str())).collect()
}

#[test]
fn there_are_none_unless_requested() {
    assert_eq!(extras(&[]), Extras::default());
}

#[test]
fn each_audience_has_a_file() {
    let one = extras(&[("audience", "spiffe://example.org/db")]);
    assert_eq!(tokens(&one), [("spiffe://example.org/db", "jwt_svid_0.token")]);
    assert_eq!(one.jwt_bundle.as_ref().map(FileName::as_str), Some("jwt_bundles.json"));
    let two = extras(&[("audience", "vault, db"), ("file-token", "v.jwt , d.jwt"), ("file-jwt-bundle", "keys.json")]);
    assert_eq!(tokens(&two), [("vault", "v.jwt"), ("db", "d.jwt")]);
    assert_eq!(two.jwt_bundle.as_ref().map(FileName::as_str), Some("keys.json"));
    let keys_alone = extras(&[("file-jwt-bundle", "keys.json")]);
    assert!(keys_alone.tokens.is_empty() && keys_alone.need_jwt());
}

#[test]
fn every_format_has_a_name() {
    let all = extras(&[
        ("file-combined", "both.pem"),
        ("file-pkcs12", "key.p12"),
        ("pkcs12-alias", "user"),
        ("file-pkcs12-bundle", "trust.p12"),
        ("file-bundle-json", "bundle.json"),
        ("federated", "merged"),
        ("intermediates", "with-bundle"),
    ]);
    let name = |name: &Option<FileName>| name.as_ref().map(|name| name.as_str().to_owned()).unwrap_or_default();
    assert_eq!((name(&all.combined), name(&all.key_store)), ("both.pem".to_owned(), "key.p12".to_owned()));
    assert_eq!((all.alias.as_str(), Extras::default().alias.as_str()), ("user", "svid"));
    assert_eq!((name(&all.trust_store), name(&all.bundle_json)), ("trust.p12".to_owned(), "bundle.json".to_owned()));
    assert_eq!((all.federated, all.intermediates), (Federated::Merged, Intermediates::WithBundle));
    assert_eq!((all.jwt_bundle.is_none(), all.own_password), (true, false));
}

#[test]
fn each_mistake_is_reported() {
    let long = "x".repeat(257);
    for (attributes, says) in [
        (&[("audience", "")][..], "svid-csi/audience: audience 1 has 0 bytes"),
        (&[("audience", "a,,b")], "svid-csi/audience: audience 2 has 0 bytes"),
        (&[("audience", long.as_str())], "svid-csi/audience: audience 1 has 257 bytes"),
        (&[("audience", "1,2,3,4,5,6,7,8,9")], "svid-csi/audience: there are 9 audiences, at most 8 are allowed"),
        (&[("audience", "a,a")], "svid-csi/audience names an audience twice"),
        (&[("file-token", "t")], "svid-csi/file-token needs svid-csi/audience"),
        (&[("audience", "a,b"), ("file-token", "t")], "svid-csi/file-token has 1 names for 2 audiences"),
        (&[("audience", "a"), ("file-token", "../t")], "svid-csi/file-token: a file name is one path component"),
        (&[("audience", "a,b"), ("file-token", "t,t")], "cannot both be in a file named `t`"),
        (&[("audience", "a"), ("file-token", "tls.key")], "the key and the JWT-SVID cannot both be"),
        (&[("file-jwt-bundle", "..data")], "svid-csi/file-jwt-bundle: a file name is not"),
        (&[("file-combined", "tls.crt")], "the certificate and the combined certificate and key cannot both be"),
        (&[("file-pkcs12", "a"), ("file-pkcs12-bundle", "a")], "the key store and the trust store cannot both be"),
        (&[("pkcs12-alias", "user")], "svid-csi/pkcs12-alias needs svid-csi/file-pkcs12"),
        (&[("pkcs12-alias", "a b"), ("file-pkcs12", "a")], "svid-csi/pkcs12-alias: an alias has 1 to 64 printable"),
        (&[("file-bundle-json", "ca.crt")], "the trust bundle and the SPIFFE bundle document cannot both be"),
        (&[("file-combined", "federated.b.pem")], "could be confused with the file of a federated bundle"),
        (
            &[("federated", "all")],
            "svid-csi/federated is \"all\", but only `separate`, `map`, `merged`, `none` are possible",
        ),
        (&[("intermediates", "")], "svid-csi/intermediates is \"\", but only `with-cert`, `with-bundle` are"),
    ] {
        let mistakes = VolumeSpec::parse(&with_all(attributes), &files()).expect_err(says);
        assert!(mistakes.to_string().contains(says), "expected {says:?} in: {mistakes}");
        assert_eq!(mistakes.0.len(), 1, "{mistakes}");
    }
    let several = with_all(&[("audience", "a,a"), ("federated", "x"), ("file-pkcs12", "tls.key")]);
    assert_eq!(VolumeSpec::parse(&several, &files()).expect_err("three mistakes").0.len(), 3);
}

#[test]
fn only_volumes_with_files_have_them() {
    for (name, value) in [
        ("audience", "a"),
        ("file-token", "t"),
        ("file-jwt-bundle", "j"),
        ("file-combined", "c"),
        ("file-pkcs12", "k"),
        ("file-pkcs12-bundle", "t"),
        ("file-bundle-json", "b"),
        ("file-bundle-map", "m"),
        ("file-credential-bundle", "c"),
        ("layout", "gke"),
        ("federated", "none"),
        ("intermediates", "with-cert"),
    ] {
        let request = with_all(&[(name, value)]);
        for (rules, delivery) in
            [(passthrough(), "socket-dir"), (rules(Plan::WorkloadApi(Issuer::LocalCa)), "workload-api")]
        {
            refused(&request, &rules, &format!("svid-csi/{name} has no meaning with delivery `{delivery}`"));
        }
    }
}

#[test]
fn cert_manager_has_no_tokens() {
    let rules = rules(Plan::Files(Issuer::CertManager));
    for attribute in ["audience", "file-jwt-bundle"] {
        let says = format!("svid-csi/{attribute} needs JWT-SVIDs, which the source `cert-manager` does not issue");
        refused(&with_all(&[(attribute, "a")]), &rules, &says);
    }
    assert!(VolumeSpec::parse(&with_all(&[("file-bundle-json", "b")]), &rules).is_ok(), "it has a bundle");
    let broker = Rules { trust_domain: None, ..super::rules(Plan::Files(Issuer::Broker)) };
    assert!(VolumeSpec::parse(&with_all(&[("audience", "a")]), &broker).is_ok());
}

#[test]
fn the_password_comes_in_a_secret_and_in_no_attribute() {
    let mut request = with_all(&[("file-pkcs12", "key.p12")]);
    request.pkcs12_password = Some(Secret::new("hunter2".to_owned()));
    assert!(files_of(&request).extras.own_password);
    let json = serde_json::to_string(&VolumeSpec::parse(&request, &files()).unwrap()).unwrap();
    assert!(!json.contains("hunter2") && json.contains("own_password"), "{json}");
    assert!(!format!("{request:?}").contains("hunter2"));
    request.pkcs12_password = Some(Secret::new("hunter2\n".to_owned()));
    let mistakes = VolumeSpec::parse(&request, &files()).expect_err("Java would refuse it").to_string();
    assert!(mistakes.contains("`pkcs12-password` in the Secret") && !mistakes.contains("hunter2"), "{mistakes}");
    request.context.remove("svid-csi/file-pkcs12");
    assert!(!files_of(&request).extras.own_password, "nothing has a password");
    let says = "put the password under the key `pkcs12-password` of a Secret";
    refused(&with_all(&[("file-pkcs12", "k"), ("pkcs12-password", "hunter2")]), &files(), says);
}

#[test]
fn records_of_earlier_versions_have_none() {
    let mut json = serde_json::to_value(VolumeSpec::parse(&request(), &files()).unwrap()).unwrap();
    json["content"]["files"].as_object_mut().unwrap().remove("extras").unwrap();
    let spec: VolumeSpec = serde_json::from_value(json).unwrap();
    assert!(matches!(spec.content, Content::Files(files) if *files.extras == Extras::default()));
}
