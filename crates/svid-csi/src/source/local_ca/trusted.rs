//! The authorities that pods trust: those of this node, and the known ones of others.

use std::sync::Arc;

use svid_csi_core::ca::{Authorities, Union, UnionError};
use svid_csi_core::identity::TrustBundle;
use svid_csi_core::jwt::JwtBundles;
use svid_csi_core::spiffe_id::TrustDomain;
use tokio::sync::watch;

use crate::host::clock;

/// The union, which changes only when the trusted authorities change. Without a bundle and with no JWT bundle if it is
/// not known.
#[derive(Debug)]
pub(super) struct Trusted {
    own: Authorities,
    trust_domain: TrustDomain,
    bundle: watch::Sender<Option<Arc<TrustBundle>>>,
    jwt: watch::Sender<Arc<JwtBundles>>,
}

impl Trusted {
    /// Only those of this node.
    pub(super) fn new(own: Authorities, trust_domain: &TrustDomain) -> Result<Self, UnionError> {
        let Union { bundle, jwt } = Authorities::union([&own].into_iter(), clock::now())?;
        let jwt = JwtBundles::from([(trust_domain.clone(), Arc::new(jwt))]);
        let (bundle, jwt) = (watch::Sender::new(Some(Arc::new(bundle))), watch::Sender::new(Arc::new(jwt)));
        Ok(Self { own, trust_domain: trust_domain.clone(), bundle, jwt })
    }

    /// Replaces the authorities of other nodes. Returns the ones that are left out, because they do not fit or
    /// contradict others.
    pub(super) fn with<'a>(
        &'a self,
        others: impl Iterator<Item = (&'a str, &'a Authorities)>,
    ) -> Result<Vec<(&'a str, UnionError)>, UnionError> {
        let (Union { bundle, jwt }, left_out) = Authorities::union_of_most(&self.own, others, clock::now())?;
        set(&self.bundle, Some(Arc::new(bundle)));
        set(&self.jwt, Arc::new([(self.trust_domain.clone(), Arc::new(jwt))].into()));
        Ok(left_out)
    }

    /// Those of other nodes are not known yet.
    pub(super) fn unknown(&self) {
        set(&self.bundle, None);
        set(&self.jwt, Arc::default());
    }

    pub(super) fn own(&self) -> &Authorities {
        &self.own
    }

    pub(super) fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    pub(super) fn bundle(&self) -> watch::Receiver<Option<Arc<TrustBundle>>> {
        self.bundle.subscribe()
    }

    pub(super) fn jwt_bundles(&self) -> watch::Receiver<Arc<JwtBundles>> {
        self.jwt.subscribe()
    }
}

fn set<T: PartialEq>(value: &watch::Sender<T>, now: T) {
    value.send_if_modified(|value| {
        let differs = *value != now;
        *value = now;
        differs
    });
}
