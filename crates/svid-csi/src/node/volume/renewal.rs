//! The loop that keeps one volume's identity and tokens fresh.

mod kind;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use svid_csi_core::plan::Issuer;
use svid_csi_core::renewal::{Ask, Event, Held, Now, Reference, Renewal, Work};
use svid_csi_core::state::{Issued, Phase, Record};
use svid_csi_core::volume::{Subject, VolumeSpec};
use svid_csi_core::volume_id::VolumeId;
use svid_csi_core::x509_context::X509Context;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::warn;

use self::kind::{Kind, report_failure, result};
use super::Node;
use super::alarm::Alarm;
use super::deliver::awaits_password;
use super::error::VolumeError;
use super::jwt::{self, Jwt};
use super::registry::{Volume, issued};
use super::room::Occasion;
use crate::backoff;
use crate::source::{Reason, SourceError, Sources};
use crate::tasks::blocking;
use crate::telemetry::report;

/// Renews the identity and tokens of a volume's pod, until the volume is no longer published. [`Renewal`] decides when.
pub(super) async fn keep_fresh(
    node: Arc<Node>,
    spec: Arc<VolumeSpec>,
    mut last: Option<Issued>,
    signals: RenewalSignals,
) {
    let Some(subject) = spec.subject() else { return };
    let held = |last: Option<&Issued>| last.map(|issued| Held::of(issued, jwt::wants_jwt(&spec)));
    let mut renewal = Renewal::new(subject.issuer, held(last.as_ref()));
    let mut alarm = Alarm::default();
    let mut undelivered = None;
    // The previous run may have been killed between a new trust bundle and the identity that it needs.
    let is_untrusted = |issued: &Issued| issued.untrusted.is_some() && subject.issuer == Issuer::LocalCa;
    let is_stale = last.as_ref().is_some_and(|issued| awaits_password(&spec, issued) || is_untrusted(issued));
    let mut event = if is_stale { Event::RenewNow } else { Event::Woken };
    let began = Instant::now();
    loop {
        let (wall, jumped) = node.jumps.now();
        let next = renewal.on(event, Now { wall, monotonic: began.elapsed() }, backoff::jitter);
        let (sources, has) = (&node.sources, last.as_ref());
        let news = tokio::select! {
            identity = next_identity(sources, &spec, subject, next.identity, has, undelivered.as_deref()) => {
                News::Identity(identity)
            }
            jwt = jwt::next(sources, &spec, has, next.tokens) => News::Jwt(jwt),
            () = signals.renew_now.notified() => {
                event = Event::RenewNow;
                continue;
            }
            () = jumped => {
                event = Event::Woken;
                continue;
            }
            () = signals.overslept.notified() => {
                event = Event::Woken;
                continue;
            }
            never = alarm.keep(&node, &spec, next.alarm, &mut renewal) => match never {},
        };
        let kind = news.kind();
        let tried = news.identity(&spec);
        // Boxed, so that a waiting volume, which is the usual state, does not hold the space for a renewal.
        event = match Box::pin(news.apply(&node, &spec, last.as_ref())).await {
            Ok(RenewalOutcome::Unpublished) => return,
            Ok(RenewalOutcome::Holds(issued)) => {
                let result = result(kind, last.as_ref(), issued.as_ref());
                node.reports.metrics.renewal_ended(spec.plan().source(), kind.renewed(), result);
                signals.fails_because(None);
                if kind.work() == Work::Identity {
                    (alarm, undelivered) = (Alarm::default(), None);
                }
                last = issued;
                Event::Succeeded(kind.work(), held(last.as_ref()))
            }
            Err(error) => {
                if last.is_none() {
                    // It may have been announced.
                    last = node.issued_of(&spec.id).await;
                }
                report_failure(&node, &spec, &error, renewal.failures(kind.work()) + 1, kind);
                signals.fails_because(Some(report::chain(&error)));
                alarm.remember(&error);
                if kind.work() == Work::Identity {
                    undelivered = tried;
                }
                let held = held(last.as_ref());
                Event::Failed { work: kind.work(), held, undelivered: undelivered.is_some() }
            }
        };
    }
}

/// Waits that long; forever if there is no time.
pub(super) async fn elapsed(after: Option<Duration>) {
    match after {
        Some(Duration::ZERO) => {}
        Some(after) => tokio::time::sleep(after).await,
        None => std::future::pending().await,
    }
}

/// Why the last renewal of a volume failed, if it did.
pub(super) type RenewalTrouble = Arc<Mutex<Option<String>>>;

/// What passes between a volume and its renewal.
pub(super) struct RenewalSignals {
    /// Notified to renew now.
    pub(super) renew_now: Arc<Notify>,
    /// Notified to read the clock again.
    pub(super) overslept: Arc<Notify>,
    pub(super) trouble: RenewalTrouble,
}

