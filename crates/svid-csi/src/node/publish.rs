//! Publish: intent first, then the effect.

use std::sync::Arc;
use std::time::Duration;

use svid_csi_core::renew;
use svid_csi_core::secret::Secret;
use svid_csi_core::state::{FileId, Phase, Record};
use svid_csi_core::volume::{Subject, VolumeSpec};
use svid_csi_core::volume_id::VolumeId;
use svid_csi_core::x509_context::X509Context;
use tracing::{info, warn};

use super::Node;
use super::adopt::as_adopted;
use super::deliver::mixes_trust_domains;
use super::error::VolumeError;
use super::jwt::Jwt;
use super::room::{Occasion, Place};
use super::volume::{Held, Volume, issued};
use crate::clock;
use crate::mount::{self, Look, MountError, MountPoint};
use crate::source::Turn;

/// How many volumes one pod may have, so that no pod can fill the node's volume data.
const VOLUMES_A_POD: usize = 16;

/// What the kubelet brings along with a publish, and never again.
#[derive(Debug, Default)]
pub struct Brought {
    /// The pod's service account tokens.
    pub tokens: Option<Secret>,
    /// The password of the volume's PKCS#12 files.
    pub pkcs12_password: Option<Secret>,
}

impl Node {
    /// Publishes a volume, or finds that it is published. Waits for its source no longer than `patience`. A healthy volume
    /// keeps what it has if this fails.
    ///
    /// # Errors
    /// [`VolumeError`].
    pub async fn publish(
        self: &Arc<Self>,
        driver: &str,
        spec: Arc<VolumeSpec>,
        brought: Brought,
        patience: Duration,
    ) -> Result<(), VolumeError> {
        let id = spec.id.clone();
        let held = self.volumes.hold(&id).await;
        let unready = ForgottenUnlessReady { node: self, id, ready: false };
        match spec.subject().cloned() {
            None => self.publish_passthrough(driver, spec, held).await,
            Some(subject) => self.publish_identity(driver, spec, subject, brought, patience, held).await,
        }
        .map(|()| unready.defuse())
    }

    async fn publish_passthrough(
        self: &Arc<Self>,
        driver: &str,
        spec: Arc<VolumeSpec>,
        mut held: Held,
    ) -> Result<(), VolumeError> {
        let (node, driver) = (self.clone(), driver.to_owned());
        tokio::task::spawn_blocking(move || {
            let point = MountPoint::open(&spec.target)?;
            let source = node.socket_dir()?.source(spec.read_only)?;
            if is_published(held.as_ref(), &spec, &point, Some(source.id()))? {
                return Ok(());
            }
            check_same_volume(held.as_ref(), &spec)?;
            let place = node.promise(&spec, held.as_ref())?;
            let volume = node.intend(&driver, &spec, &point, Some(source.id()), place, &mut held)?;
            node.mount(volume, &point, &source)?;
            node.holds_least(&spec)?;
            node.ready(volume, spec)?;
            volume.stop_renewing();
            Ok(())
        })
        .await?
    }

    async fn publish_identity(
        self: &Arc<Self>,
        driver: &str,
        spec: Arc<VolumeSpec>,
        subject: Subject,
        brought: Brought,
        patience: Duration,
        mut held: Held,
    ) -> Result<(), VolumeError> {
        let (node, driver) = (self.clone(), driver.to_owned());
        let id = spec.id.clone();
        let Brought { tokens, pkcs12_password } = brought;
        let begun = tokio::task::spawn_blocking(move || {
            let point = MountPoint::open(&spec.target)?;
            let spec = as_adopted(held.as_ref(), spec);
            if node.adopt(&driver, &spec, &point, &mut held)? {
                return Ok(None);
            }
            if is_published(held.as_ref(), &spec, &point, None)? {
                let Some(volume) = held.as_mut() else { return Ok(None) };
                if node.keep_password(volume, &spec, pkcs12_password.as_ref())? {
                    volume.renew_now.notify_one();
                }
                return node.see_that_it_is_fresh(volume).map(|()| None);
            }
            check_same_volume(held.as_ref(), &spec)?;
            let place = node.promise(&spec, held.as_ref())?;
            let root = node.prepare(&spec)?;
            let volume = node.intend(&driver, &spec, &point, root, place, &mut held)?;
            node.keep_password(volume, &spec, pkcs12_password.as_ref())?;
            Ok::<_, VolumeError>(Some((held, point, spec)))
        });
        let begun = begun.await??;
        // Only now: a call about another pod's volume fails before.
        self.sources.offer(&id, &subject, tokens.as_ref());
        let Some((mut held, point, spec)) = begun else { return Ok(()) };
        let kept = held.as_mut().and_then(|volume| still_good(volume, &subject));
        let first = self
            .first(&spec, &subject, kept, patience)
            .await
            .inspect_err(|error| self.tell_pod_of_denial(&spec, error))?;
        let node = self.clone();
        tokio::task::spawn_blocking(move || node.install_first(held, &point, spec, first)).await?
    }

