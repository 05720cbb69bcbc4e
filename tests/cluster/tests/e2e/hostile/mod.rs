//! Pods that run as root and attack their volume in every way: without and with `CAP_SYS_ADMIN`, which can make the
//! mount writable again; with and without a request for a writable volume; with the runc that grants one, and with
//! Debian's.

mod snapshot;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use serde_json::{Value, json};
use svid_csi_cluster::images;
use svid_csi_cluster::node::Runtime;
use tokio::process::Command;

use self::snapshot::Snapshot;
use crate::agent::{Agent, IDENTITY};
use crate::daemonset::{OWN, Plan, minting_args, words};
use crate::eventually::{SOON, eventually};
use crate::pods::{PodSpec, TestPod, json_lines};
use crate::scene::{Scene, play};
use crate::socket;

const ATTACK: &str = include_str!("attack.sh");
const VICTIM: &str = "victim";
/// The folder of the authority, as a link in a volume would name it.
const CA_FOLDER: &str = "../../ca/example.org";

/// An attacker, and its successful attacks.
struct Attacker<'a> {
    pod: TestPod<'a>,
    done: Vec<String>,
}

/// Runs one pod for each way to be hostile.
async fn attackers<'a>(scene: &'a Scene, driver: &str) -> Result<Vec<TestPod<'a>>> {
    let mut pods = Vec::new();
    for runtime in Runtime::ALL {
        for (rights, capabilities) in [("plain", json!({})), ("admin", json!({"add": ["SYS_ADMIN"]}))] {
            for (asks, read_only) in [("read", Some(true)), ("write", None)] {
                let name = format!("{}-{rights}-{asks}", runtime.name());
                let mut spec = PodSpec::new(&name, driver, vec!["/bin/sleep", "2147483647"]);
                spec.container_security = json!({"capabilities": capabilities});
                (spec.read_only, spec.runtime) = (read_only, runtime);
                pods.push(scene.create(&spec).await?);
            }
        }
    }
    for pod in &pods {
        pod.wait_running().await?;
    }
    Ok(pods)
}

/// Has every attacker try everything, half of them to lead their `..data` to the first target in the end, and half to
/// the second. Returns their actions and the changes in `folder`.
async fn attack<'a>(
    pods: Vec<TestPod<'a>>,
    folder: &Path,
    targets: [&str; 2],
) -> Result<(Vec<Attacker<'a>>, Vec<String>)> {
    let before = Snapshot::of(folder)?;
    let [one, two] = targets;
    let mut attackers = Vec::new();
    for (pod, [first, last]) in pods.into_iter().zip([[one, two], [two, one]].into_iter().cycle()) {
        let output = pod.exec(&["/bin/sh", "-c", ATTACK, "sh", first, last]).await?;
        let done: Vec<_> = output.lines().filter(|line| line.starts_with("done ")).map(str::to_owned).collect();
        ensure!(output.contains("refused "), "the attack of {} did not begin: {output:?}", pod.name);
        ensure!(output.contains("mount rw") == may_write(&pod.name), "the mount of {}: {output:?}", pod.name);
        attackers.push(Attacker { pod, done });
    }
    Ok((attackers, before.changes(&Snapshot::of(folder)?)))
}

/// Whether the mount of that attacker can be made writable, so that only the seal protects it.
fn may_write(name: &str) -> bool {
    name.contains("-admin-") || name == format!("{}-plain-write", Runtime::Default.name())
}

/// All faults, so that one run shows all of them.
struct Findings(Vec<String>);

impl Findings {
    fn add(&mut self, who: &str, outcome: Result<()>) {
        self.0.extend(outcome.err().map(|error| format!("{who}: {error:#}")));
    }

    fn of(attackers: &[Attacker<'_>], changes: Vec<String>) -> Self {
        let done = attackers.iter().flat_map(|one| one.done.iter().map(|what| format!("{}: {what}", one.pod.name)));
        Self(done.chain(changes).collect())
    }

    fn judge(self) -> Result<()> {
        ensure!(self.0.is_empty(), "a hostile pod has had an effect:\n{}", self.0.join("\n"));
        Ok(())
    }
}

/// A driver with its own CA, and a pod whose identity is the target of the attackers.
async fn minting<'a>(scene: &'a Scene, driver: &str, delivery: &str, mut victim: PodSpec<'_>) -> Result<TestPod<'a>> {
    scene.announce_files(driver).await?;
    let mut args = minting_args(scene, driver, delivery, "1h");
    args.extend(words(&["--allow-missing-read-only"]));
    scene.deploy(&Plan { manifest: OWN, driver, args }).await?;
    scene.wait_registered(driver).await?;
    let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": VICTIM}}))?;
    scene.api().create(&PostParams::default(), &account).await?;
    victim.account = VICTIM;
    scene.run(&victim).await
}

fn data(scene: &Scene) -> PathBuf {
    scene.folder.join("data")
}

fn only_volume(scene: &Scene) -> Result<String> {
    let volumes: Vec<_> = fs::read_dir(data(scene).join("data/volumes"))?.collect::<Result<_, _>>()?;
    ensure!(volumes.len() == 1, "{volumes:?} instead of one volume");
    volumes[0].file_name().into_string().ok().context("an odd name")
}

async fn renew_all(scene: &Scene) -> Result<()> {
    let mut command = Command::new(images::binary(&scene.layout));
    let output = command.args(["renew", "--all", "--data-root"]).arg(data(scene)).output().await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn identity(scene: &Scene, account: &str) -> String {
    format!("spiffe://example.org/ns/{}/sa/{account}", scene.name)
}

/// The private keys that no attacker may see: the victim's current ones, and the authority's.
fn secrets(scene: &Scene, victim: &str) -> Result<Vec<String>> {
    let data = data(scene).join("data");
    let authority = fs::read_dir(data.join("ca/example.org"))?.collect::<Result<Vec<_>, _>>()?;
    let keys =
        authority.into_iter().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "key"));
    let keys: Vec<_> =
        keys.chain([data.join("volumes").join(victim).join("tls.key")]).filter(|path| path.exists()).collect();
    ensure!(!keys.is_empty(), "there are no keys in {}", data.display());
    keys.iter().map(|path| Ok(fs::read_to_string(path)?.trim().to_owned())).collect()
}

