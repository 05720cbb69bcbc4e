//! Delivers identities into volumes. All functions block; the volume's lock is held.

mod socket;

use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use svid_csi_core::files::{self as contents, FOLDER_MODE, Federated, FileName, RenderedFile, Wanted};
use svid_csi_core::identity::{Rejection, TrustBundle, leads_to};
use svid_csi_core::pkcs12::Password;
use svid_csi_core::plan::{Source, one_of};
use svid_csi_core::state::{FileId, Issued, Record};
use svid_csi_core::volume::{Content, FilesSpec, VolumeSpec};
use svid_csi_core::x509_context::X509Context;

use super::error::VolumeError;
use super::jwt::Jwt;
use super::later::Later;
use super::reports::Reports;
use super::room::{Occasion, Room};
use crate::delivery::files::{self, FormerFiles};
use crate::delivery::folders::VolumeFolders;
use crate::delivery::passwords::Passwords;
use crate::delivery::socket_dir::SocketDir;
use crate::delivery::volume_folder::VolumeFolder;
use crate::delivery::workload_api::{self, WorkloadApi};
use crate::host::clock;
use crate::source::Sources;

/// What volumes are made of: their folders with the room for them, sockets, passwords, and the agent's directory.
#[derive(Debug)]
pub(crate) struct Deliveries {
    pub(crate) folders: Option<VolumeFolders>,
    pub(crate) workload_api: Option<WorkloadApi>,
    pub(crate) passwords: Option<Passwords>,
    pub(crate) socket_dir: Option<Arc<SocketDir>>,
    pub(crate) room: Option<Room>,
    pub(in crate::node) sources: Arc<Sources>,
    pub(in crate::node) reports: Arc<Reports>,
    pub(in crate::node) later: Arc<Later>,
}

impl Deliveries {
    pub(crate) fn folders(&self) -> Result<&VolumeFolders, VolumeError> {
        static MISSING: LazyLock<String> = LazyLock::new(|| {
            let sources = Source::ALL.into_iter().filter(|source| source.issuer().is_some());
            format!("identities (--source {}, --data-root)", one_of(sources))
        });
        self.folders.as_ref().ok_or(VolumeError::NotConfigured(&MISSING))
    }

    /// Whether volumes whose files this driver writes are protected from their pods, even if their mounts are writable.
    pub(crate) fn seals(&self) -> bool {
        self.folders.as_ref().is_some_and(VolumeFolders::seals)
    }

    pub(crate) fn workload_api(&self) -> Result<&WorkloadApi, VolumeError> {
        let missing = "Workload API sockets (--delivery workload-api, or --allow-plan)";
        self.workload_api.as_ref().ok_or(VolumeError::NotConfigured(missing))
    }

    pub(crate) fn socket_dir(&self) -> Result<&Arc<SocketDir>, VolumeError> {
        self.socket_dir.as_ref().ok_or(VolumeError::NotConfigured("--workload-api-socket-dir"))
    }

    /// Creates the folder to be mounted, and returns its identity.
    pub(super) fn prepare(&self, spec: &VolumeSpec, known: Option<&Record>) -> Result<Option<FileId>, VolumeError> {
        self.keep_writable();
        Ok(self.folders()?.prepare(&spec.id, folder_mode(&spec.content), known.and_then(Record::filled))?)
    }

    /// The volume's folder, into which its pod may have written.
    pub(super) fn folder(&self, record: &Record) -> Result<VolumeFolder, VolumeError> {
        self.keep_writable();
        Ok(self.folders()?.open_volume(&record.spec.id, record.filled())?)
    }

