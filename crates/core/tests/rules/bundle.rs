//! Trust bundles in PEM.

use rcgen::{CertificateParams, CustomExtension, IsCa, KeyPair, PublicKeyData};
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
    TrustBundle::read(text.as_bytes()).expect_err("it is not a trust bundle")
}

#[test]
fn certificates_with_comments_are_read_and_kept_once() {
    let (a, b) = (root(), root());
    let text = format!("# a\r\n{}\n\nsubject=b\n{}{}", pem(&a), pem(&b).replace('\n', "\r\n"), pem(&a));
    let bundle = TrustBundle::read(text.as_bytes()).unwrap();
    assert_eq!(bundle.certificates(), [a.certificate.clone(), b.certificate.clone()]);
    assert_eq!(bundle.digest(), bundle_digest(&[b.certificate.clone(), a.certificate.clone()]));
    let other_order = TrustBundle::read((pem(&b) + &pem(&a)).as_bytes()).unwrap();
    assert_eq!(bundle.digest(), other_order.digest(), "the order does not matter");
    assert_ne!(bundle, other_order, "but pods read the text");
    assert_eq!(bundle, TrustBundle::read(text.as_bytes()).unwrap());
    assert_ne!(bundle, TrustBundle::read(pem(&a).as_bytes()).unwrap());
}

#[test]
fn an_expired_certificate_is_accepted() {
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
    for label in ["X509 CRL", "CERTIFICATE REQUEST"] {
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
fn certificates_that_are_not_of_a_ca_are_skipped_if_others_are_left() {
    let no_ca = Authority::root(|params: &mut CertificateParams| params.is_ca = IsCa::ExplicitNoCa);
    let version_1 = include_str!("openssl/version-1.crt");
    let good = root();
    for (stranger, subject) in [(pem(&no_ca), "CN=root"), (version_1.to_owned(), "CN=Version 1")] {
        let bundle = TrustBundle::read((pem(&good) + &stranger).as_bytes()).unwrap();
        assert_eq!(bundle.certificates(), std::slice::from_ref(&good.certificate));
        let skipped: Vec<_> = bundle.skipped().iter().map(ToString::to_string).collect();
        let expected = format!(
            "certificate 2 of 2 in the trust bundle, \"{subject}\", is not a CA certificate that may sign others"
        );
        assert_eq!(skipped, [expected]);
        let place = Place::Bundle { position: 1, of: 2 };
        assert_eq!(refused(&stranger.repeat(2)), BundleError::Rejected(Rejection::NotACa { place }));
    }
}

/// Go programs refuse the whole bundle because of one.
#[test]
fn malformed_certificates_are_skipped_if_others_are_left() {
    let malformed = Authority::root(|params: &mut CertificateParams| {
        // A key identifier of another type.
        params.custom_extensions.push(CustomExtension::from_oid_content(&[2, 5, 29, 35], vec![4, 1, 7]));
    });
    let good = root();
    let bundle = TrustBundle::read((pem(&malformed) + &pem(&good)).as_bytes()).unwrap();
    assert_eq!(bundle.certificates(), std::slice::from_ref(&good.certificate));
    let skipped: Vec<_> = bundle.skipped().iter().map(ToString::to_string).collect();
    let start = "certificate 1 of 2 in the trust bundle, \"CN=root\", cannot be read by everyone: its ";
    assert!(matches!(&skipped[..], [one] if one.starts_with(start)), "{skipped:?}");
    assert!(bundle.text().is_none(), "it is not delivered with the others");
    let BundleError::Rejected(Rejection::Unreadable { .. }) = refused(&pem(&malformed)) else {
        panic!("it is refused")
    };
}

#[test]
fn a_text_is_delivered_if_all_of_it_may_be() {
    let text = |text: &str| TrustBundle::read(text.as_bytes()).unwrap().text().map(<[u8]>::to_vec);
    let good = pem(&root());
    for fit in [good.clone(), format!("# ours\r\n{good}\nsubject=b\n{good}")] {
        assert_eq!(text(&fit), Some(fit.into_bytes()));
    }
    let no_ca = pem(&Authority::root(|params: &mut CertificateParams| params.is_ca = IsCa::ExplicitNoCa));
    let trusted = include_str!("openssl/trusted.crt");
    let hidden = "---- BEGIN Private Key ----\nAAAA\n".to_owned();
    for unfit in [no_ca, trusted.to_owned(), hidden] {
        assert_eq!(text(&(good.clone() + &unfit)), None, "{unfit}");
    }
    let digest = |text: &str| TrustBundle::read(text.as_bytes()).unwrap().text_digest().map(str::to_owned);
    assert_ne!(digest(&good), digest(&format!("# ours\n{good}")));
    let without = TrustBundle::of(vec![root().certificate]).unwrap();
    assert_eq!((without.text(), without.text_digest()), (None, None));
}

#[test]
fn certificates_that_openssl_says_it_trusts_are_read() {
    let [trusted, plain] = [include_str!("openssl/trusted.crt"), include_str!("openssl/ec.crt")];
    let read = |text: &str| TrustBundle::read(text.as_bytes()).unwrap().certificates().to_vec();
    assert_eq!(read(trusted), read(plain));
    let other = root();
    assert_eq!(read(&(pem(&other) + trusted)), [vec![other.certificate.clone()], read(plain)].concat());
}

#[test]
fn certificates_keep_the_rules_of_identities() {
    let place = Place::Bundle { position: 2, of: 2 };
    let key = KeyPair::generate().unwrap();
    for no_certificate in [key.der_bytes(), b"abc"] {
        let error = refused(&(pem(&root()) + &block("CERTIFICATE", no_certificate)));
        assert!(
            matches!(&error, BundleError::Rejected(Rejection::Unreadable { place: at, .. }) if *at == place),
            "{error}"
        );
    }
}
