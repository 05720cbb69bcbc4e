//! All X.509 material for a pod: its SVIDs, and the bundles to verify others with (SPIFFE Workload API, section 5.2).

mod wire;

use std::collections::BTreeMap;
use std::time::SystemTime;

use aws_lc_rs::digest;
use rustls_pki_types::CertificateDer;

pub use self::wire::{ConcatenatedDer, concatenate, split};
use crate::hint;
pub use crate::identity::MAX_SVIDS;
use crate::identity::{
    Anchors, Candidate, Expected, Identity, MAX_BUNDLE_BYTES, Rejection, Skipped, Validity, accept as accept_identity,
    hex, size, sorted, usable_anchors,
};
use crate::spiffe_id::{SpiffeId, TrustDomain};

/// The maximum total size of all revocation lists, and of all bundles of other trust domains, in bytes.
pub const MAX_OTHER_BYTES: usize = 4 * MAX_BUNDLE_BYTES;

/// Trust bundles, by their trust domains.
pub type Bundles = BTreeMap<TrustDomain, Vec<CertificateDer<'static>>>;

/// The output of a source, before it is checked.
#[derive(Debug, Default)]
pub struct ContextCandidate {
    /// The SVIDs, the default one first.
    pub svids: Vec<SvidCandidate>,
    /// The bundles of federated trust domains.
    pub federated: Bundles,
    /// Those that cannot be read.
    pub damaged: Damaged,
    /// Revocation lists, each in DER; passed on unchanged.
    pub crls: Vec<Vec<u8>>,
}

/// One SVID of a candidate.
#[derive(Debug)]
pub struct SvidCandidate {
    /// Its SPIFFE ID according to the source.
    pub id: SpiffeId,
    /// Key, chain and bundle.
    pub candidate: Candidate,
    /// Its purpose, in the words of its registration; often empty.
    pub hint: String,
}

/// One SVID that complies with every rule.
#[derive(Debug, Clone)]
pub struct Svid {
    /// Key, chain and bundle.
    pub identity: Identity,
    /// See [`SvidCandidate::hint`].
    pub hint: String,
}

/// SVIDs and bundles that comply with every rule; at least one SVID.
#[derive(Debug, Clone)]
pub struct X509Context {
    svids: Vec<Svid>,
    federated: Bundles,
    skipped: SkippedOf,
    damaged: Damaged,
    crls: Vec<Vec<u8>>,
}

/// Why bundles of federated trust domains cannot be used, by their names as the source gives them.
pub type Damaged = BTreeMap<String, String>;

/// The skipped certificates in the bundles of trust domains; none of the lists is empty.
pub type SkippedOf = BTreeMap<TrustDomain, Vec<Skipped>>;

/// Accepts a candidate as a whole, or refuses it as a whole, except that a damaged bundle of another trust domain is left
/// out: that domain must not decide whether the pod has an identity.
///
/// [`identity::accept`](crate::identity::accept) must accept each SVID for the ID that the source gives, in
/// `trust_domain`. If two have the same hint, the first counts (SPIFFE Workload API, section 5.2.1).
///
/// # Errors
/// The first broken rule, in a sentence.
pub fn accept(
    candidate: ContextCandidate,
    trust_domain: &TrustDomain,
    now: SystemTime,
) -> Result<X509Context, Rejection> {
    let ContextCandidate { svids, federated, mut damaged, crls } = candidate;
    if svids.len() > MAX_SVIDS {
        return Err(Rejection::TooMany { svids: svids.len() });
    }
    let distinct = hint::first_of_each(svids, |svid| &svid.hint);
    let svids: Vec<Svid> = distinct.map(|svid| accept_svid(svid, trust_domain, now)).collect::<Result<_, _>>()?;
    if svids.is_empty() {
        return Err(Rejection::EmptyChain);
    }
    let bytes = crls.iter().map(Vec::len).sum();
    if bytes > MAX_OTHER_BYTES {
        return Err(Rejection::TooLarge { what: "revocation lists", bytes, limit: MAX_OTHER_BYTES });
    }
    let (federated, mut skipped) = accept_federated(federated, trust_domain, &mut damaged);
    skipped.extend(svids.iter().rev().filter_map(|svid| skipped_of(&svid.identity)));
    Ok(X509Context { svids, federated, skipped, damaged, crls })
}

fn skipped_of(identity: &Identity) -> Option<(TrustDomain, Vec<Skipped>)> {
    let skipped = identity.skipped();
    (!skipped.is_empty()).then(|| (identity.id().trust_domain().clone(), skipped.to_vec()))
}

fn accept_svid(svid: SvidCandidate, trust_domain: &TrustDomain, now: SystemTime) -> Result<Svid, Rejection> {
    let SvidCandidate { id, candidate, hint } = svid;
    if id.trust_domain() != trust_domain {
        return Err(Rejection::ForeignTrustDomain { id, trust_domain: trust_domain.clone() });
    }
    Ok(Svid { identity: accept_identity(candidate, &Expected { id, now })?, hint })
}