    /// What the pod is given first, unless it is kept from an earlier call.
    async fn first(
        &self,
        spec: &VolumeSpec,
        subject: &Subject,
        kept: Option<Arc<X509Context>>,
        patience: Duration,
    ) -> Result<First, VolumeError> {
        let given = async {
            let context = match kept {
                Some(context) => context,
                None => Arc::new(self.sources.next(spec, subject, Turn::First).await?),
            };
            Ok(First { context, jwt: self.jwt(spec).await? })
        };
        match tokio::time::timeout(patience, given).await {
            Ok(given) => given,
            Err(_) => {
                let waits_for = self.sources.waiting_of(&spec.id);
                Err(VolumeError::Slow { seconds: patience.as_secs().max(1), waits_for })
            }
        }
    }

    fn install_first(
        self: &Arc<Self>,
        mut held: Held,
        point: &MountPoint,
        spec: Arc<VolumeSpec>,
        first: First,
    ) -> Result<(), VolumeError> {
        let Some(volume) = held.as_mut() else { return Ok(()) };
        let installed = self.install(volume, point, spec, &first);
        if installed.is_err() {
            volume.uninstalled = Some(first.context);
        }
        installed
    }

    fn install(
        self: &Arc<Self>,
        volume: &mut Volume,
        point: &MountPoint,
        spec: Arc<VolumeSpec>,
        First { context, jwt }: &First,
    ) -> Result<(), VolumeError> {
        let id = spec.id.clone();
        let folders = self.folders()?;
        let in_use = self.reach(volume, point)?;
        if !in_use {
            folders.let_go(&id)?;
        }
        self.deliver(&spec, context, jwt.as_ref(), Occasion::Publish)?;
        if in_use {
            volume.record.root = folders.root(&id);
        } else {
            self.mount(volume, point, &folders.source(&id)?)?;
        }
        if mixes_trust_domains(&spec, context) {
            warn!(volume = %id, "svid-csi/federated: merged lets the CAs of every federated trust domain vouch for every ID in the volume's trust bundle");
        }
        volume.record.issued = Some(issued(&spec, context, jwt.as_ref()));
        self.ready(volume, spec)?;
        self.audit(volume, context, jwt.as_ref());
        self.keep_renewing(volume);
        self.bring_bundle_to(Some(volume));
        Ok(())
    }

