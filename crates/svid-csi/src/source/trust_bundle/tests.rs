mod files;
mod objects;

use std::time::Duration;

use svid_csi_core::ca::CertificateAuthority;
use svid_csi_core::spiffe_id::TrustDomain;

use super::*;
use crate::host::clock;

/// A good bundle, a different one each time.
fn pem() -> String {
    let trust_domain = TrustDomain::parse("example.org").unwrap();
    let authority = CertificateAuthority::create(&trust_domain, clock::now(), Duration::from_secs(3_600)).unwrap();
    authority.certificate_pem()
}

impl CurrentBundle {
    /// Waits until the bundle is the one in this text.
    async fn becomes(&mut self, pem: &str) {
        let expected = TrustBundle::read(pem.as_bytes()).unwrap();
        self.bundle.wait_for(|bundle| bundle.as_deref() == Some(&expected)).await.unwrap();
    }

    /// Waits until there is a problem that contains this text.
    async fn troubled(&mut self, about: &str) {
        let is_reported = |trouble: &Option<String>| trouble.as_ref().is_some_and(|trouble| trouble.contains(about));
        self.trouble.wait_for(is_reported).await.unwrap();
    }

    async fn untroubled(&mut self) {
        self.trouble.wait_for(Option::is_none).await.unwrap();
    }
}

#[test]
fn objects_need_a_way_to_the_api_server() {
    for source in ["configmap:shop/roots/ca.crt", "clustertrustbundle:roots"] {
        let refused = start(source.parse().unwrap(), None, &Metrics::default(), &Tasks::default());
        assert!(refused.unwrap_err().to_string().ends_with("which this driver has no access to"));
    }
}