    /// Delivers an identity to the volume's pod; without `jwt`, its tokens stay. On failure the pod keeps the previous
    /// content. Returns the digest of the text in which its files have the trust bundle, for its record.
    pub(super) fn deliver(
        &self,
        record: &Record,
        spec: &Arc<VolumeSpec>,
        context: &Arc<X509Context>,
        jwt: Option<&Jwt>,
        occasion: Occasion,
    ) -> Result<Option<Box<str>>, VolumeError> {
        let folder = self.folder(record)?;
        let mut text = None;
        match &spec.content {
            Content::Passthrough => {}
            Content::Files(wanted) => {
                let before = self.files_before(record, &folder, wanted, jwt.is_some())?;
                let (password, now) = (self.password(spec, wanted)?, clock::now());
                let given = jwt.map(Jwt::given);
                let wants = wants(wanted, password.as_ref());
                let mut rendered = contents::all(before, context, given.as_ref(), wants, now)?;
                let bundle = spec.plan().issuer().and_then(|issuer| self.sources.trust_bundle(issuer));
                // Another bundle is delivered after this.
                if let Some(bundle) = bundle.filter(|bundle| bundle.certificates() == context.bundle()) {
                    contents::keep_text(&mut rendered, &bundle, &wanted.names);
                    text = bundle.text_digest().map(Box::from);
                }
                self.write_files(spec, wanted, &folder, &rendered, occasion, now)
                    .inspect_err(|_| self.put_socket_back(record, &folder))?;
                self.remove_former_socket(spec);
            }
            Content::WorkloadApi(socket) => {
                let given = self.give(record, spec, socket, &folder, context, occasion);
                given.inspect_err(|_| self.take_back_socket(record, socket, &folder))?;
            }
        }
        Ok(text)
    }

    /// Delivers another bundle of its trust domain to the volume's pod, beside the existing certificates. Returns
    /// whether they lead to it, or why not; `None` if there are none.
    pub(super) fn deliver_bundle(
        &self,
        record: &Record,
        bundle: &TrustBundle,
    ) -> Result<Option<Result<(), Rejection>>, VolumeError> {
        let spec = &record.spec;
        match &spec.content {
            Content::Passthrough => Ok(None),
            Content::Files(wanted) => self.rewrite_bundle(record, wanted, bundle).map(Some),
            Content::WorkloadApi(_) => {
                let workload_api = self.workload_api()?;
                let Some(given) = workload_api.given(&spec.id) else { return Ok(None) };
                let bundle = bundle.certificates();
                let is_current = given.bundle() == bundle;
                let context = if is_current { given } else { Arc::new(given.with_bundle(bundle)) };
                let size = workload_api::size_of(&context);
                self.write(spec, Occasion::Renewal, [size], || workload_api.give(&spec.id, context.clone()))?;
                Ok(Some(leads_to(context.default_svid().chain(), bundle, clock::now())))
            }
        }
    }

    fn rewrite_bundle(
        &self,
        record: &Record,
        wanted: &FilesSpec,
        bundle: &TrustBundle,
    ) -> Result<Result<(), Rejection>, VolumeError> {
        let folder = self.folder(record)?;
        let (password, now) = (self.password(&record.spec, wanted)?, clock::now());
        let before = self.delivered_files(record, &folder)?;
        let (wants, certificates) = (wants(wanted, password.as_ref()), bundle.certificates());
        let (mut rendered, chain) = contents::with_bundle(before, certificates, wants, now)?;
        contents::keep_text(&mut rendered, bundle, &wanted.names);
        self.write_files(&record.spec, wanted, &folder, &rendered, Occasion::Renewal, now)?;
        Ok(leads_to(&chain, certificates, now))
    }

    /// Delivers other tokens and JWT bundles to the volume's pod, beside its other files.
    pub(super) fn deliver_jwt(&self, record: &Record, jwt: &Jwt) -> Result<(), VolumeError> {
        let Content::Files(wanted) = &record.spec.content else { return Ok(()) };
        let (folder, now) = (self.folder(record)?, clock::now());
        let extras = jwt.extras(&wanted.extras);
        let came = Wanted { names: &wanted.names, extras: &extras, password: None };
        let rendered = contents::with_jwt(self.delivered_files(record, &folder)?, &jwt.given(), came, now)?;
        self.write_files(&record.spec, wanted, &folder, &rendered, Occasion::Renewal, now)
    }

