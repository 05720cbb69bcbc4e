//! Publishing: first the intent, then the effects.

use std::ops::ControlFlow::{Break, Continue};
use std::sync::Arc;
use std::time::Duration;

use svid_csi_core::renew;
use svid_csi_core::secret::Secret;
use svid_csi_core::state::Record;
use svid_csi_core::target::TargetPath;
use svid_csi_core::volume::{Content, Subject, VolumeSpec};
use svid_csi_core::volume_id::VolumeId;
use svid_csi_core::x509_context::X509Context;
use tokio::time::Instant;
use tracing::field::{Empty, display};
use tracing::{Instrument, info_span, warn};

use super::Node;
use super::adopt::as_adopted;
use super::deliver::mixes_trust_domains;
use super::error::VolumeError;
use super::intent::{check_same_volume, is_published, may_be_mounted_at};
use super::jwt::Jwt;
use super::mount::may_show_agent;
use super::registry::{Held, Volume, issued};
use super::room::Occasion;
use crate::delivery::socket_dir::SocketDir;
use crate::host::clock;
use crate::host::mount::{MountPoint, MountSource};
use crate::source::Reason;
use crate::telemetry::log::SPANS;
use crate::telemetry::report;

/// Data that the kubelet sends with a publish, and only then.
#[derive(Debug, Default)]
pub struct Brought {
    /// The pod's service account tokens.
    pub tokens: Option<Secret>,
    /// The password of the volume's PKCS#12 files.
    pub pkcs12_password: Option<Secret>,
}

/// What a successful publish has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publication {
    /// The volume is published now.
    New,
    /// It was published already.
    Unchanged,
}

impl Node {
    /// Publishes a volume, unless it is already published. Waits for its source no longer than `patience`. If this
    /// fails, a healthy volume keeps its content.
    ///
    /// After a final code the kubelet may never unpublish. So none is returned for a volume that may be mounted already: the
    /// kubelet may have timed out then, or its unpublish has failed. Volumes that are not published are removed when the kubelet does not request them again.
    ///
    /// # Errors
    /// [`VolumeError`].
    pub async fn publish(
        self: &Arc<Self>,
        driver: &str,
        spec: Arc<VolumeSpec>,
        brought: Brought,
        patience: Duration,
    ) -> Result<Publication, VolumeError> {
        let id = spec.id.clone();
        let held = self.hold(&id).await?;
        let may_be_mounted = self.may_be_mounted(held.as_ref(), &id, &spec.target);
        let (unready, about) = (ForgottenUnlessReady { node: self, id, ready: false }, spec.clone());
        let published = match spec.subject().cloned() {
            None => self.publish_passthrough(driver, spec, patience, held).await,
            Some(subject) => self.publish_identity(driver, spec, subject, brought, patience, held).await,
        };
        published
            .inspect(|_| unready.defuse())
            .inspect_err(|error| self.reports.not_published(&about, error))
            .map_err(|error| if may_be_mounted { error.begun() } else { error })
    }

    /// The failure of a publish whose request was refused. See [`Node::publish`].
    pub async fn refusal(self: &Arc<Self>, volume_id: &str, target_path: &str, why: VolumeError) -> VolumeError {
        let (Ok(id), Ok(target)) = (VolumeId::parse(volume_id), TargetPath::parse(target_path)) else { return why };
        match self.hold(&id).await {
            Ok(held) if !self.may_be_mounted(held.as_ref(), &id, &target) => why,
            _ => why.begun(),
        }
    }

    /// Also if its record is damaged, because that would say where.
    fn may_be_mounted(&self, held: Option<&Volume>, id: &VolumeId, target: &TargetPath) -> bool {
        may_be_mounted_at(held, target) || held.is_none() && self.store.may_have_unread(id)
    }

