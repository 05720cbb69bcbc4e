//! Whether a chain leads to a trust anchor (RFC 5280, section 6.1), including names and policies. The library does not
//! support these: it refuses every chain with a constraint on URIs, and every critical policy.

mod certificate;
mod constraints;
mod directory;
mod extension;
mod fault;
mod names;
mod policies;
mod signature;

use std::time::SystemTime;

pub(super) use self::certificate::Certificate;
use self::fault::{MAX_COMPARISONS, MAX_SIGNATURES, PathFault};

/// Whether a chain, the leaf first, leads to one of the anchors at that time. The certificates after the leaf may be in any
/// order, and some of them may be unused.
pub(super) fn verify(chain: &[Certificate<'_>], anchors: &[Certificate<'_>], at: SystemTime) -> Result<(), PathFault> {
    let [leaf, intermediates @ ..] = chain else { return Err(PathFault::NoIssuer) };
    leaf.check_form()?;
    let (signatures, comparisons, fault) = (MAX_SIGNATURES, MAX_COMPARISONS, PathFault::NoIssuer);
    let mut search = Search { anchors, intermediates, at, signatures, comparisons, fault };
    if search.reaches_an_anchor(&mut vec![leaf]) { Ok(()) } else { Err(search.fault) }
}

struct Search<'a> {
    anchors: &'a [Certificate<'a>],
    intermediates: &'a [Certificate<'a>],
    at: SystemTime,
    /// The remaining number of signatures.
    signatures: usize,
    /// The remaining number of comparisons.
    comparisons: usize,
    /// The first fault that is more specific than a missing issuer.
    fault: PathFault,
}

impl<'a> Search<'a> {
    /// Tries every continuation of the path, beginning with those that end at an anchor.
    fn reaches_an_anchor(&mut self, path: &mut Vec<&'a Certificate<'a>>) -> bool {
        for issuer in issuers(path, self.anchors) {
            match self.check(issuer, path) {
                Ok(()) if policies::are_valid(path) => return true,
                Ok(()) => self.remember(PathFault::Policy),
                Err(fault) => self.remember(fault),
            }
        }
        for issuer in issuers(path, self.intermediates) {
            match self.check(issuer, path) {
                Ok(()) => {
                    path.push(issuer);
                    if self.reaches_an_anchor(path) {
                        return true;
                    }
                    path.pop();
                }
                Err(fault) => self.remember(fault),
            }
        }
        false
    }

    fn remember(&mut self, fault: PathFault) {
        if matches!(self.fault, PathFault::NoIssuer | PathFault::Signature) || fault == PathFault::TooMuchWork {
            self.fault = fault;
        }
    }

    /// Whether a certificate may be the issuer of the last one of the path, and the topmost on it.
    fn check(&mut self, issuer: &Certificate<'_>, path: &[&Certificate<'_>]) -> Result<(), PathFault> {
        self.signatures = self.signatures.checked_sub(1).ok_or(PathFault::TooMuchWork)?;
        path[path.len() - 1].verify_by(issuer)?;
        issuer.check_form()?;
        if issuer.is_over(self.at) {
            return Err(PathFault::Expired);
        }
        if self.at < issuer.validity.not_before {
            return Err(PathFault::NotYetValid);
        }
        issuer.check_issuer()?;
        if issuer.path_len.is_some_and(|most| path.len() - 1 > most) {
            return Err(PathFault::TooLong);
        }
        for name in path.iter().flat_map(|certificate| &certificate.names) {
            let comparisons = issuer.constraints.len();
            self.comparisons = self.comparisons.checked_sub(comparisons).ok_or(PathFault::TooMuchWork)?;
            issuer.constraints.check(name)?;
        }
        Ok(())
    }
}

/// The certificates of that name that are not yet on the path; those that do not have the key the last one points to come
/// last, if there are many.
fn issuers<'a>(path: &[&Certificate<'_>], among: &'a [Certificate<'a>]) -> Vec<&'a Certificate<'a>> {
    let last = path[path.len() - 1];
    let is_new = |issuer: &&Certificate<'_>| !path.iter().any(|passed| passed.is_same_authority(issuer));
    let mut issuers: Vec<_> = among.iter().filter(|one| one.subject == last.issuer).filter(is_new).collect();
    issuers.sort_by_key(|issuer| match (issuer.subject_key_id, last.authority_key_id) {
        (Some(has), Some(wants)) => has != wants,
        _ => false,
    });
    issuers
}
