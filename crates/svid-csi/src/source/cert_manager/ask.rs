//! Requests an identity, one request at a time.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use svid_csi_core::cert_request::{Ask, IssuerRef, hash_identifier};
use svid_csi_core::identity::{Candidate, PrivateKey, TrustBundle};
use svid_csi_core::pod::PodRef;
use svid_csi_core::pod_token::PodToken;
use svid_csi_core::request;
use svid_csi_core::spiffe_id::SpiffeId;
use svid_csi_core::volume::VolumeSpec;
use tokio::time::Instant;
use tracing::{info, warn};

use super::error::{CertManagerError, Ending, FailedRequest, described};
use super::outcome::RequestOutcome;
use super::requests::Link;
use super::turns::RenewalTurn;
use super::volume::{Live, RequestState, VolumeIssuance, Waiting};
use super::{CertManager, Patience};
use crate::backoff::retry_delay_within;
use crate::host::clock;
use crate::kube::requester::CreateError;
use crate::tasks::blocking;

/// How long a starting pod waits for dependencies that should have been ready when the driver started.
const SOON: Duration = Duration::from_secs(10);
/// How long a renewal delays those behind it. It continues to wait afterwards, for its existing request.
const LONGEST_TURN: Duration = Duration::from_secs(30);

/// The minimum pause if the API server asks for one.
const LEAST_PAUSE: Duration = Duration::from_secs(1);

/// One volume that requests an identity.
struct VolumeRequest<'a> {
    spec: &'a VolumeSpec,
    pod: &'a PodRef,
    id: &'a SpiffeId,
    volume: &'a VolumeIssuance,
    patience: Patience,
}

impl Patience {
    fn is_renewal(self) -> bool {
        matches!(self, Patience::Renewal { .. })
    }

    pub(super) fn remaining(self) -> Duration {
        match self {
            Patience::First => Duration::ZERO,
            Patience::Renewal { remaining } => remaining,
        }
    }
}

impl VolumeRequest<'_> {
    /// Waits for dependencies that should have been ready when the driver started; a renewal waits without a limit.
    async fn wait(&self, what: impl Future) {
        if self.patience.is_renewal() {
            what.await;
        } else {
            let _ = tokio::time::timeout(SOON, what).await;
        }
    }
}

impl CertManager {
    /// The next identity of a volume, not yet checked. Cancel-safe: the request continues, and the next call waits for
    /// the same one.
    ///
    /// # Errors
    /// [`CertManagerError`].
    pub async fn next(
        &self,
        spec: &VolumeSpec,
        id: &SpiffeId,
        patience: Patience,
    ) -> Result<Candidate, CertManagerError> {
        let pod = spec.pod.as_ref().ok_or(CertManagerError::NoPod)?;
        let volume = self.volume(&spec.id);
        let wanted = VolumeRequest { spec, pod, id, volume: &volume, patience };
        let mut asking = volume.asking.lock().await;
        let candidate = self.ask(&wanted, &mut asking).await;
        volume.waits(Waiting::Nothing);
        candidate
    }

    async fn ask(&self, wanted: &VolumeRequest<'_>, asking: &mut RequestState) -> Result<Candidate, CertManagerError> {
        self.linked(wanted, asking).await?;
        self.bundled(wanted).await?;
        self.recall(wanted, asking);
        loop {
            let live = self.live(wanted, asking).await?;
            let token = self.token(wanted, live.made).await?;
            let turn = if live.made { None } else { self.turn(wanted).await };
            match self.make(wanted, live, token.as_ref()).await {
                Err(CreateError::Unauthorized) if token.is_some() && wanted.patience.is_renewal() => {
                    self.metrics.request_ended("not_made");
                    warn!(pod = %wanted.pod, "the API server does not accept the pod's token; waiting for another");
                    continue;
                }
                Err(CreateError::Unclear(error)) if error.retry_after().is_some() => {
                    let asked = error.retry_after().unwrap_or_default().clamp(LEAST_PAUSE, LONGEST_TURN);
                    wanted.volume.waits(Waiting::ForApiServer);
                    drop(turn);
                    tokio::time::sleep(asked).await;
                    continue;
                }
                Err(CreateError::Refused(message)) => {
                    asking.live = None;
                    return Err(self.not_made(wanted, CreateError::Refused(message)));
                }
                made => made.map_err(|source| self.not_made(wanted, source))?,
            }
            let outcome = self.outcome(wanted, live, turn).await;
            let Some(live) = asking.live.take() else { continue };
            match outcome {
                RequestOutcome::Outdated => {
                    info!(request = live.name(), "the issuer has changed; creating another certificate request")
                }
                RequestOutcome::FailedRequest(how) => {
                    let ending = (live.name(), live.issuer(), how);
                    return Err(self.failed(asking, wanted.pod, wanted.patience, ending).await.into());
                }
                RequestOutcome::Issued(issued) => {
                    asking.issued = Some((live.name(), live.issuer().clone()));
                    let bundle = self.bundled(wanted).await?;
                    return Ok(issued.into_candidate(live.key, bundle.map(|bundle| bundle.certificates().to_vec())));
                }
            }
        }
    }

