//! A node for one plan, its driver under supervision.

use std::fs;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use svid_csi::demo::kubelet::InlineVolume;
use svid_csi_core::state::Record;
use svid_csi_testkit::effects::{Names, Point, Run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::fixture::{FILES, Node, PASSTHROUGH, volume};
use crate::restart::share_root;
use crate::workload_api::SOCKETS;

/// What volumes are, and what they become when they are published again as something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Files under the usual names; the others are SPIFFE's.
    Files,
    /// Every format, with a password and tokens; fewer of them.
    Formats,
    /// A Workload API; files.
    Sockets,
    /// The agent's sockets; files.
    Passthrough,
}

const ROOT: &[&str] = &["--data-root={dir}/root", "--trust-domain=example.org", "--admin-socket={dir}/admin.sock"];
const OTHER_NAMES: [(&str, &str); 3] =
    [("file-cert", "svid.pem"), ("file-key", "svid_key.pem"), ("file-bundle", "bundle.pem")];
const FORMATS: [(&str, &str); 5] = [
    ("file-combined", "all.pem"),
    ("file-pkcs12", "key.p12"),
    ("file-pkcs12-bundle", "trust.p12"),
    ("file-bundle-json", "bundle.json"),
    ("audience", "vault"),
];

impl Plan {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Plan::Files => "files",
            Plan::Formats => "formats",
            Plan::Sockets => "sockets",
            Plan::Passthrough => "passthrough",
        }
    }

    /// The volume of a pod.
    pub(crate) fn volume(self, pod: &str) -> InlineVolume {
        let with = |all: &[(&str, &str)]| {
            let named = |volume: InlineVolume, (name, value): &(&str, &str)| {
                volume.attribute(&format!("svid-csi/{name}"), value)
            };
            all.iter().fold(volume(pod), named)
        };
        match self {
            Plan::Formats => with(&FORMATS).secret("pkcs12-password", "changeit"),
            Plan::Files | Plan::Sockets | Plan::Passthrough => volume(pod),
        }
    }

    /// The same volume, as its pod asks for it later.
    pub(crate) fn other(self, pod: &str) -> InlineVolume {
        let delivered =
            |delivery| volume(pod).attribute("svid-csi/source", "local-ca").attribute("svid-csi/delivery", delivery);
        match self {
            Plan::Files => {
                let named = |volume: InlineVolume, (name, value): &(&str, &str)| {
                    volume.attribute(&format!("svid-csi/{name}"), value)
                };
                OTHER_NAMES.iter().fold(volume(pod), named)
            }
            Plan::Formats => volume(pod).attribute("svid-csi/audience", "vault"),
            Plan::Sockets | Plan::Passthrough => delivered("files"),
        }
    }

    fn args(self) -> Vec<&'static [&'static str]> {
        const ALSO_FILES: &[&str] = &["--allow-plan=local-ca:files"];
        match self {
            Plan::Files | Plan::Formats => vec![FILES, ROOT],
            Plan::Sockets => vec![SOCKETS, ROOT, ALSO_FILES],
            Plan::Passthrough => vec![PASSTHROUGH, ROOT, ALSO_FILES],
        }
    }
}

/// Which calls of the driver count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    /// Those that change something.
    Effects,
    /// Those that look, too.
    LooksToo,
}

/// A node with what a plan needs.
pub(crate) struct World {
    pub(crate) node: Node,
    pub(crate) plan: Plan,
    pub(crate) counted: Counted,
    _agent: Option<UnixListener>,
}

impl World {
    /// One whose driver has never run.
    pub(crate) fn new(plan: Plan, counted: Counted) -> Self {
        let node = Node::new(&plan.args());
        share_root(&node);
        let agent = (plan == Plan::Passthrough).then(|| node.agent());
        World { node, plan, counted, _agent: agent }
    }

    /// Starts the driver under supervision.
    pub(crate) async fn start(&mut self) {
        self.spawn(None);
        self.node.answers().await.unwrap_or_else(|ended| panic!("the driver ended: {ended}: {}", self.node.log()));
    }

    /// The same without waiting for it, to be watched from its first call if `watch` says so.
    pub(crate) fn spawn(&mut self, watch: Option<Option<Point>>) {
        self.node.spawn_watched(watch, self.counted == Counted::LooksToo);
    }

    pub(crate) fn watch(&self, point: Option<Point>) {
        self.node.watched().watch(point);
    }

    pub(crate) fn finish(&self) -> Run {
        self.node.watched().finish()
    }

    pub(crate) fn record_path(&self, volume: &InlineVolume) -> PathBuf {
        let name = format!("{}.json", volume.id());
        let places = ["root/data/records", "root/records"].map(|folder| self.node.path(folder).join(&name));
        places.iter().find(|path| path.exists()).unwrap_or(&places[0]).clone()
    }

    pub(crate) fn record(&self, volume: &InlineVolume) -> Result<Record, String> {
        let json = fs::read(self.record_path(volume)).map_err(|error| format!("the record: {error}"))?;
        Record::from_json(&json).map_err(|error| format!("the record: {error}"))
    }

    /// The serial number that the record says.
    pub(crate) fn recorded_serial(&self, volume: &InlineVolume) -> Option<String> {
        Some(self.record(volume).ok()?.issued?.serial)
    }

    /// Asks for a renewal of a pod's volumes.
    pub(crate) async fn renew(&self, volume: &InlineVolume) -> io::Result<()> {
        let mut stream = UnixStream::connect(self.node.path("admin.sock")).await?;
        let path = format!("/renew?pod={}/{}", volume.pod.namespace, volume.pod.name);
        let request = format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        stream.read_to_end(&mut Vec::new()).await.map(drop)
    }

    /// What stands for the names that differ from run to run.
    pub(crate) fn names(&self, volume: &InlineVolume) -> Names {
        let target = self.node.kubelet.target(volume);
        let folder = target.parent().unwrap();
        Names::default()
            .with(target.to_str().unwrap(), "<target>")
            .with(folder.to_str().unwrap(), "<target's folder>")
            // On a data root that the host sees too, records are on the tmpfs.
            .with(self.node.path("root/data/records").to_str().unwrap(), "<records>")
            .with(self.node.path("root/records").to_str().unwrap(), "<records>")
            .with(self.node.path("root/data").to_str().unwrap(), "<data>")
            .with(self.node.path("root").to_str().unwrap(), "<root>")
            .with(format!("{}/", self.node.dir.path().display()), "")
            .with(self.node.dir.path().to_str().unwrap(), "<node>")
            .with(volume.id().as_str(), "<volume>")
            .with(volume.pod.uid.as_str(), "<pod>")
    }
}
