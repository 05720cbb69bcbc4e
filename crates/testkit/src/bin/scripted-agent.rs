//! An agent for tests that need it as a process of its own: the Workload API on a socket, and a record of its callers.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use serde::Serialize;
use svid_csi::demo::agent::{Agent, AgentSettings, Caller};
use svid_csi_core::spiffe_id::{SpiffeId, TrustDomain};
use svid_csi_testkit::JsonLines;

/// Serves X.509-SVIDs over the SPIFFE Workload API to everyone who connects.
#[derive(Parser)]
struct Args {
    /// Where to listen; its folder is created, a socket that is already there is replaced.
    #[arg(long)]
    socket: PathBuf,
    /// Lifetime of the SVIDs in seconds; a stream gets a new one at half of it.
    #[arg(long, default_value_t = 3600, value_parser = clap::value_parser!(u64).range(2..))]
    svid_ttl: u64,
    /// The trust domain.
    #[arg(long, default_value = "example.org")]
    trust_domain: String,
    /// Whose SVIDs; default: /workload in the trust domain.
    #[arg(long)]
    spiffe_id: Option<String>,
    /// Where the CA's key and certificate are kept; default: a folder that is removed at the end.
    #[arg(long)]
    ca_dir: Option<PathBuf>,
    /// A file to which every event is appended as well.
    #[arg(long)]
    log: Option<PathBuf>,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Event {
    Listening { socket: PathBuf },
    Fetch { pid: Option<i32>, uid: u32, exe: Option<PathBuf>, cgroup: Option<String> },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let log = JsonLines::new(args.log.as_deref()).context("--log")?;
    let trust_domain = TrustDomain::parse(&args.trust_domain).context("--trust-domain")?;
    let id = args.spiffe_id.unwrap_or_else(|| format!("{}/workload", trust_domain.id()));
    let scratch = tempfile::tempdir()?;
    let agent = Agent::bind(AgentSettings {
        socket: args.socket.clone(),
        spiffe_id: SpiffeId::parse(&id).context("--spiffe-id")?,
        lifetime: Duration::from_secs(args.svid_ttl),
        ca_dir: args.ca_dir.unwrap_or_else(|| scratch.path().to_owned()),
        on_fetch: Box::new({
            let log = log.clone();
            move |caller| log.write(&fetch(caller))
        }),
    })?;
    log.write(&Event::Listening { socket: args.socket });
    Ok(agent.serve().await?)
}

/// A caller that ended at once has no exe and no cgroup any more.
fn fetch(Caller { pid, uid }: Caller) -> Event {
    let exe = pid.and_then(|pid| fs::read_link(format!("/proc/{pid}/exe")).ok());
    let cgroup = pid.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/cgroup")).ok());
    Event::Fetch { pid, uid, exe, cgroup: cgroup.map(|lines| lines.trim_end().to_owned()) }
}
