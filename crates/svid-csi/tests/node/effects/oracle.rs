//! Checks of a volume after a fault, once the driver runs and the kubelet has retried.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use svid_csi::demo::kubelet::InlineVolume;
use svid_csi::spiffe::svid::{Leaf, Svid};
use svid_csi_core::cert_request::Metadata;
use svid_csi_core::state::Phase;
use svid_csi_core::volume::Content;
use svid_csi_proto::workload::X509svidResponse;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::judge::asks;
use super::plan::Source;
use super::world::World;
use crate::endpoints::get;
use crate::formats::tokens::bundles;
use crate::workload_api::client::Svids;

/// Longer than the driver's first back-offs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the driver says about its own authority.
const NOT_LOADED: &str = "the local CA cannot be used for now";
const LOADED: &str = "the local CA can be used again";

pub(crate) type Verdict = Result<(), String>;

pub(crate) fn check(holds: bool, else_: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(else_()) }
}

/// The volume is published as asked, also in its record, and is renewed.
pub(crate) async fn published(world: &World, volume: &InlineVolume) -> Verdict {
    // A republish may find that it is time for a renewal, which then comes a moment after the response.
    eventually(async || is_whole(world, volume).await).await?;
    is_renewed(world, volume).await
}

/// The local CA is loaded, which a failure at startup delays. A renewal that comes earlier fails, and waits for its back-off of
/// half a minute; with so many cases that would take hours.
pub(crate) async fn can_issue(world: &World) -> Verdict {
    let is_loaded = async || {
        let log = world.node.log();
        check(log.rfind(NOT_LOADED) <= log.rfind(LOADED), || "the local CA is not loaded".to_owned())
    };
    eventually(is_loaded).await
}

/// What the pod sees is replaced when that is asked for.
pub(crate) async fn is_renewed(world: &World, volume: &InlineVolume) -> Verdict {
    let Some(before) = world.recorded_serial(volume) else { return Ok(()) };
    if world.plan.source() == Source::CertManager {
        // The pod's token is only in memory, so the driver waits for the kubelet, which asks again after a while.
        asks(world, volume).await?;
    }
    world.renew(volume).await;
    let is_renewed = async || {
        let now = world.recorded_serial(volume);
        check(now.is_some_and(|now| now != before), || "the renewal is not recorded".to_owned())?;
        is_whole(world, volume).await
    };
    eventually(is_renewed).await.map_err(|error| format!("after a renewal: {error}"))
}

/// A verdict that may take the driver's retries to become a good one; the last, if it does not.
pub(crate) async fn eventually(mut verdict: impl AsyncFnMut() -> Verdict) -> Verdict {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match verdict().await {
            Err(_) if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(20)).await,
            last => return last,
        }
    }
}

/// The volume is usable, and its record says what the pod sees.
pub(crate) async fn is_whole(world: &World, volume: &InlineVolume) -> Verdict {
    let shown = is_usable(world, volume).await?;
    let recorded = world.recorded_serial(volume);
    check(shown == recorded, || format!("the pod sees {shown:?}, the record says {recorded:?}"))
}

/// The pod has one mount with one whole generation that is in the audit log, and the driver says that all is well. Returns
/// the serial number that the pod sees.
pub(crate) async fn is_usable(world: &World, volume: &InlineVolume) -> Result<Option<String>, String> {
    let node = &world.node;
    let target = node.kubelet.target(volume);
    let mounts = node.mounts(&target);
    check(mounts == 1, || format!("{mounts} mounts"))?;
    let record = world.record(volume)?;
    check(record.phase == Phase::Ready, || format!("the record says {:?}", record.phase))?;
    let shown = shown(&record.spec.content, volume, &target).await?;
    if let Some(serial) = &shown {
        check(node.log().contains(serial), || format!("{serial} is not in the audit log"))?;
    }
    match node.trouble(volume).await {
        None => Ok(shown),
        Some(trouble) => Err(format!("the condition is abnormal: {trouble}")),
    }
}

/// What the pod finds in its volume leads somewhere.
pub(crate) fn no_name_dangles(world: &World, volume: &InlineVolume) -> Verdict {
    let target = world.node.kubelet.target(volume);
    let entries = fs::read_dir(&target).map_err(|error| format!("the volume: {error}"))?;
    let names = entries.flatten().map(|entry| entry.file_name());
    let dangling: Vec<_> = names.filter(|name| fs::metadata(target.join(name)).is_err()).collect();
    check(dangling.is_empty(), || format!("these names lead nowhere: {dangling:?}"))
}

