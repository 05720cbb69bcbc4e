//! The directories of pods whose mounts may be writable. Each such pod has its own, so that one that changes its
//! directory deceives only itself.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use svid_csi_core::state::FileId;
use svid_csi_core::volume_id::VolumeId;
use tracing::{error, warn};

use super::agent_folder::unless_missing;
use super::hard_links::{Linked, Touched, beside};
use crate::backoff;
use crate::host::beneath::Folder;
use crate::host::fsx::{self, FsError};
use crate::host::mount::{self, MountError};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::report;
use crate::telemetry::reported::{Reported, Sparingly};

/// The pause after the first of several failures to update a directory, and the longest one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The directories of pods, in a folder beside the stable directory that only root can enter.
#[derive(Debug)]
pub(super) struct OfPods {
    folder: PathBuf,
    stable: PathBuf,
    pods: Mutex<HashMap<VolumeId, Shared>>,
    /// Whether the directories of an earlier run are among them.
    are_former_known: AtomicBool,
    metrics: Arc<Metrics>,
}

type Shared = Arc<Mutex<OfPod>>;

/// The directory of one pod.
#[derive(Debug)]
struct OfPod {
    path: PathBuf,
    root: Option<FileId>,
    linked: Linked,
    /// Why it is not as it should be.
    trouble: Reported,
    failures: u32,
    /// It is not updated before this time, because it has failed, or its pod keeps changing it.
    rests_until: Option<Instant>,
    undone: Sparingly,
}

impl OfPods {
    /// Beside that stable directory. Those of an earlier run still exist.
    pub(super) fn of(stable: &Path, metrics: Arc<Metrics>) -> Self {
        let of_pods = OfPods {
            folder: beside(stable, "pods"),
            stable: stable.to_owned(),
            pods: Mutex::default(),
            are_former_known: AtomicBool::default(),
            metrics,
        };
        if let Err(error) = of_pods.find_former() {
            error!(error = report::chain(&error), "cannot find the directories of pods from an earlier run; retrying");
        }
        of_pods
    }

    /// Finds the directories of an earlier run, unless they are known.
    fn find_former(&self) -> Result<(), MountError> {
        if self.are_former_known.load(Ordering::Relaxed) {
            return Ok(());
        }
        // Meanwhile none is removed.
        let mut pods = self.pods();
        for (id, of_pod) in former(&self.folder)? {
            pods.entry(id).or_insert(of_pod);
        }
        self.are_former_known.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// The folder of all of them, and the directory of a volume in it, which has the sockets of the stable directory.
    pub(super) fn ensure(&self, id: &VolumeId) -> Result<(&Path, PathBuf), MountError> {
        fsx::ensure_dir(&self.folder, 0o700)?;
        let path = self.folder.join(id.as_str());
        fsx::ensure_dir(&path, 0o700)?;
        let of_pod = self.pods().entry(id.clone()).or_insert_with(|| OfPod::at(path.clone())).clone();
        lock(&of_pod).synchronise(id, &self.stable, &self.metrics).map_or(Ok(()), Err)?;
        Ok((&self.folder, path))
    }

    /// Repeats in all of them what has changed in the stable directory. Returns whether one of them has failed.
    pub(super) fn synchronise(&self) -> bool {
        let mut failed = self.find_former().is_err();
        for (id, of_pod) in self.all() {
            let mut of_pod = lock(&of_pod);
            if of_pod.rests_until.is_none_or(|until| until <= Instant::now()) {
                of_pod.synchronise(&id, &self.stable, &self.metrics);
            }
            failed |= of_pod.trouble.current().is_some();
        }
        failed
    }

    /// Whether one of them has this identity.
    ///
    /// # Errors
    /// If that cannot be determined.
    pub(super) fn contain(&self, root: FileId) -> Result<bool, MountError> {
        let is_known = self.with(root).is_some();
        if !is_known {
            self.find_former()?;
        }
        Ok(is_known || self.with(root).is_some())
    }

    /// The path of the one with this identity, and why it is not as it should be.
    pub(super) fn look(&self, root: FileId) -> Option<(PathBuf, Option<String>)> {
        let (id, of_pod) = self.with(root)?;
        let mut of_pod = lock(&of_pod);
        of_pod.synchronise(&id, &self.stable, &self.metrics);
        Some((of_pod.path.clone(), of_pod.trouble.current().cloned()))
    }

    /// The folder of all of them, and each of them.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        let each = self.all().into_iter().map(|(id, _)| self.folder.join(id.as_str()));
        std::iter::once(self.folder.clone()).chain(each).collect()
    }

    /// Removes the directory of a volume.
    pub(super) fn remove(&self, id: &VolumeId) -> Result<(), FsError> {
        let folder = unless_missing(Folder::open(&self.folder, false))?;
        if let Some(folder) = folder {
            // No socket is added to it in the meantime.
            let of_pod = self.pods().get(id).cloned();
            let _busy = of_pod.as_ref().map(|of_pod| lock(of_pod));
            folder.remove(id.as_str())?;
            folder.remove(format!(".{}.aside", id.as_str()))?;
        }
        self.pods().remove(id);
        Ok(())
    }

