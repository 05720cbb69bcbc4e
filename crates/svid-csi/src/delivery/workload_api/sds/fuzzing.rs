//! Streams of secrets without the connection, for the fuzz targets.

use svid_csi_core::volume::SecretNames;
use svid_csi_core::x509_context::X509Context;
use svid_csi_proto::sds::{DiscoveryRequest, DiscoveryResponse};
use tonic::Status;

use super::check;
use super::conversation::Conversation;

/// The maximum size of a request, in bytes.
pub const REQUEST: usize = super::REQUEST;

/// One stream of a pod.
#[derive(Debug)]
pub struct SecretStream {
    conversation: Conversation,
    context: X509Context,
}

impl SecretStream {
    /// For a pod with that identity, and with these names of special secrets.
    pub fn new(context: X509Context, special: SecretNames) -> Self {
        Self { conversation: Conversation::new(special), context }
    }

    /// The response to a request, if one is due.
    ///
    /// # Errors
    /// The error for the pod, whose stream ends.
    pub fn ask(&mut self, request: DiscoveryRequest) -> Result<Option<DiscoveryResponse>, Status> {
        check(&request)?;
        self.conversation.handle(request);
        self.conversation.respond(&self.context)
    }

    /// The response to a change of the identity, if one is due.
    ///
    /// # Errors
    /// The error for the pod, whose stream ends.
    pub fn change(&mut self, context: X509Context) -> Result<Option<DiscoveryResponse>, Status> {
        self.context = context;
        self.conversation.changed();
        self.conversation.respond(&self.context)
    }
}
