//! A volume on the node as a state of the model of volumes: whatever happens, the model must lead to it by the same step.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use svid_csi::demo::kubelet::{InlineVolume, KubeletError};
use svid_csi::spiffe::svid::Leaf;
use svid_csi_core::state::{FileId, Record};
use svid_csi_core::volume::Content;
use svid_csi_model::{Belief, Budget, Followed, Names, Seen, SeenRecord, SeenRoot, Spec, Step};

use super::operation::Operation;
use super::oracle::Verdict;
use super::plan::Plan;
use super::world::World;

/// The usual names, and the others.
const NAMES: [[&str; 3]; 2] = [["tls.crt", "tls.key", "ca.crt"], ["svid.pem", "svid_key.pem", "bundle.pem"]];

/// What the model says about the cases of a sweep.
pub(crate) struct Expected {
    during: Followed,
    /// After the restart that follows a kill, or while the driver continues.
    later: Followed,
}

impl Expected {
    /// Nothing for plans and operations that the model does not have.
    pub(crate) fn of(plan: Plan, operation: Operation, is_kill: bool) -> Option<Self> {
        let (asks, other) = match plan {
            Plan::Files | Plan::BrokerFiles | Plan::CertManagerFiles => (Spec::A, Spec::B),
            Plan::Passthrough => (Spec::Passthrough, Spec::A),
            Plan::Formats | Plan::Sockets | Plan::Roots | Plan::BrokerSockets | Plan::CertManagerSockets => {
                return None;
            }
        };
        // Its CA is lost with the tmpfs, so the volume's bundle changes as well, which the model does not have.
        if plan == Plan::Files && operation.loses_tmpfs() {
            return None;
        }
        let (before, step) = steps(operation, other)?;
        // A source may issue another identity whenever it is asked.
        let unmounts = u8::from(operation == Operation::Remount);
        let again = Budget { renewals: 1, losses: u8::from(operation.loses_tmpfs()), unmounts, ..Budget::default() };
        let budget = if is_kill { Budget { kills: 1, ..again } } else { Budget { faults: 1, looks: 1, ..again } };
        let mut during = Followed::normally(asks, &before, budget);
        if operation == Operation::Remount {
            during = during.then(Step::Start).then(Step::UnmountVolume);
        }
        let during = during.then(step);
        // The model knows no calls that do not concern the volume, and no kills at them: those come after the step.
        let later = if is_kill { during.clone().and(Step::Kill).then(Step::Start) } else { during.clone() };
        Some(Expected { during, later: later.in_the_background() })
    }

    /// Checks the volume right after the fault.
    pub(crate) fn explain(
        &self,
        world: &World,
        operation: Operation,
        volume: &InlineVolume,
        asked: &Result<(), KubeletError>,
        is_dead: bool,
    ) -> Verdict {
        if is_dead {
            return explains(&self.during, world, volume);
        }
        if self.during.ends_as(&at_rest(world, volume)?, believed(operation, asked)) {
            return Ok(());
        }
        explains(&self.later, world, volume)
    }

    /// Checks the volume after a restart that followed a kill.
    pub(crate) fn explain_restart(&self, world: &World, volume: &InlineVolume) -> Verdict {
        explains(&self.later, world, volume).map_err(|error| format!("after the restart: {error}"))
    }
}

/// The operation as a step of the model, and the steps before it.
fn steps(operation: Operation, other: Spec) -> Option<(Vec<Step>, Step)> {
    let published = |more: &[Step]| [&[Step::Publish], more].concat();
    Some(match operation {
        Operation::Publish => (vec![], Step::Publish),
        // Each request gets another certificate.
        Operation::Republish | Operation::Revert => (published(&[Step::IssueNext, Step::AskAs(other)]), Step::Publish),
        // Between these, startup clones the target's mount, which another program then unmounts.
        Operation::Remount => (published(&[Step::IssueNext, Step::Kill]), Step::Publish),
        Operation::Renewal => (published(&[Step::IssueNext]), Step::Renew),
        Operation::Withdrawal => (published(&[Step::Withdraw]), Step::Renew),
        Operation::Return => (published(&[Step::Withdraw, Step::Renew, Step::IssueNext]), Step::Renew),
        Operation::Unpublish => (published(&[Step::DeletePod]), Step::Unpublish),
        Operation::Start
        | Operation::StartAlone
        | Operation::StartCloned
        | Operation::StartShared
        | Operation::StartPrivate => (published(&[Step::Kill]), Step::Start),
        Operation::Bundle
        | Operation::Entry
        | Operation::Tokens
        | Operation::Password
        | Operation::Adoption
        | Operation::StartGone
        | Operation::FirstStart => return None,
    })
}

/// What the kubelet believes after the answer: it does not forget that a volume was published.
fn believed(operation: Operation, asked: &Result<(), KubeletError>) -> Belief {
    match (operation, asked) {
        (Operation::Unpublish, Ok(())) => Belief::Unmounted,
        (Operation::Unpublish, Err(_)) => Belief::Uncertain,
        (Operation::Publish, Err(error)) if error.is_uncertain() => Belief::Uncertain,
        (Operation::Publish, Err(_)) => Belief::Unmounted,
        _ => Belief::Mounted,
    }
}

fn explains(followed: &Followed, world: &World, volume: &InlineVolume) -> Verdict {
    let seen = at_rest(world, volume)?;
    if followed.explains(&seen) {
        return Ok(());
    }
    Err(format!("the model does not lead to\n{seen:?}\nbut to\n{:?}", followed.closest(&seen)))
}

