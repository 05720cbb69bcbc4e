//! An agent for tests that need it as a separate process: the Workload API on a socket, and a record of its callers;
//! or, with `--broker-socket`, also the Broker API, with an entry for every pod.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use serde::Serialize;
use svid_csi::demo::agent::{Agent, AgentSettings, PeerCredentials};
use svid_csi_core::spiffe_id::{SpiffeId, TrustDomain};
use svid_csi_testkit::JsonLines;
use svid_csi_testkit::agent::{Agent as BrokerAgent, Entry};

/// Serves X.509-SVIDs over the SPIFFE Workload API to every client, and those of pods to a broker.
#[derive(Parser)]
struct Args {
    /// The socket to listen on; its folder is created, an existing socket is replaced.
    #[arg(long)]
    socket: PathBuf,
    /// Lifetime of the SVIDs in seconds; a stream gets a new one at half of it.
    #[arg(long, default_value_t = 3600, value_parser = clap::value_parser!(u64).range(2..))]
    svid_ttl: u64,
    /// The trust domain.
    #[arg(long, default_value = "example.org")]
    trust_domain: String,
    /// The SPIFFE ID of the SVIDs; default: /workload in the trust domain.
    #[arg(long)]
    spiffe_id: Option<String>,
    /// The folder of the CA's key and certificate; default: a folder that is removed at the end.
    #[arg(long, conflicts_with = "broker_socket")]
    ca_dir: Option<PathBuf>,
    /// The socket of the Broker API, which admits the ID of --spiffe-id.
    #[arg(long)]
    broker_socket: Option<PathBuf>,
    /// The SPIFFE ID of every pod; {namespace}, {name} and {uid} are the pod's.
    #[arg(long, default_value = "{trust-domain}/ns/{namespace}/pod/{name}", requires = "broker_socket")]
    pod_id: String,
    /// A file to which every event is also appended.
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
    let id = args.spiffe_id.clone().unwrap_or_else(|| format!("{}/workload", trust_domain.id()));
    if let Some(broker) = args.broker_socket.clone() {
        return serve_brokers(args, broker, &trust_domain, &id, &log).await;
    }
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

/// Serves both APIs until the process is ended.
async fn serve_brokers(
    args: Args,
    broker: PathBuf,
    trust_domain: &TrustDomain,
    id: &str,
    log: &JsonLines,
) -> anyhow::Result<()> {
    let agent = BrokerAgent::at(trust_domain, args.socket.clone(), broker, id);
    let lifetime = Duration::from_secs(args.svid_ttl);
    agent.own(&[Entry::new(id).lifetime(lifetime)]);
    let pod_id = args.pod_id.replace("{trust-domain}", trust_domain.id().as_str());
    agent.register_everyone(Arc::new(move |reference| {
        let key = reference.key.clone().unwrap_or_default();
        let id = pod_id.replace("{namespace}", &key.namespace).replace("{name}", &key.name);
        vec![Entry::new(&id.replace("{uid}", &reference.uid)).lifetime(lifetime)]
    }));
    agent.resume();
    log.write(&Event::Listening { socket: args.socket });
    loop {
        tokio::time::sleep(lifetime / 2).await;
        agent.rotate_all();
    }
}

/// If a caller ended at once, its exe and cgroup no longer exist.
fn fetch(PeerCredentials { pid, uid }: PeerCredentials) -> Event {
    let exe = pid.and_then(|pid| fs::read_link(format!("/proc/{pid}/exe")).ok());
    let cgroup = pid.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/cgroup")).ok());
    Event::Fetch { pid, uid, exe, cgroup: cgroup.map(|lines| lines.trim_end().to_owned()) }
}