/// Fails if the pod can read one of `secrets` anywhere in its volume.
async fn ensure_secret(pod: &TestPod<'_>, secrets: &[String]) -> Result<()> {
    let all = pod.exec(&["/bin/sh", "-c", "find -L /spiffe -type f -exec cat {} + || true"]).await?;
    ensure!(!secrets.iter().any(|secret| all.contains(secret)), "it reads the private key of another");
    Ok(())
}

/// Waits until the pod has a renewed identity of its own.
async fn ensure_renewed(scene: &Scene, attacker: &Attacker<'_>, command: &[&str], before: &Value) -> Result<()> {
    let own = identity(scene, "default");
    eventually("its own renewed identity", SOON, async || {
        let seen = json_lines(&attacker.pod.exec(command).await?).into_iter().next().context("no line")?;
        ensure!(seen["spiffe_id"] == own && seen["serial"] != *before, "it has {seen}");
        Ok(())
    })
    .await
}

/// The test of both deliveries with the driver's own CA. `look` prints the identity in a volume.
async fn play_minting(scene: &Scene, delivery: &str, victim: PodSpec<'_>, look: &[&str]) -> Result<()> {
    let driver = victim.driver.context("the victim has a volume")?;
    let victim = minting(scene, driver, delivery, victim).await?;
    let (volume, name) = (only_volume(scene)?, identity(scene, VICTIM));
    let own = |line: &Value| line["spiffe_id"] == name;
    let first = victim.wait_line("its identity", 0, own).await?;
    let mut kept = secrets(scene, &volume)?;

    let pods = attackers(scene, driver).await?;
    let mut serials = Vec::new();
    for pod in &pods {
        serials.push(json_lines(&pod.exec(look).await?).first().context("no identity")?["serial"].clone());
    }
    let (attackers, changes) = attack(pods, &data(scene), [&format!("../{volume}/..data"), CA_FOLDER]).await?;
    let mut findings = Findings::of(&attackers, changes);
    renew_all(scene).await?;
    let renewed =
        victim.wait_line("a renewed identity", 0, |line| own(line) && line["serial"] != first["serial"]).await;
    findings.add(VICTIM, renewed.map(drop));
    kept.extend(secrets(scene, &volume)?);
    for (attacker, serial) in attackers.iter().zip(&serials) {
        findings.add(&attacker.pod.name, ensure_renewed(scene, attacker, look, serial).await);
        findings.add(&attacker.pod.name, ensure_secret(&attacker.pod, &kept).await);
    }
    let lines = victim.lines().await?;
    let strange: Vec<_> = lines.iter().filter(|line| !own(line) || line["chain_ok"] == false).collect();
    findings.add(VICTIM, if strange.is_empty() { Ok(()) } else { Err(anyhow::anyhow!("it has seen {strange:?}")) });
    findings.judge()
}

#[tokio::test]
async fn hostile_pods_cannot_change_files() {
    play("e2e-hostile-files", async |scene: &Scene| {
        let look = ["/bin/workload", "verify", "--files", "/spiffe"];
        play_minting(scene, "files", PodSpec::on_files(VICTIM, "hostile-files.svid-csi"), &look).await
    })
    .await;
}

#[tokio::test]
async fn hostile_pods_cannot_change_sockets_of_the_driver() {
    play("e2e-hostile-api", async |scene: &Scene| {
        let look = ["/bin/workload", "watch", "--once", "--socket", "/spiffe/agent.sock"];
        play_minting(scene, "workload-api", PodSpec::on_socket(VICTIM, "hostile-api.svid-csi"), &look).await
    })
    .await;
}

#[tokio::test]
async fn hostile_pods_cannot_change_sockets_of_the_agent() {
    play("e2e-hostile-agent", async |scene: &Scene| {
        let driver = "hostile-agent.svid-csi";
        let agent = Agent::start(scene, &socket::sockets(scene).join("agent.sock")).await?;
        socket::deploy(scene, driver, &["--allow-missing-read-only"]).await?;
        let victim = scene.run(&PodSpec::on_socket(VICTIM, driver)).await?;
        socket::wait_identity(&victim, 0).await?;
        let pods = attackers(scene, driver).await?;
        let folder = scene.folder.join("agent");
        let before = Snapshot::of(&folder)?;
        let (attackers, changes) = attack(pods, &folder, ["../stable", "/"]).await?;
        let mut findings = Findings::of(&attackers, changes);
        // The mode belongs to the agent's socket, to which the folder only has a link.
        for attacker in &attackers {
            let _ = attacker.pod.exec(&["chmod", "0", "/spiffe/agent.sock"]).await;
        }
        let restored = eventually("the socket to be as it was", SOON, async || {
            let changes = before.changes(&Snapshot::of(&folder)?);
            ensure!(changes.is_empty(), "{changes:?}");
            Ok(())
        });
        findings.add("the agent", restored.await);
        let callers = agent.callers()?.len();
        let fetch = victim.exec(&["/bin/workload", "watch", "--once", "--socket", "/spiffe/agent.sock"]).await;
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
        findings.judge()
    })
    .await;
}
