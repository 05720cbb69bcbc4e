//! What a start does with the volumes of the run before: looks once at each, and re-enters the publish steps.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use svid_csi_core::state::{Observed, Phase, Pod, Record, Step, Target, recover};
use svid_csi_core::volume::Content;
use svid_csi_core::volume_id::VolumeId;
use tracing::{error, info, warn};

use super::Node;
use super::error::VolumeError;
use super::volume::Volume;
use crate::fsx::FsError;
use crate::mount::{self, Look, MountError, MountPoint};
use crate::{report, source};

/// How many volumes a start found in which state.
#[derive(Debug, Default)]
struct Tally {
    served: usize,
    awaited: usize,
    removed: usize,
    left_alone: usize,
}

impl Node {
    /// Takes up every recorded volume. Blocks.
    ///
    /// # Errors
    /// The records cannot be read at all. Trouble with one volume is reported and leaves the others unaffected.
    pub(super) fn recover(self: &Arc<Self>) -> Result<(), FsError> {
        let mut tally = Tally::default();
        let records = self.store.load()?;
        let known: HashSet<_> = records.iter().map(|(id, _)| id).collect();
        if let Some(folders) = &self.folders {
            folders.keep_only(|id| known.contains(id))?;
        }
        if let Some(passwords) = &self.passwords {
            passwords.keep_only(|id| known.contains(id))?;
        }
        if let Some(workload_api) = &self.workload_api {
            workload_api.keep_only(|id| known.contains(id))?;
        }
        for (id, record) in records {
            match record {
                Ok(record) => self.recover_volume(record, &mut tally),
                Err(unreadable) => {
                    tally.left_alone += 1;
                    error!(volume = %id, error = report::chain(&unreadable), "a volume is left alone until it is published or unpublished again");
                }
            }
        }
        self.metrics.left_alone(tally.left_alone);
        info!(?tally, "recovered");
        Ok(())
    }

    fn recover_volume(self: &Arc<Self>, record: Record, tally: &mut Tally) {
        let id = record.spec.id.clone();
        let mut held = self.volumes.slot(&id).try_lock_owned().expect("nobody else runs yet");
        let observed = self.observe(&record);
        let step = recover(&record, observed);
        let (driver, target) = (record.driver.clone(), record.spec.target.clone());
        let place = self.take_up_place(&record.spec, record.bytes).unwrap_or_else(|error| {
            report_trouble(&id, &error);
            None
        });
        let share = self.volumes.share(record.spec.pod.as_ref(), usize::MAX, place).expect("there is no limit");
        held.replace(Volume::new(record, share));
        let done = match step {
            Step::Serve | Step::Mount => {
                let served = held.as_mut().map_or(Ok(()), |volume| self.serve_again(volume));
                match &served {
                    Ok(()) => tally.served += 1,
                    Err(_) => {
                        tally.left_alone += 1;
                        self.serve_later(id.clone());
                    }
                }
                served
            }
            Step::AwaitPublish => {
                tally.awaited += 1;
                if let Some(volume) = held.as_mut() {
                    volume.record.phase = Phase::Intended;
                    volume.record.adopted = None;
                }
                self.forget_later(id.clone());
                Ok(())
            }
            Step::Remove => {
                tally.removed += 1;
                self.remove(&driver, &id, &target, &mut held)
            }
            Step::LeaveAlone => {
                tally.left_alone += 1;
                Err(left_alone(observed.target, target.path()).into())
            }
        };
        self.volumes.release(&id, held);
        done.unwrap_or_else(|error| report_trouble(&id, &error));
    }

    /// Tries again and again to take up a published volume that could not be taken up.
    fn serve_later(self: &Arc<Self>, id: VolumeId) {
        let node = self.clone();
        self.tasks.detached(async move {
            for failures in 1.. {
                tokio::time::sleep(source::retry_delay(failures, None)).await;
                let (this, mut held) = (node.clone(), node.volumes.hold(&id).await);
                let served = tokio::task::spawn_blocking(move || match held.as_mut() {
                    Some(volume) if volume.record.phase == Phase::Ready && !volume.is_kept_fresh() => {
                        this.serve_again(volume)
                    }
                    _ => Ok(()),
                });
                match served.await {
                    Ok(Err(error)) if failures.is_power_of_two() => report_trouble(&id, &error),
                    Ok(Err(_)) => {}
                    _ => return,
                }
            }
        });
    }

    /// Takes up a published volume: what is behind its mount can be written, and it is renewed. Blocks.
    pub(super) fn serve_again(self: &Arc<Self>, volume: &mut Volume) -> Result<(), VolumeError> {
        let point = MountPoint::open(&volume.record.spec.target)?;
        let id = volume.record.spec.id.clone();
        let read_only = volume.record.spec.read_only;
        let missing = match &volume.record.spec.content {
            Content::Passthrough if matches!(point.look()?, Look::Mounted(_)) => None,
            Content::Passthrough => Some(self.socket_dir()?.source(read_only)?),
            _ if self.reach(volume, &point)? => None,
            _ => Some(self.folders()?.source(&id)?),
        };
        if let Some(source) = missing {
            warn!(volume = %id, "the volume was published but is not mounted; it is mounted again");
            self.mount(volume, &point, &source)?;
        }
        self.deliver_again(volume)?;
        self.keep_renewing(volume);
        self.bring_bundle_to(Some(volume));
        Ok(())
    }

    fn observe(&self, record: &Record) -> Observed {
        let spec = &record.spec;
        let target = match MountPoint::open(&spec.target).and_then(|point| point.look()) {
            Ok(Look::Missing) | Err(MountError::NoParent(_)) => Target::Missing,
            Ok(Look::Folder) => Target::Folder,
            Ok(Look::Mounted(root)) if self.is_recorded(record, root) => Target::Ours,
            Ok(Look::Mounted(_) | Look::NotAFolder) | Err(_) => Target::Foreign,
        };
        let data = self.folders.as_ref().is_some_and(|folders| folders.root(&spec.id).is_some());
        Observed { target, pod: observe_pod(record), data }
    }

    fn is_recorded(&self, record: &Record, root: svid_csi_core::state::FileId) -> bool {
        let of_folder = self.folders.as_ref().and_then(|folders| folders.root(&record.spec.id)) == Some(root);
        let passes_through = record.spec.content == Content::Passthrough;
        let of_agent = self.socket_dir.as_ref().is_some_and(|socket_dir| socket_dir.is_current(root));
        record.root == Some(root) || of_folder || (passes_through && of_agent)
    }
}

fn left_alone(seen: Target, path: &Path) -> MountError {
    match seen {
        Target::Missing => MountError::NoParent(path.to_owned()),
        _ => MountError::Foreign(path.to_owned()),
    }
}

/// A pods folder that is not mounted yet must not look like a node without pods.
fn observe_pod(record: &Record) -> Pod {
    let Some(place) = record.spec.target.place() else { return Pod::Unknown };
    let recorded = record.pods_dir.is_some() && mount::file_id_of(place.pods_dir) == record.pods_dir;
    match (recorded, std::fs::symlink_metadata(place.pods_dir.join(place.pod_uid))) {
        (true, Ok(_)) => Pod::Present,
        (true, Err(error)) if error.kind() == std::io::ErrorKind::NotFound => Pod::Gone,
        _ => Pod::Unknown,
    }
}

fn report_trouble(id: &VolumeId, trouble: &VolumeError) {
    error!(volume = %id, error = report::chain(trouble), "a volume could not be recovered; it is left as it is");
}
