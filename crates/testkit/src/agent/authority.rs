//! The authority that signs, and the roots that everyone trusts.

use std::time::Duration;

use svid_csi_core::spiffe_id::TrustDomain;

use crate::test_ca::{Flaw, Issued, TestCa};

/// The roots of the trust domain, the newest last, which signs.
#[derive(Debug)]
pub(super) struct Authority {
    trust_domain: String,
    roots: Vec<TestCa>,
}

/// A fault of the agent's end of a connection to the Broker API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Server {
    /// Nothing.
    #[default]
    Proper,
    /// It presents an SVID of another trust domain, signed by the same authority.
    OtherTrustDomain,
    /// It presents the SVID of a workload.
    Workload,
    /// Its certificate has a flaw.
    Flawed(Flaw),
    /// It does not speak HTTP/2.
    Garbage,
    /// It sends nothing, not even a server hello.
    Hangs,
}

impl Authority {
    pub(super) fn new(trust_domain: &TrustDomain) -> Self {
        Authority { trust_domain: trust_domain.id().to_string(), roots: vec![TestCa::new("agent")] }
    }

    pub(super) fn ca(&self) -> &TestCa {
        self.roots.last().expect("at least one")
    }

    pub(super) fn add_root(&mut self) {
        self.roots.push(TestCa::new(&format!("agent {}", self.roots.len())));
    }

    /// A root in whose place an intermediate signs.
    pub(super) fn add_root_with_intermediate(&mut self) {
        self.roots.push(TestCa::with_intermediate(&format!("agent {}", self.roots.len())));
    }

    /// Removes all roots except the newest.
    pub(super) fn drop_old_roots(&mut self) {
        self.roots.drain(..self.roots.len() - 1);
    }

    /// All roots, as concatenated DER.
    pub(super) fn bundle(&self) -> Vec<u8> {
        self.roots.iter().flat_map(TestCa::bundle_der).collect()
    }

    pub(super) fn roots(&self) -> impl Iterator<Item = Vec<u8>> {
        self.roots.iter().map(TestCa::bundle_der)
    }

    /// The ID of the trust domain.
    pub(super) fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// The certificate that the agent presents to brokers.
    pub(super) fn server_svid(&self, server: Server) -> Issued {
        let own = format!("{}/spire/agent/test/node", self.trust_domain);
        let (id, flaw) = match server {
            Server::OtherTrustDomain => ("spiffe://other.example/spire/agent/test/node".to_owned(), None),
            Server::Workload => (format!("{}/ns/shop/sa/cart", self.trust_domain), None),
            Server::Flawed(flaw) => (own, Some(flaw)),
            Server::Proper | Server::Garbage | Server::Hangs => (own, None),
        };
        self.ca().issue(&id, Duration::from_secs(3600), flaw)
    }
}
