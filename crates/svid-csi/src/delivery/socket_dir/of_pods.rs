//! The directories of pods whose mounts may be writable. Each such pod has its own, so that one that changes its
//! directory deceives only itself.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use svid_csi_core::state::FileId;
use svid_csi_core::volume_id::VolumeId;
use tracing::error;

use super::agent_folder::unless_missing;
use super::hard_links::{Linked, Touched, beside};
use crate::host::beneath::Folder;
use crate::host::fsx::{self, FsError};
use crate::host::mount::{self, MountError};
use crate::telemetry::report;

/// The directories of pods, in a folder beside the stable directory that only root can enter.
#[derive(Debug)]
pub(super) struct OfPods {
    folder: PathBuf,
    pods: HashMap<VolumeId, OfPod>,
}

/// The directory of one pod.
#[derive(Debug)]
pub(super) struct OfPod {
    pub(super) path: PathBuf,
    pub(super) root: Option<FileId>,
    linked: Linked,
    /// Why it is not as it should be.
    pub(super) trouble: Option<String>,
}

impl OfPods {
    /// Beside that stable directory. Those of an earlier run still exist.
    pub(super) fn of(stable: &Path) -> Self {
        let mut of_pods = OfPods { folder: beside(stable, "pods"), pods: HashMap::new() };
        if let Err(error) = of_pods.find_former() {
            error!(error = report::chain(&error), "cannot find the directories of pods from an earlier run");
        }
        of_pods
    }

    fn find_former(&mut self) -> Result<(), FsError> {
        let Some(folder) = unless_missing(Folder::open(&self.folder, false))? else { return Ok(()) };
        let ids = folder.names()?.into_iter().filter_map(|name| VolumeId::parse(name.to_str()?).ok());
        self.pods.extend(ids.map(|id| {
            let found = OfPod::at(self.folder.join(id.as_str()));
            (id, found)
        }));
        Ok(())
    }

    /// The folder of all of them, and the directory of a volume in it, which has the sockets of the stable directory.
    pub(super) fn ensure(&mut self, id: &VolumeId, stable: &Path) -> Result<(&Path, &Path), MountError> {
        fsx::ensure_dir(&self.folder, 0o700)?;
        let path = self.folder.join(id.as_str());
        fsx::ensure_dir(&path, 0o700)?;
        let of_pod = self.pods.entry(id.clone()).or_insert_with(|| OfPod::at(path));
        of_pod.root = mount::file_id_of(&of_pod.path)?;
        of_pod.synchronise(stable).1.map_or(Ok(()), Err)?;
        Ok((&self.folder, &of_pod.path))
    }

    /// Repeats in all of them what has changed in the stable directory. Returns the names that pods have changed.
    pub(super) fn synchronise(&mut self, stable: &Path) -> BTreeSet<OsString> {
        self.pods.values_mut().flat_map(|of_pod| of_pod.synchronise(stable).0).collect()
    }

    /// The one with this identity.
    pub(super) fn with(&self, root: FileId) -> Option<&OfPod> {
        self.pods.values().find(|of_pod| of_pod.root == Some(root))
    }

    /// The folder of all of them, and each of them.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.folder.as_path()).chain(self.pods.values().map(|of_pod| of_pod.path.as_path()))
    }

    pub(super) fn is_troubled(&self) -> bool {
        self.pods.values().any(|of_pod| of_pod.trouble.is_some())
    }

    /// Removes the directory of a volume.
    pub(super) fn remove(&mut self, id: &VolumeId) -> Result<(), FsError> {
        if self.pods.contains_key(id) {
            Folder::open(&self.folder, false)?.remove(id.as_str())?;
            self.pods.remove(id);
        }
        Ok(())
    }

    /// Removes those of volumes for which `is_known` returns false. Returns the failures.
    pub(super) fn keep_only(&mut self, is_known: impl Fn(&VolumeId) -> bool) -> Vec<FsError> {
        let unknown: Vec<_> = self.pods.keys().filter(|id| !is_known(id)).cloned().collect();
        let failed = |id: &VolumeId| {
            let path = self.folder.join(id.as_str());
            self.remove(id).err().map(|error| FsError { path, ..error })
        };
        unknown.iter().filter_map(failed).collect()
    }
}

impl OfPod {
    fn at(path: PathBuf) -> Self {
        let root = mount::file_id_of(&path).unwrap_or_default();
        OfPod { path, root, linked: Linked::of_one_pod(), trouble: None }
    }

    fn synchronise(&mut self, stable: &Path) -> (BTreeSet<OsString>, Option<FsError>) {
        let (changes, trouble) = self.linked.synchronise(&[stable.to_owned()], &self.path, &Touched::default());
        self.trouble = trouble.as_ref().map(|error| report::chain(error));
        (changes.undone, trouble)
    }
}