    fn not_made(&self, wanted: &VolumeRequest<'_>, source: CreateError) -> CertManagerError {
        self.metrics.request_ended("not_made");
        CertManagerError::Create { namespace: wanted.pod.namespace.clone(), source }
    }

    /// Without the watch, the driver would not notice that the request was issued.
    async fn linked(&self, wanted: &VolumeRequest<'_>, asking: &RequestState) -> Result<(), CertManagerError> {
        let mut link = self.requests.link();
        if *link.borrow() == Link::Up || asking.live.as_ref().is_some_and(|live| live.made) {
            return Ok(());
        }
        wanted.volume.waits(Waiting::ForLink);
        wanted.wait(link.wait_for(|link| *link == Link::Up)).await;
        match &*self.requests.link().borrow() {
            Link::Down(reason) if !wanted.patience.is_renewal() => Err(CertManagerError::NoLink(reason.clone())),
            _ => Ok(()),
        }
    }

    /// The trust bundle; `None` if the administrator has not configured one.
    async fn bundled(&self, wanted: &VolumeRequest<'_>) -> Result<Option<Arc<TrustBundle>>, CertManagerError> {
        let Some((source, current)) = &self.followed.bundle else { return Ok(None) };
        let none = || CertManagerError::NoBundle { source_name: source.to_string(), trouble: current.trouble() };
        let mut bundle = current.bundle.clone();
        if bundle.borrow().is_none() {
            wanted.volume.waits(Waiting::ForBundle);
            wanted.wait(bundle.wait_for(Option::is_some)).await;
        }
        let bundle = bundle.borrow().clone().ok_or_else(none)?;
        Ok(Some(bundle))
    }

    /// Restores the back-off of an earlier run from its request.
    fn recall(&self, wanted: &VolumeRequest<'_>, asking: &mut RequestState) {
        if std::mem::replace(&mut asking.recalled, true) {
            return;
        }
        let hash = hash_identifier(wanted.spec.id.as_str());
        let Some(failure) = self.requests.last_failure(&hash, wanted.pod) else { return };
        asking.failures = failure.attempt;
        let delay = retry_delay_within(failure.attempt, wanted.patience.remaining());
        let passed = clock::now().duration_since(failure.at).unwrap_or_default();
        let request = format!("of pod {}", wanted.pod);
        let ended = FailedRequest { request, issuer: "its issuer".to_owned(), how: Ending::Earlier };
        asking.last = Some((ended, Instant::now() + delay.saturating_sub(passed)));
    }