    async fn publish_passthrough(
        self: &Arc<Self>,
        driver: &str,
        spec: Arc<VolumeSpec>,
        patience: Duration,
        held: Held,
    ) -> Result<Publication, VolumeError> {
        let (node, driver) = (self.clone(), driver.to_owned());
        let publish = move |socket_dir: &Arc<SocketDir>| {
            let mut held = held;
            let point = MountPoint::open(&spec.target)?;
            let source = socket_dir.source(&spec.id, spec.read_only)?;
            if is_published(held.as_ref(), &spec, &point, Some(source.id()))? {
                return Ok(Publication::Unchanged);
            }
            check_same_volume(held.as_ref(), &spec)?;
            node.check_target(&driver, &spec, &point, held.as_ref())?;
            let space = node.deliveries.promise(&spec, held.as_ref())?;
            node.intend(&driver, &spec, &point, Some(source.id()), space, &mut held)?;
            if let Some(volume) = held.as_mut() {
                node.pass_through(volume, &point, &source, spec).map_err(VolumeError::begun)?;
            }
            Ok(Publication::New)
        };
        // It may wait for others as long as it may take.
        self.deliveries.socket_dir()?.look_within(patience / 2, publish).await?
    }

    fn pass_through(
        &self,
        volume: &mut Volume,
        point: &MountPoint,
        source: &MountSource,
        spec: Arc<VolumeSpec>,
    ) -> Result<(), VolumeError> {
        if !volume.is_renewed() {
            self.sources.forget(&volume.record().spec);
        }
        let record = volume.record();
        if !record.is_settled() && point.look()?.mounted() == record.root && passes_through(record) {
            // An earlier call failed after this mount or before the next one. The record has no place for a third root.
            self.end_identity(volume)?;
            self.record(volume, Record::end_identity)?;
        }
        let has_data = !passes_through(volume.record()) || !volume.record().is_settled();
        self.mount(volume, point, source, &spec)?;
        self.deliveries.holds_least(&spec)?;
        if has_data {
            self.end_identity(volume)?;
        }
        self.ready(volume, spec, None)
    }

    /// Ends the renewal of a volume that is now mounted as a passthrough, and removes its former data.
    fn end_identity(&self, volume: &mut Volume) -> Result<(), VolumeError> {
        if let Some(before) = volume.stop_renewing() {
            self.sources.forget(&before);
        }
        let record = volume.record();
        self.deliveries.remove_data(&record.spec.id, record.filled())
    }

    async fn publish_identity(
        self: &Arc<Self>,
        driver: &str,
        spec: Arc<VolumeSpec>,
        subject: Subject,
        brought: Brought,
        patience: Duration,
        mut held: Held,
    ) -> Result<Publication, VolumeError> {
        let (node, driver) = (self.clone(), driver.to_owned());
        let id = spec.id.clone();
        let Brought { tokens, pkcs12_password } = brought;
        // If it did not have the agent's directory, what is mounted is of this driver.
        let had_agent = held.as_ref().is_some_and(|volume| may_show_agent(Some(volume.record())));
        let begin = move || {
            let point = MountPoint::open(&spec.target)?;
            let spec = as_adopted(held.as_ref(), spec);
            if node.adopt(&driver, &spec, &point, &mut held)? {
                return Ok(Break(Publication::New));
            }
            if is_published(held.as_ref(), &spec, &point, None)? {
                let Some(volume) = held.as_mut() else { return Ok(Break(Publication::Unchanged)) };
                if node.keep_password(volume, &spec, pkcs12_password.as_ref()).map_err(VolumeError::begun)? {
                    volume.renew_now.notify_one();
                }
                node.ensure_renewal_running(volume).map_err(VolumeError::begun)?;
                return Ok(Break(Publication::Unchanged));
            }
            check_same_volume(held.as_ref(), &spec)?;
            node.check_target(&driver, &spec, &point, held.as_ref())?;
            let space = node.deliveries.promise(&spec, held.as_ref())?;
            let root = node.deliveries.prepare(&spec, held.as_ref().map(Volume::record))?;
            node.intend(&driver, &spec, &point, root, space, &mut held)?;
            let Some(volume) = held.as_mut() else { return Ok(Break(Publication::New)) };
            node.keep_password(volume, &spec, pkcs12_password.as_ref()).map_err(VolumeError::begun)?;
            Ok::<_, VolumeError>(Continue((held, point, spec)))
        };
        let begun = self.at_target(had_agent, patience / 2, begin).await?;
        // Only now, because a call about another pod's volume fails earlier.
        self.sources.offer(&id, &subject, tokens.as_ref());
        let (mut held, point, spec) = match begun {
            Continue(begun) => begun,
            Break(publication) => return Ok(publication),
        };
        let kept = held.as_mut().and_then(|volume| still_good(volume, &subject));
        let span = info_span!(target: SPANS, "issue", source = %subject.issuer.source(), error = Empty);
        let first = self.first(&spec, &subject, kept, patience).instrument(span.clone()).await;
        let first = first.inspect_err(|error| {
            span.record("error", display(report::chain(error)));
            self.reports.not_issued(&spec, error);
        })?;
        drop(span);
        let node = self.clone();
        self.at_target(had_agent, patience, move || node.install_first(held, &point, spec, first)).await?;
        Ok(Publication::New)
    }

