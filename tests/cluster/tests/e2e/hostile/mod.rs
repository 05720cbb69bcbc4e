//! Containers that run as root and attack their volume and their node in every way: with the runtime's capabilities and
//! with `CAP_SYS_ADMIN`, on the host's users and in a user namespace, with and without a request for a writable volume;
//! with the runc that grants one, and with Debian's.

mod attributes;
mod kind;
mod node_state;
mod snapshot;

use std::fs;

use anyhow::{Context, Result, ensure};
use futures::future::{join, try_join_all};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use serde_json::{Value, json};
use svid_csi_cluster::images;
use tokio::process::Command;

use self::kind::{Attacker, Kind, UNSEALING};
use self::node_state::{
    data_root, ensure_no_mounts, ensure_no_volumes, limits, metric, mount_points, socket_modes, volumes,
};
use self::snapshot::Snapshot;
use crate::agent::{Agent, IDENTITY};
use crate::daemonset::{Driver, OWN, Plan, minting_args, words};
use crate::eventually::{SOON, eventually};
use crate::mountpoints::{ensure_gone, ensure_single};
use crate::pods::{PodSpec, TestPod, json_lines};
use crate::scene::{Scene, play};
use crate::socket;

const VICTIM: &str = "victim";
/// The folder of the authority, as a link in a volume would name it.
const CA_FOLDER: &str = "../../ca/example.org";
const CHANGED: &str = "changed_volumes_seen_total";

/// All faults, so that one run shows all of them.
#[derive(Default)]
struct Findings(Vec<String>);

impl Findings {
    fn add(&mut self, who: &str, outcome: Result<()>) {
        self.0.extend(outcome.err().map(|error| format!("{who}: {error:#}")));
    }

    /// Has every attacker run those attacks.
    async fn attack(&mut self, attackers: &[Attacker<'_>], arguments: &[&str], classes: &[&str]) {
        for attacker in attackers {
            match attacker.attack(arguments, classes).await {
                Ok(wrong) => self.0.extend(wrong),
                Err(error) => self.0.push(format!("{error:#}")),
            }
        }
    }

    fn judge(self) -> Result<()> {
        ensure!(self.0.is_empty(), "a hostile pod has had an effect:\n{}", self.0.join("\n"));
        Ok(())
    }
}

/// A driver with its own CA, a pod whose identity is the target of the attackers, and its folder's name.
struct Minting<'a> {
    scene: &'a Scene,
    driver: Driver<'a>,
    victim: TestPod<'a>,
    volume: String,
    /// The command that prints the identity in a volume.
    look: &'a [&'a str],
    /// The victim's first identity.
    first: Value,
    /// The private keys that no attacker may see.
    secrets: Vec<String>,
}

