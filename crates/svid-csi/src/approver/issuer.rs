//! The issuer that every request must be for, and the former ones.

use kube::Client;
use svid_csi_core::approve::Policy;
use svid_csi_core::cert_request::IssuerRef;
use svid_csi_core::runtime_issuer::ConfigMapPlace;

use super::metrics::Metrics;
use super::queue::Queue;
use crate::kube::lease::Notes;
use crate::kube::one_object::ReadError;
use crate::kube::runtime_issuer::RuntimeIssuer;
use crate::tasks::Tasks;

/// The annotation of the Lease with all issuers so far, each as `kind.group/name`.
const ANNOTATION: &str = "svid-csi/issuers";

/// The current issuer, and the former ones.
#[derive(Debug, Clone)]
pub(super) struct KnownIssuers {
    from: IssuerOrigin,
    known: Notes,
}

/// The origin of the issuer.
#[derive(Debug, Clone)]
enum IssuerOrigin {
    /// The flags; it never changes.
    Fixed(Option<IssuerRef>),
    /// A ConfigMap, otherwise the flags.
    Runtime(Box<RuntimeIssuer>),
}

/// The issuers recorded on the Lease.
pub(super) fn notes() -> Notes {
    Notes::new(ANNOTATION)
}

impl KnownIssuers {
    /// The issuer of the flags, or the one that a ConfigMap names instead.
    pub(super) fn new(
        client: Client,
        from_flags: Option<IssuerRef>,
        place: Option<&ConfigMapPlace>,
        known: Notes,
        metrics: &Metrics,
        tasks: &Tasks,
    ) -> Self {
        from_flags.iter().for_each(|issuer| known.add(written(issuer)));
        let from = match place {
            None => IssuerOrigin::Fixed(from_flags),
            Some(place) => {
                let restarts = metrics.watch_restarts.clone();
                let issuer = RuntimeIssuer::start(client, place.clone(), from_flags, restarts, tasks);
                IssuerOrigin::Runtime(issuer.into())
            }
        };
        Self { from, known }
    }

    /// Waits until it is known.
    pub(super) async fn answered(&self) {
        if let IssuerOrigin::Runtime(issuer) = &self.from {
            issuer.answered().await;
        }
    }

    /// The current issuer; without one, requests are left pending.
    pub(super) fn current(&self) -> Option<IssuerRef> {
        match &self.from {
            IssuerOrigin::Fixed(issuer) => issuer.clone(),
            IssuerOrigin::Runtime(issuer) => issuer.current().borrow().clone(),
        }
    }

    /// The policy with the issuer `now`, and with all known former issuers: those of this process and of every earlier
    /// leader.
    pub(super) fn policy(&self, now: Option<IssuerRef>, policy: &Policy) -> Policy {
        now.iter().for_each(|issuer| self.known.add(written(issuer)));
        let former_issuers = self.known.all().iter().filter_map(|text| read(text)).collect();
        Policy { issuer: now, former_issuers, ..policy.clone() }
    }

    /// The current issuer, read from the API server, because the copy of this process may be outdated.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(super) async fn read_now(&self) -> Result<Option<IssuerRef>, ReadError> {
        match &self.from {
            IssuerOrigin::Fixed(issuer) => Ok(issuer.clone()),
            IssuerOrigin::Runtime(issuer) => match issuer.read_now().await {
                // In this case the driver does not know a newer one either.
                Err(ReadError::Forbidden { .. } | ReadError::NotServed { .. }) => Ok(self.current()),
                read => read,
            },
        }
    }

    /// Judges pending requests again whenever the issuer changes.
    pub(super) async fn recall(self, queue: &Queue) {
        let IssuerOrigin::Runtime(issuer) = &self.from else { return };
        let mut current = issuer.current();
        loop {
            current.borrow_and_update().iter().for_each(|issuer| self.known.add(written(issuer)));
            if current.changed().await.is_err() {
                return;
            }
            queue.recall();
        }
    }
}

fn written(issuer: &IssuerRef) -> String {
    format!("{}.{}/{}", issuer.kind(), issuer.group(), issuer.name)
}

/// `None` if the text has another form.
fn read(text: &str) -> Option<IssuerRef> {
    let (kind, name) = text.split_once('/')?;
    let (kind, group) = kind.split_once('.')?;
    Some(IssuerRef { name: name.to_owned(), kind: kind.to_owned(), group: group.to_owned() })
}
