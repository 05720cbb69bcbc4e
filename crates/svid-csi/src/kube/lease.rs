//! Leader election by a Lease, compatible with client-go, so that predecessors and this approver can compete for the
//! same one.
//!
//! A leader renews its Lease. The other candidates watch it, and one takes over when it has not changed for its stated
//! duration. Each side measures with its own clock, so clocks need not agree. A leader steps down well before another
//! can take over, even if its process or its machine was suspended in between: see [`Term::is_valid`].

mod moment;
mod notes;
mod record;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::moment::Moment;
pub use self::notes::Notes;
use self::record::Observed;
use super::error;
use crate::backoff::spread;
use crate::host::clock;
use crate::telemetry::reported::Reported;

/// How long a Lease is valid without renewal (controller-runtime, `LeaseDuration`).
const LASTS: Duration = Duration::from_secs(15);

/// How long after its last renewal a leader steps down (controller-runtime, `RenewDeadline`).
const RENEW_DEADLINE: Duration = Duration::from_secs(10);

/// The time between two attempts to acquire or renew the Lease (controller-runtime, `RetryPeriod`).
const RETRY: Duration = Duration::from_secs(2);

/// How long one attempt may take (controller-runtime: half of `RenewDeadline`).
const TRY: Duration = Duration::from_secs(5);

/// A candidate for the Lease.
#[derive(Debug)]
pub struct Candidate {
    leases: Api<Lease>,
    namespace: String,
    name: String,
    identity: String,
    terms: watch::Sender<Option<Term>>,
    observed: Observed,
    notes: Notes,
    /// The Lease as this process last wrote it.
    held: Option<Lease>,
    reported: Reported,
}

/// Reports whether this process leads.
#[derive(Debug, Clone)]
pub struct Leadership(watch::Receiver<Option<Term>>);

/// A term as the leader, from acquiring the Lease until it is lost or released.
#[derive(Debug, Clone)]
pub struct Term {
    ended: CancellationToken,
    valid_until: Arc<Mutex<Moment>>,
}

/// The result of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Try {
    Held,
    HeldByAnother,
    /// Another candidate wrote at the same time, so the holder is unknown.
    Raced,
}

impl Candidate {
    /// A candidate for the Lease of that name, with a unique identity, that keeps notes on it.
    pub fn new(client: Client, namespace: &str, name: &str, identity: String, notes: Notes) -> (Self, Leadership) {
        let (terms, leadership) = watch::channel(None);
        let candidate = Self {
            leases: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity,
            terms,
            observed: Observed::default(),
            notes,
            held: None,
            reported: Reported::default(),
        };
        (candidate, Leadership(leadership))
    }

    /// Acquires the Lease, leads, and retries after losing it, until `stop`; then releases the Lease.
    pub async fn run(mut self, stop: CancellationToken) {
        while let Some(term) = stop.run_until_cancelled(self.win()).await {
            info!(lease = %self.name, namespace = %self.namespace, identity = %self.identity, "leading: this replica holds the Lease");
            self.terms.send_replace(Some(term.clone()));
            let is_over = stop.run_until_cancelled(self.hold(&term)).await.is_none();
            term.end();
            self.terms.send_replace(None);
            if is_over {
                return self.give_back().await;
            }
            warn!(lease = %self.name, "no longer leading: the Lease was not renewed in time, or another replica took it");
        }
    }

    /// Retries until the Lease is held.
    async fn win(&mut self) -> Term {
        loop {
            let started = Moment::now();
            if self.try_once(started.after(TRY).running).await == Some(Try::Held) {
                return Term::until(started.after(RENEW_DEADLINE));
            }
            // Candidates that started together drift apart (client-go, JitterFactor 1.2).
            sleep(RETRY + spread(RETRY.mul_f64(1.2))).await;
        }
    }

    /// Renews the Lease until that has failed for too long.
    async fn hold(&mut self, term: &Term) {
        while term.is_valid() {
            tokio::select! {
                biased;
                () = sleep(RETRY) => {}
                () = sleep_until(term.valid_until().running) => return,
            }
            let started = Moment::now();
            match self.try_once(term.valid_until().running.min(started.after(TRY).running)).await {
                Some(Try::Held) => term.extend(started.after(RENEW_DEADLINE)),
                Some(Try::HeldByAnother) => return,
                Some(Try::Raced) | None => {}
            }
        }
    }

