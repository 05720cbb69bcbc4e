//! The authorities that pods trust: those of this node, and the known ones of others.

use std::sync::Arc;

use svid_csi_core::ca::{Authorities, Union, UnionError};
use svid_csi_core::identity::TrustBundle;
use svid_csi_core::jwt::JwtBundles;
use svid_csi_core::spiffe_id::TrustDomain;
use tokio::sync::watch;

use crate::host::clock;

/// What pods trust, and its changes. Without a bundle and with no JWT bundle if it is not known.
#[derive(Debug, Clone, Default)]
pub(super) struct Published {
    pub(super) bundle: watch::Sender<Option<Arc<TrustBundle>>>,
    pub(super) jwt: watch::Sender<Arc<JwtBundles>>,
}

/// The union, which changes only when the trusted authorities change.
#[derive(Debug)]
pub(super) struct Trusted {
    own: Authorities,
    trust_domain: TrustDomain,
    published: Published,
}

impl Trusted {
    /// Those of this node; what pods trust with them is not known yet.
    pub(super) fn publishing(own: Authorities, trust_domain: &TrustDomain, published: Published) -> Self {
        Self { own, trust_domain: trust_domain.clone(), published }
    }

    /// Only those of this node.
    #[cfg(test)]
    pub(super) fn new(own: Authorities, trust_domain: &TrustDomain) -> Result<Self, UnionError> {
        let this = Self::publishing(own, trust_domain, Published::default());
        this.alone()?;
        Ok(this)
    }

    /// There are no authorities of other nodes.
    pub(super) fn alone(&self) -> Result<(), UnionError> {
        self.publish(Authorities::union([&self.own].into_iter(), clock::now())?);
        Ok(())
    }

    fn publish(&self, Union { bundle, jwt }: Union) {
        set(&self.published.bundle, Some(Arc::new(bundle)));
        set(&self.published.jwt, Arc::new([(self.trust_domain.clone(), Arc::new(jwt))].into()));
    }

    /// Replaces the authorities of other nodes. Returns the ones that are left out, because they do not fit or
    /// contradict others.
    pub(super) fn with<'a>(
        &'a self,
        others: impl Iterator<Item = (&'a str, &'a Authorities)>,
    ) -> Result<Vec<(&'a str, UnionError)>, UnionError> {
        let (union, left_out) = Authorities::union_of_most(&self.own, others, clock::now())?;
        self.publish(union);
        Ok(left_out)
    }

    /// Those of other nodes are not known yet.
    pub(super) fn unknown(&self) {
        set(&self.published.bundle, None);
        set(&self.published.jwt, Arc::default());
    }

    pub(super) fn own(&self) -> &Authorities {
        &self.own
    }

    pub(super) fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    #[cfg(test)]
    pub(super) fn bundle(&self) -> watch::Receiver<Option<Arc<TrustBundle>>> {
        self.published.bundle.subscribe()
    }

    #[cfg(test)]
    pub(super) fn jwt_bundles(&self) -> watch::Receiver<Arc<JwtBundles>> {
        self.published.jwt.subscribe()
    }
}

fn set<T: PartialEq>(value: &watch::Sender<T>, now: T) {
    value.send_if_modified(|value| {
        let differs = *value != now;
        *value = now;
        differs
    });
}
