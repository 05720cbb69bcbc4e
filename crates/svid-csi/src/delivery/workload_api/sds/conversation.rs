//! Who has said what on a stream of secrets (xDS, "ACK/NACK and resource type instance version").

use std::collections::HashSet;

use svid_csi_core::quoted::Quoted;
use svid_csi_core::volume::SecretNames;
use svid_csi_core::x509_context::X509Context;
use svid_csi_proto::sds::{DiscoveryRequest, DiscoveryResponse, SECRET_TYPE};
use tonic::Status;
use tracing::debug;

use super::secrets;
use super::validator::Validator;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    special: SecretNames,
    /// The names that were asked for last; nothing before the first request.
    names: Option<Vec<String>>,
    validator: Validator,
    /// Counts the changes of what the pod is given.
    version: u64,
    /// Counts the responses: each is known by its number.
    sent: u64,
    /// Something is to be said.
    due: bool,
}

impl Conversation {
    /// Of a volume that calls the special secrets so.
    pub(super) fn new(special: SecretNames) -> Self {
        Self { special, ..Self::default() }
    }

    /// What the pod is given has changed.
    pub(super) fn changed(&mut self) {
        self.version += 1;
        self.due = self.names.is_some();
    }

    /// Envoy asks for secrets, or acknowledges those that it was sent. Only new questions are answered, and
    /// acknowledgements of anything but the last response are ignored.
    pub(super) fn heard(&mut self, request: DiscoveryRequest) {
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

    /// The response that is due, until it is sent.
    pub(super) fn due(&self, context: &X509Context) -> Result<Option<DiscoveryResponse>, Status> {
        let Some(names) = self.names.as_ref().filter(|_| self.due) else { return Ok(None) };
        let resources = secrets::named(context, &self.special, names, self.validator)?;
        let (version_info, nonce) = ((self.version + 1).to_string(), nonce(self.sent + 1));
        Ok(Some(DiscoveryResponse { version_info, resources, type_url: SECRET_TYPE.to_owned(), nonce }))
    }

    /// The response that was due is sent.
    pub(super) fn sent(&mut self) {
        self.due = false;
        self.sent += 1;
    }
}

fn nonce(sent: u64) -> String {
    format!("{sent:08x}")
}

fn same_names(one: &[String], other: &[String]) -> bool {
    let [one, other] = [one, other].map(|names| names.iter().collect::<HashSet<_>>());
    one == other
}
