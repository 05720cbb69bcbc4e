//! Connections to the sockets: each is a small HTTP/2 server that knows whose socket it came by.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tower::{Service, service_fn};
use tracing::{debug, warn};

use super::endpoint::{Endpoint, Listening};
use super::service::{Api, Caller};
use crate::authority::Lenient;
use crate::tasks::Tasks;

/// How many calls one connection may have open at a time.
const STREAMS: u32 = 32;
/// The most bytes of headers of a call.
const HEADERS: u32 = 16 * 1024;
/// The most bytes that wait to be sent for one stream.
const SEND_BUFFER: usize = 64 * 1024;
/// How many connections over the limit are told so at a time, and for how long.
const REFUSALS: usize = 4;
const REFUSED_FOR: Duration = Duration::from_secs(2);
/// How long calls may take to end when a socket is closed.
const CLOSING: Duration = Duration::from_secs(1);
/// How long to wait when the system has no more descriptors to give.
const EXHAUSTED: Duration = Duration::from_millis(200);

/// Serves what connects, until what is returned is dropped.
pub(super) fn accept(
    tasks: &Tasks,
    api: Api,
    endpoint: Arc<Endpoint>,
    listener: UnixListener,
    inode: Option<u64>,
) -> Listening {
    let until = endpoint.closing.child_token();
    let listening = Listening { inode, _until: until.clone().drop_guard() };
    let connections = tasks.clone();
    tasks.detached(async move {
        let refusals = Arc::new(Semaphore::new(REFUSALS));
        tokio::select! {
            () = accept_each(&connections, &api, &endpoint, &listener, &refusals) => {}
            () = until.cancelled() => {}
        }
    });
    listening
}

async fn accept_each(
    tasks: &Tasks,
    api: &Api,
    endpoint: &Arc<Endpoint>,
    listener: &UnixListener,
    refusals: &Arc<Semaphore>,
) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(volume = %endpoint.volume, %error, "cannot accept a connection to the volume's socket");
                tokio::time::sleep(EXHAUSTED).await;
                continue;
            }
        };
        let (api, endpoint) = (api.clone(), endpoint.clone());
        match endpoint.connections.clone().try_acquire_owned() {
            Ok(permit) => tasks.detached(async move {
                serve(stream, api, Caller::Of(endpoint)).await;
                drop(permit);
            }),
            Err(_) => {
                // While so many are being refused, the next ones wait in the socket's queue.
                let Ok(permit) = refusals.clone().acquire_owned().await else { return };
                tasks.detached(async move {
                    let _ = tokio::time::timeout(REFUSED_FOR, serve(stream, api, Caller::TooMany(endpoint))).await;
                    drop(permit);
                })
            }
        };
    }
}

async fn serve(stream: UnixStream, api: Api, caller: Caller) {
    let closing = caller.endpoint().closing.clone();
    let volume = caller.endpoint().volume.clone();
    let calls = service_fn(move |mut call: Request<Incoming>| {
        call.extensions_mut().insert(caller.clone());
        api.clone().call(call)
    });
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.max_concurrent_streams(STREAMS).max_header_list_size(HEADERS).max_send_buf_size(SEND_BUFFER);
    let connection = http.serve_connection(TokioIo::new(Lenient::new(stream)), TowerToHyperService::new(calls));
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(CLOSING, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        debug!(%volume, error = crate::report::chain(&error), "a connection to the volume's socket broke");
    }
}
