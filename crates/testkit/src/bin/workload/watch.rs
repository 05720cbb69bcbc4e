//! The Workload API, through the client library that Rust programs use.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use serde::Serialize;
use spiffe::{WorkloadApiClient, X509Context};
use svid_csi::spiffe::svid::Leaf;
use svid_csi_testkit::JsonLines;
use tokio_stream::StreamExt;

/// Shorter than real clients' (1 s, growing to 30 s), so that tests do not have to wait.
const RECONNECT_AFTER: Duration = Duration::from_millis(200);

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Event {
    Svid(Leaf),
    Error { message: String },
}

/// Prints the first SVID. Returns whether there was one.
pub(crate) async fn once(socket: &Path, out: &JsonLines) -> bool {
    let first = async { leaf(&connect(socket).await?.fetch_x509_context().await?) };
    report(first.await, out)
}

/// Prints every SVID, and reconnects when the stream ends.
pub(crate) async fn forever(socket: &Path, out: &JsonLines) -> ! {
    loop {
        let ended = follow(socket, out).await;
        report(ended.and(Err(anyhow!("the agent closed the stream"))), out);
        tokio::time::sleep(RECONNECT_AFTER).await;
    }
}

async fn follow(socket: &Path, out: &JsonLines) -> Result<()> {
    let mut contexts = connect(socket).await?.stream_x509_contexts().await?;
    while let Some(context) = contexts.next().await {
        report(leaf(&context?), out);
    }
    Ok(())
}

async fn connect(socket: &Path) -> Result<WorkloadApiClient> {
    Ok(WorkloadApiClient::connect_to(format!("unix://{}", socket.display())).await?)
}

fn leaf(context: &X509Context) -> Result<Leaf> {
    let svid = context.default_svid().context("the agent sent no SVID")?;
    Ok(Leaf::read(svid.leaf().as_bytes())?)
}

fn report(seen: Result<Leaf>, out: &JsonLines) -> bool {
    let event = match seen {
        Ok(leaf) => Event::Svid(leaf),
        Err(error) => Event::Error { message: format!("{error:#}") },
    };
    out.write(&event);
    matches!(event, Event::Svid(_))
}