impl<'a> Minting<'a> {
    async fn start(
        scene: &'a Scene,
        delivery: &str,
        mut victim: PodSpec<'_>,
        look: &'a [&'a str],
    ) -> Result<Minting<'a>> {
        let name = victim.driver.context("the victim has a volume")?;
        scene.announce_files(name).await?;
        let mut args = minting_args(scene, name, delivery, "1h");
        args.extend(words(&["--allow-missing-read-only"]));
        let driver = scene.deploy(&Plan { manifest: OWN, driver: name, args }).await?;
        scene.wait_registered(name).await?;
        let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": VICTIM}}))?;
        scene.api().create(&PostParams::default(), &account).await?;
        victim.account = VICTIM;
        let victim = scene.run(&victim).await?;
        let volume = only_volume(scene)?;
        let own = identity(scene, VICTIM);
        let first = victim.wait_line("its identity", 0, |line| line["spiffe_id"] == own).await?;
        let mut minting = Self { scene, driver, victim, volume, look, first, secrets: Vec::new() };
        minting.remember_secrets()?;
        Ok(minting)
    }

    /// The victim's current private keys, and the authority's.
    fn remember_secrets(&mut self) -> Result<()> {
        let authority = fs::read_dir(data_root(self.scene).join("data/ca/example.org"))?;
        let keys = authority.flatten().map(|entry| entry.path());
        let keys = keys.filter(|path| path.extension().is_some_and(|end| end == "key"));
        let keys = keys.chain([volumes(self.scene).join(&self.volume).join("tls.key")]);
        for key in keys.filter(|path| path.exists()) {
            self.secrets.push(fs::read_to_string(key)?.trim().to_owned());
        }
        ensure!(!self.secrets.is_empty(), "no keys were found");
        Ok(())
    }

    async fn serial(&self, pod: &TestPod<'_>) -> Result<Value> {
        let output = pod.exec(self.look).await?;
        Ok(json_lines(&output).first().context("no identity")?["serial"].clone())
    }

    async fn serials(&self, attackers: &[Attacker<'_>]) -> Result<Vec<Value>> {
        let mut serials = Vec::new();
        for attacker in attackers {
            serials.push(self.serial(&attacker.pod).await?);
        }
        Ok(serials)
    }

    /// Requests new identities for all volumes, and waits for the victim's.
    async fn renew(&mut self) -> Result<()> {
        let own = identity(self.scene, VICTIM);
        let seen = self.victim.lines().await?.len();
        renew_all(self.scene).await?;
        let renewed = |line: &Value| line["spiffe_id"] == own && line["serial"] != self.first["serial"];
        self.victim.wait_line("a renewed identity", seen, renewed).await?;
        self.remember_secrets()
    }

    /// Waits until the attacker has a renewed identity of its own, and can read no other's key.
    async fn ensure_confined(&self, attacker: &Attacker<'_>, before: &Value) -> Result<()> {
        let own = identity(self.scene, "default");
        eventually("its own renewed identity", SOON, async || {
            let seen = json_lines(&attacker.pod.exec(self.look).await?).into_iter().next().context("no line")?;
            ensure!(seen["spiffe_id"] == own && seen["serial"] != *before, "it has {seen}");
            Ok(())
        })
        .await?;
        let all = attacker
            .pod
            .exec(&["/bin/sh", "-c", "find -L /spiffe -type f -exec cat {} + | tr -cd '\\n\\40-\\176'"])
            .await?;
        ensure!(!self.secrets.iter().any(|secret| all.contains(secret)), "it reads the private key of another");
        ensure_single(self.scene, &attacker.pod)
    }

    /// The victim has never seen anything but its own identity, and the driver still runs.
    async fn ensure_unharmed(&self) -> Result<()> {
        let own = identity(self.scene, VICTIM);
        let lines = self.victim.lines().await?;
        let strange: Vec<_> =
            lines.iter().filter(|line| line["spiffe_id"] != own || line["chain_ok"] == false).collect();
        ensure!(strange.is_empty(), "it has seen {strange:?}");
        ensure_single(self.scene, &self.victim)?;
        let restarts = self.driver.restarts().await?;
        ensure!(restarts == 0, "the driver was restarted {restarts} times");
        Ok(())
    }

    /// Ends all pods, and fails if anything is left of their volumes.
    async fn end(&self, attackers: &[Attacker<'_>]) -> Result<()> {
        let attackers = attackers.iter().map(|attacker| &attacker.pod);
        let pods: Vec<_> = attackers.chain([&self.victim]).collect();
        end_all(self.scene, &pods).await?;
        ensure_no_volumes(self.scene)
    }
}

/// Deletes pods, and fails if anything is left of their targets.
async fn end_all(scene: &Scene, pods: &[&TestPod<'_>]) -> Result<()> {
    for pod in pods {
        pod.delete().await?;
    }
    for pod in pods {
        pod.wait_gone().await?;
        ensure_gone(scene, pod)?;
    }
    Ok(())
}

fn only_volume(scene: &Scene) -> Result<String> {
    let volumes: Vec<_> = fs::read_dir(volumes(scene))?.collect::<Result<_, _>>()?;
    ensure!(volumes.len() == 1, "{volumes:?} instead of one volume");
    volumes[0].file_name().into_string().ok().context("an odd name")
}

async fn renew_all(scene: &Scene) -> Result<()> {
    let mut command = Command::new(images::binary(&scene.layout));
    let output = command.args(["renew", "--all", "--data-root"]).arg(data_root(scene)).output().await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn identity(scene: &Scene, account: &str) -> String {
    format!("spiffe://example.org/ns/{}/sa/{account}", scene.name)
}

/// Every kind of attacker on volumes that the driver fills.
async fn play_minting(scene: &Scene, delivery: &str, victim: PodSpec<'_>, look: &[&str]) -> Result<()> {
    let (name, attributes) = (victim.driver.unwrap_or_default(), victim.attributes.clone());
    let mut minting = Minting::start(scene, delivery, victim, look).await?;
    let attackers = kind::run(scene, &Kind::all(), name, &attributes).await?;
    let serials = minting.serials(&attackers).await?;
    let (content, mounted, limited) =
        (Snapshot::of(&data_root(scene))?, mount_points(scene, &attackers)?, limits(scene)?);
    let modes = socket_modes(scene)?;
    let mut findings = Findings::default();
    let lead = [format!("../{}/..data", minting.volume), CA_FOLDER.to_owned()];
    let leads = ["content", "--lead", &lead[0], "--lead", &lead[1]];
    let has_links = modes.is_empty();
    findings.attack(&attackers, &leads, if has_links { &["mount", "attributes"] } else { &["mount"] }).await;
    findings.attack(&attackers, &["mounts"], &["mounts"]).await;
    findings.attack(&attackers, &["others"], &[]).await;
    findings.0.extend(content.changes(&Snapshot::of(&data_root(scene))?));
    findings.add("the node", ensure_no_mounts(scene, &attackers, &mounted));
    if !has_links {
        findings.attack(&attackers, &["access"], &["access"]).await;
    }
    findings.attack(&attackers, &["file-system"], &["file-system"]).await;
    ensure!(limits(scene)? != limited, "nobody has restricted the file system, so that nothing is shown");

    let mut held = async || {
        for attacker in &attackers {
            eventually("what it holds", SOON, async || attacker.ensure_holding().await).await?;
        }
        minting.renew().await
    };
    let (holding, renewed) = join(try_join_all(attackers.iter().map(Attacker::hold)), async {
        let renewed = held().await;
        for attacker in &attackers {
            attacker.release().await?;
        }
        renewed
    })
    .await;
    holding?;
    findings.add(VICTIM, renewed);
    for (attacker, serial) in attackers.iter().zip(&serials) {
        findings.add(&attacker.pod.name, minting.ensure_confined(attacker, serial).await);
    }
    ensure!(limits(scene)? == limited, "the file system of the volumes is {:?}, not {limited:?}", limits(scene)?);
    let restored = eventually("the modes of the sockets", SOON, async || {
        ensure!(socket_modes(scene)? == modes, "they are {:?}, not {modes:?}", socket_modes(scene)?);
        Ok(())
    });
    findings.add("the sockets", restored.await);
    // Nothing in a volume was changed, so there was nothing to report, except for sockets without rights.
    let changed = metric(scene, CHANGED).await?;
    ensure!(changed == 0.0 || !has_links, "{changed} volumes were changed");
    findings.add(VICTIM, minting.ensure_unharmed().await);
    findings.add("the end", minting.end(&attackers).await);
    findings.judge()
}

const LOOK_AT_FILES: [&str; 4] = ["/bin/workload", "verify", "--files", "/spiffe"];
const LOOK_AT_SOCKET: [&str; 5] = ["/bin/workload", "watch", "--once", "--socket", "/spiffe/agent.sock"];

#[tokio::test]
async fn hostile_pods_cannot_change_files() {
    play("e2e-hostile-files", async |scene: &Scene| {
        let victim = PodSpec::on_files(VICTIM, "hostile-files.svid-csi");
        play_minting(scene, "files", victim, &LOOK_AT_FILES).await
    })
    .await;
}

#[tokio::test]
async fn hostile_pods_cannot_change_files_of_any_format() {
    play("e2e-hostile-formats", async |scene: &Scene| {
        let mut victim = PodSpec::on_files(VICTIM, "hostile-formats.svid-csi");
        victim.attributes = json!({
            "svid-csi/audience": "vault,database",
            "svid-csi/file-combined": "combined.pem",
            "svid-csi/file-credential-bundle": "credential-bundle.pem",
            "svid-csi/file-pkcs12": "keystore.p12",
            "svid-csi/file-pkcs12-bundle": "truststore.p12",
            "svid-csi/file-bundle-json": "bundle.json",
            "svid-csi/file-bundle-map": "bundles.json",
        });
        play_minting(scene, "files", victim, &LOOK_AT_FILES).await
    })
    .await;
}

#[tokio::test]
async fn hostile_pods_cannot_change_sockets_of_the_driver() {
    play("e2e-hostile-api", async |scene: &Scene| {
        let victim = PodSpec::on_socket(VICTIM, "hostile-api.svid-csi");
        play_minting(scene, "workload-api", victim, &LOOK_AT_SOCKET).await
    })
    .await;
}

/// A container that changes its volume nevertheless harms only itself, and the driver restores and removes the volume.
async fn play_unsealing(scene: &Scene, delivery: &str, victim: PodSpec<'_>, look: &[&str]) -> Result<()> {
    let name = victim.driver.unwrap_or_default();
    let mut minting = Minting::start(scene, delivery, victim, look).await?;
    let attackers = kind::run(scene, &[UNSEALING], name, &json!({})).await?;
    let [attacker] = attackers.as_slice() else { unreachable!("one of one kind") };
    let serial = minting.serial(&attacker.pod).await?;
    let before = Snapshot::of(&data_root(scene))?;
    let lead = format!("../{}/..data", minting.volume);
    let done = attacker.run(&["content", "--lead", &lead]).await?;
    ensure!(done.iter().filter(|(class, _)| class == "content").count() > 10, "it could do little: {done:?}");

    let own = volumes(scene).join(attacker.volume().to_string());
    let changes = before.changes(&Snapshot::of(&data_root(scene))?);
    // The driver has a second, read-only view of all volumes.
    let views = ["volumes", "read-only"].map(|view| data_root(scene).join("data").join(view));
    let views = views.map(|view| view.join(attacker.volume().to_string()).display().to_string());
    let is_own = |change: &String| views.iter().any(|view| change.starts_with(view));
    ensure!(changes.iter().any(is_own), "its volume is as before");
    let of_others: Vec<_> = changes.iter().filter(|change| !is_own(change)).collect();
    ensure!(of_others.is_empty(), "it has changed {of_others:#?}");

    let mut findings = Findings::default();
    findings.add(VICTIM, minting.renew().await);
    findings.add(&attacker.pod.name, minting.ensure_confined(attacker, &serial).await);
    ensure!(metric(scene, CHANGED).await? > 0.0, "the driver has not reported the change");
    let (restored, victims) = (names(&own)?, names(&volumes(scene).join(&minting.volume))?);
    ensure!(restored == victims, "its volume has {restored:?}, the victim's {victims:?}");
    // The end must also remove a volume that was changed.
    attacker.run(&["content", "--lead", &lead]).await?;
    findings.add(VICTIM, minting.ensure_unharmed().await);
    findings.add("the end", minting.end(&attackers).await);
    findings.judge()
}

/// The names in a volume that do not change with each renewal.
fn names(folder: &std::path::Path) -> Result<Vec<String>> {
    let mut names: Vec<_> = fs::read_dir(folder)?.flatten().flat_map(|entry| entry.file_name().into_string()).collect();
    names.retain(|name| name == "..data" || !name.starts_with(".."));
    names.sort();
    Ok(names)
}

#[tokio::test]
async fn a_pod_that_removes_seals_changes_only_its_own_files() {
    play("e2e-hostile-seals", async |scene: &Scene| {
        let victim = PodSpec::on_files(VICTIM, "hostile-seals.svid-csi");
        play_unsealing(scene, "files", victim, &LOOK_AT_FILES).await
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_removes_seals_changes_only_its_own_socket() {
    play("e2e-hostile-unsealed", async |scene: &Scene| {
        let victim = PodSpec::on_socket(VICTIM, "hostile-unsealed.svid-csi");
        play_unsealing(scene, "workload-api", victim, &LOOK_AT_SOCKET).await
    })
    .await;
}

#[tokio::test]
async fn hostile_pods_cannot_change_sockets_of_the_agent() {
    play("e2e-hostile-agent", async |scene: &Scene| {
        let name = "hostile-agent.svid-csi";
        let agent = Agent::start(scene, &socket::sockets(scene).join("agent.sock")).await?;
        let driver = socket::deploy(scene, name, &["--allow-missing-read-only"]).await?;
        let victim = scene.run(&PodSpec::on_socket(VICTIM, name)).await?;
        socket::wait_identity(&victim, 0).await?;
        let folder = scene.folder.join("agent");
        let alone = Snapshot::of(&folder)?;
        let attackers = kind::run(scene, &Kind::all(), name, &json!({})).await?;
        let (before, mounted) = (Snapshot::of(&folder)?, mount_points(scene, &attackers)?);
        let mut findings = Findings::default();
        let leads = ["content", "--lead", "../stable", "--lead", "/"];
        findings.attack(&attackers, &leads, &["mount"]).await;
        findings.attack(&attackers, &["mounts"], &["mounts"]).await;
        findings.attack(&attackers, &["others"], &[]).await;
        findings.0.extend(before.changes(&Snapshot::of(&folder)?));
        findings.add("the node", ensure_no_mounts(scene, &attackers, &mounted));
        // The mode belongs to the agent's socket, to which the folder only has a link.
        findings.attack(&attackers, &["access"], &["access"]).await;
        let restored = eventually("the socket to be as it was", SOON, async || {
            let changes = before.changes(&Snapshot::of(&folder)?);
            ensure!(changes.is_empty(), "{changes:?}");
            Ok(())
        });
        findings.add("the agent", restored.await);
        let callers = agent.callers()?.len();
        let fetch = victim.exec(&LOOK_AT_SOCKET).await;
        findings.add(
            VICTIM,
            fetch.and_then(|line| {
                ensure!(
                    line.contains(IDENTITY) && agent.callers()?.len() > callers,
                    "it is answered by another agent: {line}"
                );
                Ok(())
            }),
        );
        ensure!(driver.restarts().await? == 0, "the driver was restarted");
        let pods: Vec<_> = attackers.iter().map(|attacker| &attacker.pod).collect();
        findings.add("the end", end_all(scene, &pods).await);
        // The folder of all directories of pods stays.
        let left = alone.changes(&Snapshot::of(&folder)?).into_iter();
        findings.0.extend(left.filter(|change| !change.contains("/.stable.pods: nothing, now mode 40700")));
        findings.judge()
    })
    .await;
}
