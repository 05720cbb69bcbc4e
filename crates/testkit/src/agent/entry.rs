//! The registration of a workload, and the response to it.

use std::collections::HashMap;
use std::time::Duration;

use svid_csi_proto::workload::{X509svid, X509svidResponse};
use tonic::Status;

use super::authority::Authority;
use crate::test_ca::Flaw;

/// A registration entry.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The SPIFFE ID.
    pub spiffe_id: String,
    /// Its hint; often empty.
    pub hint: String,
    /// The lifetime of each SVID.
    pub lifetime: Duration,
    /// The flaw of each SVID.
    pub flaw: Option<Flaw>,
}

/// The response to a workload.
#[derive(Debug, Clone)]
pub enum Answer {
    /// These SVIDs; the stream stays open, even if there are none.
    Svids(X509svidResponse),
    /// The call fails, as does an open stream.
    Refused(Status),
    /// Nothing yet.
    Silence,
}

/// The response to a workload, and the entries it comes from.
#[derive(Debug, Clone)]
pub(super) struct CurrentAnswer {
    pub(super) answer: Answer,
    pub(super) version: u64,
    pub(super) entries: Vec<Entry>,
}

impl Entry {
    /// An entry whose SVIDs live for an hour.
    pub fn new(spiffe_id: &str) -> Self {
        let (hint, lifetime) = (String::new(), Duration::from_secs(3600));
        Entry { spiffe_id: spiffe_id.to_owned(), hint, lifetime, flaw: None }
    }

    /// A copy with a hint.
    #[must_use]
    pub fn hint(self, hint: &str) -> Self {
        Entry { hint: hint.to_owned(), ..self }
    }

    /// A copy whose SVIDs have that lifetime.
    #[must_use]
    pub fn lifetime(self, lifetime: Duration) -> Self {
        Entry { lifetime, ..self }
    }

    /// A copy whose SVIDs have that flaw.
    #[must_use]
    pub fn flaw(self, flaw: Flaw) -> Self {
        Entry { flaw: Some(flaw), ..self }
    }

    fn svid(&self, authority: &Authority) -> X509svid {
        let issued = authority.ca().issue(&self.spiffe_id, self.lifetime, self.flaw);
        X509svid {
            spiffe_id: self.spiffe_id.clone(),
            x509_svid: issued.chain,
            x509_svid_key: issued.key,
            bundle: authority.bundle(),
            hint: self.hint.clone(),
        }
    }
}

impl CurrentAnswer {
    /// Only the SVIDs of these entries.
    pub(super) fn new(entries: Vec<Entry>, authority: &Authority, before: Option<&CurrentAnswer>) -> Self {
        let svids = entries.iter().map(|entry| entry.svid(authority)).collect();
        let answer = Answer::Svids(X509svidResponse { svids, ..Default::default() });
        CurrentAnswer { answer, version: before.map_or(0, |before| before.version + 1), entries }
    }

    /// New SVIDs of the same entries; everything else stays.
    pub(super) fn renewed(&self, authority: &Authority) -> Self {
        let mut renewed = CurrentAnswer::new(self.entries.clone(), authority, Some(self));
        if let (Answer::Svids(renewed), Some(before)) = (&mut renewed.answer, self.response()) {
            renewed.federated_bundles.clone_from(&before.federated_bundles);
            renewed.crl.clone_from(&before.crl);
        }
        renewed
    }

    pub(super) fn set(&mut self, answer: Answer) {
        self.answer = answer;
        self.version += 1;
    }

    pub(super) fn response(&self) -> Option<&X509svidResponse> {
        match &self.answer {
            Answer::Svids(response) => Some(response),
            Answer::Refused(_) | Answer::Silence => None,
        }
    }

    /// The bundles with which the workload verifies others: that of its own trust domain, and the federated ones.
    pub(super) fn bundles(&self, authority: &Authority) -> HashMap<String, Vec<u8>> {
        let federated = self.response().map(|response| response.federated_bundles.clone()).unwrap_or_default();
        federated.into_iter().chain([(authority.trust_domain().to_owned(), authority.bundle())]).collect()
    }
}
