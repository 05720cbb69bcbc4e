//! The steps of the demo.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::agent::Agent;
use super::driver::{Driver, FILES_DRIVER, SOCKET_DRIVER};
use super::handshake;
use super::kubelet::{InlineVolume, Plugin};
use super::mounts;
use super::namespace::Workplace;
use super::pods::{FilesPod, SocketPod, VerifiedSvid};
use super::report::{Report, StepResult};
use super::stage::{AGENT_SOCKET, Stage, TRUST_DOMAIN};

/// How long the kubelet waits for a driver to register, and for a volume to be published.
const PATIENCE: Duration = Duration::from_secs(10);

/// The interval at which a pod retries to reach an agent that does not exist yet.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The two running pods, and the last identity of each.
#[derive(Debug)]
struct Pods {
    files: FilesPod,
    files_saw: VerifiedSvid,
    socket: SocketPod,
    socket_saw: VerifiedSvid,
}

/// The driver's two names, as registered.
#[derive(Debug)]
struct Plugins {
    files: Plugin,
    socket: Plugin,
}

/// Runs all steps, with the agent in the background.
pub(super) async fn run(workplace: &Workplace, report: &Report) -> Result<()> {
    let stage = Stage::new(workplace)?;
    let agent = report.step("agent", start_agent(&stage))?;
    tokio::select! {
        ended = agent.serve() => bail!("the agent ended: {ended:?}"),
        result = play(&stage, report) => result,
    }
}

async fn play(stage: &Stage, report: &Report) -> Result<()> {
    let mut driver = report.step("driver", start_driver(stage, "driver-1"))?;
    let plugins = report.run("register", driver.alive(register(stage))).await?;
    let (files, files_saw) = report.run("files-pod", driver.alive(publish_files(stage, &plugins))).await?;
    let (socket, socket_saw) = report.run("socket-pod", driver.alive(publish_socket(stage, &plugins))).await?;
    let mut pods = Pods { files, files_saw, socket, socket_saw };
    report.step("fs-group", fs_group(stage, &pods.files))?;
    report.run("mutual-tls", mutual_tls(&pods)).await?;
    report.run("renewal", driver.alive(renewal(&mut pods))).await?;
    report.run("kill", kill(driver, &pods)).await?;

    let mut driver = report.step("driver-again", start_driver(stage, "driver-2"))?;
    let plugins = report.run("recovery", driver.alive(recovery(stage, &pods))).await?;
    report.run("renewal-again", driver.alive(renewal(&mut pods))).await?;
    report.run("mutual-tls-again", mutual_tls(&pods)).await?;
    report.run("new-agent", driver.alive(new_agent(stage, &pods.socket))).await?;
    // Containers end before the kubelet unpublishes, so no process has files open in the volumes.
    drop(pods);
    report.run("unpublish", driver.alive(unpublish(stage, &plugins))).await?;
    report.run("stop", stop(driver)).await?;
    report.step("clean", clean(stage))
}

fn start_agent(stage: &Stage) -> Result<(StepResult, Agent)> {
    let settings = stage.agent()?;
    let (socket, id) = (settings.socket.display().to_string(), settings.spiffe_id.to_string());
    let result = StepResult::new(format!("the Workload API is at {socket} with {id}"));
    Ok((result.with("socket", socket).with("spiffe_id", id), Agent::bind(settings)?))
}

fn start_driver(stage: &Stage, log: &str) -> Result<(StepResult, Driver)> {
    let driver = Driver::start(&stage.settings, log)?;
    let result = StepResult::new(format!("started as process {}", driver.pid())).with("pid", driver.pid());
    Ok((result, driver))
}

async fn register(stage: &Stage) -> Result<(StepResult, Plugins)> {
    let files = stage.kubelet.register(FILES_DRIVER, PATIENCE).await?;
    let socket = stage.kubelet.register(SOCKET_DRIVER, PATIENCE).await?;
    let (version, node) = (files.vendor_version.clone(), files.node_id.clone());
    let result =
        StepResult::new(format!("{FILES_DRIVER} and {SOCKET_DRIVER}, version {version}, registered on {node}"));
    let result = result.with("drivers", json!([FILES_DRIVER, SOCKET_DRIVER])).with("node_id", node);
    Ok((result, Plugins { files, socket }))
}

async fn publish_files(stage: &Stage, plugins: &Plugins) -> Result<(StepResult, (FilesPod, VerifiedSvid))> {
    let volume = stage.files_volume();
    let target = stage.kubelet.publish_within(&plugins.files, &volume, PATIENCE).await?;
    let pod = FilesPod::open(&target)?;
    let (seen, files) = (pod.read()?, pod.listing()?);
    let result = introduce(&volume, &seen, &format!("from files ({})", files.join(", "))).with("files", files);
    Ok((result, (pod, seen)))
}

async fn publish_socket(stage: &Stage, plugins: &Plugins) -> Result<(StepResult, (SocketPod, VerifiedSvid))> {
    let volume = stage.socket_volume();
    let target = stage.kubelet.publish_within(&plugins.socket, &volume, PATIENCE).await?;
    let mut pod = SocketPod::open(&target).await?;
    let seen = pod.next().await?;
    let result = introduce(&volume, &seen, &format!("from the agent ({AGENT_SOCKET})"));
    Ok((result, (pod, seen)))
}

