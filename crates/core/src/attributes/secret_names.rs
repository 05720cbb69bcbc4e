//! The names of Envoy's special secrets on the socket of a volume.

use serde::{Deserialize, Serialize};

/// The names of the secrets that are not named after SPIFFE IDs. Without attributes they are those of SPIRE's agents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretNames {
    /// The first SVID.
    pub svid: String,
    /// The bundle of the pod's own trust domain.
    pub bundle: String,
    /// The bundles of all trust domains.
    pub all_bundles: String,
}

impl Default for SecretNames {
    fn default() -> Self {
        let [svid, bundle, all_bundles] = ["default", "ROOTCA", "ALL"].map(str::to_owned);
        Self { svid, bundle, all_bundles }
    }
}

impl SecretNames {
    /// Whether these are the usual names, which a record leaves out.
    pub(crate) fn are_usual(names: &Self) -> bool {
        *names == Self::default()
    }

    /// # Errors
    /// If two secrets have the same name.
    pub(crate) fn check_distinct(&self) -> Result<(), String> {
        let Self { svid, bundle, all_bundles } = self;
        if svid != bundle && bundle != all_bundles && svid != all_bundles {
            return Ok(());
        }
        Err(format!(
            "two of Envoy's secrets would have the same name ({svid:?} for the SVID, {bundle:?} for the own bundle, {all_bundles:?} for \
             all bundles): set svid-csi/sds-svid-name, svid-csi/sds-bundle-name and svid-csi/sds-all-bundles-name to three different names"
        ))
    }
}