    /// Records the intent to publish, or fails when something foreign is at the target.
    ///
    /// The record says what is about to be mounted before it is: a start must know it again. What a ready volume is
    /// recorded as stays until it is something else.
    fn intend<'a>(
        &self,
        driver: &str,
        spec: &Arc<VolumeSpec>,
        point: &MountPoint,
        root: Option<FileId>,
        place: Option<Place>,
        held: &'a mut Held,
    ) -> Result<&'a mut Volume, VolumeError> {
        let known = held.as_ref().map(|volume| &volume.record);
        match point.look()? {
            Look::NotAFolder => return Err(MountError::NotAFolder(spec.target.path().to_owned()).into()),
            Look::Mounted(root) if !self.is_ours(driver, &spec.id, known, point, root) => {
                return Err(MountError::Foreign(spec.target.path().to_owned()).into());
            }
            _ => {}
        }
        if known.is_some_and(|record| record.phase != Phase::Ready && record.root != root) {
            // Nobody uses it yet, and the record is about to forget it.
            point.detach_while(|shown| self.is_ours(driver, &spec.id, known, point, shown))?;
        }
        let mut volume = match held.take() {
            Some(volume) => volume,
            None => self.new_volume(driver, spec, place)?,
        };
        volume.attempts += 1;
        let volume = held.insert(volume);
        if volume.record.phase != Phase::Ready {
            volume.record = Record { phase: Phase::Intended, root, spec: spec.clone(), ..volume.record.clone() };
            self.store.put(&volume.record)?;
        }
        Ok(volume)
    }

    pub(super) fn new_volume(
        &self,
        driver: &str,
        spec: &Arc<VolumeSpec>,
        place: Option<Place>,
    ) -> Result<Volume, VolumeError> {
        let share = self.volumes.share(spec.pod.as_ref(), VOLUMES_A_POD, place);
        let share = share.ok_or(VolumeError::TooMany(VOLUMES_A_POD))?;
        let pods_dir = spec.target.place().and_then(|place| mount::file_id_of(place.pods_dir));
        Ok(Volume::new(Record::intended(driver, spec.clone(), pods_dir), share))
    }

    fn ready(&self, volume: &mut Volume, spec: Arc<VolumeSpec>) -> Result<(), VolumeError> {
        volume.record.phase = Phase::Ready;
        volume.record.spec = spec;
        volume.record = self.with_bytes(volume.record.clone());
        self.store.put(&volume.record)?;
        info!(
            volume = %volume.record.spec.id,
            pod = volume.record.spec.pod.as_ref().map(ToString::to_string),
            plan = %volume.record.spec.plan(), "volume published"
        );
        Ok(())
    }
}

/// What a pod is given first.
struct First {
    context: Arc<X509Context>,
    jwt: Option<Jwt>,
}

/// Starts the clock of [`Node::forget_later`] unless the volume got ready, also when the call is gone before its end.
struct ForgottenUnlessReady<'a> {
    node: &'a Arc<Node>,
    id: VolumeId,
    ready: bool,
}

impl ForgottenUnlessReady<'_> {
    fn defuse(mut self) {
        self.ready = true;
    }
}

impl Drop for ForgottenUnlessReady<'_> {
    fn drop(&mut self) {
        if !self.ready {
            self.node.forget_later(self.id.clone());
        }
    }
}

/// What an earlier call was given and could not install, unless it is due for renewal by now.
fn still_good(volume: &mut Volume, subject: &Subject) -> Option<Arc<X509Context>> {
    let same = |context: &Arc<X509Context>| subject.identity.as_ref() == Some(context.default_svid().id());
    let context = volume.uninstalled.take().filter(same)?;
    (!renew::delay(&context.held(), clock::now(), 0.0).is_zero()).then_some(context)
}

/// One id is one volume of one pod.
fn check_same_volume(volume: Option<&Volume>, spec: &VolumeSpec) -> Result<(), VolumeError> {
    match volume.map(|volume| &volume.record.spec).filter(|known| !known.same_volume(spec)) {
        Some(known) => Err(VolumeError::Conflict { id: spec.id.clone(), target: known.target.path().to_owned() }),
        None => Ok(()),
    }
}

/// Whether the volume is published as asked, so that nothing is to be done.
fn is_published(
    volume: Option<&Volume>,
    spec: &VolumeSpec,
    point: &MountPoint,
    source: Option<FileId>,
) -> Result<bool, VolumeError> {
    let Some(record) = volume.map(|volume| &volume.record).filter(|record| record.phase == Phase::Ready) else {
        return Ok(false);
    };
    let expected = source.or(record.root);
    Ok(*record.spec == *spec && expected.is_some_and(|root| point.look().ok() == Some(Look::Mounted(root))))
}
