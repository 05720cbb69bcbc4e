//! A minimal client, which sees exactly the driver's messages.

use std::path::Path;
use std::time::Duration;

use svid_csi::net::unix_channel::connect;
use svid_csi_proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use svid_csi_proto::workload::{X509svidRequest, X509svidResponse};
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

const LIMIT: Duration = Duration::from_secs(120);

pub(crate) type Api = SpiffeWorkloadApiClient<Channel>;

/// A request as every client must send it.
pub(crate) fn asking<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("workload.spiffe.io", "true".parse().unwrap());
    request
}

pub(crate) async fn api(socket: &Path) -> Api {
    SpiffeWorkloadApiClient::new(connect(socket).await.unwrap())
}

/// A stream of messages.
pub(crate) struct Stream<T>(Streaming<T>);

pub(crate) type Svids = Stream<X509svidResponse>;

impl Svids {
    pub(crate) async fn open(socket: &Path) -> Result<Self, Status> {
        let channel = connect(socket).await.map_err(|error| Status::unavailable(error.to_string()))?;
        SpiffeWorkloadApiClient::new(channel).fetch_x509svid(asking(X509svidRequest {})).await.map(Stream::of)
    }
}

impl<T> Stream<T> {
    pub(crate) fn of(response: Response<Streaming<T>>) -> Self {
        Self(response.into_inner())
    }

    /// The next message, or the status at the end of the stream.
    pub(crate) async fn next(&mut self) -> Result<T, Status> {
        let message = tokio::time::timeout(LIMIT, self.0.message()).await.expect("a message in time");
        message.and_then(|message| message.ok_or_else(|| Status::cancelled("the stream ended")))
    }
}
