//! The space on the data tmpfs: promises to volumes, and writes for them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::StatVfs;
use svid_csi_core::room::{Amount, Ledger, Space};
use svid_csi_core::state::Record;
use svid_csi_core::volume::VolumeSpec;
use svid_csi_core::volume_id::VolumeId;
use tracing::error;

use super::deliver::Deliveries;
use super::error::VolumeError;
use super::registry::Volume;
use crate::host::data_root::DataRoot;
use crate::host::fsx::FsError;
use crate::host::mount::{self, TmpfsLimits};
use crate::telemetry::metrics::RoomState;
use crate::telemetry::report;
use crate::telemetry::reported::Reported;

/// The space of this node.
#[derive(Debug)]
pub(crate) struct Room {
    tmpfs: PathBuf,
    limits: TmpfsLimits,
    /// Whether it could not be restored.
    altered: Mutex<Reported<()>>,
    /// Locked while anything is written to the tmpfs for a volume, so that only one at a time needs space for its new
    /// files beside the old ones, and nothing is written between the check of the free space and the write.
    ledger: Arc<Mutex<Ledger>>,
}

/// The space that one volume uses, or is promised; released when dropped.
#[derive(Debug)]
pub(crate) struct SpaceReservation {
    id: VolumeId,
    ledger: Arc<Mutex<Ledger>>,
}

/// The occasion of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occasion {
    /// A publish: the space reserved for others is not used.
    Publish,
    /// A renewal of a published volume.
    Renewal,
}

impl Room {
    pub(in crate::node) fn of(data: &DataRoot) -> Self {
        let (tmpfs, limits) = (data.tmpfs(), data.limits());
        Room { tmpfs, limits, altered: Mutex::default(), ledger: Arc::default() }
    }

    /// Restores the tmpfs if a container has remounted it read-only or smaller. If that fails, the next write may fail.
    pub(super) fn keep_writable(&self) {
        let mut altered = self.altered.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_restricted() {
            altered.ends();
            return;
        }
        let restored = mount::restore_tmpfs(&self.tmpfs, self.limits);
        let (path, by) = (self.tmpfs.display(), "as a container with CAP_SYS_ADMIN can do");
        if !self.is_restricted() {
            error!(%path, by, "restored the data tmpfs, which was remounted read-only or smaller");
        } else if altered.is_new(()) {
            let error = restored.err().map(|error| report::chain(&error));
            error!(%path, by, error, "cannot restore the data tmpfs, which was remounted read-only or smaller");
        }
    }

    /// If that is not known, the next write shows it.
    fn is_restricted(&self) -> bool {
        matches!(mount::is_restricted(&self.tmpfs, self.limits), Ok(true))
    }

    /// The current space, and the size of a page.
    fn look(&self) -> Result<(Space, u64), FsError> {
        let stat = look_at(&self.tmpfs)?;
        let page = stat.f_frsize.max(1);
        let or_limit = |total, free, limit| if total == 0 { (limit, limit) } else { (total, free) };
        let (blocks, free_blocks) = or_limit(stat.f_blocks, stat.f_bavail, self.limits.bytes / page);
        let (inodes, free_inodes) = or_limit(stat.f_files, stat.f_ffree, self.limits.inodes);
        let amount = |blocks: u64, inodes| Amount { bytes: blocks.saturating_mul(page), inodes };
        Ok((Space { size: amount(blocks, inodes), free: amount(free_blocks, free_inodes) }, page))
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The figures for metrics; `None` if the tmpfs cannot be inspected.
    pub(crate) fn state(&self) -> Option<RoomState> {
        let (space, _) = self.look().ok()?;
        let (size, reserve) = (space.size.bytes, space.reserve().bytes);
        Some(RoomState { size, used: size.saturating_sub(space.free.bytes), reserve })
    }

    fn reservation(&self, id: &VolumeId) -> SpaceReservation {
        SpaceReservation { id: id.clone(), ledger: self.ledger.clone() }
    }
}

fn look_at(tmpfs: &Path) -> Result<StatVfs, FsError> {
    rustix::fs::statvfs(tmpfs).map_err(FsError::of("look at", tmpfs))
}

impl Drop for SpaceReservation {
    fn drop(&mut self) {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).release(&self.id);
    }
}

