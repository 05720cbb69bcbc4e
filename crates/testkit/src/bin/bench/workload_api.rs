//! Volumes with a Workload API socket, each with an open stream.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use svid_csi::demo::kubelet::InlineVolume;
use svid_csi::net::unix_channel::connect;
use svid_csi_proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use svid_csi_proto::workload::{JwtsvidRequest, X509svidRequest, X509svidResponse};
use svid_csi_testkit::measure::{Figure, Sample, median, settled_memory, until_idle};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Request, Streaming};

use crate::cluster::Cluster;
use crate::driver::{Driver, Mode};
use crate::load::{AT_ONCE, Load};
use crate::stage::Stage;

const VOLUMES: usize = 1000;
const FETCHES: usize = 500;
const TOKENS: usize = 8000;
const CHANGES: usize = 5;
/// The time after which an update counts as failed.
const LIMIT: Duration = Duration::from_secs(60);

type Client = SpiffeWorkloadApiClient<Channel>;

/// Memory, rotation and single calls with the local CA; a changed bundle with cert-manager, whose bundle an
/// administrator changes at runtime.
pub(crate) async fn measure(stage: &Stage) -> Result<Vec<Figure>> {
    let mut figures = with_local_ca(stage).await?;
    figures.push(changed_bundle(stage).await?);
    Ok(figures)
}

async fn with_local_ca(stage: &Stage) -> Result<Vec<Figure>> {
    let (driver, _) = Driver::start(Mode::WorkloadApi).await?;
    let load = Load::new(&stage.kubelet, &driver.plugin().await?).await?;
    let floor = load.probe(FETCHES).await?.p50();
    let volumes = stage.volumes("socket", VOLUMES)?;
    load.publish_at_once(&volumes).await?;
    let closed = settled_memory(driver.pid())?.rss;
    let mut streams = Streams::open(stage, &volumes).await?;
    let open = settled_memory(driver.pid())?.rss;
    let mut rotations = Vec::new();
    for _ in 0..CHANGES {
        rotations.push(streams.all_see(|| renew_all(Mode::WorkloadApi)).await?);
    }
    let socket = socket(stage, &volumes[0]);
    let (kept, fresh) = (fetch_on_one_connection(&socket).await?, fetch_on_new_connections(&socket).await?);
    let tokens = tokens_per_second(stage, &volumes).await?;
    drop(streams);
    load.unpublish_at_once(&volumes).await?;
    let rotation = median(rotations);
    Ok(vec![
        Figure::new("RSS, 1,000 sockets", closed, "MB"),
        Figure::new("RSS, 1,000 sockets, a stream each", open, "MB").at_most(40.0),
        Figure::new("rotation of 1,000 until the last stream has it", rotation, "s").at_most(2.0),
        Figure::new("FetchX509SVID to first message p50", kept.p50(), "ms").floor(floor).at_most(0.4),
        Figure::new("connect and FetchX509SVID p50", fresh.p50(), "ms").floor(floor),
        Figure::new("FetchJWTSVID (ES256), 8 at once", tokens, "/s").at_least(3000.0),
    ])
}

async fn changed_bundle(stage: &Stage) -> Result<Figure> {
    let cluster = Cluster::start()?;
    let (driver, _) = Driver::start(Mode::CertManager).await?;
    let load = Load::new(&stage.kubelet, &driver.plugin().await?).await?;
    let mut volumes = stage.volumes("bundled", VOLUMES)?;
    volumes.iter_mut().for_each(|volume| cluster.give_token(volume));
    load.publish_at_once(&volumes).await?;
    let mut streams = Streams::open(stage, &volumes).await?;
    let mut changes = Vec::new();
    for _ in 0..CHANGES {
        // Immediately after the last change, this one would have to wait until the driver has saved that for its next
        // startup.
        until_idle(driver.pid())?;
        changes.push(streams.all_see(cluster.change_bundle()).await? * 1e3);
    }
    drop(streams);
    load.unpublish_at_once(&volumes).await?;
    Ok(Figure::new("a changed bundle on all of 1,000 streams", median(changes), "ms").at_most(250.0))
}

