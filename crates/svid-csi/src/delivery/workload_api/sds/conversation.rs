//! The state of both sides of a stream of secrets (xDS, "ACK/NACK and resource type instance version").

use std::collections::HashSet;

use svid_csi_core::quoted::Quoted;
use svid_csi_core::volume::SecretNames;
use svid_csi_core::x509_context::X509Context;
use svid_csi_proto::sds::{DiscoveryRequest, DiscoveryResponse, SECRET_TYPE};
use tonic::Status;
use tracing::debug;

use super::secrets;
use super::validator::Validator;

/// See the module documentation.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    special: SecretNames,
    /// The names requested last; `None` before the first request.
    names: Option<Vec<String>>,
    validator: Validator,
    /// Counts the changes of the pod's identity.
    version: u64,
    /// Counts the responses; the number is their nonce.
    sent: u64,
    /// Whether a response is due.
    due: bool,
}

impl Conversation {
    /// For a volume with these names of special secrets.
    pub(super) fn new(special: SecretNames) -> Self {
        Self { special, ..Self::default() }
    }

    /// Records that the pod's identity has changed.
    pub(super) fn changed(&mut self) {
        self.version += 1;
        self.due = self.names.is_some();
    }

    /// Handles a request for secrets, or an acknowledgement. Only new requests are answered, and acknowledgements of
    /// any response except the last are ignored.
    pub(super) fn handle(&mut self, request: DiscoveryRequest) {
        if self.sent > 0 && request.response_nonce != nonce(self.sent) {
            return;
        }
        if let Some(error) = &request.error_detail {
            debug!(message = %Quoted::new(&error.message), "Envoy rejected the secrets that it was sent");
        }
        if request.node.is_some() {
            self.validator = Validator::of(request.node.as_ref());
        }
        let same = self.names.as_ref().is_some_and(|names| same_names(names, &request.resource_names));
        self.due |= !same;
        self.names = Some(request.resource_names);
    }

    /// The response that is due, which is the last one from here on.
    pub(super) fn respond(&mut self, context: &X509Context) -> Result<Option<DiscoveryResponse>, Status> {
        if !self.due {
            return Ok(None);
        }
        self.due = false;
        self.sent += 1;
        self.again(context).map(Some)
    }

    /// The last response, as long as it is not sent: it cannot have been acknowledged.
    pub(super) fn again(&self, context: &X509Context) -> Result<DiscoveryResponse, Status> {
        let names = self.names.as_deref().unwrap_or_default();
        let resources = secrets::named(context, &self.special, names, self.validator)?;
        let (version_info, nonce) = ((self.version + 1).to_string(), nonce(self.sent));
        Ok(DiscoveryResponse { version_info, resources, type_url: SECRET_TYPE.to_owned(), nonce })
    }

    /// The memory of the names, in bytes.
    pub(super) fn size(&self) -> usize {
        let names = self.names.as_deref().unwrap_or_default();
        names.iter().map(|name| size_of::<String>() + name.len()).sum()
    }
}

fn nonce(sent: u64) -> String {
    format!("{sent:08x}")
}

fn same_names(one: &[String], other: &[String]) -> bool {
    let [one, other] = [one, other].map(|names| names.iter().collect::<HashSet<_>>());
    one == other
}