impl Deliveries {
    /// Promises a new volume its minimum. `None` if there is no shared tmpfs.
    pub(super) fn promise(
        &self,
        spec: &VolumeSpec,
        known: Option<&Volume>,
    ) -> Result<Option<SpaceReservation>, VolumeError> {
        let (Some(room), None) = (&self.room, known) else { return Ok(None) };
        let mut ledger = room.lock();
        let (space, page) = room.look()?;
        self.ask(&mut ledger, space, spec, Amount::least(spec, page))?;
        Ok(Some(room.reservation(&spec.id)))
    }

    fn ask(&self, ledger: &mut Ledger, space: Space, spec: &VolumeSpec, need: Amount) -> Result<(), VolumeError> {
        let promised = ledger.promise(space, &spec.id, spec.pod.as_ref(), need);
        Ok(promised.inspect_err(|_| self.reports.metrics.refused_for_room())?)
    }

    /// Ensures that the tmpfs can be written, as far as the driver can.
    pub(super) fn keep_writable(&self) {
        if let Some(room) = &self.room {
            room.keep_writable();
        }
    }

    /// Records the space that an existing volume uses. `is_delivered` says that the driver has written all of it.
    pub(super) fn take_up_space(
        &self,
        spec: &VolumeSpec,
        bytes: u64,
        is_delivered: bool,
    ) -> Result<Option<SpaceReservation>, VolumeError> {
        self.holds(spec, bytes, is_delivered)?;
        Ok(self.room.as_ref().map(|room| room.reservation(&spec.id)))
    }

    /// Records that a volume has no files.
    pub(super) fn holds_least(&self, spec: &VolumeSpec) -> Result<(), VolumeError> {
        self.holds(spec, 0, false)
    }

    /// Records that a volume uses that many bytes, and at least the minimum.
    pub(super) fn holds_bytes(&self, spec: &VolumeSpec, bytes: u64) -> Result<(), VolumeError> {
        self.holds(spec, bytes, false)
    }

    fn holds(&self, spec: &VolumeSpec, bytes: u64, is_delivered: bool) -> Result<(), VolumeError> {
        let Some(room) = &self.room else { return Ok(()) };
        let least = Amount::least(spec, room.look()?.1);
        let amount = Amount { bytes: bytes.max(least.bytes), ..least };
        room.lock().wrote(&spec.id, spec.pod.as_ref(), amount, is_delivered);
        Ok(())
    }

    /// Removes files of a volume with `remove`, after which it holds nothing, or its minimum.
    pub(super) fn removing<T>(
        &self,
        spec: &VolumeSpec,
        keeps_least: bool,
        remove: impl FnOnce() -> Result<T, VolumeError>,
    ) -> Result<T, VolumeError> {
        let Some(room) = &self.room else { return remove() };
        let mut ledger = room.lock();
        let before = room.look();
        let removed = remove()?;
        // Without a look, which must not prevent a pod from ending, it counts as it did before.
        if let (Ok((before, page)), Ok((after, _))) = (before, room.look()) {
            let rest = keeps_least.then(|| Amount::least(spec, page));
            ledger.removed(&spec.id, spec.pod.as_ref(), rest, [before, after]);
        }
        Ok(removed)
    }

    /// Writes files of these sizes for a volume with `write`, if they fit on that occasion.
    pub(super) fn write<T, E: Into<VolumeError>>(
        &self,
        spec: &VolumeSpec,
        occasion: Occasion,
        sizes: impl IntoIterator<Item = usize>,
        write: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, VolumeError> {
        let Some(room) = &self.room else { return write().map_err(Into::into) };
        let mut ledger = room.lock();
        let (space, page) = room.look()?;
        let amount = Amount::of_files(sizes, page);
        match occasion {
            Occasion::Publish => self.ask(&mut ledger, space, spec, amount)?,
            Occasion::Renewal => ledger.renew(space, spec.pod.as_ref(), amount)?,
        }
        let written = write().map_err(Into::into)?;
        // Without another look, nothing is seen to be kept open.
        let after = room.look().map_or(space, |(after, _)| after);
        ledger.delivered(&spec.id, spec.pod.as_ref(), amount, [space, after]);
        Ok(written)
    }

    /// The record to write, with the space that the volume currently uses.
    pub(in crate::node) fn with_bytes(&self, record: Record) -> Record {
        let bytes = self.room.as_ref().map_or(0, |room| room.lock().bytes_of(&record.spec.id));
        Record { bytes, ..record }
    }
}
