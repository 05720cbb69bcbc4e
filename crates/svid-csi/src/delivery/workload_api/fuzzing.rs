//! Connections to a volume's socket without its file, for the fuzz targets.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use svid_csi_core::volume::VolumeSpec;
use svid_csi_core::x509_context::X509Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};

use super::connection::Server;
use super::endpoint::Endpoint;
pub use super::sds::fuzzing::{REQUEST, SecretStream};
use super::service;
use super::share::Shares;
use crate::tasks::Tasks;
use crate::telemetry::metrics::Metrics;

/// How long the end of a connection may take.
const ENDING: Duration = Duration::from_secs(5);
/// The number of turns that the driver has before the client continues.
const TURNS: usize = 8;

/// The socket of one volume.
#[derive(Debug)]
pub struct PodSocket {
    runtime: Runtime,
    server: Server,
    endpoint: Arc<Endpoint>,
}

impl PodSocket {
    /// For a volume whose pod has that identity, and whose source issues nothing else.
    ///
    /// # Errors
    /// If there is no runtime.
    pub fn new(spec: &Arc<VolumeSpec>, context: X509Context) -> io::Result<Self> {
        // Each turn looks for what has arrived.
        let runtime = Builder::new_current_thread().enable_all().event_interval(1).build()?;
        let (shares, metrics, tasks) = (Shares::default(), Arc::<Metrics>::default(), Tasks::default());
        let endpoint = Arc::new(Endpoint::new(spec, shares.of(spec)));
        endpoint.send(Arc::new(context));
        let api = service::api(Arc::default(), metrics.clone(), &tasks);
        Ok(Self { runtime, server: Server::new(api, metrics, tasks, &shares), endpoint })
    }

    /// A connection whose client sends these parts, reads everything, and closes it. Returns what it was sent.
    ///
    /// # Panics
    /// If the connection does not end, or something stays reserved for it.
    pub fn talk<'a>(&self, parts: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
        self.runtime.block_on(async {
            let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
            let permits = self.server.permits(&self.endpoint).expect("there is room for one connection");
            let server = self.server.one(&self.endpoint, ours, permits);
            let (served, answer) = tokio::join!(timeout(ENDING, server), client(theirs, parts));
            served.expect("a connection ends with its client");
            let ended = timeout(ENDING, async {
                while !self.endpoint.shares.are_untouched() || self.endpoint.usage().connections > 0 {
                    sleep(Duration::from_micros(100)).await;
                }
            });
            ended.await.expect("a connection leaves nothing reserved");
            answer
        })
    }
}

async fn client<'a>(stream: UnixStream, parts: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let (mut reads, mut writes) = stream.into_split();
    let sends = async move {
        for part in parts {
            // The driver may have closed the connection.
            if writes.write_all(part).await.is_err() {
                break;
            }
            for _ in 0..TURNS {
                tokio::task::yield_now().await;
            }
        }
    };
    let mut answer = Vec::new();
    let (_, ()) = tokio::join!(reads.read_to_end(&mut answer), sends);
    answer
}
