//! `workload verify` accepts identities only.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use svid_csi::spiffe::svid::FILES;
use svid_csi_core::ca::CertificateAuthority;
use svid_csi_core::files::{self, Extras, FileName, FileNames, Wanted};
use svid_csi_core::identity::{Candidate, Expected, accept};
use svid_csi_core::request::SvidRequest;
use svid_csi_core::spiffe_id::{SpiffeId, TrustDomain};

const HOUR: Duration = Duration::from_secs(3600);

/// An identity from a CA of its own, as files.
fn issue(folder: &Path) {
    let now = SystemTime::now();
    let ca = CertificateAuthority::create(&TrustDomain::parse("example.org").unwrap(), now, HOUR).unwrap();
    let id = SpiffeId::parse("spiffe://example.org/w").unwrap();
    let (key, request) = SvidRequest::with_new_key(id.clone(), HOUR).unwrap();
    let chain = vec![ca.sign(&request, now, [1; 16]).unwrap()];
    let candidate = Candidate { chain, key, bundle: Some(vec![ca.certificate_der().clone()]) };
    let identity = accept(candidate, &Expected { id, now }).unwrap();
    let [cert, key, bundle] = FILES.map(|name| FileName::parse(name).unwrap());
    let (names, extras) = (FileNames { cert: Some(cert), key: Some(key), bundle: Some(bundle) }, Extras::default());
    let wanted = Wanted { names: &names, extras: &extras, password: None };
    for file in files::all(Vec::new(), &identity.into(), None, wanted, now).unwrap() {
        fs::write(folder.join(file.name.as_str()), &file.contents).unwrap();
    }
}

fn verify(folder: &Path) -> (bool, Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_workload")).args(["verify", "--files"]).arg(folder).output().unwrap();
    (output.status.success(), serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn an_identity_passes_and_a_mix_of_two_fails() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    issue(one.path());
    issue(other.path());
    let (good, said) = verify(one.path());
    assert!(good, "{said}");
    assert_eq!((&said["spiffe_id"], &said["key_matches"]), (&"spiffe://example.org/w".into(), &true.into()));

    for (file, verdict) in [("tls.key", "key_matches"), ("ca.crt", "chain_ok")] {
        fs::copy(other.path().join(file), one.path().join(file)).unwrap();
        let (good, said) = verify(one.path());
        assert!(!good && said[verdict] == false, "{said}");
        issue(one.path());
    }
    fs::remove_file(one.path().join("tls.key")).unwrap();
    assert_eq!(verify(one.path()), (false, serde_json::json!({ "error": "tls.key cannot be read" })));
}