    /// Removes the directory of a volume without a record, unless it is mounted somewhere: a pod may still use it.
    pub(super) fn remove_unused(&self, id: &VolumeId) -> Result<(), FsError> {
        let path = self.folder.join(id.as_str());
        if fsx::exists(&path)? && mount::is_mounted_somewhere(&path)? {
            return Ok(());
        }
        self.remove(id)
    }

    /// Those of volumes for which `is_known` returns false.
    pub(super) fn unknown(&self, is_known: impl Fn(&VolumeId) -> bool) -> Vec<VolumeId> {
        if !self.are_former_known.load(Ordering::Relaxed) {
            return Vec::new();
        }
        self.all().into_iter().map(|(id, _)| id).filter(|id| !is_known(id)).collect()
    }

    /// Whether a volume may have one. Does not block.
    pub(super) fn may_have(&self, id: &VolumeId) -> bool {
        !self.are_former_known.load(Ordering::Relaxed) || self.pods().contains_key(id)
    }

    pub(super) fn path_of(&self, id: &VolumeId) -> PathBuf {
        self.folder.join(id.as_str())
    }

    fn with(&self, root: FileId) -> Option<(VolumeId, Shared)> {
        self.all().into_iter().find(|(_, of_pod)| lock(of_pod).root == Some(root))
    }

    fn all(&self) -> Vec<(VolumeId, Shared)> {
        self.pods().iter().map(|(id, of_pod)| (id.clone(), of_pod.clone())).collect()
    }

    fn pods(&self) -> MutexGuard<'_, HashMap<VolumeId, Shared>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lock(of_pod: &Shared) -> MutexGuard<'_, OfPod> {
    of_pod.lock().unwrap_or_else(PoisonError::into_inner)
}

fn former(folder: &Path) -> Result<HashMap<VolumeId, Shared>, MountError> {
    let Some(opened) = unless_missing(Folder::open(folder, false))? else { return Ok(HashMap::new()) };
    let ids = opened.names()?.into_iter().filter_map(|name| VolumeId::parse(name.to_str()?).ok());
    ids.map(|id| {
        let of_pod = OfPod::at(folder.join(id.as_str()));
        let root = mount::file_id_of(&lock(&of_pod).path)?;
        lock(&of_pod).root = root;
        Ok((id, of_pod))
    })
    .collect()
}

impl OfPod {
    fn at(path: PathBuf) -> Shared {
        let of_pod = OfPod {
            path,
            root: None,
            linked: Linked::of_one_pod(),
            trouble: Reported::default(),
            failures: 0,
            rests_until: None,
            undone: Sparingly::default(),
        };
        Arc::new(Mutex::new(of_pod))
    }

    fn synchronise(&mut self, id: &VolumeId, stable: &Path, metrics: &Metrics) -> Option<MountError> {
        let trouble = self.try_synchronise(id, stable, metrics).err();
        let rests = backoff::doubled(FIRST_PAUSE, self.failures, LONGEST_PAUSE);
        self.rests_until = trouble.as_ref().map(|_| Instant::now() + rests);
        self.failures = trouble.as_ref().map_or(0, |_| self.failures + 1);
        if let Some(error) = self.trouble.news(trouble.as_ref().map(|error| report::chain(error))) {
            error!(volume = %id, error, "cannot update a pod's links to the agent's sockets; retrying");
        }
        trouble
    }

    fn try_synchronise(&mut self, id: &VolumeId, stable: &Path, metrics: &Metrics) -> Result<(), MountError> {
        let root = mount::file_id_of(&self.path)?;
        if self.root != root {
            (self.root, self.linked) = (root, Linked::of_one_pod());
        }
        let (changes, trouble) = self.linked.synchronise(&[stable.to_owned()], &self.path, &Touched::default());
        if let Some((names, unreported)) = changes.undone_to_report(metrics, &mut self.undone) {
            warn!(volume = %id, ?names, unreported, "a pod has changed its directory of the agent's sockets; restoring it");
        }
        Ok(trouble.map_or(Ok(()), Err)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_an_earlier_run_that_could_not_be_listed_are_found_later() {
        let dir = tempfile::tempdir().unwrap();
        let (stable, id) = (dir.path().join("stable"), VolumeId::of_kubelet("u1", "spiffe"));
        fsx::ensure_dir(&stable, 0o755).unwrap();
        let folder = beside(&stable, "pods");
        fsx::write_atomic(&folder, b"in the place of the folder", 0o600).unwrap();
        let of_pods = OfPods::of(&stable, Arc::default());
        assert!(of_pods.synchronise(), "it has failed");
        fsx::remove_file(&folder).unwrap();
        let path = folder.join(id.as_str());
        fsx::ensure_dir(&folder, 0o700).unwrap();
        fsx::ensure_dir(&path, 0o700).unwrap();
        of_pods.synchronise();
        let root = mount::file_id_of(&path).unwrap().unwrap();
        assert!(of_pods.contain(root).unwrap());
        of_pods.remove(&id).unwrap();
    }
}
