//! Connections to the sockets: each has a small HTTP/2 server that knows its volume.
//!
//! The memory that a pod can use is limited: see [`share`](super::share) for the pod, and below for one connection.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE};
use http::{Method, Request, Response, Uri};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tonic::Status;
use tower::Service;
use tracing::debug;

use super::call::{Call, RequestBody, ResponseBody};
use super::caller::Caller;
use super::endpoint::{Endpoint, Listening};
use super::service::ApiRoutes;
use super::share::{Full, Shares, Taken};
use crate::net::accept::Acceptor;
use crate::net::http2_authority::Lenient;
use crate::net::pod_sockets::{PodListener, PodStream};
use crate::spiffe::workload_header;
use crate::tasks::Tasks;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::report;

/// The maximum size of the headers of a call, in bytes.
const HEADERS: u32 = 16 * 1024;
/// The maximum number of bytes queued for one stream, in addition to the message in progress.
const SEND_BUFFER: usize = 4 * 1024;
/// The maximum number of unread bytes of requests, per stream and per connection: HTTP/2's initial windows.
const RECEIVE_WINDOW: u32 = 65_535;
/// The number of calls that a client may cancel before they are processed.
const PENDING_RESETS: usize = 20;
/// The number of frames per connection that may break the protocol, or belong to calls over its limit, because the client
/// has not read that limit yet.
const BROKEN_CALLS: usize = 48;
/// The headers that a service may read; all others are dropped when a call begins.
const READ: [HeaderName; 6] = [
    CONTENT_TYPE,
    TE,
    HeaderName::from_static("grpc-encoding"),
    HeaderName::from_static("grpc-accept-encoding"),
    HeaderName::from_static("grpc-timeout"),
    HeaderName::from_static(workload_header::NAME),
];
/// The number of bytes of a path that are looked at, more than any method has.
const PATH: usize = 256;
/// How long a connection over the limit may take to be answered.
const REFUSED_FOR: Duration = Duration::from_secs(1);
/// How long calls may take to end when a socket is closed.
const CLOSING: Duration = Duration::from_secs(1);

/// The server of the connections of all volumes.
#[derive(Debug, Clone)]
pub(super) struct Server {
    api: ApiRoutes,
    metrics: Arc<Metrics>,
    tasks: Tasks,
    /// For connections of all pods.
    descriptors: Arc<Semaphore>,
}

/// The reservation of one of the pod's connections, and of a descriptor for it.
pub(super) type ConnectionPermits = (Taken, OwnedSemaphorePermit);

impl Server {
    pub(super) fn new(api: ApiRoutes, metrics: Arc<Metrics>, tasks: Tasks, shares: &Shares) -> Self {
        Self { api, metrics, tasks, descriptors: shares.descriptors_of_connections.clone() }
    }

    /// Serves connections until the returned value is dropped. `place` has room for two descriptors: the socket's, and that
    /// of a connection that is accepted and may be refused. Volumes that were published before have one only as far as there is any.
    pub(super) fn accept(
        &self,
        endpoint: Arc<Endpoint>,
        listener: UnixListener,
        inode: u64,
        place: Option<OwnedSemaphorePermit>,
    ) -> Listening {
        let until = endpoint.closing.child_token();
        let listening = Listening { inode, _until: until.clone().drop_guard() };
        let (server, listener) = (self.clone(), PodListener::new(listener, place));
        self.tasks.detached(async move {
            tokio::select! {
                () = server.accept_each(&endpoint, &listener) => {}
                () = until.cancelled() => {}
            }
        });
        listening
    }

    async fn accept_each(&self, endpoint: &Arc<Endpoint>, listener: &PodListener<Option<OwnedSemaphorePermit>>) {
        let mut acceptor = Acceptor::of("volumes' sockets");
        let spare = Arc::new(Semaphore::new(1));
        loop {
            // While a connection is being refused, the next ones wait in the socket's queue.
            let Ok(spare) = spare.clone().acquire_owned().await else { return };
            let stream = acceptor.next(|cx| listener.poll_accept(cx)).await;
            match self.permits(endpoint) {
                Ok(permits) => {
                    self.tasks.detached(self.one(endpoint, stream, permits));
                }
                Err(full) => {
                    self.metrics.workload_api_refused();
                    endpoint.shares.refused(&endpoint.shares.connections, full);
                    // It does not matter whether the client has read the reason.
                    // Boxed, because every volume has this task, and few refuse anything.
                    let _ = timeout(REFUSED_FOR, Box::pin(refuse(PodStream::new(stream, spare), full))).await;
                }
            }
        }
    }

