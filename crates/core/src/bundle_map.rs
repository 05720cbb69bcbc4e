//! The SPIFFE bundle map: the trust anchors of several trust domains in one JSON text (SPIFFE Trust Domain and Bundle,
//! section 5).
//!
//! Only for X509-SVIDs: gRPC ignores the whole bundle of a trust domain, or the whole map, if it has other keys in it
//! (gRPC proposal A87).

use std::collections::BTreeMap;
use std::time::SystemTime;

use rustls_pki_types::CertificateDer;
use serde_json::{Map, Value};

use crate::bundle_document::BundleDocument;
use crate::jwt::JwtBundle;
use crate::spiffe_id::TrustDomain;

const TRUST_DOMAINS: &str = "trust_domains";

/// The trust anchors of trust domains, each with a sequence number of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BundleMap(BTreeMap<TrustDomain, BundleDocument>);

impl BundleMap {
    /// Reads a map that this driver wrote. A bundle that cannot be read is left out.
    pub fn read(json: &[u8]) -> Self {
        let map = serde_json::from_slice::<Value>(json).ok();
        let bundles = map.as_ref().and_then(|map| map.get(TRUST_DOMAINS)?.as_object()).into_iter().flatten();
        let read = |(name, bundle): (&String, &Value)| {
            let document = BundleDocument::read(bundle.to_string().as_bytes()).ok()?;
            Some((TrustDomain::parse(name).ok()?, document))
        };
        Self(bundles.filter_map(read).collect())
    }

    /// The map that follows this one, with the bundles of those trust domains and no others.
    #[must_use]
    pub fn next<'a>(
        &self,
        bundles: impl Iterator<Item = (&'a TrustDomain, &'a [CertificateDer<'static>])>,
        now: SystemTime,
    ) -> Self {
        Self(
            bundles
                .map(|(trust_domain, anchors)| (trust_domain.clone(), self.document(trust_domain, anchors, now)))
                .collect(),
        )
    }

    /// The map that follows this one if one trust domain has another bundle.
    #[must_use]
    pub fn with(mut self, trust_domain: &TrustDomain, anchors: &[CertificateDer<'static>], now: SystemTime) -> Self {
        if anchors.is_empty() {
            self.0.remove(trust_domain);
        } else {
            let document = self.document(trust_domain, anchors, now);
            self.0.insert(trust_domain.clone(), document);
        }
        self
    }

    fn document(
        &self,
        trust_domain: &TrustDomain,
        anchors: &[CertificateDer<'static>],
        now: SystemTime,
    ) -> BundleDocument {
        let earlier = self.0.get(trust_domain);
        let next = BundleDocument::after(earlier, anchors, &JwtBundle::default(), now);
        // The file is replaced as a whole, at times that no single bundle decides (section 5.1.1).
        BundleDocument { refresh_hint: None, ..next }
    }

    /// Whether no trust domain is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The trust anchors of a trust domain.
    pub fn anchors(&self, trust_domain: &TrustDomain) -> Option<&[CertificateDer<'static>]> {
        self.0.get(trust_domain).map(|document| document.anchors.as_slice())
    }

    /// The sequence number of a trust domain's bundle.
    pub fn sequence(&self, trust_domain: &TrustDomain) -> Option<u64> {
        self.0.get(trust_domain)?.sequence
    }

    /// The text.
    pub fn to_json(&self) -> Vec<u8> {
        let bundles = self.0.iter().map(|(trust_domain, document)| (trust_domain.as_str().to_owned(), document.json()));
        let bundles = Value::Object(bundles.collect::<Map<_, _>>());
        Value::Object(Map::from_iter([(TRUST_DOMAINS.to_owned(), bundles)])).to_string().into_bytes()
    }
}
