//! The sources of identities. A source never uses a path of a volume.

pub mod broker;
pub mod cert_manager;
mod issue_waits;
pub mod local_ca;
mod reason;
pub mod trust_bundle;

use std::collections::BTreeMap;
use std::sync::Arc;

use svid_csi_core::error::Class;
use svid_csi_core::finding;
use svid_csi_core::findings::Check;
use svid_csi_core::identity::{Expected, Identity, Rejection, TrustBundle, accept, accept_any_chain};
use svid_csi_core::jwt::{Audiences, JwtBundles, JwtSvid};
use svid_csi_core::plan::{Issuer, Source};
use svid_csi_core::secret::Secret;
use svid_csi_core::spiffe_id::SpiffeId;
use svid_csi_core::volume::{Subject, VolumeSpec};
use svid_csi_core::volume_id::VolumeId;
use svid_csi_core::x509_context::X509Context;

use tokio::sync::watch;

use crate::host::clock;
use crate::tasks::blocking;
use broker::{Broker, BrokerError};
use cert_manager::{CertManager, CertManagerError, Patience};
pub use issue_waits::IssueWaits;
use local_ca::{LocalCa, LocalCaError, Roots};
pub use reason::Reason;

/// The sources this driver was started with.
#[derive(Debug, Default)]
pub struct Sources {
    /// The Broker API of an agent.
    pub broker: Option<Broker>,
    /// cert-manager.
    pub cert_manager: Option<Arc<CertManager>>,
    /// The embedded authority.
    pub local_ca: Option<LocalCa>,
    /// The volumes that wait for an identity.
    pub waits: IssueWaits,
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
            SourceError::LocalCa(error) => error.class(),
            SourceError::Rejected(_) | SourceError::Worker(_) => Class::Internal,
        }
    }

    /// The finding that explains it.
    pub fn finding(&self) -> Option<&'static Check> {
        match self {
            SourceError::CertManager(error) => error.finding(),
            SourceError::Broker(error) => error.finding(),
            SourceError::LocalCa(error) => error.finding(),
            SourceError::Withdrawn(_) => Some(finding!("identity-missing")),
            SourceError::Rejected(_) => Some(finding!("identity-refused")),
            SourceError::NotConfigured(_) | SourceError::NoJwt(_) | SourceError::NoToken | SourceError::Worker(_) => {
                None
            }
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
    /// The next identity of a volume, validated. A source that pushes waits until it has one, or for a renewal that is not
    /// at once, until it has another one.
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
        let source = self.of(subject.issuer)?;
        if !subject.issuer.pushes() || reason.is_at_once() {
            self.waits.begin(&spec.id);
        }
        let next = source.next(spec, subject, reason).await;
        match &next {
            Ok(_) => self.waits.end(&spec.id, subject.issuer.source()),
            Err(SourceError::Withdrawn(_)) => self.waits.forget(&spec.id),
            Err(_) => {}
        }
        next
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
        self.of(subject.issuer)?.jwt_svids(spec, subject, audiences, id).await
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
        self.of(subject.issuer)?.jwt_bundles(spec).await
    }

    /// Takes the tokens of a volume's pod, which the kubelet sends with every publish.
    pub fn offer(&self, id: &VolumeId, subject: &Subject, tokens: Option<&Secret>) {
        if let (Ok(source), Some(tokens)) = (self.of(subject.issuer), tokens) {
            source.offer(id, tokens);
        }
    }

    /// The sources that are connections, each with whether it answers. The roots of other nodes are not waited for: this
    /// node issues without them.
    pub fn answering(&self) -> Vec<(&'static str, bool)> {
        let broker = self.broker.as_ref().map(|broker| ("the agent's Broker API", broker.is_up()));
        let cert_manager =
            self.cert_manager.as_ref().map(|source| ("the API server for certificate requests", source.is_up()));
        [broker, cert_manager].into_iter().flatten().collect()
    }

    /// Why the local CA's files cannot be used for now, if so.
    pub fn local_ca_trouble(&self) -> Option<String> {
        self.local_ca.as_ref()?.trouble()
    }

    /// The roots of all nodes, if this driver shares its own.
    pub fn roots(&self) -> Option<&Roots> {
        self.local_ca.as_ref()?.roots()
    }

    /// Forgets a volume.
    pub fn forget(&self, spec: &VolumeSpec) {
        self.waits.forget(&spec.id);
        if let Some(Ok(source)) = spec.subject().map(|subject| self.of(subject.issuer)) {
            source.forget(spec);
        }
    }

    /// Forgets a volume that no longer exists in every source: a publish with another spec, which failed before it was
    /// recorded, may have begun there.
    pub fn forget_everywhere(&self, spec: &VolumeSpec) {
        self.waits.forget(&spec.id);
        self.all().for_each(|source| source.forget(spec));
    }

    /// The volumes that wait, each with what it waits for.
    pub fn waiting(&self) -> BTreeMap<VolumeId, String> {
        self.all().flat_map(Chosen::waiting).collect()
    }

    /// What a volume waits for, if it waits.
    pub fn waiting_of(&self, id: &VolumeId) -> Option<String> {
        self.all().find_map(|source| source.waiting_of(id))
    }

    /// The current trust bundle for that issuer's identities; for cert-manager if the administrator has configured one.
    /// The broker sends each pod its own.
    pub fn trust_bundle(&self, issuer: Issuer) -> Option<Arc<TrustBundle>> {
        self.of(issuer).ok()?.trust_bundle()
    }

    fn of(&self, issuer: Issuer) -> Result<Chosen<'_>, SourceError> {
        let chosen = match issuer {
            Issuer::Broker => self.broker.as_ref().map(Chosen::Broker),
            Issuer::CertManager => self.cert_manager.as_ref().map(Chosen::CertManager),
            Issuer::LocalCa => self.local_ca.as_ref().map(Chosen::LocalCa),
        };
        chosen.ok_or(SourceError::NotConfigured(issuer))
    }

    fn all(&self) -> impl Iterator<Item = Chosen<'_>> {
        Source::ALL.into_iter().filter_map(Source::issuer).filter_map(|issuer| self.of(issuer).ok())
    }
}