fn introduce(volume: &InlineVolume, seen: &VerifiedSvid, how: &str) -> StepResult {
    let (pod, leaf) = (&volume.pod, &seen.leaf);
    let line = format!("{} is {} until {} {how}; chain verified", pod.name, leaf.spiffe_id, leaf.not_after);
    StepResult::new(line).with("pod", pod.name.as_str()).with("svid", json!(leaf)).with("chain_verified", true)
}

fn fs_group(stage: &Stage, pod: &FilesPod) -> Result<(StepResult, ())> {
    let found = pod.group()?;
    let result = match stage.pods[0].fs_group {
        Some(wanted) => {
            ensure!(found == wanted, "the files belong to group {found}, not {wanted}");
            StepResult::new(format!("the files belong to the pod's group {found}"))
                .with("shown", true)
                .with("group", found)
        }
        None => {
            let why = "not shown: this user namespace has only one group; run with sudo to see it";
            StepResult::new(why).with("shown", false)
        }
    };
    Ok((result, ()))
}

async fn mutual_tls(pods: &Pods) -> Result<(StepResult, ())> {
    let (files, socket) = (&pods.files_saw, &pods.socket_saw);
    handshake::meet(&files.svid, &socket.svid).await?;
    handshake::meet(&socket.svid, &files.svid).await?;
    let impostor = format!("spiffe://{TRUST_DOMAIN}/ns/shop/sa/impostor");
    handshake::mistrust(&files.svid, &socket.svid, &impostor).await?;
    let line = "each pod connected to the other and verified its SPIFFE ID; another ID is refused";
    Ok((StepResult::new(line).with("peers", json!([files.leaf.spiffe_id, socket.leaf.spiffe_id])), ()))
}

async fn renewal(pods: &mut Pods) -> Result<(StepResult, ())> {
    let old = [pods.files_saw.leaf.serial.clone(), pods.socket_saw.leaf.serial.clone()];
    pods.files_saw = pods.files.renewed(&old[0]).await?;
    while pods.socket_saw.leaf.serial == old[1] {
        pods.socket_saw = pods.socket.next().await?;
    }
    let now = [&pods.files_saw.leaf, &pods.socket_saw.leaf];
    let line = format!("both pods have new certificates, valid until {} and {}", now[0].not_after, now[1].not_after);
    Ok((StepResult::new(line).with("before", json!(old)).with("svids", json!(now)), ()))
}

async fn kill(driver: Driver, pods: &Pods) -> Result<(StepResult, ())> {
    let pid = driver.pid();
    driver.kill().await?;
    let files = pods.files.read().context("with the driver dead")?;
    ensure!(files.leaf == pods.files_saw.leaf, "the files changed with the driver dead");
    // The stream stays open throughout, and a new connection must also work.
    pods.socket.reach().await.context("with the driver dead")?;
    Ok((
        StepResult::new(format!("process {pid} killed with SIGKILL; both pods keep their identities")).with("pid", pid),
        (),
    ))
}

/// A restarted driver must find the volumes unchanged, and repeated publishes of the kubelet must not change anything.
async fn recovery(stage: &Stage, pods: &Pods) -> Result<(StepResult, Plugins)> {
    let (_, plugins) = register(stage).await?;
    for (plugin, volume) in [(&plugins.files, stage.files_volume()), (&plugins.socket, stage.socket_volume())] {
        let target = stage.kubelet.publish_within(plugin, &volume, PATIENCE).await?;
        let count = mounts::at_and_below(&target)?.len();
        ensure!(count == 1, "{} is mounted {count} times", target.display());
    }
    pods.files.read().context("after the restart")?;
    Ok((StepResult::new("registered again; each volume is still mounted, once").with("mounts", 2), plugins))
}

/// A reinstalled agent has a new folder with a new socket. Running pods must still reach it.
async fn new_agent(stage: &Stage, pod: &SocketPod) -> Result<(StepResult, ())> {
    fs::remove_dir_all(&stage.settings.agent_dir)?;
    let agent = Agent::bind(stage.agent()?)?;
    let reached = async {
        while pod.reach().await.is_err() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! {
        ended = agent.serve() => bail!("the agent ended: {ended:?}"),
        () = reached => Ok((StepResult::new("the agent's folder was deleted and re-created; the running pod reaches the new socket"), ())),
    }
}

async fn unpublish(stage: &Stage, plugins: &Plugins) -> Result<(StepResult, ())> {
    let kubelet = &stage.kubelet;
    kubelet.unpublish(&plugins.files, &stage.files_volume()).await?;
    kubelet.unpublish(&plugins.socket, &stage.socket_volume()).await?;
    stage.pods.iter().try_for_each(|pod| kubelet.forget(pod))?;
    Ok((StepResult::new("both volumes are unpublished and the pods' folders removed"), ()))
}

async fn stop(driver: Driver) -> Result<(StepResult, ())> {
    driver.stop().await?;
    Ok((StepResult::new("the driver ended after SIGTERM"), ()))
}

fn clean(stage: &Stage) -> Result<(StepResult, ())> {
    let left = mounts::at_and_below(&stage.kubelet.pods_dir())?;
    ensure!(left.is_empty(), "still mounted: {left:?}");
    let folders = fs::read_dir(stage.kubelet.pods_dir())?.count();
    ensure!(folders == 0, "{folders} pod folders are left");
    // Its tmpfs deliberately outlives the driver; here it disappears with the namespace.
    let own = mounts::at_and_below(&stage.settings.data_root())?.len();
    Ok((StepResult::new("nothing is left mounted for any pod").with("mounts", 0).with("driver_mounts", own), ()))
}
