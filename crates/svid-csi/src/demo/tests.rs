//! An SVID of a CA, as a workload checks it.

use std::path::Path;
use std::time::Duration;

use svid_csi_core::spiffe_id::SpiffeId;

use crate::host::clock;
use crate::source::local_ca::{LocalCa, LocalCaConfig};
use crate::spiffe::svid::Svid;
use rustls::pki_types::PrivateKeyDer;

/// An SVID from the CA in `ca`, which is created if missing.
pub(super) fn issue(ca: &Path, id: &str) -> Svid {
    let id = SpiffeId::parse(id).unwrap();
    let trust_domain = id.trust_domain().clone();
    let config = LocalCaConfig {
        trust_domain,
        lifetime: Duration::from_secs(60),
        key_type: svid_csi_core::identity::KeyType::default(),
        jwt_lifetime: Duration::from_secs(60),
        dir: None,
        roots: None,
    };
    let issued = LocalCa::open(&config, ca).unwrap().issue(id, clock::now()).unwrap();
    let key = PrivateKeyDer::try_from(issued.key.der().to_vec()).unwrap();
    Svid { chain: issued.chain, key, bundle: issued.bundle.unwrap_or_default() }
}

#[test]
fn an_issued_identity_passes() {
    let ca = tempfile::tempdir().unwrap();
    let svid = issue(ca.path(), "spiffe://example.org/a");
    svid.check_key().unwrap();
    svid.check_chain().unwrap();
    assert_eq!(svid.leaf().unwrap().spiffe_id, "spiffe://example.org/a");
}

#[test]
fn parts_of_two_identities_do_not_pass() {
    let (ca, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut mixed = issue(ca.path(), "spiffe://example.org/a");
    let Svid { key, bundle, .. } = issue(other.path(), "spiffe://example.org/a");
    (mixed.key, mixed.bundle) = (key, bundle);
    assert!(mixed.check_key().is_err());
    assert!(mixed.check_chain().is_err());
}