/// A source of this driver, chosen by the issuer of a volume. [`Sources`] describes the methods.
#[derive(Debug, Clone, Copy)]
enum Chosen<'a> {
    Broker(&'a Broker),
    CertManager(&'a Arc<CertManager>),
    LocalCa(&'a LocalCa),
}

impl Chosen<'_> {
    async fn next(self, spec: &VolumeSpec, subject: &Subject, reason: Reason<'_>) -> Result<X509Context, SourceError> {
        if let Chosen::Broker(broker) = self {
            return Ok(broker.next(spec, subject, reason).await?);
        }
        let id = subject.identity.as_ref().ok_or(SourceError::NotConfigured(subject.issuer))?;
        // Boxed, so that a waiting volume, which is the usual state, does not hold the space for a request.
        Box::pin(self.issue(spec, id, reason.patience())).await.map(X509Context::from)
    }

    async fn issue(self, spec: &VolumeSpec, id: &SpiffeId, patience: Patience) -> Result<Identity, SourceError> {
        match self {
            Chosen::CertManager(cert_manager) => {
                let candidate = cert_manager.next(spec, id, patience).await?;
                let accept = if cert_manager.requires_chain(spec) { accept } else { accept_any_chain };
                let id = id.clone();
                let accepted = blocking(move || accept(candidate, &expected(id))).await?;
                match cert_manager.conclude(spec, accepted.as_ref().err(), patience).await {
                    Some(ended) => Err(CertManagerError::from(ended).into()),
                    None => Ok(accepted?),
                }
            }
            Chosen::LocalCa(local_ca) => {
                let (local_ca, id) = (local_ca.clone(), id.clone());
                let now = clock::now();
                let issue = move || Ok(accept(local_ca.issue(id.clone(), now)?, &Expected { id, now })?);
                blocking(issue).await?
            }
            // It issues without being given an ID.
            Chosen::Broker(_) => Err(SourceError::NotConfigured(Issuer::Broker)),
        }
    }

    async fn jwt_svids(
        self,
        spec: &VolumeSpec,
        subject: &Subject,
        audiences: &Audiences,
        id: Option<&SpiffeId>,
    ) -> Result<Vec<JwtSvid>, SourceError> {
        match self {
            Chosen::Broker(broker) => Ok(broker.jwt_svids(spec, subject, audiences, id).await?),
            Chosen::CertManager(_) => Err(SourceError::NoJwt(Issuer::CertManager)),
            Chosen::LocalCa(local_ca) => {
                let own = subject.identity.as_ref().ok_or(SourceError::NotConfigured(subject.issuer))?;
                if id.is_some_and(|id| id != own) {
                    return Ok(Vec::new());
                }
                Ok(vec![local_ca.issue_jwt(own, audiences).await?])
            }
        }
    }

    async fn jwt_bundles(self, spec: &VolumeSpec) -> Result<watch::Receiver<Arc<JwtBundles>>, SourceError> {
        match self {
            Chosen::Broker(broker) => Ok(broker.jwt_bundles(spec).await?),
            Chosen::CertManager(_) => Err(SourceError::NoJwt(Issuer::CertManager)),
            Chosen::LocalCa(local_ca) => Ok(local_ca.jwt_bundles()?),
        }
    }

    fn offer(self, id: &VolumeId, tokens: &Secret) {
        if let Chosen::CertManager(cert_manager) = self {
            cert_manager.offer(id, tokens);
        }
    }

    fn forget(self, spec: &VolumeSpec) {
        match self {
            Chosen::Broker(broker) => broker.forget(spec),
            Chosen::CertManager(cert_manager) => cert_manager.forget(spec),
            Chosen::LocalCa(_) => {}
        }
    }

    fn waiting(self) -> BTreeMap<VolumeId, String> {
        match self {
            Chosen::Broker(broker) => broker.waiting(),
            Chosen::CertManager(cert_manager) => cert_manager.waiting(),
            Chosen::LocalCa(_) => BTreeMap::new(),
        }
    }

    fn waiting_of(self, id: &VolumeId) -> Option<String> {
        match self {
            Chosen::Broker(broker) => broker.waiting_of(id),
            Chosen::CertManager(cert_manager) => cert_manager.waiting_of(id),
            Chosen::LocalCa(_) => None,
        }
    }

    fn trust_bundle(self) -> Option<Arc<TrustBundle>> {
        match self {
            Chosen::Broker(_) => None,
            Chosen::CertManager(cert_manager) => cert_manager.bundle()?.borrow().clone(),
            Chosen::LocalCa(local_ca) => local_ca.bundle().borrow().clone(),
        }
    }
}

/// What the output of a source must be, as a whole.
fn expected(id: SpiffeId) -> Expected {
    Expected { id, now: clock::now() }
}