    /// The request in progress; a new one is prepared if there is none for the current issuer.
    async fn live<'a>(
        &self,
        wanted: &VolumeRequest<'_>,
        asking: &'a mut RequestState,
    ) -> Result<&'a mut Live, CertManagerError> {
        if let Some(runtime) = &self.followed.runtime {
            // The issuer in the flags may be outdated, but if the current one is not known in time, it is used.
            let _ = tokio::time::timeout(SOON, runtime.answered()).await;
        }
        let issuer = self.followed.issuer.borrow().clone();
        asking.live.take_if(|live| issuer.as_ref().is_some_and(|issuer| !issuer.is_same_as(live.issuer())));
        if asking.live.is_none() {
            let issuer = issuer.ok_or(CertManagerError::NoIssuer)?;
            if let Some((ended, at)) = asking.last.as_ref().filter(|_| wanted.patience.is_renewal()) {
                wanted.volume.waits(Waiting::ForNextTry { at: *at, ended: ended.clone() });
                tokio::time::sleep_until(*at).await;
            }
            asking.not_too_early()?;
            if let Some(why) = self.unusable.why(&issuer, &wanted.pod.namespace).await {
                return Err(CertManagerError::Unusable { issuer: described(&issuer), why });
            }
            asking.live = Some(self.prepare(wanted, &issuer, asking.failures.saturating_add(1)).await?);
        }
        asking.live.as_mut().ok_or(CertManagerError::NoIssuer)
    }

    async fn prepare(
        &self,
        wanted: &VolumeRequest<'_>,
        issuer: &IssuerRef,
        attempt: u32,
    ) -> Result<Live, CertManagerError> {
        let (key_type, id) = (self.settings.key_type, wanted.id.clone());
        let made = blocking(move || {
            let key = PrivateKey::generate(key_type)?;
            let csr = request::csr_pem(&key, &id)?;
            Ok::<_, CertManagerError>((key, csr))
        });
        let (key, csr) = made.await??;
        let mut random = [0; 16];
        rand::fill(&mut random).map_err(|_| CertManagerError::Random)?;
        let ask = Ask {
            pod: wanted.pod,
            id: wanted.id,
            node_id: &self.settings.node_id,
            volume_id: wanted.spec.id.as_str(),
            issuer,
            duration: self.settings.lifetime,
            annotations: &self.settings.annotations,
            attempt,
            csr_pem: &csr,
        };
        let object = ask.object(random);
        let name = (object.metadata.namespace.clone(), object.metadata.name.clone());
        Ok(Live { expected: self.requests.expect(name), object, key, made: false })
    }

    /// The pod's token, if one is needed: a renewal waits until the kubelet sends one.
    async fn token(&self, wanted: &VolumeRequest<'_>, made: bool) -> Result<Option<PodToken>, CertManagerError> {
        if made || !self.settings.pods_ask {
            return Ok(None);
        }
        let mut tokens = wanted.volume.token.subscribe();
        loop {
            tokens.mark_unchanged();
            match wanted.volume.usable_token() {
                Some(token) => return Ok(Some(token)),
                None if !wanted.patience.is_renewal() => return Err(CertManagerError::NoToken),
                None => wanted.volume.waits(Waiting::ForToken),
            }
            let _ = tokens.changed().await;
        }
    }

    /// A renewal's turn. First identities precede all renewals, because their pods wait.
    async fn turn(&self, wanted: &VolumeRequest<'_>) -> Option<RenewalTurn> {
        if !wanted.patience.is_renewal() {
            return None;
        }
        wanted.volume.waits(Waiting::ForTurn);
        Some(self.renewals.next(&wanted.pod.namespace).await)
    }

    async fn make(
        &self,
        wanted: &VolumeRequest<'_>,
        live: &mut Live,
        token: Option<&PodToken>,
    ) -> Result<(), CreateError> {
        if live.made {
            return Ok(());
        }
        match self.requester.create(&live.object, token.map(|token| &token.token)).await {
            Ok(()) => {}
            Err(CreateError::Unauthorized) => {
                wanted.volume.refuse_token(token);
                return Err(CreateError::Unauthorized);
            }
            Err(error) => return Err(error),
        }
        live.made = true;
        live.expected.made();
        info!(request = live.name(), pod = %wanted.pod, issuer = described(live.issuer()), "certificate request created");
        self.remove_all_but(wanted.spec, wanted.pod, &live.name(), false);
        Ok(())
    }

    async fn outcome(&self, wanted: &VolumeRequest<'_>, live: &Live, turn: Option<RenewalTurn>) -> RequestOutcome {
        wanted.volume.waits(Waiting::ForRequest { name: live.name(), seen: live.expected.seen() });
        let ended = self.ended(live);
        tokio::pin!(ended);
        tokio::select! {
            outcome = &mut ended => return outcome,
            () = tokio::time::sleep(LONGEST_TURN), if turn.is_some() => drop(turn),
        }
        ended.await
    }
}
