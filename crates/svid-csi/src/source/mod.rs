//! The sources of identities. A source never uses a path of a volume.

pub mod broker;
pub mod cert_manager;
pub mod local_ca;
pub mod trust_bundle;

use std::collections::BTreeMap;
use std::sync::Arc;

use svid_csi_core::error::Class;
use svid_csi_core::identity::{Candidate, Expected, Identity, Rejection, TrustBundle, accept, accept_any_chain};
use svid_csi_core::jwt::{Audiences, JwtBundles, JwtSvid};
use svid_csi_core::plan::Issuer;
use svid_csi_core::renew;
use svid_csi_core::secret::Secret;
use svid_csi_core::spiffe_id::SpiffeId;
use svid_csi_core::state::Issued;
use svid_csi_core::volume::{Subject, VolumeSpec};
use svid_csi_core::volume_id::VolumeId;
use svid_csi_core::x509_context::X509Context;

use tokio::sync::watch;

use crate::backoff::{jitter, remaining};
use crate::host::clock;
use broker::{Broker, BrokerError};
use cert_manager::{CertManager, CertManagerError, Patience};
use local_ca::{LocalCa, LocalCaError};

/// The sources this driver was started with.
#[derive(Debug, Default)]
pub struct Sources {
    /// The Broker API of an agent.
    pub broker: Option<Broker>,
    /// cert-manager.
    pub cert_manager: Option<Arc<CertManager>>,
    /// The embedded authority.
    pub local_ca: Option<LocalCa>,
}

