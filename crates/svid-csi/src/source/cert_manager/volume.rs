//! The state of a volume between two calls: its token, the request in progress, and the failures so far.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use svid_csi_core::cert_request::{CertificateRequest, IssuerRef, Progress};
use svid_csi_core::identity::PrivateKey;
use svid_csi_core::pod_token::PodToken;
use tokio::sync::watch;
use tokio::time::Instant;

use super::error::{CertManagerError, FailedRequest};
use super::requests::{AwaitedRequest, WatchedRequest};
use crate::host::clock;

/// How long before its end a token is no longer used.
const TOKEN_MARGIN: Duration = Duration::from_secs(5);

/// One volume of the source.
#[derive(Debug, Default)]
pub(super) struct VolumeIssuance {
    /// Held while the volume's identity is requested.
    pub(super) asking: tokio::sync::Mutex<RequestState>,
    /// The pod's newest token.
    pub(super) token: watch::Sender<Option<PodToken>>,
    waiting: Mutex<Waiting>,
}

/// The progress of its request.
#[derive(Debug, Default)]
pub(super) struct RequestState {
    /// The request in progress.
    pub(super) live: Option<Live>,
    /// The last issued request, by its name, and its issuer.
    pub(super) issued: Option<(String, IssuerRef)>,
    /// The number of consecutive failed requests.
    pub(super) failures: u32,
    /// The last failure, and when the next request may be created.
    pub(super) last: Option<(FailedRequest, Instant)>,
    /// Whether requests of an earlier run have been checked.
    pub(super) recalled: bool,
}

/// A request in progress. Its key exists nowhere else.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) object: CertificateRequest,
    pub(super) key: PrivateKey,
    pub(super) expected: AwaitedRequest,
    pub(super) made: bool,
}

/// What a volume waits for, for people.
#[derive(Debug, Default)]
pub(super) enum Waiting {
    /// Nothing.
    #[default]
    Nothing,
    /// For the watch.
    ForLink,
    /// For the bundle.
    ForBundle,
    /// For its turn among the renewals.
    ForTurn,
    /// For an overloaded API server.
    ForApiServer,
    /// For a token.
    ForToken,
    /// For its request.
    ForRequest { name: String, seen: watch::Receiver<WatchedRequest> },
    /// For the next attempt.
    ForNextTry { at: Instant, ended: FailedRequest },
}

impl VolumeIssuance {
    /// A token that the API server may still accept.
    pub(super) fn usable_token(&self) -> Option<PodToken> {
        let now = clock::now() + TOKEN_MARGIN;
        self.token.borrow().as_ref().filter(|token| token.expiration > now).cloned()
    }

    /// Drops a token that the API server refuses, unless the kubelet has sent another one since.
    pub(super) fn refuse_token(&self, refused: Option<&PodToken>) {
        self.token.send_if_modified(|token| {
            let text = |token: Option<&PodToken>| token.map(|token| token.token.expose().to_owned());
            let is_same = text(token.as_ref()) == text(refused);
            if is_same {
                *token = None;
            }
            is_same
        });
    }

    pub(super) fn waits(&self, waiting: Waiting) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = waiting;
    }

    /// The sentence that describes it.
    pub(super) fn waiting(&self) -> Option<String> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        (!matches!(*waiting, Waiting::Nothing)).then(|| waiting.to_string())
    }

    /// Whether it waits for a token from the kubelet, or for a request, for the metrics.
    pub(super) fn waits_for(&self) -> (bool, bool) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        (matches!(*waiting, Waiting::ForToken), matches!(*waiting, Waiting::ForRequest { .. }))
    }
}

impl RequestState {
    /// Fails, with the reason, while it is too early for the next request.
    pub(super) fn not_too_early(&self) -> Result<(), CertManagerError> {
        match &self.last {
            Some((ended, at)) if *at > Instant::now() => {
                let seconds = at.duration_since(Instant::now()).as_secs() + 1;
                Err(CertManagerError::TooEarly { seconds, ended: ended.clone() })
            }
            _ => Ok(()),
        }
    }
}

impl Live {
    pub(super) fn issuer(&self) -> &IssuerRef {
        &self.object.spec.issuer_ref
    }

    /// Namespace and name.
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.object.metadata.namespace, self.object.metadata.name)
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Waiting::Nothing => f.write_str("nothing"),
            Waiting::ForLink => {
                f.write_str("the API server: the certificate requests of this node are not watched yet")
            }
            Waiting::ForBundle => f.write_str("the trust bundle, which does not exist or cannot be read"),
            Waiting::ForTurn => {
                f.write_str("its turn: as many renewals as --renewal-concurrency allows are in progress")
            }
            Waiting::ForApiServer => f.write_str("the API server, which is overloaded"),
            Waiting::ForToken => f.write_str("the kubelet's next republish, for a fresh service account token"),
            Waiting::ForRequest { name, seen } => write!(f, "CertificateRequest {name}, {}", stage(&seen.borrow())),
            Waiting::ForNextTry { at, ended } => {
                let seconds = at.saturating_duration_since(Instant::now()).as_secs();
                write!(f, "the next attempt in {seconds} s, because {ended}")
            }
        }
    }
}

fn stage(seen: &WatchedRequest) -> String {
    match seen {
        WatchedRequest::Nothing => "which has not appeared in the watch yet".to_owned(),
        WatchedRequest::Progress(Ok(Progress::AwaitsApproval)) => {
            "which has not been approved or denied yet; is an approver running?".to_owned()
        }
        WatchedRequest::Progress(Ok(Progress::AwaitsIssuer { message: Some(message) })) => {
            format!("which is approved and waits for its issuer: {message}")
        }
        WatchedRequest::Progress(Ok(Progress::AwaitsIssuer { message: None })) => {
            "which is approved and waits for its issuer; is cert-manager running?".to_owned()
        }
        _ => "which has ended".to_owned(),
    }
}
