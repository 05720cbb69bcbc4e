//! The end of a request: what is recorded of it, and when the next one may be created.

use svid_csi_core::cert_request::{Issued, IssuerRef, Progress};
use svid_csi_core::identity::Rejection;
use svid_csi_core::pod::PodRef;
use svid_csi_core::volume::VolumeSpec;
use tokio::time::Instant;

use super::error::{Ending, FailedRequest, described};
use super::requests::WatchedRequest;
use super::volume::{Live, RequestState};
use super::{CertManager, Patience};
use crate::backoff::retry_delay_within;
use crate::kube::unusable;

/// The end of a request.
pub(super) enum RequestOutcome {
    Issued(Issued),
    FailedRequest(Ending),
    /// The issuer has changed.
    Outdated,
}

impl RequestOutcome {
    /// `None` while it is in progress.
    fn of(seen: &WatchedRequest) -> Option<Self> {
        let ending = match seen {
            WatchedRequest::Nothing
            | WatchedRequest::Progress(Ok(Progress::AwaitsApproval | Progress::AwaitsIssuer { .. })) => return None,
            WatchedRequest::Progress(Ok(Progress::Issued(issued))) => {
                return Some(RequestOutcome::Issued(issued.clone()));
            }
            WatchedRequest::Progress(Ok(Progress::Denied { message })) => Ending::Denied(message.clone()),
            WatchedRequest::Progress(Ok(Progress::Failed { message })) => Ending::Failed(message.clone()),
            WatchedRequest::Progress(Ok(Progress::Invalid { message })) => Ending::Invalid(message.clone()),
            WatchedRequest::Progress(Err(error)) => Ending::Unreadable(error.clone()),
            WatchedRequest::Deleted => Ending::Deleted,
        };
        Some(RequestOutcome::FailedRequest(ending))
    }
}

impl CertManager {
    /// Waits for the end of a request.
    pub(super) async fn ended(&self, live: &Live) -> RequestOutcome {
        let (mut seen, mut issuer) = (live.expected.seen(), self.followed.issuer.clone());
        let is_other =
            |issuer: &Option<IssuerRef>| issuer.as_ref().is_some_and(|issuer| !issuer.is_same_as(live.issuer()));
        tokio::select! {
            biased;
            seen = seen.wait_for(|seen| RequestOutcome::of(seen).is_some()) => {
                seen.ok().and_then(|seen| RequestOutcome::of(&seen)).unwrap_or(RequestOutcome::FailedRequest(Ending::Deleted))
            }
            Ok(_) = issuer.wait_for(is_other) => RequestOutcome::Outdated,
        }
    }

    /// Reports the fate of the last candidate: installed in the volume, or refused.
    pub async fn conclude(
        &self,
        spec: &VolumeSpec,
        refused: Option<&Rejection>,
        patience: Patience,
    ) -> Option<FailedRequest> {
        let (volume, pod) = (self.volume(&spec.id), spec.pod.as_ref()?);
        let mut asking = volume.asking.lock().await;
        let (request, issuer) = asking.issued.clone()?;
        let Some(refused) = refused else {
            (asking.failures, asking.last) = (0, None);
            self.metrics.request_ended("issued");
            self.remove_all_but(spec, pod, &request, true);
            return None;
        };
        let how = Ending::Rejected(refused.to_string());
        Some(self.failed(&mut asking, pod, patience, (request, &issuer, how)).await)
    }

    /// Records the failure of a request before anything is awaited; then determines the reason.
    pub(super) async fn failed(
        &self,
        asking: &mut RequestState,
        pod: &PodRef,
        patience: Patience,
        (request, issuer, how): (String, &IssuerRef, Ending),
    ) -> FailedRequest {
        self.metrics.request_ended(how.word());
        asking.failures = asking.failures.saturating_add(1);
        let next_at = Instant::now() + retry_delay_within(asking.failures, patience.remaining());
        let mut ended = FailedRequest { request, issuer: described(issuer), how };
        asking.last = Some((ended.clone(), next_at));
        let why = match unusable::from_message(&ended.how.to_string()) {
            None => self.unusable.why(issuer, &pod.namespace).await,
            why => why,
        };
        if let Some(why) = why {
            ended.issuer = format!("{} ({why})", ended.issuer);
            asking.last = Some((ended.clone(), next_at));
        }
        ended
    }
}
