//! Envoy's secret discovery service, version 3, on the same sockets and as SPIRE agents serve it: Envoy takes certificates,
//! keys and bundles from here, and takes the next ones without a restart.
//!
//! The header of the Workload API is not asked for: Envoy does not send it.

mod conversation;
mod secrets;
mod validator;

use std::sync::Arc;

use futures::stream;
use svid_csi_core::x509_context::X509Context;
use svid_csi_proto::sds::secret_discovery_service_server::{SecretDiscoveryService, SecretDiscoveryServiceServer};
use svid_csi_proto::sds::{DiscoveryRequest, DiscoveryResponse, SECRET_TYPE};
use tokio::sync::OwnedSemaphorePermit;
use tonic::{Request, Response, Status, Streaming};

use self::conversation::Conversation;
use self::validator::Validator;
use super::caller::Caller;
use super::endpoint::ENVOYS;
use super::following::{Following, Messages};
use super::service::answered;
use crate::metrics::Metrics;

/// The most bytes of a request: Envoy tells with the first one of each of its extensions, which are a few hundred.
const REQUEST: usize = 128 * 1024;

/// How many secrets one stream may ask for by name, and how long a name may be: a SPIFFE ID at most.
const NAMES: usize = 100;
const NAME_BYTES: usize = 2048;

#[derive(Debug, Clone)]
struct Service(Arc<Metrics>);

/// What answers Envoys.
pub(super) fn service(metrics: Arc<Metrics>) -> SecretDiscoveryServiceServer<impl SecretDiscoveryService> {
    SecretDiscoveryServiceServer::new(Service(metrics)).max_decoding_message_size(REQUEST)
}

#[tonic::async_trait]
impl SecretDiscoveryService for Service {
    type StreamSecretsStream = Messages<DiscoveryResponse>;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        let answer = Caller::of(&request).and_then(|caller| {
            let envoy = caller.endpoint.envoys.clone().try_acquire_owned().map_err(|_| too_many_envoys())?;
            stream(envoy, Following::begin(&caller), request.into_inner())
        });
        answered(&self.0, "StreamSecrets", answer)
    }

    async fn fetch_secrets(&self, request: Request<DiscoveryRequest>) -> Result<Response<DiscoveryResponse>, Status> {
        let answer =
            Caller::of(&request).and_then(|caller| fetch(&mut Following::begin(&caller), &request.into_inner()));
        answered(&self.0, "FetchSecrets", answer)
    }
}

fn too_many_envoys() -> Status {
    Status::resource_exhausted(format!("this volume's socket has {ENVOYS} streams of secrets already"))
}

fn fetch(following: &mut Following, request: &DiscoveryRequest) -> Result<DiscoveryResponse, Status> {
    check(request)?;
    let context = following.now()?;
    let resources = secrets::named(&context, &request.resource_names, Validator::of(request.node.as_ref()))?;
    Ok(DiscoveryResponse { resources, type_url: SECRET_TYPE.to_owned(), ..Default::default() })
}

/// One stream: what the pod is given, what Envoy says, and where they stand.
struct Talk {
    _envoy: OwnedSemaphorePermit,
    following: Following,
    context: Arc<X509Context>,
    requests: Streaming<DiscoveryRequest>,
    conversation: Conversation,
}

fn stream(
    envoy: OwnedSemaphorePermit,
    mut following: Following,
    requests: Streaming<DiscoveryRequest>,
) -> Result<Messages<DiscoveryResponse>, Status> {
    let context = following.now()?;
    let talk = Talk { _envoy: envoy, following, context, requests, conversation: Conversation::default() };
    Ok(Box::pin(stream::unfold(Some(talk), async |talk| {
        let mut talk = talk?;
        match talk.next().await.transpose()? {
            Ok(response) => Some((Ok(response), Some(talk))),
            Err(status) => Some((Err(status), None)),
        }
    })))
}

impl Talk {
    /// The next response; nothing where either side has ended the stream.
    async fn next(&mut self) -> Result<Option<DiscoveryResponse>, Status> {
        loop {
            tokio::select! {
                biased;
                given = self.following.next() => match given {
                    Some(context) => {
                        self.context = context?;
                        self.conversation.changed();
                    }
                    None => return Ok(None),
                },
                request = self.requests.message() => match request? {
                    Some(request) => {
                        check(&request)?;
                        self.conversation.heard(request);
                    }
                    None => return Ok(None),
                },
            }
            if let Some(response) = self.conversation.due(&self.context)? {
                return Ok(Some(response));
            }
        }
    }
}

/// What no Envoy sends.
fn check(request: &DiscoveryRequest) -> Result<(), Status> {
    let type_url = &request.type_url;
    if !type_url.is_empty() && type_url != SECRET_TYPE {
        return Err(Status::invalid_argument(format!("type_url must be {SECRET_TYPE}: only secrets are served here")));
    }
    let number = request.resource_names.len();
    if number > NAMES {
        return Err(Status::invalid_argument(format!(
            "resource_names has {number} names, at most {NAMES} are answered"
        )));
    }
    if request.resource_names.iter().any(|name| name.len() > NAME_BYTES) {
        return Err(Status::invalid_argument(format!("a name in resource_names has more than {NAME_BYTES} bytes")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
