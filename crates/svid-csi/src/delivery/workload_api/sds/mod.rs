//! Envoy's secret discovery service, version 3, on the same sockets and compatible with SPIRE agents: Envoy gets
//! certificates, keys and bundles from it, and the next ones without a restart.
//!
//! The header of the Workload API is not required, because Envoy does not send it.

mod conversation;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod secrets;
mod validator;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use futures::stream;
use svid_csi_core::x509_context::X509Context;
use svid_csi_proto::sds::secret_discovery_service_server::{SecretDiscoveryService, SecretDiscoveryServiceServer};
use svid_csi_proto::sds::{DiscoveryRequest, DiscoveryResponse, SECRET_TYPE};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tonic::{Request, Response, Status, Streaming};

use self::conversation::Conversation;
use self::validator::Validator;
use super::call::Call;
use super::call::answered;
use super::following::{Following, Messages, given};
use crate::tasks::Tasks;
use crate::telemetry::metrics::Metrics;

/// The maximum size of a request, in bytes. In the first one Envoy lists all its extensions, which are a few hundred.
const REQUEST: usize = 128 * 1024;

/// The number of secrets that one stream may request by name, and the size of the names, which are stored. The longest
/// name is a SPIFFE ID.
const NAMES: usize = 100;
const NAME_BYTES: usize = 2048;
const ALL_NAME_BYTES: usize = 8 * NAME_BYTES;

#[derive(Debug, Clone)]
struct SdsService {
    metrics: Arc<Metrics>,
    tasks: Tasks,
}

/// The service for Envoys.
pub(super) fn service(
    metrics: Arc<Metrics>,
    tasks: Tasks,
) -> SecretDiscoveryServiceServer<impl SecretDiscoveryService> {
    SecretDiscoveryServiceServer::new(SdsService { metrics, tasks }).max_decoding_message_size(REQUEST)
}

#[tonic::async_trait]
impl SecretDiscoveryService for SdsService {
    type StreamSecretsStream = Messages<DiscoveryResponse>;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        let answer = Call::of(&request).and_then(|call| stream(call, request.into_inner(), &self.tasks));
        answered(&self.metrics, "StreamSecrets", answer)
    }

    async fn fetch_secrets(&self, request: Request<DiscoveryRequest>) -> Result<Response<DiscoveryResponse>, Status> {
        let answer = async { fetch(&*Call::of(&request)?, &request.into_inner()).await };
        answered(&self.metrics, "FetchSecrets", answer.await)
    }
}

async fn fetch(call: &Call, request: &DiscoveryRequest) -> Result<DiscoveryResponse, Status> {
    check(request)?;
    let endpoint = &call.caller.endpoint;
    let context = given(&endpoint.identity.borrow())?.clone();
    let validator = Validator::of(request.node.as_ref());
    let resources = secrets::named(&context, &endpoint.secret_names(), &request.resource_names, validator)?;
    let response = DiscoveryResponse { resources, type_url: SECRET_TYPE.to_owned(), ..Default::default() };
    call.answers_with(&response).await?;
    Ok(response)
}

/// One stream: the pod's identity, and the state of both sides.
struct Talk {
    following: Following,
    context: Arc<X509Context>,
    requests: Arc<SecretRequests>,
    _reading: Reading,
}

/// What an Envoy has requested. It is read as it arrives, because HTTP/2 would collect it while a response waits.
struct SecretRequests {
    conversation: Mutex<Conversation>,
    news: Notify,
    ended: OnceLock<Result<(), Status>>,
}

/// The task that reads the requests, which ends when this is dropped.
struct Reading(AbortHandle);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn stream(
    call: Arc<Call>,
    messages: Streaming<DiscoveryRequest>,
    tasks: &Tasks,
) -> Result<Messages<DiscoveryResponse>, Status> {
    let mut following = Following::begin(&call);
    let context = following.now()?;
    let conversation = Mutex::new(Conversation::new(call.caller.endpoint.secret_names()));
    let requests = Arc::new(SecretRequests { conversation, news: Notify::new(), ended: OnceLock::new() });
    let reader = requests.clone();
    let reading = Reading(tasks.detached(async move { reader.read(&call, messages).await }));
    let talk = Talk { following, context, requests, _reading: reading };
    Ok(Box::pin(stream::unfold(Some(talk), async |talk| {
        let mut talk = talk?;
        match talk.next().await.transpose()? {
            Ok(response) => Some((Ok(response), Some(talk))),
            Err(status) => Some((Err(status), None)),
        }
    })))
}

impl SecretRequests {
    fn conversation(&self) -> MutexGuard<'_, Conversation> {
        self.conversation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(&self, call: &Call, messages: Streaming<DiscoveryRequest>) {
        let ended = self.read_each(call, messages).await;
        let _ = self.ended.set(ended);
        self.news.notify_one();
    }

    async fn read_each(&self, call: &Call, mut messages: Streaming<DiscoveryRequest>) -> Result<(), Status> {
        while let Some(request) = messages.message().await? {
            check(&request)?;
            let kept = {
                let mut conversation = self.conversation();
                conversation.handle(request);
                conversation.size()
            };
            call.keeps(kept)?;
            self.news.notify_one();
        }
        Ok(())
    }
}

impl Talk {
    /// The next response; `None` if either side has ended the stream.
    async fn next(&mut self) -> Result<Option<DiscoveryResponse>, Status> {
        loop {
            let response = self.requests.conversation().respond(&self.context)?;
            if let Some(response) = response {
                let again = || self.requests.conversation().again(&self.context).unwrap_or_default();
                return Ok(self.following.fit(response, again).await);
            }
            if let Some(ended) = self.requests.ended.get() {
                return ended.clone().map(|()| None);
            }
            tokio::select! {
                biased;
                given = self.following.next() => match given {
                    Some(context) => {
                        self.context = context?;
                        self.requests.conversation().changed();
                    }
                    None => return Ok(None),
                },
                () = self.requests.news.notified() => {}
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
