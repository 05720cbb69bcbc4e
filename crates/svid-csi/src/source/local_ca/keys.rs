//! The authority once its files have been read, or created.

use std::path::Path;
use std::sync::Arc;

use svid_csi_core::ca::{Authorities, CertificateAuthority};
use svid_csi_core::jwt::JwtAuthority;
use svid_csi_core::spiffe_id::TrustDomain;
use tracing::error;

use super::error::LocalCaError;
use super::roots::Roots;
use super::trusted::{Published, Trusted};
use super::{Sharing, folder};
use crate::host::clock;
use crate::tasks::Tasks;
use crate::telemetry::report;

/// What signs, and what pods trust.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) authority: CertificateAuthority,
    pub(super) jwt_authority: Arc<JwtAuthority>,
    /// The follower of the other nodes' roots, if they are followed.
    pub(super) roots: Option<Roots>,
}

impl Keys {
    /// Those in that folder, which pods trust from then on.
    pub(super) fn load(trust_domain: &TrustDomain, folder: &Path, published: &Published) -> Result<Self, LocalCaError> {
        let this = Self::read(trust_domain, folder)?;
        this.trusted(trust_domain, published).alone()?;
        Ok(this)
    }

    /// The same with the roots of other nodes. Those of the previous run are beside it, and are trusted together with its own,
    /// so that pods do not lose them in between.
    pub(super) fn load_sharing(
        trust_domain: &TrustDomain,
        folder: &Path,
        published: &Published,
        sharing: &Sharing,
        tasks: &Tasks,
    ) -> Result<Self, LocalCaError> {
        let this = Self::read(trust_domain, folder)?;
        let trusted = Arc::new(this.trusted(trust_domain, published));
        let Sharing { client, place, node, restarts } = sharing.clone();
        // The file with the roots of other nodes for the next startup.
        let kept = folder.join("roots.json");
        let roots = Roots::start(client, place, &node, trusted, kept, restarts, tasks);
        Ok(Self { roots: Some(roots), ..this })
    }

    fn read(trust_domain: &TrustDomain, folder: &Path) -> Result<Self, LocalCaError> {
        let authority = folder::authority(trust_domain, folder)?;
        if let Err(error) = authority.check_validity(clock::now()) {
            error!(folder = %folder.display(), error = report::chain(&error), "the local CA cannot issue identities now");
        }
        let jwt_authority = Arc::new(folder::jwt_authority(trust_domain, &folder.join("jwt.key"))?);
        Ok(Self { authority, jwt_authority, roots: None })
    }

    fn trusted(&self, trust_domain: &TrustDomain, published: &Published) -> Trusted {
        let own = Authorities::of(&self.authority, &self.jwt_authority);
        Trusted::publishing(own, trust_domain, published.clone())
    }
}