/// One open stream per volume, whose first message was read.
struct Streams(Vec<Streaming<X509svidResponse>>);

impl Streams {
    async fn open(stage: &Stage, volumes: &[InlineVolume]) -> Result<Self> {
        let mut streams = Vec::with_capacity(volumes.len());
        for volume in volumes {
            let mut stream = open(&mut client(&socket(stage, volume)).await?).await?;
            stream.message().await?.context("the stream ended")?;
            streams.push(stream);
        }
        Ok(Self(streams))
    }

    /// The seconds from the beginning of a change until every stream has sent an update.
    async fn all_see(&mut self, change: impl FnOnce() -> Result<()> + Send + 'static) -> Result<f64> {
        let begun = Instant::now();
        let changed = tokio::task::spawn_blocking(change);
        let mut waiting: JoinSet<Result<Streaming<X509svidResponse>>> = JoinSet::new();
        for mut stream in self.0.drain(..) {
            waiting.spawn(async move {
                stream.message().await?.context("the stream ended")?;
                Ok(stream)
            });
        }
        while let Some(seen) = timeout(LIMIT, waiting.join_next()).await.context("a stream sends no update")? {
            self.0.push(seen??);
        }
        let took = begun.elapsed().as_secs_f64();
        changed.await??;
        Ok(took)
    }
}

async fn client(socket: &Path) -> Result<Client> {
    let channel = connect(socket).await.with_context(|| format!("cannot connect to {}", socket.display()))?;
    Ok(SpiffeWorkloadApiClient::new(channel))
}

async fn open(client: &mut Client) -> Result<Streaming<X509svidResponse>> {
    Ok(client.fetch_x509svid(asking(X509svidRequest {})).await?.into_inner())
}

fn asking<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("workload.spiffe.io", tonic::metadata::MetadataValue::from_static("true"));
    request
}

fn socket(stage: &Stage, volume: &InlineVolume) -> PathBuf {
    stage.kubelet.target(volume).join("agent.sock")
}

async fn fetch_on_one_connection(socket: &Path) -> Result<Sample> {
    let mut client = client(socket).await?;
    let mut took = Vec::with_capacity(FETCHES);
    for _ in 0..FETCHES {
        let begun = Instant::now();
        open(&mut client).await?.message().await?.context("the stream ended")?;
        took.push(begun.elapsed());
    }
    Ok(Sample::new(took))
}

async fn fetch_on_new_connections(path: &Path) -> Result<Sample> {
    let mut took = Vec::with_capacity(FETCHES);
    for _ in 0..FETCHES {
        let begun = Instant::now();
        open(&mut client(path).await?).await?.message().await?.context("the stream ended")?;
        took.push(begun.elapsed());
    }
    Ok(Sample::new(took))
}

/// The number of JWT-SVIDs per second, by several pods at once, each for an audience of its own.
async fn tokens_per_second(stage: &Stage, volumes: &[InlineVolume]) -> Result<f64> {
    let mut pods = JoinSet::new();
    let begun = Instant::now();
    for (index, volume) in volumes.iter().take(AT_ONCE).enumerate() {
        let mut client = client(&socket(stage, volume)).await?;
        pods.spawn(async move {
            for call in 0..TOKENS / AT_ONCE {
                let audience = vec![format!("service-{index}-{call}")];
                let asked = asking(JwtsvidRequest { audience, spiffe_id: String::new() });
                let answer = client.fetch_jwtsvid(asked).await?.into_inner();
                ensure!(answer.svids.len() == 1, "{} tokens instead of one", answer.svids.len());
            }
            Ok(())
        });
    }
    while let Some(pod) = pods.join_next().await {
        pod??;
    }
    Ok(f64::from(u32::try_from(TOKENS)?) / begun.elapsed().as_secs_f64())
}

/// `svid-csi renew --all`.
fn renew_all(mode: Mode) -> Result<()> {
    let socket = format!("--admin-socket={}", mode.admin_socket().display());
    let output = Command::new(Stage::path("svid-csi")).args(["renew", "--all", &socket]).output()?;
    ensure!(output.status.success(), "svid-csi renew: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
