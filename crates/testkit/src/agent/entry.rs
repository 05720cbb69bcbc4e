//! What is registered for a workload, and what it is given for that.

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
    /// What it is meant for; often empty.
    pub hint: String,
    /// How long each SVID lives.
    pub lifetime: Duration,
    /// What is wrong with each SVID.
    pub flaw: Option<Flaw>,
}

/// What a workload is told.
#[derive(Debug, Clone)]
pub enum Answer {
    /// These SVIDs; the stream stays open, also where there are none.
    Svids(X509svidResponse),
    /// The call fails, and so does a stream that is open.
    Refused(Status),
    /// Nothing at all, for now.
    Silence,
}

/// What a workload is told, and on account of what.
#[derive(Debug, Clone)]
pub(super) struct Told {
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

    /// The same with a hint.
    #[must_use]
    pub fn hint(self, hint: &str) -> Self {
        Entry { hint: hint.to_owned(), ..self }
    }

    /// The same with SVIDs that live so long.
    #[must_use]
    pub fn lifetime(self, lifetime: Duration) -> Self {
        Entry { lifetime, ..self }
    }

    /// The same with SVIDs that have that flaw.
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

impl Told {
    /// The SVIDs of these entries, and nothing else.
    pub(super) fn new(entries: Vec<Entry>, authority: &Authority, before: Option<&Told>) -> Self {
        let svids = entries.iter().map(|entry| entry.svid(authority)).collect();
        let answer = Answer::Svids(X509svidResponse { svids, ..Default::default() });
        Told { answer, version: before.map_or(0, |before| before.version + 1), entries }
    }

    /// New SVIDs of the same entries; all else stays.
    pub(super) fn renewed(&self, authority: &Authority) -> Self {
        let mut renewed = Told::new(self.entries.clone(), authority, Some(self));
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

    /// The bundles by which the workload verifies others: its own trust domain's, and the federated ones.
    pub(super) fn bundles(&self, authority: &Authority) -> HashMap<String, Vec<u8>> {
        let federated = self.response().map(|response| response.federated_bundles.clone()).unwrap_or_default();
        federated.into_iter().chain([(authority.trust_domain().to_owned(), authority.bundle())]).collect()
    }
}
