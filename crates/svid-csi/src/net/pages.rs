//! Pages over HTTP/1.1, for monitoring and administration.
//!
//! A client may occupy a few connections for a few seconds, but cannot lock others out, because a new connection
//! replaces the oldest one.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::accept::Acceptor;
use crate::tasks::Tasks;

/// The maximum number of connections per port or socket, and the part of all descriptors that they may take up.
const CONNECTIONS: usize = 64;
const OF_DESCRIPTORS: u64 = 16;
/// How long a client may take to send the head of its request.
const HEAD: Duration = Duration::from_secs(5);
/// The maximum size of the head, in bytes.
const HEAD_BYTES: usize = 16 * 1024;
/// How long a connection, which serves one request, may last.
const WHOLE: Duration = Duration::from_secs(30);

/// Serves pages until the process stops. `poll` is a listener's `poll_accept`, and `name` names it in the log.
pub(crate) fn serve<S, A, F>(tasks: &Tasks, name: &'static str, poll: F, pages: Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Send + 'static,
    F: FnMut(&mut Context<'_>) -> Poll<io::Result<(S, A)>> + Send + 'static,
{
    let (within, stop) = (tasks.clone(), tasks.stopping());
    tasks.essential(name, async move {
        tokio::select! {
            () = answer_each(&within, name, poll, pages) => {}
            () = stop.cancelled() => {}
        }
        Ok::<_, Infallible>(())
    });
}

async fn answer_each<S, A>(
    tasks: &Tasks,
    name: &'static str,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<io::Result<(S, A)>>,
    pages: Router,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut acceptor = Acceptor::of(name);
    let (most, mut open) = (most_connections(), VecDeque::<AbortHandle>::new());
    loop {
        let connection = acceptor.next(&mut poll).await;
        open.retain(|connection| !connection.is_finished());
        if open.len() >= most
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        open.push_back(tasks.detached(answer(connection, pages.clone())));
    }
}

fn most_connections() -> usize {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(descriptors / OF_DESCRIPTORS).unwrap_or(usize::MAX).clamp(1, CONNECTIONS)
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(connection: S, pages: Router) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES).keep_alive(false);
    let answered = http.serve_connection(TokioIo::new(connection), TowerToHyperService::new(pages));
    // It does not matter whether the client has sent a request and read the response.
    let _ = timeout(WHOLE, answered).await;
}
