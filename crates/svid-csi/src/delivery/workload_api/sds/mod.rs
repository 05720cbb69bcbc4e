//! Envoy's secret discovery service, version 3, on the same sockets and compatible with SPIRE agents: Envoy gets
//! certificates, keys and bundles from it, and the next ones without a restart.
//!
//! The header of the Workload API is not required, because Envoy does not send it.

mod conversation;
mod secrets;
mod validator;

use std::sync::Arc;

use futures::stream;
use svid_csi_core::x509_context::X509Context;
use svid_csi_proto::sds::secret_discovery_service_server::{SecretDiscoveryService, SecretDiscoveryServiceServer};
use svid_csi_proto::sds::{DiscoveryRequest, DiscoveryResponse, SECRET_TYPE};
use tonic::{Request, Response, Status, Streaming};

use self::conversation::Conversation;
use self::validator::Validator;
use super::call::Call;
use super::call::answered;
use super::following::{Following, Messages, given};
use crate::telemetry::metrics::Metrics;

/// The maximum size of a request, in bytes. In the first one Envoy lists all its extensions, which are a few hundred.
const REQUEST: usize = 128 * 1024;

/// The number of secrets that one stream may request by name, and the size of the names, which are stored. The longest
/// name is a SPIFFE ID.
const NAMES: usize = 100;
const NAME_BYTES: usize = 2048;
const ALL_NAME_BYTES: usize = 8 * NAME_BYTES;

#[derive(Debug, Clone)]
struct SdsService(Arc<Metrics>);

/// The service for Envoys.
pub(super) fn service(metrics: Arc<Metrics>) -> SecretDiscoveryServiceServer<impl SecretDiscoveryService> {
    SecretDiscoveryServiceServer::new(SdsService(metrics)).max_decoding_message_size(REQUEST)
}

#[tonic::async_trait]
impl SecretDiscoveryService for SdsService {
    type StreamSecretsStream = Messages<DiscoveryResponse>;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        let answer = Call::of(&request).and_then(|call| stream(Following::begin(&call), call, request.into_inner()));
        answered(&self.0, "StreamSecrets", answer)
    }

    async fn fetch_secrets(&self, request: Request<DiscoveryRequest>) -> Result<Response<DiscoveryResponse>, Status> {
        let answer = Call::of(&request).and_then(|call| fetch(&call, &request.into_inner()));
        answered(&self.0, "FetchSecrets", answer)
    }
}

fn fetch(call: &Call, request: &DiscoveryRequest) -> Result<DiscoveryResponse, Status> {
    check(request)?;
    let endpoint = &call.caller.endpoint;
    let context = given(&endpoint.identity.borrow())?.clone();
    let validator = Validator::of(request.node.as_ref());
    let resources = secrets::named(&context, &endpoint.secret_names(), &request.resource_names, validator)?;
    let response = DiscoveryResponse { resources, type_url: SECRET_TYPE.to_owned(), ..Default::default() };
    call.answers_with(&response)?;
    Ok(response)
}

/// One stream: the pod's identity, Envoy's requests, and the state of both.
struct Talk {
    call: Arc<Call>,
    following: Following,
    context: Arc<X509Context>,
    requests: Streaming<DiscoveryRequest>,
    conversation: Conversation,
}

fn stream(
    mut following: Following,
    call: Arc<Call>,
    requests: Streaming<DiscoveryRequest>,
) -> Result<Messages<DiscoveryResponse>, Status> {
    let context = following.now()?;
    let conversation = Conversation::new(call.caller.endpoint.secret_names());
    let talk = Talk { call, following, context, requests, conversation };
    Ok(Box::pin(stream::unfold(Some(talk), async |talk| {
        let mut talk = talk?;
        match talk.next().await.transpose()? {
            Ok(response) => Some((Ok(response), Some(talk))),
            Err(status) => Some((Err(status), None)),
        }
    })))
}

impl Talk {
    /// The next response; `None` if either side has ended the stream.
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
                        self.call.has_read();
                        check(&request)?;
                        self.conversation.handle(request);
                    }
                    None => return Ok(None),
                },
            }
            if let Some(response) = self.conversation.due(&self.context)? {
                // Due again, because it was not acknowledged.
                let again = || self.conversation.due(&self.context).ok().flatten().unwrap_or_default();
                let response = self.following.fit(response, again).await;
                self.conversation.sent();
                return Ok(response);
            }
        }
    }
}

/// Refuses requests that Envoy never sends.
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
    if request.resource_names.iter().map(String::len).sum::<usize>() > ALL_NAME_BYTES {
        return Err(Status::invalid_argument(format!(
            "the names in resource_names have more than {ALL_NAME_BYTES} bytes: ask for some of them on another stream"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