    /// Replaces the files of a volume, if they fit on that occasion.
    fn write_files(
        &self,
        spec: &VolumeSpec,
        wanted: &FilesSpec,
        folder: &VolumeFolder,
        rendered: &[RenderedFile],
        occasion: Occasion,
        now: SystemTime,
    ) -> Result<(), VolumeError> {
        let sizes = rendered.iter().map(|file| file.contents.len());
        let former = self.write(spec, occasion, sizes, || files::install(folder, rendered, wanted.fs_group, now))?;
        if former == FormerFiles::Left {
            self.later.again(spec.id.clone(), 1);
        }
        Ok(())
    }

    /// The password of the volume's PKCS#12 files, if it has any.
    fn password(&self, spec: &VolumeSpec, wanted: &FilesSpec) -> Result<Option<Password>, VolumeError> {
        match (wanted.extras.need_password(), wanted.extras.own_password) {
            (false, _) => Ok(None),
            (true, false) => Ok(Some(Password::well_known())),
            (true, true) => Ok(self.passwords.as_ref().map_or(Ok(None), |passwords| passwords.get(&spec.id))?),
        }
    }

    pub(super) fn take_away(&self, record: &Record) -> Result<(), VolumeError> {
        let (spec, folder) = (&record.spec, self.folder(record)?);
        self.removing(spec, true, || match &spec.content {
            // A republish could not unmount it, so the pod still has the former content.
            Content::Passthrough if record.filled().is_some() => {
                if let Some(workload_api) = &self.workload_api {
                    workload_api.remove(&spec.id)?;
                }
                Ok(folder.keep_only(&[])?)
            }
            Content::Passthrough => Ok(()),
            Content::Files(_) => {
                files::take_away(&folder)?;
                // A republish as a socket may have failed after it was served.
                if let Some(workload_api) = &self.workload_api {
                    workload_api.remove(&spec.id)?;
                }
                Ok(())
            }
            Content::WorkloadApi(_) => Ok(self.workload_api()?.withdraw(&spec.id, &folder)?),
        })
    }
}

impl Deliveries {
    /// Removes what earlier deliveries have left in a volume.
    pub(super) fn tidy(&self, record: &Record) -> Result<(), VolumeError> {
        let spec = &record.spec;
        match &spec.content {
            Content::Passthrough => Ok(()),
            Content::Files(_) => {
                if let Some(workload_api) = &self.workload_api {
                    workload_api.remove(&spec.id)?;
                }
                Ok(files::remove_former(&self.folder(record)?)?)
            }
            Content::WorkloadApi(_) => self.remove_former(record, spec),
        }
    }
}

fn sockets_of(spec: &VolumeSpec) -> &[FileName] {
    match &spec.content {
        Content::WorkloadApi(socket) => &socket.sockets,
        Content::Files(_) | Content::Passthrough => &[],
    }
}

pub(super) fn has_own_password(spec: &VolumeSpec) -> bool {
    matches!(&spec.content, Content::Files(wanted) if wanted.extras.own_password)
}

/// Whether the volume's PKCS#12 files may still have the previous password.
pub(super) fn awaits_password(spec: &VolumeSpec, issued: &Issued) -> bool {
    has_own_password(spec) && issued.digest.is_none()
}

/// The mode of a volume's folder.
fn folder_mode(content: &Content) -> u32 {
    match content {
        Content::WorkloadApi(_) => workload_api::FOLDER_MODE,
        Content::Files(_) | Content::Passthrough => FOLDER_MODE,
    }
}

fn wants<'a>(wanted: &'a FilesSpec, password: Option<&'a Password>) -> Wanted<'a> {
    Wanted { names: &wanted.names, extras: &wanted.extras, password }
}

/// Whether the volume's bundle lets other trust domains vouch for any ID.
pub(super) fn mixes_trust_domains(spec: &VolumeSpec, context: &X509Context) -> bool {
    let merges = |wanted: &FilesSpec| wanted.extras.federated == Federated::Merged;
    matches!(&spec.content, Content::Files(wanted) if merges(wanted)) && !context.federated().is_empty()
}