/// The serial number of what a pod sees; an error unless it is whole.
async fn shown(content: &Content, volume: &InlineVolume, target: &Path) -> Result<Option<String>, String> {
    match content {
        Content::Passthrough => {
            UnixStream::connect(target.join("agent.sock")).map_err(|error| format!("the agent's socket: {error}"))?;
            Ok(None)
        }
        Content::Files(_) => {
            let svid = files(volume, target).map_err(|error| format!("the files: {error}"))?;
            svid.check_key().map_err(|error| format!("the key: {error}"))?;
            Ok(Some(svid.leaf().map_err(|error| error.to_string())?.serial))
        }
        Content::WorkloadApi(_) => {
            let svid = first_message(target).await?.svids.remove(0);
            Ok(Some(Leaf::read(&svid.x509_svid).map_err(|error| error.to_string())?.serial))
        }
    }
}

async fn first_message(target: &Path) -> Result<X509svidResponse, String> {
    let failed = |status: tonic::Status| format!("the Workload API: {status}");
    let mut svids = Svids::open(&target.join("agent.sock")).await.map_err(failed)?;
    svids.next().await.map_err(failed)
}

/// How many CAs the pod trusts.
pub(crate) async fn trusted(world: &World, volume: &InlineVolume) -> Result<usize, String> {
    let target = world.node.kubelet.target(volume);
    if let Content::WorkloadApi(_) = world.record(volume)?.spec.content {
        let svid = first_message(&target).await?.svids.remove(0);
        let (mut rest, mut count) = (&*svid.bundle, 0);
        while let Ok((more, _)) = X509Certificate::from_der(rest) {
            (rest, count) = (more, count + 1);
        }
        return Ok(count);
    }
    let pem = fs::read_to_string(target.join("ca.crt")).map_err(|error| format!("the bundle: {error}"))?;
    Ok(pem.matches("BEGIN").count())
}

/// How many keys the pod validates tokens with.
pub(crate) fn token_keys(world: &World, volume: &InlineVolume) -> Result<usize, String> {
    let path = world.node.kubelet.target(volume).join("jwt_bundles.json");
    let json = fs::read(path).map_err(|error| format!("the JWT bundles: {error}"))?;
    Ok(bundles(&json).values().map(|bundle| bundle.key_ids().count()).sum())
}

/// The three files, whatever their names are, from one generation.
fn files(volume: &InlineVolume, target: &Path) -> std::io::Result<Svid> {
    let generation = fs::canonicalize(target.join("..data"))?;
    let copy = tempfile::tempdir()?;
    for (attribute, usual) in [("file-cert", "tls.crt"), ("file-key", "tls.key"), ("file-bundle", "ca.crt")] {
        let name = volume.attributes.get(&format!("svid-csi/{attribute}"));
        let name = name.map_or(usual, String::as_str);
        fs::copy(target.join(name), copy.path().join(usual))?;
        if fs::read(generation.join(name))? != fs::read(copy.path().join(usual))? {
            return Err(std::io::Error::other(format!("{name} is not that of ..data")));
        }
    }
    Svid::read(copy.path()).map_err(std::io::Error::other)
}

/// Nothing is left of the volume: no mount, target, folder, record, kept message, password or place in the status.
pub(crate) async fn gone(world: &World, volume: &InlineVolume) -> Verdict {
    let node = &world.node;
    let id = volume.id();
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").map_err(|error| error.to_string())?;
    let target = node.kubelet.target(volume);
    let is_left = |line: &&str| line.contains(id.as_str()) || line.contains(target.to_str().unwrap_or_default());
    check(!mountinfo.lines().any(|line| is_left(&line)), || "a mount is left".to_owned())?;
    check(fs::symlink_metadata(&target).is_err(), || "the target is left".to_owned())?;
    let mut left = Vec::new();
    find(&node.path("root"), id.as_str(), &mut left);
    check(left.is_empty(), || format!("left: {left:?}"))?;
    let pod = format!("{}/{}", volume.pod.namespace, volume.pod.name);
    let status = get(node, "/status").await;
    check(!status.contains(&format!("\"{pod}\"")), || format!("{pod} is left in {status}"))?;
    let Some(server) = world.server() else { return Ok(()) };
    // They are deleted after the answer.
    let is_deleted = async || {
        let requests = server.cert_manager.requests().into_iter().map(|request| request.metadata);
        let left: Vec<_> = requests.filter(|request| of_pod(request, volume)).map(|request| request.name).collect();
        check(left.is_empty(), || format!("requests are left: {left:?}"))
    };
    eventually(is_deleted).await
}

fn of_pod(request: &Metadata, volume: &InlineVolume) -> bool {
    request.owner_references.iter().any(|owner| owner.name == volume.pod.name)
}

fn find(folder: &Path, name: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().contains(name) {
            found.push(entry.path());
        } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            find(&entry.path(), name, found);
        }
    }
}

/// The driver is asked to unpublish, and leaves nothing.
pub(crate) async fn unpublishes(world: &World, volume: &InlineVolume) -> Verdict {
    let plugin = world.node.plugin().await;
    let unpublished = world.node.kubelet.unpublish(&plugin, volume).await;
    unpublished.map_err(|error| format!("unpublish: {error}"))?;
    gone(world, volume).await
}