/// Why an identity is requested.
#[derive(Debug, Clone, Copy)]
pub enum Reason<'a> {
    /// A pod waits to start.
    First,
    /// A volume that has an identity, unless that was lost.
    Renewal {
        /// Which.
        last: Option<&'a Issued>,
        /// Whether not to wait until it is due.
        at_once: bool,
    },
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The driver runs without that source.
    #[error("this driver runs without the source `{}`, which the volume was published with", .0.source())]
    NotConfigured(Issuer),
    /// cert-manager issued none.
    #[error(transparent)]
    CertManager(#[from] CertManagerError),
    /// The broker issued none.
    #[error(transparent)]
    Broker(BrokerError),
    /// The embedded authority could not sign.
    #[error("the local CA cannot issue")]
    LocalCa(#[from] LocalCaError),
    /// The source does not issue JWT-SVIDs.
    #[error("the source `{}` does not issue JWT-SVIDs", .0.source())]
    NoJwt(Issuer),
    /// It issues them, but has none for this pod.
    #[error("the source has no JWT-SVID for this pod")]
    NoToken,
    /// The pod's identity was withdrawn.
    #[error("the identity was withdrawn: {0}")]
    Withdrawn(String),
    /// The source's response is not a valid identity of the pod.
    #[error("the issued identity is refused")]
    Rejected(#[from] Rejection),
    /// A worker panicked.
    #[error("the check of the identity failed")]
    Worker(#[from] tokio::task::JoinError),
}

impl SourceError {
    /// The class of the failure.
    pub fn class(&self) -> Class {
        match self {
            SourceError::NotConfigured(_) | SourceError::NoJwt(_) => Class::Blocked,
            SourceError::NoToken => Class::NotYet,
            SourceError::Withdrawn(_) => Class::Denied,
            SourceError::Broker(error) => error.class(),
            SourceError::CertManager(error) => error.class(),
            SourceError::LocalCa(_) | SourceError::Rejected(_) | SourceError::Worker(_) => Class::Internal,
        }
    }
}

impl From<BrokerError> for SourceError {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::Withdrawn(why) => SourceError::Withdrawn(why),
            error => SourceError::Broker(error),
        }
    }
}

impl Sources {
    /// The next identity of a volume, validated: at once if it has none, else when its current one is due for renewal.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn next(
        &self,
        spec: &VolumeSpec,
        subject: &Subject,
        reason: Reason<'_>,
    ) -> Result<X509Context, SourceError> {
        let not_configured = || SourceError::NotConfigured(subject.issuer);
        if subject.issuer == Issuer::Broker {
            let broker = self.broker.as_ref().ok_or_else(not_configured)?;
            return Ok(broker.next(spec, subject, reason).await?);
        }
        let id = subject.identity.as_ref().ok_or_else(not_configured)?;
        reason.due().await;
        // Boxed, so that a waiting volume, which is the usual state, does not hold the space for a request.
        Box::pin(self.ask(spec, subject.issuer, id, reason.patience())).await.map(X509Context::from)
    }

    async fn ask(
        &self,
        spec: &VolumeSpec,
        issuer: Issuer,
        id: &SpiffeId,
        patience: Patience,
    ) -> Result<Identity, SourceError> {
        match (issuer, &self.cert_manager, &self.local_ca) {
            (Issuer::CertManager, Some(cert_manager), _) => {
                let candidate = cert_manager.next(spec, id, patience).await?;
                let accept = if cert_manager.requires_chain(spec) { accept } else { accept_any_chain };
                let accepted = accepted(id, candidate, accept).await?;
                match cert_manager.conclude(spec, accepted.as_ref().err(), patience).await {
                    Some(ended) => Err(CertManagerError::from(ended).into()),
                    None => Ok(accepted?),
                }
            }
            (Issuer::LocalCa, _, Some(local_ca)) => Ok(accepted(id, local_ca.issue(id).await?, accept).await??),
            _ => Err(SourceError::NotConfigured(issuer)),
        }
    }

    /// JWT-SVIDs of a volume's pod for those audiences: for one of its SPIFFE IDs, or for all of them.
    ///
    /// # Errors
    /// [`SourceError`]; [`SourceError::NoJwt`] if the source never has any.
    pub async fn jwt_svids(
        &self,
        spec: &VolumeSpec,
        subject: &Subject,
        audiences: &Audiences,
        id: Option<&SpiffeId>,
    ) -> Result<Vec<JwtSvid>, SourceError> {
        match (subject.issuer, &self.local_ca, &subject.identity) {
            (Issuer::LocalCa, Some(local_ca), Some(own)) if id.is_none_or(|id| id == own) => {
                Ok(vec![local_ca.issue_jwt(own, audiences).await?])
            }
            (Issuer::LocalCa, Some(_), Some(_)) => Ok(Vec::new()),
            (Issuer::LocalCa, ..) => Err(SourceError::NotConfigured(subject.issuer)),
            (Issuer::Broker, ..) => {
                let broker = self.broker.as_ref().ok_or(SourceError::NotConfigured(subject.issuer))?;
                Ok(broker.jwt_svids(spec, subject, audiences, id).await?)
            }
            (Issuer::CertManager, ..) => Err(SourceError::NoJwt(subject.issuer)),
        }
    }

    /// The bundles with which a volume's pod validates JWT-SVIDs of others, and their changes.
    ///
    /// # Errors
    /// [`SourceError`]; [`SourceError::NoJwt`] if the source never has any.
    pub async fn jwt_bundles(
        &self,
        spec: &VolumeSpec,
        subject: &Subject,
    ) -> Result<watch::Receiver<Arc<JwtBundles>>, SourceError> {
        match (subject.issuer, &self.local_ca) {
            (Issuer::LocalCa, Some(local_ca)) => Ok(local_ca.jwt_bundles()),
            (Issuer::LocalCa, None) => Err(SourceError::NotConfigured(subject.issuer)),
            (Issuer::Broker, _) => {
                let broker = self.broker.as_ref().ok_or(SourceError::NotConfigured(subject.issuer))?;
                Ok(broker.jwt_bundles(spec).await?)
            }
            (Issuer::CertManager, _) => Err(SourceError::NoJwt(subject.issuer)),
        }
    }

    /// Takes the tokens of a volume's pod, which the kubelet sends with every publish.
    pub fn offer(&self, id: &VolumeId, subject: &Subject, tokens: Option<&Secret>) {
        if let (Issuer::CertManager, Some(cert_manager), Some(tokens)) = (subject.issuer, &self.cert_manager, tokens) {
            cert_manager.offer(id, tokens);
        }
    }

    /// Forgets a volume.
    pub fn forget(&self, spec: &VolumeSpec) {
        let issuer = spec.subject().map(|subject| subject.issuer);
        match (issuer, &self.broker, &self.cert_manager) {
            (Some(Issuer::Broker), Some(broker), _) => broker.forget(spec),
            (Some(Issuer::CertManager), _, Some(cert_manager)) => cert_manager.forget(spec),
            _ => {}
        }
    }

    /// What volumes wait for, in a sentence each.
    pub fn waiting(&self) -> BTreeMap<VolumeId, String> {
        let of_broker = self.broker.as_ref().map(Broker::waiting).unwrap_or_default();
        let of_cert_manager = self.cert_manager.as_ref().map(|cert_manager| cert_manager.waiting());
        of_broker.into_iter().chain(of_cert_manager.unwrap_or_default()).collect()
    }

    /// What a volume waits for, if it waits.
    pub fn waiting_of(&self, id: &VolumeId) -> Option<String> {
        let of_broker = self.broker.as_ref().and_then(|broker| broker.waiting_of(id));
        of_broker.or_else(|| self.cert_manager.as_ref()?.waiting_of(id))
    }

    /// The current trust bundle for that issuer's identities; for cert-manager if the administrator has configured one.
    /// The broker sends each pod its own.
    pub fn trust_bundle(&self, issuer: Issuer) -> Option<Arc<TrustBundle>> {
        match issuer {
            Issuer::CertManager => self.cert_manager.as_ref()?.bundle()?.borrow().clone(),
            Issuer::LocalCa => Some(self.local_ca.as_ref()?.bundle().borrow().clone()),
            Issuer::Broker => None,
        }
    }
}

impl Reason<'_> {
    /// Waits until the turn has come.
    async fn due(self) {
        if let Reason::Renewal { last: Some(last), at_once: false } = self {
            tokio::time::sleep(renew::delay(&last.validity, clock::now(), jitter())).await;
        }
    }

    fn patience(self) -> Patience {
        match self {
            Reason::First => Patience::First,
            Reason::Renewal { last, .. } => Patience::Renewal { remaining: remaining(last.map(|last| &last.validity)) },
        }
    }
}

/// Validates the output of a source, as a whole.
async fn accepted(
    id: &SpiffeId,
    candidate: Candidate,
    accept: fn(Candidate, &Expected) -> Result<Identity, Rejection>,
) -> Result<Result<Identity, Rejection>, SourceError> {
    let expected = Expected { id: id.clone(), now: clock::now() };
    Ok(tokio::task::spawn_blocking(move || accept(candidate, &expected)).await?)
}