    /// Serves one connection.
    pub(super) fn one(
        &self,
        endpoint: &Arc<Endpoint>,
        stream: UnixStream,
        permits: ConnectionPermits,
    ) -> impl Future<Output = ()> + Send + use<> {
        let caller = Caller::new(endpoint.clone(), self.metrics.clone(), permits.0.is_own());
        serve(PodStream::new(stream, permits), self.api.clone(), Arc::new(caller))
    }

    pub(super) fn permits(&self, endpoint: &Endpoint) -> Result<ConnectionPermits, Full> {
        let of_pod = endpoint.shares.connections.try_take(1)?;
        let descriptor = self.descriptors.clone().try_acquire_owned().map_err(|_| Full::Descriptors("connections"))?;
        Ok((of_pod, descriptor))
    }
}

async fn serve(stream: PodStream<ConnectionPermits>, api: ApiRoutes, caller: Arc<Caller>) {
    let (volume, closing) = (caller.endpoint.volume.clone(), caller.endpoint.closing.clone());
    let on_call = caller.clone();
    // Called as soon as the head of a call has arrived: what is not needed of it must not wait for a task to run.
    let calls = service_fn(move |request: Request<Incoming>| {
        let call = Call::begin(&on_call);
        let answer = call.map(|call| {
            let (uri, headers) = (only_path(request.uri()), only_read(request.headers()));
            let mut request = Request::new(RequestBody { body: request.into_body(), call: call.clone() });
            (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (Method::POST, uri, headers);
            request.extensions_mut().insert(call.clone());
            (api.clone().call(request), call)
        });
        async move {
            match answer {
                Ok((answer, call)) => {
                    answer.await.map(|answer| answer.map(|body| ResponseBody { body, call: Some(call) }))
                }
                Err(full) => Ok(refusal(full)),
            }
        }
    });
    let stream = TokioIo::new(Lenient::new(stream));
    let mut connection = pin!(http2(caller.streams()).serve_connection(stream, calls));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        why = caller.is_of_no_use() => return debug!(%volume, why, "closing a connection to the volume's socket"),
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            timeout(CLOSING, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        debug!(%volume, error = report::chain(&error), "a connection to the volume's socket failed");
    }
}

/// A copy of the path of a call. What follows it is not read.
fn only_path(uri: &Uri) -> Uri {
    // None of the paths that exist is as long.
    let path = Bytes::copy_from_slice(uri.path().get(..PATH).unwrap_or_else(|| uri.path()).as_bytes());
    Uri::from_maybe_shared(path).unwrap_or_default()
}

/// Copies of the headers that are read. They would otherwise keep all of what arrived with them in memory, in a call that
/// can wait for its message forever.
fn only_read(headers: &HeaderMap) -> HeaderMap {
    let read = READ.into_iter().flat_map(|name| headers.get_all(&name).iter().map(move |value| (name.clone(), value)));
    read.filter_map(|(name, value)| Some((name, HeaderValue::from_bytes(value.as_bytes()).ok()?))).collect()
}

fn refusal(full: Full) -> Response<ResponseBody> {
    Status::from(full).into_http().map(|body| ResponseBody { body, call: None })
}

/// Reports to a client that it has too many connections, whatever it calls, and closes this one.
async fn refuse(stream: PodStream<OwnedSemaphorePermit>, full: Full) -> Result<(), hyper::Error> {
    let asked = Arc::new(tokio::sync::Notify::new());
    let asks = asked.clone();
    let calls = service_fn(move |_: Request<Incoming>| {
        asks.notify_one();
        std::future::ready(Ok::<_, Infallible>(refusal(full)))
    });
    let connection = http2(1).serve_connection(TokioIo::new(Lenient::new(stream)), calls);
    let mut connection = pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = asked.notified() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

fn http2(streams: u32) -> http2::Builder<TokioExecutor> {
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.max_concurrent_streams(streams)
        .max_header_list_size(HEADERS)
        .max_send_buf_size(SEND_BUFFER)
        .initial_stream_window_size(RECEIVE_WINDOW)
        .initial_connection_window_size(RECEIVE_WINDOW)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(BROKEN_CALLS)
        .auto_date_header(false);
    http
}
