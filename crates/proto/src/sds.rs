//! Envoy's secret discovery service, version 3.

pub use generated::*;

#[allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines)]
mod generated {
    include!("gen/envoy.service.secret.v3.rs");
}

/// The type URL of a [`Secret`] in an `Any`, and in a request for secrets.
pub const SECRET_TYPE: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/// The type URL of a [`SpiffeCertValidatorConfig`] in an `Any`.
pub const SPIFFE_VALIDATOR_TYPE: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig";
