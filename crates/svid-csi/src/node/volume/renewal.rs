//! The loop that keeps one volume's identity and tokens fresh.

mod kind;

use std::sync::{Arc, Mutex, PoisonError};

use svid_csi_core::plan::Issuer;
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
use crate::telemetry::report;

/// Renews the identity and tokens of a volume's pod, until the volume is no longer published.
pub(super) async fn keep_fresh(
    node: Arc<Node>,
    spec: Arc<VolumeSpec>,
    mut last: Option<Issued>,
    signals: RenewalSignals,
) {
    let Some(subject) = spec.subject() else { return };
    let at_once = last.as_ref().is_some_and(|issued| awaits_password(&spec, issued));
    let mut tries = Tries { at_once, ..Tries::default() };
    let mut alarm = Alarm::default();
    loop {
        // Created before the clock is read.
        let jumped = node.jumps.next();
        let validity = last.as_ref().map(|issued| issued.validity);
        let news = tokio::select! {
            next = tries.next_identity(&node.sources, &spec, subject, last.as_ref()) => News::Identity(next),
            jwt = jwt::next(&node.sources, &spec, last.as_ref(), tries.jwt_pause) => News::Jwt(jwt),
            () = signals.renew_now.notified() => {
                (tries.at_once, tries.pause, tries.jwt_pause) = (true, None, None);
                continue;
            }
            () = jumped => continue,
            () = signals.overslept.notified() => continue,
            never = alarm.keep(&node, &spec, validity.as_ref()) => match never {},
        };
        let kind = news.kind();
        let tried = news.identity(&spec);
        // Boxed, so that a waiting volume, which is the usual state, does not hold the space for a renewal.
        match Box::pin(news.apply(&node, &spec, last.as_ref())).await {
            Ok(RenewalOutcome::Unpublished) => return,
            Ok(RenewalOutcome::Holds(issued)) => {
                let result = result(kind, last.as_ref(), issued.as_ref());
                node.reports.metrics.renewal_ended(spec.plan().source(), kind.renewed(), result);
                tries.succeeded(kind);
                signals.fails_because(None);
                if kind != Kind::Tokens {
                    alarm = Alarm::default();
                }
                last = issued;
            }
            Err(error) => {
                if last.is_none() {
                    // It may have been announced.
                    last = node.issued_of(&spec.id).await;
                }
                let failures = tries.failed(kind, last.as_ref(), tried);
                report_failure(&node, &spec, &error, failures, kind);
                signals.fails_because(Some(report::chain(&error)));
                alarm.remember(&error);
            }
        }
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

/// The state of a volume's recent renewals.
#[derive(Default)]
struct Tries {
    failures: u32,
    jwt_failures: u32,
    /// Whether it is to be renewed before it is due.
    at_once: bool,
    /// The source is not called for an identity before this time.
    pause: Option<Instant>,
    /// The last identity that could not be delivered.
    undelivered: Option<Box<Issued>>,
    /// The source is not called for tokens before this time.
    jwt_pause: Option<Instant>,
}

impl Tries {
    /// The next identity, not before the end of the pause after a failure. A source that pushes ends the pause with an
    /// identity other than the undelivered one, or its withdrawal.
    async fn next_identity(
        &self,
        sources: &Sources,
        spec: &VolumeSpec,
        subject: &Subject,
        last: Option<&Issued>,
    ) -> Result<X509Context, SourceError> {
        if let Some(until) = self.pause {
            let push = async {
                match self.undelivered.as_deref().filter(|_| subject.issuer == Issuer::Broker) {
                    Some(undelivered) => {
                        let reason = Reason::Renewal { last: Some(undelivered), at_once: false };
                        Box::pin(sources.next(spec, subject, reason)).await
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = tokio::time::sleep_until(until) => {}
                pushed = push => return pushed,
            }
        }
        sources.next(spec, subject, Reason::Renewal { last, at_once: self.at_once || self.failures > 0 }).await
    }

    fn succeeded(&mut self, kind: Kind) {
        match kind {
            Kind::Tokens => (self.jwt_failures, self.jwt_pause) = (0, None),
            Kind::Identity | Kind::Withdrawal => *self = Self::default(),
        }
    }

    /// Sets the next pause, and returns the number of consecutive failures.
    fn failed(&mut self, kind: Kind, last: Option<&Issued>, tried: Option<Box<Issued>>) -> u32 {
        let (failures, pause, validity) = match kind {
            Kind::Tokens => {
                let tokens = last.and_then(|issued| issued.jwt.as_ref()?.tokens.as_ref());
                (&mut self.jwt_failures, &mut self.jwt_pause, tokens)
            }
            Kind::Identity | Kind::Withdrawal => {
                self.undelivered = tried.filter(|_| last.is_some());
                (&mut self.failures, &mut self.pause, last.map(|issued| &issued.validity))
            }
        };
        *failures += 1;
        *pause = Some(Instant::now() + backoff::retry_delay(*failures, validity));
        *failures
    }
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
    let withdrawn = tokio::task::spawn_blocking(move || {
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
    tokio::task::spawn_blocking(move || {
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
