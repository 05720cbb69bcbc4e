//! The verdict on a request.

use super::fault::Reasons;
use super::pod::{Lookup, Reads};
use super::policy::Policy;

/// The decision on a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Approve it.
    Approve,
    /// Deny it.
    Deny(Reasons),
    /// Do nothing.
    Ignore(Ignored),
    /// It passes the rules checked so far; read these pods and [decide](Reads::decide) it.
    Depends(Box<Reads>),
}

/// Why a request is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// It is approved or denied already.
    #[error("the request is already {}", if *.approved { "approved" } else { "denied" })]
    Decided {
        /// The existing decision.
        approved: bool,
    },
    /// It does not have our annotation, and other requests are not judged here.
    #[error("the request has no annotation spiffe.csi.cert-manager.io/identity")]
    NotOurs,
    /// There is no configured issuer to compare it with.
    #[error("no issuer is configured, so the request is left pending")]
    NoIssuer,
    /// A rule needs a pod that the approver may not read, which is not the request's fault.
    #[error("the approver is not allowed to read pods, so the request is left pending")]
    PodsForbidden,
}

impl Reads {
    /// Decides, by facts that are at most [`MAX_FACT_AGE`](super::MAX_FACT_AGE) old; `driver` is needed if [`driver`](Self::driver) names a pod.
    ///
    /// If the approver may not read pods, a request in [own-service-account mode](super::Mode::OwnServiceAccount) is approved anyway,
    /// as the predecessor does; in [node-bound mode](super::Mode::NodeBound) it is left pending.
    pub fn decide(&self, pod: &Lookup, driver: Option<&Lookup>, policy: &Policy) -> Verdict {
        let mut reasons = Reasons::default();
        let is_forbidden = self.check(pod, driver, policy, &mut reasons);
        match is_forbidden {
            _ if !reasons.is_empty() => Verdict::Deny(reasons),
            true => Verdict::Ignore(Ignored::PodsForbidden),
            false => Verdict::Approve,
        }
    }
}
