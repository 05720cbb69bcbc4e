//! Topics of subscriptions for a pod.

use svid_csi_core::pod::PodRef;
use svid_csi_proto::broker::WorkloadReference;
use svid_csi_proto::broker::api_client::ApiClient;
use tonic::{Status, Streaming};

use super::connection::Connection;
use super::pod_state::Nothing;

/// The calls of the Broker API.
pub(super) type BrokerClient = ApiClient<Connection>;

/// A topic, and the handling of its messages.
pub(super) trait Topic: Send + Sync + 'static {
    /// One message, which is complete in itself.
    type Message: Send + 'static;

    fn pod(&self) -> &PodRef;

    fn subscribe(
        api: BrokerClient,
        reference: WorkloadReference,
    ) -> impl Future<Output = Result<Streaming<Self::Message>, Status>> + Send;

    /// Takes a message that complies with every rule; any other leaves the last one in place. Returns whether it complies.
    fn take(&self, connection: &Connection, message: Self::Message) -> impl Future<Output = bool> + Send;

    /// Records that the pod has nothing, or nothing any more.
    fn nothing(&self, nothing: Nothing);

    /// Records that the agent does not support the call.
    fn not_understood(&self, why: String);

    /// Records that the state may be outdated.
    fn trouble(&self, trouble: String);
}
