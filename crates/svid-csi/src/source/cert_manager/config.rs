//! How cert-manager is asked.

use std::collections::BTreeMap;
use std::time::Duration;

use svid_csi_core::cert_request::IssuerRef;
use svid_csi_core::identity::KeyType;
use svid_csi_core::runtime_issuer::ConfigMapPlace;
use svid_csi_core::spiffe_id::TrustDomain;

use crate::source::trust_bundle::BundleSource;

/// cert-manager.
#[derive(Debug, Clone)]
pub struct CertManagerConfig {
    /// The trust domain of every identity.
    pub trust_domain: TrustDomain,
    /// The issuer, unless the ConfigMap names another.
    pub issuer: Option<IssuerRef>,
    /// The ConfigMap that names the issuer while the driver runs.
    pub runtime_issuer: Option<ConfigMapPlace>,
    /// Where the trust bundle is; without it pods get no bundle, and issuers are taken at their word.
    pub bundle: Option<BundleSource>,
    /// The settings of every request.
    pub settings: Settings,
}

/// The administrator's settings for every request.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name of this node.
    pub node_id: String,
    /// How long certificates are to be valid.
    pub lifetime: Duration,
    /// The type of keys that pods get.
    pub key_type: KeyType,
    /// Whether each pod asks by its own token; else the driver asks.
    pub pods_ask: bool,
    /// Annotations on every request.
    pub annotations: BTreeMap<String, String>,
    /// Whether a certificate whose chain does not lead to the trust bundle is refused for files too.
    pub requires_chain: bool,
    /// How many renewals are in progress at once.
    pub renewals: usize,
}
