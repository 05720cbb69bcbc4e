//! Volumes mounted by csi-driver-spiffe, adopted while their pods run.
//!
//! Its tmpfs continues to exist behind the mounted target, even without that driver, and has the same layout as ours: a
//! new identity is written through a clone of the mount. It keeps its options: no size limit, and no protection from
//! swap. It does not matter whether the mount is read-only, because that driver remounts it so, which affects neither
//! the host nor the next driver.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use svid_csi_core::files::{self, FileName, FileNames, RenderedFile};
use svid_csi_core::plan::{Issuer, Plan};
use svid_csi_core::state::{Adopted, Phase, Record};
use svid_csi_core::volume::{Content, FilesSpec, VolumeSpec};
use svid_csi_core::volume_id::VolumeId;
use tracing::info;

use super::Node;
use super::error::VolumeError;
use super::mount::kubelet_vouches;
use super::registry::{Held, Volume};
use crate::host::mount::{InspectedFile, InspectedMount, MountError, MountPoint, MountState};

const CURRENT: &str = "..data";

/// Why a volume of csi-driver-spiffe is not adopted.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// Users other than root may have written to it.
    #[error("users other than root may write into it")]
    Writable,
    /// Another user may have written to it.
    #[error("it belongs to the user {0}, not to root")]
    Owner(u32),
    /// Nothing was written yet, or another driver did.
    #[error("it has no link ..data to a folder beside it")]
    NoData,
    /// Its contents are unknown.
    #[error("its files are not one certificate chain, its key and at most one trust bundle")]
    Files,
    /// The pod would lose its trust bundle.
    #[error("it holds a trust bundle, but this driver has none: give --trust-bundle or --source-ca-bundle")]
    Bundle,
    /// The pod expects files.
    #[error("it holds files, but the plan is now {0}")]
    Plan(Plan),
    /// They cannot be read.
    #[error("its files cannot be read")]
    Unreadable(#[from] MountError),
}

impl Node {
    /// Adopts csi-driver-spiffe's mount of a volume that is not known here, and renews it at once. Returns whether
    /// there was one. Blocks; the volume's lock is held.
    ///
    /// # Errors
    /// [`VolumeError::NotAdopted`]; the volume is then unchanged.
    pub(super) fn adopt(
        self: &Arc<Self>,
        driver: &str,
        spec: &VolumeSpec,
        point: &MountPoint,
        held: &mut Held,
    ) -> Result<bool, VolumeError> {
        if held.is_some()
            || !matches!(point.look()?, MountState::Mounted(_))
            || !kubelet_vouches(driver, &spec.id, point)?
        {
            return Ok(false);
        }
        let seen = point.inspect()?;
        if !seen.is_tmpfs || seen.root != root_of(&spec.id) {
            return Ok(false);
        }
        let left_alone = |why| VolumeError::NotAdopted { target: spec.target.path().to_owned(), why };
        let adopted = self.fit(spec, &seen).map_err(left_alone)?;
        let shape = Arc::new(adopted.shape(spec));
        // It exists already, and its pod is running, so it may use the reserved space.
        let space = self.deliveries.take_up_space(&shape, 0, false)?;
        let taken_over = |record: &mut Record| {
            (record.phase, record.root, record.adopted) = (Phase::Ready, Some(seen.id()), Some(Box::new(adopted)));
        };
        let volume = held.insert(self.new_volume(driver, &shape, space, taken_over)?);
        // No descriptor of the inspection may stay open, because it would keep the volume from being unmounted.
        drop(seen);
        self.deliveries.reach(volume.record(), point).map_err(VolumeError::begun)?;
        self.keep_renewing(volume);
        info!(
            volume = %spec.id,
            pod = spec.pod.as_ref().map(ToString::to_string),
            "took over the volume of csi-driver-spiffe; renewing it"
        );
        Ok(true)
    }

    /// The file names and the group that the pod knows.
    fn fit(&self, spec: &VolumeSpec, seen: &InspectedMount) -> Result<Adopted, Unfit> {
        let Content::Files(wanted) = &spec.content else { return Err(Unfit::Plan(spec.plan())) };
        if seen.owner() != 0 {
            return Err(Unfit::Owner(seen.owner()));
        }
        if seen.is_open_to_others() {
            return Err(Unfit::Writable);
        }
        let found = seen.files(&seen.link_beside(CURRENT).ok_or(Unfit::NoData)?)?;
        // csi-driver-spiffe sets the group of the files, but not of the folder they are in.
        let group = found.iter().map(|file| file.group).find(|group| *group != 0);
        let file =
            |InspectedFile { name, contents, .. }| Some(RenderedFile { name: FileName::parse(&name).ok()?, contents });
        let found: Option<Vec<_>> = found.into_iter().map(file).collect();
        let found = found.ok_or(Unfit::Files)?;
        let names = files::names_of(&found, wanted.names.bundle.as_ref()).ok_or(Unfit::Files)?;
        if holds_bundle(&found, &names) && !self.has_bundle(wanted) {
            return Err(Unfit::Bundle);
        }
        Ok(Adopted { names, fs_group: wanted.fs_group.or(group) })
    }

    /// Whether such identities come with a trust bundle.
    fn has_bundle(&self, wanted: &FilesSpec) -> bool {
        let of_cert_manager = self.sources.cert_manager.as_ref().and_then(|source| source.bundle());
        wanted.subject.issuer != Issuer::CertManager || of_cert_manager.is_some()
    }
}

/// The path of a volume on the tmpfs of csi-driver-spiffe.
fn root_of(id: &VolumeId) -> PathBuf {
    Path::new("/").join(id.as_str()).join("data")
}

fn holds_bundle(found: &[RenderedFile], names: &FileNames) -> bool {
    found.iter().any(|file| Some(&file.name) == names.bundle.as_ref())
}

/// The requested volume, with the names and the group that its pod knows if it was adopted.
pub(super) fn as_adopted(volume: Option<&Volume>, asked: Arc<VolumeSpec>) -> Arc<VolumeSpec> {
    let record = volume.map(Volume::record).filter(|record| record.phase == Phase::Ready);
    match record.and_then(|record| record.adopted.as_deref()) {
        Some(adopted) => Arc::new(adopted.shape(&asked)),
        None => asked,
    }
}
