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
pub(crate) struct Resolver(Arc<Semaphore>);

impl Default for Resolver {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Resolver {
    /// The addresses of a host, with that port.
    ///
    /// # Errors
    /// The system's.
    pub(crate) async fn look_up(&self, host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
        let turn = self.0.clone().acquire_owned().await;
        let (found, addresses) = oneshot::channel();
        thread::Builder::new().name("svid-csi-dns".to_owned()).spawn(move || {
            let _turn = turn;
            let addresses = (host, port).to_socket_addrs();
            // No one may be waiting any more.
            let _ = found.send(addresses.map(Iterator::collect));
        })?;
        addresses.await.map_err(io::Error::other)?
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
        let resolver = self.clone();
        Box::pin(async move {
            // Any port: the connector replaces it.
            Ok(resolver.look_up(name.as_str().to_owned(), 0).await?.into_iter())
        })
    }
}