impl RenewalSignals {
    fn fails_because(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

/// The next identity, when it is time to ask for it, or when a source that pushes has another one.
async fn next_identity(
    sources: &Sources,
    spec: &VolumeSpec,
    subject: &Subject,
    ask: Ask,
    last: Option<&Issued>,
    undelivered: Option<&Issued>,
) -> Result<X509Context, SourceError> {
    let other = async {
        let last = match ask.differs_from {
            Some(Reference::Held) => last,
            Some(Reference::Undelivered) => undelivered,
            None => return std::future::pending().await,
        };
        // Boxed, here and below, because most volumes only wait.
        Box::pin(sources.next(spec, subject, Reason::Renewal { last, at_once: false })).await
    };
    tokio::select! {
        () = elapsed(ask.after) => {}
        pushed = other => return pushed,
    }
    Box::pin(sources.next(spec, subject, Reason::Renewal { last, at_once: true })).await
}

/// The work for a volume.
enum News {
    /// The next identity from its source.
    Identity(Result<X509Context, SourceError>),
    /// Other tokens or JWT bundles for its files.
    Jwt(Result<Jwt, SourceError>),
}

impl News {
    fn kind(&self) -> Kind {
        match self {
            News::Jwt(_) => Kind::Tokens,
            News::Identity(Err(SourceError::Withdrawn(_))) => Kind::Withdrawal,
            News::Identity(_) => Kind::Identity,
        }
    }

    /// The record of the new identity.
    fn identity(&self, spec: &VolumeSpec) -> Option<Box<Issued>> {
        match self {
            News::Identity(Ok(context)) => Some(issued(spec, context, None).into()),
            _ => None,
        }
    }

    async fn apply(
        self,
        node: &Arc<Node>,
        spec: &VolumeSpec,
        last: Option<&Issued>,
    ) -> Result<RenewalOutcome, VolumeError> {
        match self {
            News::Identity(Ok(context)) => renew(node, spec, Arc::new(context), last).await,
            News::Identity(Err(error)) => withdraw_if_withdrawn(node, spec, error.into()).await,
            News::Jwt(Ok(jwt)) => node.install_jwt(spec, jwt).await,
            News::Jwt(Err(error)) => Err(error.into()),
        }
    }
}

/// The outcome for a volume.
pub(super) enum RenewalOutcome {
    /// Its pod has this identity, or none any more.
    Holds(Option<Issued>),
    /// It is no longer published.
    Unpublished,
}

/// Removes a volume's identity, if the error says that it was withdrawn.
async fn withdraw_if_withdrawn(
    node: &Arc<Node>,
    spec: &VolumeSpec,
    error: VolumeError,
) -> Result<RenewalOutcome, VolumeError> {
    if !error.is_withdrawal() {
        return Err(error);
    }
    let mut held = node.volumes.hold(&spec.id).await;
    let this = node.clone();
    let withdrawn = blocking(move || {
        let Some(volume) = held.as_mut().filter(|volume| volume.record().phase == Phase::Ready) else {
            return Ok(RenewalOutcome::Unpublished);
        };
        this.withdraw(volume).map(|()| RenewalOutcome::Holds(None))
    });
    let outcome = withdrawn.await??;
    let pod = spec.pod.as_ref().map(ToString::to_string);
    warn!(volume = %spec.id, pod, why = report::chain(&error), "the identity was withdrawn; the volume is empty now");
    node.reports.recent.failed(spec, "withdrawn", &error);
    node.reports.denial(spec, &error);
    Ok(outcome)
}

/// Installs the next identity of a volume's pod, unless it is unchanged. The tokens are renewed with it; if that fails,
/// the pod keeps its tokens.
async fn renew(
    node: &Arc<Node>,
    spec: &VolumeSpec,
    context: Arc<X509Context>,
    last: Option<&Issued>,
) -> Result<RenewalOutcome, VolumeError> {
    let mut issued = issued(spec, &context, None);
    let is_same = node.is_issued(&spec.id, issued.digest.as_deref()).await;
    let jwt = if is_same { Ok(None) } else { Jwt::all(&node.sources, spec).await };
    let jwt = match jwt {
        Err(error) if last.is_some_and(|last| last.jwt.is_some()) => {
            warn!(volume = %spec.id, error = report::chain(&error), "no new tokens for the new identity; the volume keeps its last tokens");
            None
        }
        jwt => jwt?,
    };
    let mut held = node.volumes.hold(&spec.id).await;
    let this = node.clone();
    blocking(move || {
        let Some(volume) = held.as_mut().filter(|volume| volume.has_identity()) else {
            return Ok(RenewalOutcome::Unpublished);
        };
        let before = || volume.record().issued.as_ref()?.jwt.clone();
        issued.jwt = jwt.as_ref().map(Jwt::issued).or_else(before);
        if volume.holds(issued.digest.as_deref()) {
            return Ok(RenewalOutcome::Holds(volume.record().issued.clone()));
        }
        let spec = volume.record().spec.clone();
        this.announce(volume, &spec, &issued)?;
        this.reports.audit(volume, &spec, &context, jwt.as_ref());
        issued.bundle_text =
            this.deliveries.deliver(volume.record(), &spec, &context, jwt.as_ref(), Occasion::Renewal)?;
        this.record(volume, |record| {
            record.give(Some(issued));
            record.unsettled = false;
        })?;
        volume.is_emptied = false;
        this.update_bundle(Some(volume));
        Ok(RenewalOutcome::Holds(volume.record().issued.clone()))
    })
    .await?
}

impl Node {
    /// Removes the identity of the volume's pod, which its source has withdrawn. That is recorded first, so that the
    /// removal continues after a kill; on a full disk it is removed nevertheless, and recorded in the space that this frees.
    pub(in crate::node) fn withdraw(&self, volume: &mut Volume) -> Result<(), VolumeError> {
        let withdrawn = |record: &mut Record| (record.issued, record.withdrawn) = (None, true);
        let recorded = self.record(volume, withdrawn);
        self.deliveries.take_away(volume.record())?;
        let recorded = recorded.or_else(|_| self.record(volume, withdrawn));
        volume.is_emptied = recorded.is_err();
        Ok(recorded?)
    }

    /// Whether the volume's pod has exactly that identity. False for a changed volume.
    async fn is_issued(&self, id: &VolumeId, digest: Option<&str>) -> bool {
        self.volumes.hold(id).await.as_ref().is_some_and(|volume| volume.holds(digest))
    }

    /// The identity that the volume's pod has, or may have.
    async fn issued_of(&self, id: &VolumeId) -> Option<Issued> {
        self.volumes.hold(id).await.as_ref()?.record().issued.clone()
    }
}