    /// One attempt; `None` if it failed. Only new failures are logged.
    async fn try_once(&mut self, deadline: Instant) -> Option<Try> {
        let problem = match timeout_at(deadline, self.try_hold()).await {
            Ok(Ok(came)) => {
                self.reported.ends();
                return Some(came);
            }
            Ok(Err(error)) => error::describe(&error),
            Err(_) => "the API server does not answer".to_owned(),
        };
        if self.reported.is_new(problem.clone()) {
            warn!(
                lease = %self.name,
                namespace = %self.namespace,
                error = problem,
                "cannot get or renew the Lease; grant this service account the verbs get, create and update on leases of \
                 coordination.k8s.io in that namespace"
            );
        }
        None
    }

    async fn try_hold(&mut self) -> Result<Try, kube::Error> {
        // The Lease is most likely unchanged since it was last written, so one call is enough.
        if let Some(last) = self.held.take() {
            match self.write(last).await {
                Err(error) if error::is_conflict(&error) || error::is_not_found(&error) => {}
                other => return other,
            }
        }
        let Some(lease) = self.leases.get_opt(&self.name).await? else {
            let mut lease = record::new(&self.name, &self.identity, LASTS, clock::now());
            self.notes.write(&mut lease);
            return self.wrote(self.leases.create(&PostParams::default(), &lease).await);
        };
        self.notes.read(&lease);
        let now = Instant::now();
        self.observed.look(&lease, now);
        if record::holder(&lease) != Some(&*self.identity) && !self.observed.is_over(LASTS, now) {
            return Ok(Try::HeldByAnother);
        }
        let written = self.write(lease).await;
        if matches!(&written, Err(error) if error::is_conflict(error)) { Ok(Try::Raced) } else { written }
    }

    /// Writes the Lease as held by this candidate. The API server checks, by the resource version, that no other
    /// candidate has written it since it was read.
    async fn write(&mut self, lease: Lease) -> Result<Try, kube::Error> {
        let mut claimed = record::claim(lease, &self.identity, LASTS, clock::now());
        self.notes.write(&mut claimed);
        self.wrote(self.leases.replace(&self.name, &PostParams::default(), &claimed).await)
    }

    fn wrote(&mut self, written: Result<Lease, kube::Error>) -> Result<Try, kube::Error> {
        let lease = match written {
            Err(error) if error::is_already_exists(&error) => return Ok(Try::Raced),
            other => other?,
        };
        self.observed.look(&lease, Instant::now());
        self.held = Some(lease);
        Ok(Try::Held)
    }

    /// Lets others take over at once. If that fails, they do so when the Lease expires.
    async fn give_back(mut self) {
        let give = async {
            let lease = match self.held.take() {
                Some(lease) => lease,
                None => self.leases.get(&self.name).await?,
            };
            if record::holder(&lease) != Some(&*self.identity) {
                return Ok(());
            }
            let mut free = record::release(lease, clock::now());
            self.notes.write(&mut free);
            self.leases.replace(&self.name, &PostParams::default(), &free).await.map(drop)
        };
        match timeout_at(Instant::now() + TRY, give).await {
            Ok(Ok(())) => info!(lease = %self.name, "released the Lease"),
            Ok(Err(error)) => warn!(lease = %self.name, error = error::describe(&error), "could not release the Lease"),
            Err(_) => warn!(lease = %self.name, "could not release the Lease in time"),
        }
    }
}

impl Leadership {
    /// Waits for the next term, or for the current one.
    pub async fn begun(&mut self) -> Term {
        match self.0.wait_for(|term| term.as_ref().is_some_and(Term::is_valid)).await.map(|term| term.clone()) {
            Ok(Some(term)) => term,
            // The candidate has ended, so this process never leads again.
            _ => std::future::pending().await,
        }
    }

    /// Whether this process leads now.
    pub fn is_leading(&self) -> bool {
        self.0.borrow().as_ref().is_some_and(Term::is_valid)
    }
}

impl Term {
    fn until(moment: Moment) -> Self {
        Self { ended: CancellationToken::new(), valid_until: Arc::new(Mutex::new(moment)) }
    }

    /// Whether no other candidate can hold the Lease yet. Must be checked immediately before every write that only a
    /// leader may do, because a process or machine that was suspended may have lost its Lease long ago without
    /// noticing.
    pub fn is_valid(&self) -> bool {
        !self.ended.is_cancelled() && !self.valid_until().is_past()
    }

    /// Waits for the end of the term.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    fn valid_until(&self) -> Moment {
        *self.valid_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn extend(&self, moment: Moment) {
        *self.valid_until.lock().unwrap_or_else(PoisonError::into_inner) = moment;
    }

    pub(crate) fn end(&self) {
        self.ended.cancel();
    }
}
