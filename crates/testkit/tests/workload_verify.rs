//! `workload verify` accepts an identity and nothing else.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use svid_csi_core::ca::CertificateAuthority;
use svid_csi_core::request::SvidRequest;
use svid_csi_core::spiffe_id::{SpiffeId, TrustDomain};

const HOUR: Duration = Duration::from_secs(3600);

fn write(folder: &Path, name: &str, text: &str) {
    File::create(folder.join(name)).unwrap().write_all(text.as_bytes()).unwrap();
}

/// An identity from a CA of its own, as files.
fn issue(folder: &Path) {
    let now = SystemTime::now();
    let ca = CertificateAuthority::create(&TrustDomain::parse("example.org").unwrap(), now, HOUR).unwrap();
    let id = SpiffeId::parse("spiffe://example.org/w").unwrap();
    let (key, request) = SvidRequest::with_new_key(id, HOUR).unwrap();
    let leaf = ca.sign(&request, now, [1; 16]).unwrap();
    write(folder, "tls.crt", &pem::encode(&pem::Pem::new("CERTIFICATE", leaf.to_vec())));
    write(folder, "tls.key", &key.to_pem());
    write(folder, "ca.crt", &ca.certificate_pem());
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
        std::fs::copy(other.path().join(file), one.path().join(file)).unwrap();
        let (good, said) = verify(one.path());
        assert!(!good && said[verdict] == false, "{said}");
        issue(one.path());
    }
    std::fs::remove_file(one.path().join("tls.key")).unwrap();
    assert_eq!(verify(one.path()), (false, serde_json::json!({ "error": "tls.key cannot be read" })));
}
