//! Connections to the sockets: each is a small HTTP/2 server that knows whose socket it came by.
//!
//! What a pod can make the driver hold is bounded: connections a volume, streams a connection, bytes a stream.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tonic::Status;
use tonic::body::Body;
use tower::{Service, service_fn};
use tracing::{debug, warn};

use super::caller::Caller;
use super::endpoint::{CONNECTIONS, Endpoint, Listening, REQUESTS};
use super::service::Api;
use crate::authority::Lenient;
use crate::metrics::Metrics;
use crate::report;
use crate::tasks::Tasks;

/// How many calls one connection may have open at a time.
const STREAMS: u32 = 32;
/// The most bytes of headers of a call.
const HEADERS: u32 = 16 * 1024;
/// The most bytes that wait to be sent for one stream, beyond the message that is being sent.
const SEND_BUFFER: usize = 64 * 1024;
/// The most bytes of requests that wait to be read, of one stream and of a connection: what HTTP/2 begins with.
const RECEIVE_WINDOW: u32 = 65_535;
/// How many calls a client may take back before they are looked at.
const PENDING_RESETS: usize = 20;
/// How many calls that break the protocol a client may make on a connection.
const BROKEN_CALLS: usize = 1024;
/// How many connections over the limit are told so at a time, and for how long.
const REFUSALS: usize = 16;
const REFUSED_FOR: Duration = Duration::from_secs(1);
/// How long calls may take to end when a socket is closed.
const CLOSING: Duration = Duration::from_secs(1);
/// How long to wait when the system has no more descriptors to give.
const EXHAUSTED: Duration = Duration::from_millis(200);

/// What serves the connections of all volumes.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) api: Api,
    pub(super) metrics: Arc<Metrics>,
    pub(super) tasks: Tasks,
    /// How often a connection could not be accepted, of all sockets: what one lacks, all do.
    pub(super) failures: Arc<AtomicU64>,
}

impl Server {
    /// Serves what connects, until what is returned is dropped.
    pub(super) fn accept(&self, endpoint: Arc<Endpoint>, listener: UnixListener, inode: u64) -> Listening {
        let until = endpoint.closing.child_token();
        let listening = Listening { inode, _until: until.clone().drop_guard() };
        let server = self.clone();
        self.tasks.detached(async move {
            tokio::select! {
                () = server.accept_each(&endpoint, &listener) => {}
                () = until.cancelled() => {}
            }
        });
        listening
    }

    async fn accept_each(&self, endpoint: &Arc<Endpoint>, listener: &UnixListener) {
        let refusals = Arc::new(Semaphore::new(REFUSALS));
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
                    if failures.is_power_of_two() {
                        warn!(volume = %endpoint.volume, failures, %error, "cannot accept connections to volumes' sockets");
                    }
                    sleep(EXHAUSTED).await;
                    continue;
                }
            };
            if let Ok(permit) = endpoint.connections.clone().try_acquire_owned() {
                let caller = Arc::new(Caller::new(endpoint.clone(), self.metrics.clone()));
                let api = self.api.clone();
                self.tasks.detached(async move {
                    serve(stream, api, caller).await;
                    drop(permit);
                });
                continue;
            }
            self.metrics.workload_api_refused();
            // While so many are being refused, the next ones wait in the socket's queue.
            let Ok(permit) = refusals.clone().acquire_owned().await else { return };
            self.tasks.detached(async move {
                // Whether it has read why is its own affair.
                let _ = timeout(REFUSED_FOR, refuse(stream)).await;
                drop(permit);
            });
        }
    }
}

async fn serve(stream: UnixStream, api: Api, caller: Arc<Caller>) {
    let (volume, closing) = (caller.endpoint.volume.clone(), caller.endpoint.closing.clone());
    let on_call = caller.clone();
    let calls = service_fn(move |mut call: Request<Incoming>| {
        on_call.asks();
        // Among the extensions, it is given back once the request was read.
        let place = on_call.endpoint.requests.clone().try_acquire_owned().map(Arc::new);
        let answer = place.map(|place| {
            call.extensions_mut().insert(on_call.clone());
            call.extensions_mut().insert(place);
            api.clone().call(call)
        });
        async move {
            match answer {
                Ok(answer) => answer.await,
                Err(_) => Ok(too_many_requests().into_http()),
            }
        }
    });
    let connection = http2().serve_connection(TokioIo::new(Lenient::new(stream)), TowerToHyperService::new(calls));
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        why = caller.is_of_no_use() => return debug!(%volume, why, "a connection to the volume's socket is ended"),
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            timeout(CLOSING, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        debug!(%volume, error = report::chain(&error), "a connection to the volume's socket broke");
    }
}

fn too_many_requests() -> Status {
    Status::resource_exhausted(format!("this pod has {REQUESTS} requests on their way already"))
}

/// Tells a client that there are too many of it, whatever it asks, and lets it go.
async fn refuse(stream: UnixStream) -> Result<(), hyper::Error> {
    let asked = Arc::new(tokio::sync::Notify::new());
    let asks = asked.clone();
    let calls = service_fn(move |_: Request<Incoming>| {
        asks.notify_one();
        let status = Status::resource_exhausted(format!(
            "this volume's socket has {CONNECTIONS} connections already: close those that are not used"
        ));
        std::future::ready(Ok::<Response<Body>, std::convert::Infallible>(status.into_http()))
    });
    let connection = http2().serve_connection(TokioIo::new(Lenient::new(stream)), TowerToHyperService::new(calls));
    let mut connection = pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = asked.notified() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

fn http2() -> http2::Builder<TokioExecutor> {
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADERS)
        .max_send_buf_size(SEND_BUFFER)
        .initial_stream_window_size(RECEIVE_WINDOW)
        .initial_connection_window_size(RECEIVE_WINDOW)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(BROKEN_CALLS)
        .auto_date_header(false);
    http
}
