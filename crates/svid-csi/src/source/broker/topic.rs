//! What can be subscribed to for a pod.

use svid_csi_core::pod::PodRef;
use svid_csi_proto::broker::WorkloadReference;
use svid_csi_proto::broker::api_client::ApiClient;
use tonic::{Status, Streaming};

use super::connection::Connection;
use super::pod_state::Nothing;

/// The calls of the Broker API.
pub(super) type Api = ApiClient<Connection>;

/// What is subscribed to, and what becomes of the answers.
pub(super) trait Topic: Send + Sync + 'static {
    /// One answer, which is the whole of it.
    type Message: Send + 'static;

    /// Whose it is.
    fn pod(&self) -> &PodRef;

    /// Subscribes.
    fn subscribe(
        api: Api,
        reference: WorkloadReference,
    ) -> impl Future<Output = Result<Streaming<Self::Message>, Status>> + Send;

    /// Takes an answer that keeps every rule; any other leaves the last one in place.
    fn take(&self, connection: &Connection, message: Self::Message) -> impl Future<Output = ()> + Send;

    /// The pod is given nothing, or nothing any more.
    fn nothing(&self, nothing: Nothing);

    /// The agent cannot be asked about it.
    fn not_understood(&self, why: String);

    /// There may be something newer that is not known.
    fn trouble(&self, trouble: String);
}
