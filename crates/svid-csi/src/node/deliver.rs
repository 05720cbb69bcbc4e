//! What a pod is given, put where its volume shows it. Everything here blocks; the volume's lock is held.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use svid_csi_core::files::{FOLDER_MODE, render, with_bundle};
use svid_csi_core::identity::leads_to;
use svid_csi_core::state::{FileId, Record};
use svid_csi_core::volume::{Content, FilesSpec, SocketSpec, VolumeSpec};
use svid_csi_core::x509_context::X509Context;

use super::Node;
use super::error::VolumeError;
use super::volume::Volume;
use crate::clock;
use crate::delivery::{files, folders, workload_api};
use crate::fsx;

impl Node {
    /// Makes the folder that is to be mounted, and tells its identity.
    pub(super) fn prepare(&self, spec: &VolumeSpec) -> Result<Option<FileId>, VolumeError> {
        Ok(self.folders()?.prepare(&spec.id, folder_mode(&spec.content))?)
    }

    /// Shows the volume's pod what it is given. On failure it goes on seeing what it saw.
    pub(super) fn deliver(&self, spec: &VolumeSpec, context: &Arc<X509Context>) -> Result<(), VolumeError> {
        let folder = self.folders()?.folder(&spec.id);
        match &spec.content {
            Content::Passthrough => {}
            Content::Files(wanted) => {
                let rendered = render(context.default_svid(), &wanted.names);
                files::install(&folder, &rendered, wanted.fs_group, clock::now())?;
                if let Some(workload_api) = &self.workload_api {
                    workload_api.remove(&spec.id)?;
                }
            }
            Content::WorkloadApi(socket) => {
                let workload_api = self.workload_api()?;
                workload_api.serve(spec, socket, &folder)?;
                workload_api.give(&spec.id, context.clone())?;
            }
        }
        // Another delivery may have made it.
        Ok(fsx::ensure_mode(&folder, folder_mode(&spec.content))?)
    }

    /// After a start: what is not in files is served again, as it was kept. A volume of which nothing was kept is to be
    /// renewed at once.
    pub(super) fn deliver_again(&self, volume: &mut Volume) -> Result<(), VolumeError> {
        let spec = &volume.record.spec;
        let Content::WorkloadApi(socket) = &spec.content else { return Ok(()) };
        if volume.record.issued.is_none() {
            return Ok(());
        }
        let workload_api = self.workload_api()?;
        workload_api.serve(spec, socket, &self.folders()?.folder(&spec.id))?;
        let kept = workload_api.give_kept(&spec.id);
        volume.record.issued.take_if(|_| kept.is_none());
        Ok(())
    }

    /// Puts back a socket that somebody has removed.
    pub(super) fn see_that_it_is_served(&self, volume: &Volume) -> Result<(), VolumeError> {
        let spec = &volume.record.spec;
        match (&spec.content, &volume.record.issued) {
            (Content::WorkloadApi(socket), Some(_)) => {
                Ok(self.workload_api()?.serve(spec, socket, &self.folders()?.folder(&spec.id))?)
            }
            _ => Ok(()),
        }
    }

    /// Why a volume's socket is of no use to its pod; `None` where it is.
    pub(super) fn trouble_of_socket(&self, record: &Record, socket: &SocketSpec) -> Option<String> {
        let id = &record.spec.id;
        let (Some(workload_api), Some(folders)) = (&self.workload_api, &self.folders) else {
            return Some("this driver serves no sockets".to_owned());
        };
        if record.issued.is_none() && workload_api.given(id).is_none() {
            return Some("the pod has no identity: it was withdrawn, or could not be kept across a restart".to_owned());
        }
        let served = workload_api.serves(id, socket, &folders.folder(id));
        (!served)
            .then(|| "the volume's socket was removed or replaced; restart the driver to have it put back".to_owned())
    }

    /// Shows the volume's pod another bundle of its trust domain, beside the certificates that are there. Answers
    /// whether they lead to it; nothing where there are none.
    pub(super) fn deliver_bundle(
        &self,
        spec: &VolumeSpec,
        bundle: &[CertificateDer<'static>],
    ) -> Result<Option<bool>, VolumeError> {
        match &spec.content {
            Content::Passthrough => Ok(None),
            Content::Files(wanted) => self.rewrite_bundle(spec, wanted, bundle).map(Some),
            Content::WorkloadApi(_) => {
                let workload_api = self.workload_api()?;
                let Some(given) = workload_api.given(&spec.id) else { return Ok(None) };
                let context = given.with_bundle(bundle);
                // Mostly a CA is added, and what led to one of the others still does: to verify a chain takes longer than
                // all the rest.
                let trusted = given.bundle().iter().all(|anchor| bundle.contains(anchor))
                    || leads_to(context.default_svid().chain(), bundle, clock::now());
                workload_api.give(&spec.id, Arc::new(context))?;
                Ok(Some(trusted))
            }
        }
    }

    fn rewrite_bundle(
        &self,
        spec: &VolumeSpec,
        wanted: &FilesSpec,
        bundle: &[CertificateDer<'static>],
    ) -> Result<bool, VolumeError> {
        let folder = self.folders()?.folder(&spec.id);
        let (shown, chain) = with_bundle(files::shown(&folder, &wanted.names)?, &wanted.names, bundle)?;
        files::install(&folder, &shown, wanted.fs_group, clock::now())?;
        Ok(leads_to(&chain, bundle, clock::now()))
    }

    /// Takes away what the volume's pod was given: its source has withdrawn it.
    pub(super) fn withdraw(&self, volume: &mut Volume) -> Result<(), VolumeError> {
        let spec = &volume.record.spec;
        let folder = self.folders()?.folder(&spec.id);
        match &spec.content {
            Content::Passthrough => {}
            Content::Files(_) => folders::keep_only(&folder, &[])?,
            Content::WorkloadApi(_) => self.workload_api()?.withdraw(&spec.id, &folder)?,
        }
        volume.record.issued = None;
        self.store.put(&volume.record)?;
        Ok(())
    }
}

/// The mode of a volume's folder.
fn folder_mode(content: &Content) -> u32 {
    match content {
        Content::WorkloadApi(_) => workload_api::FOLDER_MODE,
        Content::Files(_) | Content::Passthrough => FOLDER_MODE,
    }
}