/// The volume when two looks find the same: a look takes more than a moment, and the driver may be at work.
fn at_rest(world: &World, volume: &InlineVolume) -> Result<Seen, String> {
    let mut last = seen(world, volume)?;
    loop {
        let now = seen(world, volume)?;
        if now == last {
            return Ok(now);
        }
        last = now;
    }
}

fn seen(world: &World, volume: &InlineVolume) -> Result<Seen, String> {
    let node = &world.node;
    let target = node.kubelet.target(volume);
    let folder = node.path("root/data/volumes").join(volume.id().as_str());
    let record = world.record_if_any(volume)?;
    let roots = Roots::of(world, volume, &folder);
    let mounted = mounted(&target).then(|| roots.at(&target, record.as_ref()));
    let contents = match mounted {
        Some(SeenRoot::Folder | SeenRoot::Former) => Contents::of(&target),
        Some(SeenRoot::Agent | SeenRoot::Foreign) | None => Contents::of(&folder),
    };
    let issued = record.as_ref().and_then(|record| record.issued.as_ref());
    let shown = contents.shown.as_ref();
    Ok(Seen {
        record: record.as_ref().map(|record| roots.record(record)),
        folder: folder.exists(),
        shown: shown.map(|(spec, _)| *spec),
        is_recorded: shown.is_some_and(|(_, serial)| issued.is_some_and(|issued| issued.serial == *serial)),
        beside: contents.beside,
        names: contents.names,
        mounts: [mounted, None, None],
        target: fs::symlink_metadata(&target).is_ok(),
    })
}

/// Whether exactly one thing is mounted at a path. More than one is never right, and the oracle says so.
fn mounted(at: &Path) -> bool {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mountinfo.lines().any(|line| line.split(' ').nth(4).map(Path::new) == Some(at))
}

/// The folders that may be mounted, by their identities.
struct Roots {
    folder: Option<FileId>,
    agents: Vec<FileId>,
}

impl Roots {
    fn of(world: &World, volume: &InlineVolume, folder: &Path) -> Self {
        let id = volume.id();
        let places = ["run/agent", "run/.agent.svid-csi", "root/data/agent"].map(PathBuf::from);
        let own = ["run/.agent.svid-csi.pods", "root/data/agent-of-pods"].map(|pods| Path::new(pods).join(id.as_str()));
        let agents = places.iter().chain(&own).filter_map(|place| file_id(&world.node.dir.path().join(place)));
        Roots { folder: file_id(folder), agents: agents.collect() }
    }

    fn at(&self, target: &Path, record: Option<&Record>) -> SeenRoot {
        let root = file_id(target);
        let recorded = record.is_some_and(|record| [record.root, record.formerly].contains(&root));
        match root.map(|root| self.root(root)) {
            Some(SeenRoot::Former) | None if !recorded => SeenRoot::Foreign,
            Some(root) => root,
            None => SeenRoot::Foreign,
        }
    }

    fn root(&self, root: FileId) -> SeenRoot {
        match root {
            root if self.folder == Some(root) => SeenRoot::Folder,
            root if self.agents.contains(&root) => SeenRoot::Agent,
            _ => SeenRoot::Former,
        }
    }

    fn record(&self, record: &Record) -> SeenRecord {
        SeenRecord {
            phase: record.phase,
            spec: spec(record),
            root: record.root.map(|root| self.root(root)),
            formerly: record.formerly.map(|root| self.root(root)),
            unsettled: record.unsettled,
            issued: record.issued.as_ref().map(|issued| issued.digest.is_some()),
            withdrawn: record.withdrawn,
        }
    }
}

fn file_id(path: &Path) -> Option<FileId> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some(FileId { device: metadata.dev(), inode: metadata.ino() })
}

fn spec(record: &Record) -> Spec {
    match &record.spec.content {
        Content::Files(files) if files.names.cert.as_ref().is_some_and(|name| name.as_str() == NAMES[1][0]) => Spec::B,
        Content::Files(_) | Content::WorkloadApi(_) => Spec::A,
        Content::Passthrough => Spec::Passthrough,
    }
}

/// The content of the folder of a volume with files.
struct Contents {
    /// The files to which `..data` leads: which names they have, and the serial number.
    shown: Option<(Spec, String)>,
    beside: bool,
    names: [Names; 2],
}

impl Contents {
    fn of(folder: &Path) -> Self {
        let current = fs::read_link(folder.join("..data")).ok();
        let serial = |cert: &str| {
            let pem = fs::read(folder.join(current.as_ref()?).join(cert)).ok()?;
            Some(Leaf::read(&CertificateDer::from_pem_slice(&pem).ok()?).ok()?.serial)
        };
        let shown =
            [Spec::A, Spec::B].into_iter().zip(NAMES).find_map(|(spec, [cert, ..])| Some((spec, serial(cert)?)));
        let is_beside =
            |name: &OsStr| is_moment(name) && Some(name) != current.as_ref().map(|current| current.as_os_str());
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            entries => entries.unwrap().map(|entry| entry.unwrap().file_name()).collect(),
        };
        let names =
            NAMES.map(|names| match names.iter().filter(|name| entries.iter().any(|entry| entry == *name)).count() {
                0 => Names::Missing,
                count if count == names.len() => Names::Complete,
                _ => Names::Partial,
            });
        Contents { shown, beside: entries.iter().any(|name| is_beside(name)), names }
    }
}

/// Folders with files are named after the moment at which they were made.
fn is_moment(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with("..") && name[2..].starts_with(|c: char| c.is_ascii_digit()))
}
