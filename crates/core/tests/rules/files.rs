use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use svid_csi_core::files::{FileName, FileNames, render};

use crate::forge::{Authority, accepted, good};

fn names(bundle: Option<&str>) -> FileNames {
    let name = |name| FileName::parse(name).expect("a name");
    FileNames { cert: name("tls.crt"), key: name("tls.key"), bundle: bundle.map(name) }
}

fn certificates(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().expect("certificates")
}

#[test]
fn writes_chain_key_and_bundle() {
    let root = Authority::root(|_| {});
    let intermediate = root.intermediate(|_| {});
    let mut candidate = intermediate.leaf(|_| {});
    candidate.chain.push(intermediate.certificate);
    candidate.bundle = Some(vec![root.certificate, Authority::root(|_| {}).certificate]);
    let identity = accepted(candidate);

    let files = render(&identity, &names(Some("ca.crt")));
    let [cert, key, bundle] = &files[..] else { panic!("three files: {files:?}") };
    assert_eq!([&cert.name, &key.name, &bundle.name].map(FileName::as_str), ["tls.crt", "tls.key", "ca.crt"]);
    assert_eq!(certificates(&cert.contents), identity.chain(), "the leaf first");
    assert_eq!(certificates(&bundle.contents), identity.bundle());
    assert!(key.contents.starts_with(b"-----BEGIN PRIVATE KEY-----\n"), "PKCS#8");
    let read = PrivateKeyDer::from_pem_slice(&key.contents).expect("a key");
    assert_eq!(read.secret_der(), identity.key().der());

    let pem = identity.key().to_pem();
    let body = pem.lines().nth(1).expect("a line");
    assert!(!format!("{files:?} {files:#?}").contains(&body[..16]), "a key is not printed");
}

#[test]
fn leaves_the_bundle_out_without_a_name() {
    let identity = accepted(good());
    assert_eq!(render(&identity, &names(None)).len(), 2);
}
