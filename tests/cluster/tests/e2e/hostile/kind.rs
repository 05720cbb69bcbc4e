//! The kinds of containers that attack.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use svid_csi_cluster::node::Runtime;
use svid_csi_core::volume_id::VolumeId;

use crate::pods::{PodSpec, TestPod, json_lines};
use crate::scene::Scene;

const ATTACKER: &str = "/bin/attacker";
/// Exists in a container while it holds what it could get, and ends that.
const HELD: &str = "/tmp/held";
const RELEASE: &str = "/tmp/release";

/// Root in a container, with more or less rights.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    runtime: Runtime,
    user_namespace: bool,
    /// Those that it has in addition to the runtime's.
    capabilities: &'static [&'static str],
    read_only: Option<bool>,
}

/// One that can remove seals, as a privileged one can.
pub const UNSEALING: Kind = Kind {
    runtime: Runtime::Default,
    user_namespace: false,
    capabilities: &["SYS_ADMIN", "LINUX_IMMUTABLE"],
    read_only: None,
};

impl Kind {
    /// All of them. Debian's runc has no ID-mapped mounts, which user namespaces need. With a user namespace, the other one
    /// starts no container without `readOnly: true` (`read_only.rs`).
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for capabilities in [&[] as &[&str], &["SYS_ADMIN"]] {
            let kind = |runtime, user_namespace, read_only| Self { runtime, user_namespace, capabilities, read_only };
            all.push(kind(Runtime::Default, true, Some(true)));
            for runtime in Runtime::ALL {
                all.extend([Some(true), None].map(|read_only| kind(runtime, false, read_only)));
            }
        }
        all
    }

    fn name(self) -> String {
        let namespace = if self.user_namespace { "-mapped" } else { "" };
        let rights = if self.is_admin() { "admin" } else { "plain" };
        let asks = if self.read_only.is_some() { "read" } else { "write" };
        format!("{}{namespace}-{rights}-{asks}", self.runtime.name())
    }

    fn is_admin(self) -> bool {
        self.capabilities.contains(&"SYS_ADMIN")
    }

    /// Whether its mount can be made writable, so that only the seal protects the volume.
    fn has_writable_mount(self) -> bool {
        // In a user namespace, the flag of a mount of the host is locked.
        !self.user_namespace && (self.is_admin() || (self.runtime == Runtime::Default && self.read_only.is_none()))
    }

    /// Whether attacks of that class succeed by design.
    fn may(self, class: &str) -> bool {
        match class {
            // Mounts in its own namespace reach no other.
            "mounts" => self.is_admin(),
            "attributes" | "file-system" => self.is_admin() && !self.user_namespace,
            "access" | "mount" => self.has_writable_mount(),
            _ => false,
        }
    }
}

/// A pod of such a container.
pub struct Attacker<'a> {
    pub kind: Kind,
    pub pod: TestPod<'a>,
}

/// Creates a pod of each kind, and waits until all run.
pub async fn run<'a>(scene: &'a Scene, kinds: &[Kind], driver: &str, attributes: &Value) -> Result<Vec<Attacker<'a>>> {
    let mut attackers = Vec::new();
    for &kind in kinds {
        let name = kind.name();
        let mut spec = PodSpec::new(&name, driver, vec!["/bin/sleep", "2147483647"]);
        spec.container_security = json!({"capabilities": {"add": kind.capabilities}});
        (spec.read_only, spec.runtime, spec.user_namespace) = (kind.read_only, kind.runtime, kind.user_namespace);
        spec.attributes = attributes.clone();
        attackers.push(Attacker { kind, pod: scene.create(&spec).await? });
    }
    for attacker in &attackers {
        attacker.pod.wait_running().await?;
    }
    Ok(attackers)
}

impl Attacker<'_> {
    /// The folder's name of its volume.
    pub fn volume(&self) -> VolumeId {
        VolumeId::of_kubelet(&self.pod.uid, "identity")
    }

    /// Runs attacks, and returns those that had an effect, each with its class.
    pub async fn run(&self, arguments: &[&str]) -> Result<Vec<(String, String)>> {
        let output = self.pod.exec(&[&[ATTACKER], arguments].concat()).await?;
        let outcomes = json_lines(&output);
        ensure!(!outcomes.is_empty(), "{} has attacked nothing with {arguments:?}: {output}", self.pod.name);
        let text = |line: &Value, field: &str| line[field].as_str().map(str::to_owned).context("a line without text");
        let had_effect = outcomes.iter().filter(|line| line["refused"].is_null());
        had_effect.map(|line| Ok((text(line, "class")?, text(line, "attack")?))).collect()
    }

    /// Runs attacks, and returns those that should have had no effect. Fails if all attacks of a
    /// class were refused that may succeed, as nothing would be shown then.
    pub async fn attack(&self, arguments: &[&str], classes: &[&str]) -> Result<Vec<String>> {
        let effective = self.run(arguments).await?;
        for class in classes.iter().filter(|class| self.kind.may(class)) {
            let is_effective = effective.iter().any(|(of, _)| of == class);
            ensure!(is_effective, "{}: no attack of the class {class} has an effect", self.pod.name);
        }
        let wrong = effective.into_iter().filter(|(class, _)| !self.kind.may(class));
        Ok(wrong.map(|(_, attack)| format!("{}: {attack}", self.pod.name)).collect())
    }

    /// Holds files and connections until [`release`](Self::release).
    pub async fn hold(&self) -> Result<()> {
        self.pod.exec(&[ATTACKER, "hold", "--held", HELD, "--until", RELEASE]).await.map(drop)
    }

    pub async fn ensure_holding(&self) -> Result<()> {
        self.pod.exec(&["test", "-e", HELD]).await.map(drop)
    }

    pub async fn release(&self) -> Result<()> {
        self.pod.exec(&["touch", RELEASE]).await.map(drop)
    }
}
