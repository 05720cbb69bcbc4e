//! The port of the server, and the thread that serves it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::net::TcpSocket;
use tokio::sync::oneshot;

use super::World;
use super::handler;

/// A port that no other process can get, even while the server does not listen: a socket that is bound and never
/// listens.
#[derive(Debug)]
pub(super) struct Port {
    address: SocketAddr,
    _reserved: TcpSocket,
}

/// A listening server, until it is dropped.
#[derive(Debug)]
pub(super) struct Running {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Port {
    pub(super) fn reserve() -> Self {
        let reserved = bind((Ipv4Addr::LOCALHOST, 0).into());
        let address = reserved.local_addr().expect("a bound socket");
        Port { address, _reserved: reserved }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens, on a thread of its own, because tests block theirs. When this returns, connections are accepted.
    pub(super) fn listen(&self, world: Arc<World>) -> Running {
        let (stop, stopped) = oneshot::channel();
        let (listens, listening) = std::sync::mpsc::channel();
        let address = self.address;
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = bind(address).listen(1024).expect("the port is reserved");
                listens.send(()).expect("the test waits for it");
                tokio::select! {
                    served = async { axum::serve(listener, handler::router(world)).await } => served.expect("a server"),
                    _ = stopped => {}
                }
            });
            // Dropping the runtime ends every connection.
        });
        listening.recv().expect("the server listens");
        Running { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // If it panicked, the test has seen failed calls.
            let _ = thread.join();
        }
    }
}

fn bind(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("an option every socket has");
    socket.bind(address).expect("an address of this machine");
    socket
}
