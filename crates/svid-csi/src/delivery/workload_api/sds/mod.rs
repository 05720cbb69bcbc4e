//! Envoy's secret discovery service, version 3, on the same sockets and as SPIRE agents serve it: Envoy takes certificates,
//! keys and bundles from here, and takes the next ones without a restart.
//!
//! The header of the Workload API is not asked for: Envoy does not send it.

mod conversation;
mod secrets;
mod validator;

use std::collections::HashSet;
use std::sync::Arc;

use futures::stream;
use svid_csi_core::x509_context::X509Context;
use svid_csi_proto::sds::secret_discovery_service_server::{SecretDiscoveryService, SecretDiscoveryServiceServer};
use svid_csi_proto::sds::{DiscoveryRequest, DiscoveryResponse, SECRET_TYPE};
use tonic::{Code, Request, Response, Status, Streaming};

use self::conversation::Conversation;
use self::validator::Validator;
use super::caller::Caller;
use super::following::{Following, Messages};
use crate::metrics::Metrics;

/// The most bytes of a request: Envoy tells with the first one of each of its extensions.
const REQUEST: usize = 1024 * 1024;

/// How many secrets one stream may ask for by name.
const NAMES: usize = 100;

#[derive(Debug, Clone)]
struct Service(Arc<Metrics>);

/// What answers Envoys.
pub(super) fn service(metrics: Arc<Metrics>) -> SecretDiscoveryServiceServer<impl SecretDiscoveryService> {
    SecretDiscoveryServiceServer::new(Service(metrics)).max_decoding_message_size(REQUEST)
}

impl Service {
    fn answer<T>(&self, method: &'static str, answer: Result<T, Status>) -> Result<Response<T>, Status> {
        self.0.workload_api_called(method, answer.as_ref().map_or_else(Status::code, |_| Code::Ok));
        answer.map(Response::new)
    }
}

#[tonic::async_trait]
impl SecretDiscoveryService for Service {
    type StreamSecretsStream = Messages<DiscoveryResponse>;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        let answer = Caller::of(&request).and_then(|caller| stream(Following::begin(&caller), request.into_inner()));
        self.answer("StreamSecrets", answer)
    }

    async fn fetch_secrets(&self, request: Request<DiscoveryRequest>) -> Result<Response<DiscoveryResponse>, Status> {
        let answer =
            Caller::of(&request).and_then(|caller| fetch(&mut Following::begin(&caller), &request.into_inner()));
        self.answer("FetchSecrets", answer)
    }
}

fn fetch(following: &mut Following, request: &DiscoveryRequest) -> Result<DiscoveryResponse, Status> {
    check(request)?;
    let context = following.now()?;
    let resources = secrets::named(&context, &request.resource_names, Validator::of(request.node.as_ref()))?;
    Ok(DiscoveryResponse { resources, type_url: SECRET_TYPE.to_owned(), ..Default::default() })
}

/// One stream: what the pod is given, what Envoy says, and where they stand.
struct Talk {
    following: Following,
    context: Arc<X509Context>,
    requests: Streaming<DiscoveryRequest>,
    conversation: Conversation,
}

fn stream(
    mut following: Following,
    requests: Streaming<DiscoveryRequest>,
) -> Result<Messages<DiscoveryResponse>, Status> {
    let context = following.now()?;
    let talk = Talk { following, context, requests, conversation: Conversation::default() };
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
    let names: HashSet<_> = request.resource_names.iter().collect();
    if names.len() > NAMES {
        let number = names.len();
        return Err(Status::invalid_argument(format!(
            "resource_names has {number} names, at most {NAMES} are answered"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
