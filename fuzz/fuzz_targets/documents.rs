//! Documents of other nodes and of issuers: bundle documents, what a node tells the others, the status of a request, and
//! PEM. One that is read is the same when it was written and read again, and no error prints a key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use svid_csi_core::bundle_document::BundleDocument;
use svid_csi_core::ca::Authorities;
use svid_csi_core::cert_request::{CertificateRequestStatus, Progress, ended};
use svid_csi_core::identity::{PrivateKey, TrustBundle, to_pem};
use svid_csi_core::spiffe_id::TrustDomain;

// The first byte selects the kind of the document.
fuzz_target!(|input: &[u8]| {
    let [kind, text @ ..] = input else { return };
    match kind % 5 {
        0 => bundle_document(text),
        1 => authorities(text),
        2 => status(text),
        3 => trust_bundle(text),
        _ => private_key(text),
    }
});

fn bundle_document(json: &[u8]) {
    let Ok(document) = BundleDocument::read(json) else { return };
    let read = BundleDocument::read(&document.to_json()).expect("it is read back");
    assert_eq!(
        (&read.jwt, read.sequence, read.refresh_hint),
        (&document.jwt, document.sequence, document.refresh_hint)
    );
    // Certificates that cannot be read, or whose keys no JWK can express, are not written.
    assert!(read.anchors.iter().all(|der| document.anchors.contains(der)));
    assert_eq!(BundleDocument::read(&read.to_json()).as_ref(), Ok(&read));
}

fn authorities(json: &[u8]) {
    let own = TrustDomain::parse("example.org").expect("a name");
    let Ok(authorities) = Authorities::read(json, &own) else { return };
    let written = authorities.to_json();
    assert_eq!(Authorities::read(&written, &own).expect("it is read back").to_json(), written);
}

fn status(json: &[u8]) {
    let Ok(status) = serde_json::from_slice::<CertificateRequestStatus>(json) else { return };
    _ = ended(&status);
    if let Err(error) = Progress::read(Some(&status)) {
        assert!(!error.to_string().is_empty());
    }
}

fn trust_bundle(pem: &[u8]) {
    let Ok(bundle) = TrustBundle::read(pem) else { return };
    let read = TrustBundle::read(to_pem(bundle.certificates()).as_bytes()).expect("it is read back");
    assert_eq!(read.certificates(), bundle.certificates());
    let mentions_a_key = bundle.text().is_some_and(|text| String::from_utf8_lossy(text).contains("PRIVATE KEY"));
    assert!(!mentions_a_key, "a key would be delivered with the bundle");
}

fn private_key(pem: &[u8]) {
    let Ok(pem) = std::str::from_utf8(pem) else { return };
    match PrivateKey::from_pem(pem) {
        Ok(key) => {
            let read = PrivateKey::from_pem(&key.to_pem()).expect("it is read back");
            assert_eq!(read.public_key_der(), key.public_key_der());
        }
        Err(error) => {
            let shown = format!("{error} {error:?}");
            let line = pem.lines().find(|line| line.len() > 40 && shown.contains(*line));
            assert_eq!(line, None);
        }
    }
}
