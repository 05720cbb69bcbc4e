//! Envoy's secret discovery service, version 3.

pub use generated::*;

#[allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines)]
mod generated {
    include!("gen/envoy.service.secret.v3.rs");
}

/// What a [`Secret`] is called within an `Any`, and what a request for secrets asks for.
pub const SECRET_TYPE: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/// What a [`SpiffeCertValidatorConfig`] is called within an `Any`.
pub const SPIFFE_VALIDATOR_TYPE: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig";
