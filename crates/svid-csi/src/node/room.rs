//! The room on the data tmpfs: what volumes are promised of it, and what is written for them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{StatVfs, StatVfsMountFlags};
use svid_csi_core::room::{Amount, Ledger, Space};
use svid_csi_core::state::Record;
use svid_csi_core::volume::VolumeSpec;
use svid_csi_core::volume_id::VolumeId;
use tracing::error;

use super::Node;
use super::error::VolumeError;
use super::volume::Volume;
use crate::data_root::DataRoot;
use crate::fsx::FsError;
use crate::metrics::RoomState;
use crate::mount;

/// The room of this node.
#[derive(Debug)]
pub(crate) struct Room {
    tmpfs: PathBuf,
    /// As the driver found or made it.
    limits: Limits,
    /// Locked while anything is written to the tmpfs for a volume: one at a time needs room for its new files beside the old
    /// ones, and nothing comes between the look at what is free and the writing.
    ledger: Arc<Mutex<Ledger>>,
}

/// How much a tmpfs can hold; 0 inodes are without a limit (tmpfs(5), nr_inodes).
#[derive(Debug, Clone, Copy)]
struct Limits {
    blocks: u64,
    inodes: u64,
}

/// What one volume holds, or is promised; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    id: VolumeId,
    ledger: Arc<Mutex<Ledger>>,
}

/// On which occasion something is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occasion {
    /// The kubelet asked for the volume: what is kept back for others is not touched.
    Publish,
    /// What a published volume holds is kept fresh.
    Renewal,
}

impl Room {
    pub(super) fn of(data: &DataRoot) -> Result<Self, FsError> {
        let tmpfs = data.tmpfs();
        let stat = look_at(&tmpfs)?;
        let limits = Limits { blocks: stat.f_blocks, inodes: stat.f_files };
        Ok(Room { tmpfs, limits, ledger: Arc::default() })
    }

    /// Makes the tmpfs again as the driver had it, if a container has remounted it read-only or smaller.
    pub(super) fn keep_writable(&self) -> Result<(), VolumeError> {
        self.kept_writable().map(drop)
    }

    fn kept_writable(&self) -> Result<StatVfs, VolumeError> {
        let stat = look_at(&self.tmpfs)?;
        let Limits { blocks, inodes } = self.limits;
        let has_fewer_inodes = stat.f_files != 0 && (inodes == 0 || stat.f_files < inodes);
        if !stat.f_flag.contains(StatVfsMountFlags::RDONLY) && stat.f_blocks >= blocks && !has_fewer_inodes {
            return Ok(stat);
        }
        error!(
            path = %self.tmpfs.display(),
            "the data tmpfs was remounted read-only or smaller, as a container with CAP_SYS_ADMIN can do; it is restored"
        );
        mount::restore_tmpfs(&self.tmpfs, blocks.saturating_mul(stat.f_frsize), inodes)?;
        Ok(look_at(&self.tmpfs)?)
    }

    /// How much there is of it, and the size of a page.
    fn look(&self) -> Result<(Space, u64), VolumeError> {
        let stat = self.kept_writable()?;
        let page = stat.f_frsize.max(1);
        let amount = |blocks: u64, inodes| Amount { bytes: blocks.saturating_mul(page), inodes };
        let (inodes, free_inodes) = if stat.f_files == 0 { (u64::MAX, u64::MAX) } else { (stat.f_files, stat.f_ffree) };
        Ok((Space { size: amount(stat.f_blocks, inodes), free: amount(stat.f_bavail, free_inodes) }, page))
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The figures for metrics; none where the tmpfs cannot be looked at.
    pub(crate) fn state(&self) -> Option<RoomState> {
        let (space, _) = self.look().ok()?;
        let (size, reserve) = (space.size.bytes, space.reserve().bytes);
        Some(RoomState { size, used: size.saturating_sub(space.free.bytes), reserve })
    }

    fn place(&self, id: &VolumeId) -> Place {
        Place { id: id.clone(), ledger: self.ledger.clone() }
    }
}

fn look_at(tmpfs: &Path) -> Result<StatVfs, FsError> {
    rustix::fs::statvfs(tmpfs).map_err(FsError::of("look at", tmpfs))
}

impl Drop for Place {
    fn drop(&mut self) {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).release(&self.id);
    }
}

impl Node {
    /// Promises a volume that is not known yet the least that it needs. Nothing, where there is nothing to share.
    pub(super) fn promise(&self, spec: &VolumeSpec, known: Option<&Volume>) -> Result<Option<Place>, VolumeError> {
        let (Some(room), None) = (&self.room, known) else { return Ok(None) };
        let mut ledger = room.lock();
        let (space, page) = room.look()?;
        self.ask(&mut ledger, space, spec, Amount::least(spec, page))?;
        Ok(Some(room.place(&spec.id)))
    }

    fn ask(&self, ledger: &mut Ledger, space: Space, spec: &VolumeSpec, need: Amount) -> Result<(), VolumeError> {
        let promised = ledger.promise(space, &spec.id, spec.pod.as_ref(), need);
        Ok(promised.inspect_err(|_| self.metrics.refused_for_room())?)
    }

    /// Notes what a volume holds that is there already.
    pub(super) fn take_up_place(&self, spec: &VolumeSpec, bytes: u64) -> Result<Option<Place>, VolumeError> {
        let Some(room) = &self.room else { return Ok(None) };
        let least = Amount::least(spec, room.look()?.1);
        room.lock().wrote(&spec.id, spec.pod.as_ref(), Amount { bytes: bytes.max(least.bytes), ..least });
        Ok(Some(room.place(&spec.id)))
    }

    /// Notes that a volume holds no files.
    pub(super) fn holds_least(&self, spec: &VolumeSpec) -> Result<(), VolumeError> {
        let Some(room) = &self.room else { return Ok(()) };
        let least = Amount::least(spec, room.look()?.1);
        room.lock().wrote(&spec.id, spec.pod.as_ref(), least);
        Ok(())
    }

    /// Has files of these sizes written for a volume, where there is room for them on that occasion.
    pub(super) fn write<E: Into<VolumeError>>(
        &self,
        spec: &VolumeSpec,
        occasion: Occasion,
        sizes: impl IntoIterator<Item = usize>,
        write: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), VolumeError> {
        let Some(room) = &self.room else { return write().map_err(Into::into) };
        let mut ledger = room.lock();
        let (space, page) = room.look()?;
        let amount = Amount::of_files(sizes, page);
        if occasion == Occasion::Publish {
            self.ask(&mut ledger, space, spec, amount)?;
        }
        write().map_err(Into::into)?;
        ledger.wrote(&spec.id, spec.pod.as_ref(), amount);
        Ok(())
    }

    /// The record as it is to be written: with what the volume holds now.
    pub(super) fn with_bytes(&self, record: Record) -> Record {
        let bytes = self.room.as_ref().map_or(0, |room| room.lock().bytes_of(&record.spec.id));
        Record { bytes, ..record }
    }
}
