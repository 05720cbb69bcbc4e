//! Pages over HTTP/1.1, for monitoring and administration.
//!
//! A client may occupy a few connections for a few seconds, but cannot lock others out, because a new connection
//! replaces the oldest one: of those without a request, as long as there is one, so that they do not replace the kubelet's probe.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tower::ServiceExt as _;

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
    let (most, mut open) = (most_connections(), VecDeque::<Open>::new());
    loop {
        let connection = acceptor.next(&mut poll).await;
        open.retain(|connection| !connection.task.is_finished());
        if open.len() >= most {
            // The newer half has had no time to ask.
            let mut older = open.iter().take(most.div_ceil(2));
            let silent = older.position(|connection| !connection.has_asked.load(Ordering::Relaxed));
            if let Some(replaced) = open.remove(silent.unwrap_or_default()) {
                replaced.task.abort();
            }
        }
        let has_asked = Arc::<AtomicBool>::default();
        let task = tasks.detached(answer(connection, pages.clone(), has_asked.clone()));
        open.push_back(Open { task, has_asked });
    }
}

/// An open connection.
struct Open {
    task: AbortHandle,
    /// Its request has been received.
    has_asked: Arc<AtomicBool>,
}

fn most_connections() -> usize {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(descriptors / OF_DESCRIPTORS).unwrap_or(usize::MAX).clamp(1, CONNECTIONS)
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    connection: S,
    pages: Router,
    has_asked: Arc<AtomicBool>,
) {
    let pages = pages.map_request(move |request: Request<Incoming>| {
        has_asked.store(true, Ordering::Relaxed);
        request
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES).keep_alive(false);
    let answered = http.serve_connection(TokioIo::new(connection), TowerToHyperService::new(pages));
    // It does not matter whether the client has sent a request and read the response.
    let _ = timeout(WHOLE, answered).await;
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::Notify;

    use super::*;

    /// The kubelet's probe takes a while, and meanwhile others connect and ask nothing.
    #[tokio::test]
    async fn connections_without_a_request_do_not_replace_one_with_a_request() {
        let (asked, answers) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (tell, wait) = (asked.clone(), answers.clone());
        let page = move || async move {
            tell.notify_one();
            wait.notified().await;
            "ok"
        };
        let tasks = Tasks::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        serve(&tasks, "pages", move |cx| listener.poll_accept(cx), Router::new().route("/readyz", get(page)));
        let mut probe = TcpStream::connect(address).await.unwrap();
        probe.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        asked.notified().await;
        let mut flood = Vec::new();
        for _ in 0..2 * CONNECTIONS {
            flood.push(TcpStream::connect(address).await.unwrap());
        }
        // The first of them is replaced, so all were accepted.
        assert_eq!(flood[CONNECTIONS - 1].read(&mut [0; 1]).await.unwrap_or_default(), 0);
        answers.notify_one();
        let mut answer = String::new();
        probe.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
        tasks.stop();
    }
}
