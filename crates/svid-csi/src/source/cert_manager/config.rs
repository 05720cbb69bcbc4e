//! The configuration of the source cert-manager.

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
    /// The issuer, unless the ConfigMap names another one.
    pub issuer: Option<IssuerRef>,
    /// The ConfigMap that names the issuer at runtime.
    pub runtime_issuer: Option<ConfigMapPlace>,
    /// The trust bundle. Without it, pods do not get a bundle, and issuers are trusted.
    pub bundle: Option<BundleSource>,
    /// The settings of every request.
    pub settings: RequestSettings,
}

/// The administrator's settings for every request.
#[derive(Debug, Clone)]
pub struct RequestSettings {
    /// The name of this node.
    pub node_id: String,
    /// The lifetime of certificates.
    pub lifetime: Duration,
    /// The type of the pods' keys.
    pub key_type: KeyType,
    /// Whether each pod makes its requests with its own token; else the driver makes them.
    pub pods_ask: bool,
    /// Annotations on every request.
    pub annotations: BTreeMap<String, String>,
    /// Whether a certificate whose chain does not lead to the trust bundle is refused even for files.
    pub requires_chain: bool,
    /// The number of concurrent renewals in one namespace.
    pub renewals: usize,
}
