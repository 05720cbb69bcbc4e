//! The issuer every request must be for.

use kube::Client;
use svid_csi_core::cert_request::IssuerRef;
use svid_csi_core::runtime_issuer::ConfigMapPlace;

use super::queue::Queue;
use crate::kube::one_object::ReadError;
use crate::kube::runtime_issuer::RuntimeIssuer;
use crate::tasks::Tasks;

/// Where the issuer is known from.
#[derive(Debug, Clone)]
pub(super) enum Issuer {
    /// From the flags, for good.
    Fixed(Option<IssuerRef>),
    /// From a ConfigMap, else from the flags.
    Runtime(Box<RuntimeIssuer>),
}

impl Issuer {
    /// The issuer of the flags, or what a ConfigMap names in its place.
    pub(super) fn new(
        client: Client,
        from_flags: Option<IssuerRef>,
        place: Option<&ConfigMapPlace>,
        tasks: &Tasks,
    ) -> Self {
        match place {
            None => Self::Fixed(from_flags),
            Some(place) => Self::Runtime(RuntimeIssuer::start(client, place.clone(), from_flags, tasks).into()),
        }
    }

    /// Waits until it is known.
    pub(super) async fn settled(&self) {
        if let Self::Runtime(issuer) = self {
            issuer.settled().await;
        }
    }

    /// The issuer of the moment; with none, requests are left pending.
    pub(super) fn current(&self) -> Option<IssuerRef> {
        match self {
            Self::Fixed(issuer) => issuer.clone(),
            Self::Runtime(issuer) => issuer.current().borrow().clone(),
        }
    }

    /// The issuer as the API server has it now: what this process was told last may be old.
    ///
    /// # Errors
    /// Where that is not to be had.
    pub(super) async fn read_now(&self) -> Result<Option<IssuerRef>, ReadError> {
        match self {
            Self::Fixed(issuer) => Ok(issuer.clone()),
            Self::Runtime(issuer) => match issuer.read_now().await {
                // Then nobody is told anything newer.
                Err(ReadError::Forbidden { .. } | ReadError::NotServed { .. }) => Ok(self.current()),
                read => read,
            },
        }
    }

    /// Brings back what was left pending, whenever the issuer changes.
    pub(super) async fn recall(self, queue: &Queue) {
        let Self::Runtime(issuer) = self else { return };
        let mut current = issuer.current();
        while current.changed().await.is_ok() {
            queue.recall();
        }
    }
}
