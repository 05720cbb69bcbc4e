//! Looks up the addresses of host names.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;

use futures::future::BoxFuture;
use hyper_util::client::legacy::connect::dns::Name;
use tokio::sync::{Semaphore, oneshot};
use tower::Service;

/// The system's resolver, on a thread of its own, one name at a time: a name server that does not answer must not take up
/// the threads for blocking work, which calls of the kubelet need.
#[derive(Debug, Clone)]
pub(super) struct Resolver(Arc<Semaphore>);

impl Default for Resolver {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let turns = self.0.clone();
        Box::pin(async move {
            let turn = turns.acquire_owned().await;
            let (found, addresses) = oneshot::channel();
            thread::Builder::new().name("svid-csi-dns".to_owned()).spawn(move || {
                let _turn = turn;
                // Any port: the connector replaces it. No one may be waiting any more.
                let _ = found.send((name.as_str(), 0).to_socket_addrs());
            })?;
            addresses.await.map_err(io::Error::other)?
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kube::Config;
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use crate::kube::client::connect::client;

    #[test]
    fn names_are_found_while_all_threads_for_blocking_work_are_busy() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            let (end, ended) = std::sync::mpsc::channel::<()>();
            let _busy = tokio::task::spawn_blocking(move || ended.recv());
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let server = format!("http://localhost:{}", listener.local_addr().unwrap().port());
            let client = client(&Config::new(server.parse().unwrap())).unwrap();
            tokio::select! {
                accepted = timeout(Duration::from_secs(30), listener.accept()) => drop(accepted.unwrap().unwrap()),
                version = client.apiserver_version() => panic!("{version:?}"),
            }
            drop(end);
        });
    }
}
