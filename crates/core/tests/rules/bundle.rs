//! Trust bundles in PEM.

use rcgen::{CertificateParams, IsCa, KeyPair, PublicKeyData};
use svid_csi_core::identity::{BundleError, MAX_BUNDLE_TEXT, Place, Rejection, TrustBundle, bundle_digest};

use crate::forge::{Authority, HOUR, now, valid};

const CA_KEY: &str = "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n";

fn block(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

fn pem(authority: &Authority) -> String {
    block("CERTIFICATE", &authority.certificate)
}

fn root() -> Authority {
    Authority::root(|_| {})
}

fn refused(text: &str) -> BundleError {
    TrustBundle::read(text.as_bytes()).expect_err("it is no trust bundle")
}

#[test]
fn certificates_with_comments_are_read_and_kept_once() {
    let (a, b) = (root(), root());
    let text = format!("# a\r\n{}\n\nsubject=b\n{}{}", pem(&a), pem(&b).replace('\n', "\r\n"), pem(&a));
    let bundle = TrustBundle::read(text.as_bytes()).unwrap();
    assert_eq!(bundle.certificates(), [a.certificate.clone(), b.certificate.clone()]);
    assert_eq!(bundle.digest(), bundle_digest(&[b.certificate.clone(), a.certificate.clone()]));
    assert_eq!(bundle, TrustBundle::read((pem(&b) + &pem(&a)).as_bytes()).unwrap(), "the order does not matter");
    assert_ne!(bundle, TrustBundle::read(pem(&a).as_bytes()).unwrap());
}

#[test]
fn an_expired_certificate_is_let_through() {
    let old = Authority::root(|params| valid(params, now() - 2 * HOUR, now() - HOUR));
    assert_eq!(TrustBundle::read((pem(&old) + &pem(&root())).as_bytes()).unwrap().certificates().len(), 2);
}

#[test]
fn a_private_key_is_refused_whatever_its_kind() {
    for label in ["EC PRIVATE KEY", "RSA PRIVATE KEY", "PRIVATE KEY", "ENCRYPTED PRIVATE KEY"] {
        let key = CA_KEY.replace("EC PRIVATE KEY", label);
        for text in [pem(&root()) + &key, pem(&root()) + "  " + &key.replace('\n', "\n  ")] {
            let error = refused(&text);
            assert_eq!(error, BundleError::PrivateKey { position: 2 }, "{label}");
            assert!(error.to_string().contains("private key (PEM block 2): give only the CA certificates"), "{error}");
        }
    }
}

#[test]
fn other_blocks_are_named() {
    for label in ["X509 CRL", "TRUSTED CERTIFICATE", "CERTIFICATE REQUEST"] {
        let error = refused(&(pem(&root()) + &block(label, b"abc"))).to_string();
        assert!(error.starts_with(&format!("PEM block 2 is labelled \"{label}\": only CERTIFICATE")), "{error}");
    }
    let error = refused(&format!("-----BEGIN {}", "x".repeat(10_000))).to_string();
    assert!(error.len() < 300, "{error}");
}

#[test]
fn damaged_blocks_are_counted() {
    let good = pem(&root());
    for damaged in [
        good.replace("\n-----END CERTIFICATE-----\n", "\n"),
        good.replace("M", "?"),
        good.replace("-----BEGIN", " -----BEGIN"),
        "-----BEGIN CERTIFICATE-----".to_owned(),
        "-----BEGIN CERTIFICATE".to_owned(),
        good.replace("-----BEGIN CERTIFICATE-----\n", "-----BEGIN CERTIFICATE----- "),
    ] {
        for (text, position) in [(format!("{good}{damaged}"), 2), (damaged, 1)] {
            assert_eq!(refused(&text), BundleError::Damaged { position }, "{text}");
        }
    }
}

#[test]
fn a_text_without_certificates_is_refused() {
    for text in ["", "\n", "# nothing", "MIIB"] {
        assert_eq!(refused(text), BundleError::Empty);
    }
    let largest = "#".repeat(MAX_BUNDLE_TEXT);
    assert_eq!(refused(&largest), BundleError::Empty);
    let what = "text of the trust bundle";
    let too_large = Rejection::TooLarge { what, bytes: MAX_BUNDLE_TEXT + 1, limit: MAX_BUNDLE_TEXT };
    assert_eq!(refused(&(largest + "#")), BundleError::Rejected(too_large));
}

#[test]
fn certificates_keep_the_rules_of_identities() {
    let place = Place::Bundle { position: 2, of: 2 };
    let no_ca = Authority::root(|params: &mut CertificateParams| params.is_ca = IsCa::ExplicitNoCa);
    let not_a_ca = BundleError::Rejected(Rejection::NotACa { place });
    assert_eq!(refused(&(pem(&root()) + &pem(&no_ca))), not_a_ca);
    assert_eq!(
        not_a_ca.to_string(),
        "certificate 2 of 2 in the trust bundle is not a CA certificate that may sign others"
    );
    let key = KeyPair::generate().unwrap();
    for no_certificate in [key.der_bytes(), b"abc"] {
        let error = refused(&(pem(&root()) + &block("CERTIFICATE", no_certificate)));
        assert!(
            matches!(&error, BundleError::Rejected(Rejection::Unreadable { place: at, .. }) if *at == place),
            "{error}"
        );
    }
}
