//! The contents of the files of a volume.

mod formats;
mod layouts;
mod rewritten;

use std::collections::BTreeMap;
use std::time::SystemTime;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use svid_csi_core::files::{Extras, FileName, FileNames, JwtGiven, RenderError, RenderedFile, TokenFile, Wanted, all};
use svid_csi_core::identity::Candidate;
use svid_csi_core::jwt::{Audiences, JwtAuthority, JwtBundles, JwtSvid};
use svid_csi_core::pkcs12::Password;
use svid_csi_core::secret::Secret;
use svid_csi_core::spiffe_id::{SpiffeId, TrustDomain};
use svid_csi_core::x509_context::{Bundles, ContextCandidate, SvidCandidate, X509Context, accept};

use crate::forge::{Authority, HOUR, ID, accepted, good, now};

fn name(name: &str) -> FileName {
    FileName::parse(name).expect("a name")
}

fn names(bundle: Option<&str>) -> FileNames {
    FileNames { cert: Some(name("tls.crt")), key: Some(name("tls.key")), bundle: bundle.map(name) }
}

fn domain(name: &str) -> TrustDomain {
    TrustDomain::parse(name).expect("a trust domain")
}

fn certificates(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().expect("certificates")
}

/// The contents of the file with that name, if it exists.
fn contents<'a>(files: &'a [RenderedFile], name: &str) -> Option<&'a [u8]> {
    files.iter().find(|file| file.name.as_str() == name).map(|file| file.contents.as_slice())
}

#[track_caller]
fn found<'a>(files: &'a [RenderedFile], name: &str) -> &'a [u8] {
    contents(files, name).unwrap_or_else(|| panic!("{name} is in {files:?}"))
}

fn file_names(files: &[RenderedFile]) -> Vec<&str> {
    let mut names: Vec<_> = files.iter().map(|file| file.name.as_str()).collect();
    names.sort_unstable();
    names
}

/// A leaf under an intermediate CA.
fn under_intermediate(root: &Authority) -> Candidate {
    let intermediate = root.intermediate(|params| {
        params.distinguished_name.push(rcgen::DnType::CommonName, "intermediate of this test");
    });
    let mut candidate = intermediate.leaf(|_| {});
    candidate.chain.push(intermediate.certificate);
    candidate.bundle = Some(vec![root.certificate.clone()]);
    candidate
}

fn context(candidate: Candidate, federated: Bundles) -> X509Context {
    let id = SpiffeId::parse(ID).expect("an ID");
    let svids = vec![SvidCandidate { id, candidate, hint: String::new() }];
    let candidate = ContextCandidate { svids, federated, ..ContextCandidate::default() };
    accept(candidate, &domain("example.org"), now()).expect("it keeps every rule")
}

fn password() -> Password {
    Password::new(Secret::new("changeit".to_owned())).expect("a password")
}

/// Tokens for those audiences, and the bundles of two trust domains.
fn jwt(audiences: &[&str], at: SystemTime) -> (Vec<JwtSvid>, JwtBundles) {
    let (own, other) = (domain("example.org"), domain("other.org"));
    let authority = JwtAuthority::create(&own).expect("an authority");
    let sign = |audience: &&str| {
        let audiences = Audiences::new(vec![(*audience).to_owned()]).expect("an audience");
        authority.sign(&SpiffeId::parse(ID).expect("an ID"), &audiences, at, HOUR).expect("a token")
    };
    let foreign = JwtAuthority::create(&other).expect("an authority").bundle().clone();
    let bundles = BTreeMap::from([(own, authority.bundle().clone()), (other, foreign)]);
    (audiences.iter().map(sign).collect(), bundles)
}

fn token_files(files: &[(&str, &str)]) -> Vec<TokenFile> {
    let one = |audience: &str| Audiences::new(vec![audience.to_owned()]).expect("an audience");
    let file = |(audience, file): &(&str, &str)| TokenFile { audience: one(audience), name: name(file) };
    files.iter().map(file).collect()
}

fn rendered(context: &X509Context, extras: &Extras) -> Result<Vec<RenderedFile>, RenderError> {
    let (names, password) = (names(Some("ca.crt")), password());
    all(Vec::new(), context, None, Wanted { names: &names, extras, password: Some(&password) }, now())
}

#[test]
fn writes_chain_key_and_bundle() {
    let root = Authority::root(|_| {});
    let mut candidate = under_intermediate(&root);
    candidate.bundle = Some(vec![root.certificate, Authority::root(|_| {}).certificate]);
    let context = X509Context::from(accepted(candidate));
    let identity = context.default_svid();

    let files = rendered(&context, &Extras::default()).expect("files");
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
    let context = X509Context::from(accepted(good()));
    let (names, extras) = (names(None), Extras::default());
    let wanted = Wanted { names: &names, extras: &extras, password: None };
    assert_eq!(all(Vec::new(), &context, None, wanted, now()).expect("files").len(), 2);
}