/// A federated bundle for the pod's own trust domain would compete with the bundle of its issuer, so it is left out. So
/// is an empty one, which agents send for a trust domain that has only JWT keys.
fn accept_federated(federated: Bundles, own: &TrustDomain, damaged: &mut Damaged) -> (Bundles, SkippedOf) {
    let mut others: Vec<_> = federated.into_iter().filter(|(name, bundle)| name != own && !bundle.is_empty()).collect();
    // The largest is left out first, so that it costs no other domain its bundle.
    others.sort_by_key(|(_, bundle)| size(bundle));
    let mut total = 0;
    others.retain(|(trust_domain, bundle)| {
        let bytes = total + size(bundle);
        let fits = bytes <= MAX_OTHER_BYTES;
        if fits {
            total = bytes;
        } else {
            let problem = Rejection::TooLarge { what: "bundles of other trust domains", bytes, limit: MAX_OTHER_BYTES };
            damaged.insert(trust_domain.as_str().to_owned(), problem.to_string());
        }
        fits
    });
    let (mut accepted, mut all_skipped) = (Bundles::new(), SkippedOf::new());
    for (trust_domain, bundle) in others {
        match usable_anchors(bundle) {
            Err(problem) => _ = damaged.insert(trust_domain.as_str().to_owned(), problem.to_string()),
            Ok(Anchors { certificates, skipped }) => {
                if !skipped.is_empty() {
                    all_skipped.insert(trust_domain.clone(), skipped);
                }
                accepted.insert(trust_domain, certificates);
            }
        }
    }
    (accepted, all_skipped)
}

impl X509Context {
    /// The SVIDs, the default one first; never empty.
    pub fn svids(&self) -> &[Svid] {
        &self.svids
    }

    /// The default SVID.
    pub fn default_svid(&self) -> &Identity {
        &self.svids[0].identity
    }

    /// The bundles of federated trust domains; never the pod's own.
    pub fn federated(&self) -> &Bundles {
        &self.federated
    }

    /// The bundles of federated trust domains that cannot be used.
    pub fn damaged(&self) -> &Damaged {
        &self.damaged
    }

    /// With the last good bundles, from the previous context if there is one, in place of damaged ones, as far as they
    /// fit.
    #[must_use]
    pub fn or_last_good(mut self, last: Option<&X509Context>) -> Self {
        let Some(last) = last else { return self };
        let is_damaged = |name: &TrustDomain| self.damaged.contains_key(name.as_str());
        let mut good: Vec<_> = last.federated.iter().filter(|(name, _)| is_damaged(name)).collect();
        // As in `accept_federated`: one that does not fit costs no other domain its bundle.
        good.sort_by_key(|(_, bundle)| size(bundle));
        let mut total: usize = self.federated.values().map(|bundle| size(bundle)).sum();
        for (name, bundle) in good {
            total += size(bundle);
            if total <= MAX_OTHER_BYTES {
                self.federated.insert(name.clone(), bundle.clone());
            }
        }
        self
    }

    /// The certificates of its bundles that were skipped.
    pub fn skipped(&self) -> &SkippedOf {
        &self.skipped
    }

    /// Revocation lists, each in DER.
    pub fn crls(&self) -> &[Vec<u8>] {
        &self.crls
    }

    /// The trust domain of every SVID.
    pub fn trust_domain(&self) -> &TrustDomain {
        self.default_svid().id().trust_domain()
    }

    /// The bundle of the pod's own trust domain; empty if the administrator did not configure any.
    pub fn bundle(&self) -> &[CertificateDer<'static>] {
        self.default_svid().bundle()
    }

    /// All existing bundles, the pod's own first.
    pub fn bundles(&self) -> impl Iterator<Item = (&TrustDomain, &[CertificateDer<'static>])> {
        let own = (self.trust_domain(), self.bundle());
        let others = self.federated.iter().map(|(trust_domain, bundle)| (trust_domain, bundle.as_slice()));
        std::iter::once(own).filter(|(_, bundle)| !bundle.is_empty()).chain(others)
    }

    /// How long everything in it can be used: until the first SVID expires.
    pub fn held(&self) -> Validity {
        let held = self.svids.iter().map(|svid| svid.identity.held());
        held.min_by_key(|held| held.not_after).unwrap_or_else(|| self.default_svid().held())
    }

    /// A copy with only the SVID that has that hint.
    ///
    /// # Errors
    /// [`Rejection::NoSuchHint`], if none has it.
    pub fn only(self, hint: &str) -> Result<Self, Rejection> {
        let svids = vec![hint::pick(self.svids, hint, |svid| &svid.hint)?];
        Ok(Self { svids, ..self })
    }

    /// A copy with another bundle of the pod's own trust domain.
    pub fn with_bundle(&self, bundle: &[CertificateDer<'static>]) -> Self {
        let with = |svid: &Svid| Svid { identity: svid.identity.with_bundle(bundle), hint: svid.hint.clone() };
        Self {
            svids: self.svids.iter().map(with).collect(),
            federated: self.federated.clone(),
            skipped: self.skipped.clone(),
            damaged: self.damaged.clone(),
            crls: self.crls.clone(),
        }
    }

    /// SHA-256 of everything, in lower-case hexadecimal; the order of the certificates in a bundle does not matter. The
    /// keys are not in it: their certificates are.
    pub fn digest(&self) -> String {
        let mut context = digest::Context::new(&digest::SHA256);
        let mut add = |part: &[u8]| {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        };
        for svid in &self.svids {
            add(svid.hint.as_bytes());
            svid.identity.chain().iter().for_each(|der| add(der));
        }
        add(b"bundle");
        sorted(self.bundle()).into_iter().for_each(&mut add);
        for (trust_domain, bundle) in &self.federated {
            add(trust_domain.as_str().as_bytes());
            sorted(bundle).into_iter().for_each(&mut add);
        }
        add(b"crls");
        self.crls.iter().for_each(|crl| add(crl));
        hex(context.finish().as_ref())
    }
}

impl From<Identity> for X509Context {
    /// One SVID, and no other trust domain to trust.
    fn from(identity: Identity) -> Self {
        let skipped = skipped_of(&identity).into_iter().collect();
        let svids = vec![Svid { identity, hint: String::new() }];
        Self { svids, federated: Bundles::new(), skipped, damaged: Damaged::new(), crls: Vec::new() }
    }
}