    /// The first identity of the pod, unless one is left from an earlier call.
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
                None => Arc::new(self.sources.next(spec, subject, Reason::First).await?),
            };
            Ok(First { context, jwt: Jwt::all(&self.sources, spec).await? })
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
        installed.map_err(VolumeError::begun)
    }

    fn install(
        self: &Arc<Self>,
        volume: &mut Volume,
        point: &MountPoint,
        spec: Arc<VolumeSpec>,
        First { context, jwt }: &First,
    ) -> Result<(), VolumeError> {
        let id = spec.id.clone();
        let folders = self.deliveries.folders()?;
        let in_use = self.deliveries.reach(volume.record(), point)?;
        let is_first = volume.record().issued.is_none();
        let mut issued = issued(&spec, context, jwt.as_ref());
        self.announce(volume, &spec, &issued)?;
        self.reports.audit(volume, &spec, context, jwt.as_ref());
        issued.bundle_text = info_span!(target: SPANS, "deliver")
            .in_scope(|| self.deliveries.deliver(volume.record(), &spec, context, jwt.as_ref(), Occasion::Publish))?;
        let shown = if in_use {
            Ok(())
        } else {
            folders.source(&id).map_err(VolumeError::from).and_then(|source| self.mount(volume, point, &source, &spec))
        };
        let ready = shown.and_then(|()| {
            let root = folders.root(&id)?;
            self.ready(volume, spec.clone(), Some((root, issued)))
        });
        if ready.is_err() {
            self.deliveries.undeliver(volume.record(), &spec);
            // What a running pod may read now can be withdrawn before the next publish.
            if volume.has_identity() {
                self.keep_renewing(volume);
            }
        }
        ready?;
        if is_first {
            self.reports.first_issued(&spec, context.default_svid());
        }
        self.keep_renewing(volume);
        self.deliveries.remove_former(volume.record(), &spec)?;
        if mixes_trust_domains(&spec, context) {
            warn!(volume = %id, "svid-csi/federated: merged lets the CAs of every federated trust domain vouch for every ID in the volume's trust bundle");
        }
        self.update_bundle(Some(volume));
        Ok(())
    }
}

/// The first identity of a pod.
struct First {
    context: Arc<X509Context>,
    jwt: Option<Jwt>,
}

/// Schedules a check of the volume unless it became ready, even if the call is cancelled, because the kubelet does not
/// unpublish a volume that was never published.
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
            self.node.later.forgotten(self.id.clone(), Instant::now());
        }
    }
}

fn passes_through(record: &Record) -> bool {
    record.spec.content == Content::Passthrough
}

/// The identity that an earlier call could not install, unless it is now due for renewal.
fn still_good(volume: &mut Volume, subject: &Subject) -> Option<Arc<X509Context>> {
    let same = |context: &Arc<X509Context>| subject.identity.as_ref() == Some(context.default_svid().id());
    let context = volume.uninstalled.take().filter(same)?;
    (!renew::delay(&context.held(), clock::now(), 0.0).is_zero()).then_some(context)
}
