//! The delivery of an identity over a socket, and its reversal.

use std::sync::Arc;

use svid_csi_core::state::Record;
use svid_csi_core::volume::{Content, SocketSpec, VolumeSpec};
use svid_csi_core::x509_context::X509Context;
use tracing::warn;

use super::{Deliveries, folder_mode, sockets_of};
use crate::delivery::volume_folder::{VolumeFolder, budget};
use crate::delivery::{files, workload_api};
use crate::node::volume::error::VolumeError;
use crate::node::volume::room::Occasion;
use crate::telemetry::report;

impl Deliveries {
    /// Delivers an identity to the volume's pod over a socket.
    pub(super) fn give(
        &self,
        record: &Record,
        spec: &Arc<VolumeSpec>,
        socket: &SocketSpec,
        folder: &VolumeFolder,
        context: &Arc<X509Context>,
        occasion: Occasion,
    ) -> Result<(), VolumeError> {
        let workload_api = self.workload_api()?;
        // Until everything is done, the former names also lead to the socket.
        let before = sockets_of(&record.spec).iter().filter(|name| !socket.sockets.contains(name));
        let names: Vec<_> = socket.sockets.iter().chain(before).cloned().collect();
        self.put_socket_right(spec, socket, &names, folder)?;
        // Another delivery may have created it.
        folder.shape(folder_mode(&spec.content), None)?;
        let size = workload_api::size_of(context);
        self.write(spec, occasion, [size], || workload_api.give(&spec.id, context.clone()))?;
        if occasion == Occasion::Renewal
            && let Err(error) = self.remove_former(record, spec)
        {
            // The pod has the identity, which must be recorded.
            warn!(volume = %spec.id, error = report::chain(&error), "cannot remove former files from a volume");
            self.later.again(spec.id.clone(), 1);
        }
        Ok(())
    }

    /// Removes the former files and names of a volume with a socket. Called once the new spec is recorded, because if
    /// that fails, the pod still needs them.
    pub(in crate::node::volume) fn remove_former(&self, record: &Record, spec: &VolumeSpec) -> Result<(), VolumeError> {
        match &spec.content {
            Content::WorkloadApi(socket) => Ok(self.folder(record)?.keep_only(&socket.sockets)?),
            Content::Files(_) | Content::Passthrough => Ok(()),
        }
    }

    /// Ends the former socket of a volume with files, and removes its stored identity. The pod has the files by then, which must
    /// be recorded, so a failure is only reported, and what is left is removed later.
    pub(super) fn remove_former_socket(&self, spec: &VolumeSpec) {
        let Some(workload_api) = &self.workload_api else { return };
        if let Err(error) = workload_api.remove(&spec.id) {
            warn!(volume = %spec.id, error = report::chain(&error), "cannot remove the stored identity of a former socket");
            self.later.again(spec.id.clone(), 1);
        }
    }

    /// Restores names of the socket that a failed delivery of files has replaced.
    pub(super) fn put_socket_back(&self, record: &Record, folder: &VolumeFolder) {
        let (Some(workload_api), Content::WorkloadApi(socket)) = (&self.workload_api, &record.spec.content) else {
            return;
        };
        if let Err(error) = workload_api.serve(&record.spec, &socket.sockets, folder) {
            warn!(volume = %record.spec.id, error = report::chain(&error), "cannot restore the socket of a volume");
        }
    }

    /// Reverts the delivery of a socket that could not be mounted or recorded, so that the volume matches its record.
    pub(in crate::node::volume) fn undeliver(&self, record: &Record, spec: &VolumeSpec) {
        if let (Content::WorkloadApi(socket), Ok(folder)) = (&spec.content, self.folder(record)) {
            self.take_back_socket(record, socket, &folder);
        }
    }

    /// Removes an undelivered socket, which a check would mistake for a change by the pod.
    pub(super) fn take_back_socket(&self, record: &Record, socket: &SocketSpec, folder: &VolumeFolder) {
        let Some(workload_api) = &self.workload_api else { return };
        let taken_back = match &record.spec.content {
            Content::WorkloadApi(before) => workload_api.go_back(&record.spec, &before.sockets, folder),
            Content::Files(_) | Content::Passthrough => workload_api.remove(&record.spec.id).and_then(|()| {
                folder.change(|folder| {
                    let mut budget = budget();
                    let mut names = socket.sockets.iter();
                    names.try_for_each(|name| folder.remove_within(name.as_str(), &mut budget))?;
                    folder.shape(folder_mode(&record.spec.content), None)?;
                    files::restore_names(folder, &mut budget)
                })
            }),
        };
        if let Err(error) =
            taken_back.map_err(VolumeError::from).and_then(|()| self.holds_bytes(&record.spec, record.bytes))
        {
            warn!(volume = %record.spec.id, error = report::chain(&error), "cannot remove an undelivered socket from a volume");
        }
    }
}
