//! `Debug` for messages with keys or tokens: it prints the name of the message, and nothing of the secret.

use std::fmt;

use crate::csi_v1::NodePublishVolumeRequest;
use crate::sds::data_source::Specifier;
use crate::sds::{DataSource, DiscoveryResponse};
use crate::workload::{Jwtsvid, ValidateJwtsvidRequest, X509svid};

/// Service account tokens are sent in `secrets` and in `volume_context`, so neither map is printed.
impl fmt::Debug for NodePublishVolumeRequest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("NodePublishVolumeRequest")
            .field("volume_id", &self.volume_id)
            .field("target_path", &self.target_path)
            .field("readonly", &self.readonly)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for X509svid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("X509svid")
            .field("spiffe_id", &self.spiffe_id)
            .field("hint", &self.hint)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Jwtsvid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Jwtsvid")
            .field("spiffe_id", &self.spiffe_id)
            .field("hint", &self.hint)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ValidateJwtsvidRequest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ValidateJwtsvidRequest").field("audience", &self.audience).finish_non_exhaustive()
    }
}

impl fmt::Debug for DiscoveryResponse {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("DiscoveryResponse")
            .field("version_info", &self.version_info)
            .field("nonce", &self.nonce)
            .field("resources", &self.resources.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for DataSource {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("DataSource").finish_non_exhaustive()
    }
}

impl fmt::Debug for Specifier {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Specifier(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sds::{Secret, TlsCertificate, secret};

    const SECRET: &str = "hunter2";

    #[test]
    fn no_secret_is_printed() {
        let pairs = || [("key".to_owned(), SECRET.to_owned())].into();
        let publish = NodePublishVolumeRequest { secrets: pairs(), volume_context: pairs(), ..Default::default() };
        let x509 = X509svid { x509_svid_key: SECRET.into(), ..Default::default() };
        let jwt = Jwtsvid { svid: SECRET.to_owned(), ..Default::default() };
        let validate = ValidateJwtsvidRequest { svid: SECRET.to_owned(), ..Default::default() };
        let specifier = Specifier::InlineBytes(SECRET.into());
        let printed = format!("{publish:?} {x509:?} {jwt:?} {validate:?} {specifier:?}");
        let key = DataSource { specifier: Some(specifier) };
        let certificate = TlsCertificate { private_key: Some(key), ..Default::default() };
        let secret = Secret { r#type: Some(secret::Type::TlsCertificate(certificate)), ..Default::default() };
        let resource = prost_types::Any { value: SECRET.into(), ..Default::default() };
        let response = DiscoveryResponse { resources: vec![resource], ..Default::default() };
        let printed = format!("{printed} {secret:?} {response:?}");
        assert!(!printed.contains(SECRET) && !printed.contains("104, 117"), "{printed}");
    }
}
