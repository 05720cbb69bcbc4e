//! The driver's own identity, which it presents to the broker: followed on the Workload API of the agent.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use svid_csi_core::x509_context::X509Context;
use svid_csi_proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use svid_csi_proto::workload::{X509svidRequest, X509svidResponse};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tonic::{Code, Status};
use tracing::{info, warn};

use super::agent_socket::{self, NoSocket};
use super::error::code;
use crate::backoff::Backoff;
use crate::followed_value::FollowedValue;
use crate::host::clock;
use crate::host::inotify::{self, Inotify};
use crate::net::unix_channel;
use crate::spiffe::bundle_warnings::BundleWarnings;
use crate::spiffe::workload_header::asking;
use crate::spiffe::x509_message::{self, MOST_BYTES, ReadError};
use crate::tasks::{Looks, Tasks, blocking};
use crate::telemetry::report;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the first message may take.
const FIRST_MESSAGE: Duration = Duration::from_secs(60);
/// The shortest pause between two attempts, because others may keep creating and deleting files beside the agent's.
const SHORTEST: Duration = Duration::from_millis(250);
/// The longest pause between two attempts.
const LONGEST: Duration = Duration::from_secs(15);
/// Only the names in the directory matter, not the content of the files.
const NO_FILES: [&Path; 0] = [];

/// An identity that complies with every rule. Two are equal if all their certificates are.
#[derive(Debug, Clone)]
pub(super) struct CurrentSvid {
    pub(super) context: Arc<X509Context>,
    digest: String,
}

impl CurrentSvid {
    fn new(context: X509Context) -> Self {
        Self { digest: context.digest(), context: Arc::new(context) }
    }

    #[cfg(test)]
    pub(super) fn of(message: X509svidResponse) -> Self {
        Self::new(x509_message::read(message, clock::now()).unwrap())
    }
}

impl PartialEq for CurrentSvid {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

/// The identity and its changes.
#[derive(Debug, Clone)]
pub(super) struct OwnSvid {
    pub(super) current: watch::Receiver<Option<CurrentSvid>>,
    pub(super) trouble: watch::Receiver<Option<String>>,
    refresh: Arc<Notify>,
}

/// Why there is no newer identity.
#[derive(Debug, thiserror::Error)]
enum OwnSvidError {
    #[error(transparent)]
    NoSocket(#[from] NoSocket),
    #[error("the file system of the agent's directory {} does not answer", .0.display())]
    NoAnswer(PathBuf),
    #[error("the agent does not answer on its Workload API")]
    Connect(#[from] tonic::transport::Error),
    #[error("the agent does not answer on its Workload API within {} seconds", .0.as_secs())]
    Slow(Duration),
    #[error("the agent has no identity for this driver: register one for the driver's own pod ({0})")]
    NotRegistered(String),
    #[error("the agent's Workload API failed: {}", report::one_line(.0))]
    Failed(String),
    #[error("the agent has ended the stream of the driver's own identity")]
    Ended,
    #[error("the driver's own identity is refused")]
    Refused(#[from] ReadError),
    #[error("a worker failed")]
    Worker(#[from] tokio::task::JoinError),
}

impl From<Status> for OwnSvidError {
    fn from(status: Status) -> Self {
        match code(&status) {
            Code::PermissionDenied => OwnSvidError::NotRegistered(report::one_line(status.message())),
            code => OwnSvidError::Failed(format!("{code:?}: {}", status.message())),
        }
    }
}

impl OwnSvid {
    /// Follows the identity on the socket in `directory`, which may not exist yet, and may be deleted and re-created.
    pub(super) fn follow(
        directory: PathBuf,
        looks: Looks,
        bundle_warnings: Arc<BundleWarnings>,
        tasks: &Tasks,
    ) -> Self {
        let last = FollowedValue::new(None);
        let (current, trouble, refresh) = (last.value(), last.trouble(), Arc::<Notify>::default());
        let follower = OwnSvidFollower { directory, looks, last, refresh: refresh.clone(), bundle_warnings };
        tasks.detached(async move { match follower.run().await {} });
        OwnSvid { current, trouble, refresh }
    }

    /// One that stays the same.
    #[cfg(test)]
    pub(super) fn scripted(own: CurrentSvid) -> Self {
        let (current, trouble) = (watch::channel(Some(own)).1, watch::channel(None).1);
        OwnSvid { current, trouble, refresh: Arc::default() }
    }

    /// Requests the identity again, if it was refused.
    pub(super) fn refresh(&self) {
        self.refresh.notify_one();
    }
}

struct OwnSvidFollower {
    directory: PathBuf,
    looks: Looks,
    last: FollowedValue<Option<CurrentSvid>>,
    refresh: Arc<Notify>,
    bundle_warnings: Arc<BundleWarnings>,
}

impl OwnSvidFollower {
    async fn run(mut self) -> Infallible {
        let (mut backoff, refresh) = (Backoff::up_to(LONGEST), self.refresh.clone());
        loop {
            // Before reading, so that no change is missed.
            let directory = self.directory.clone();
            let watched = self.looks.within(CONNECT, move || inotify::follow(&directory, &NO_FILES)).await;
            let changes = watched.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            let ended = tokio::select! {
                ended = self.session(&mut backoff) => ended,
                () = refresh.notified() => continue,
            };
            let Err(ended) = ended else { continue };
            self.log_failure(&ended);
            backoff.failed();
            tokio::select! {
                () = tokio::time::sleep(backoff.delay()) => {}
                ((), ()) = async { tokio::join!(tokio::time::sleep(SHORTEST), changed(changes)) } => {}
                () = refresh.notified() => {}
            }
        }
    }

    /// Processes the agent's messages until the stream ends, or should be opened again because the last message was
    /// refused and no other came during a pause: what makes it invalid may pass without another message, as a wrong clock
    /// does.
    async fn session(&mut self, backoff: &mut Backoff) -> Result<(), OwnSvidError> {
        let directory = self.directory.clone();
        let found = self.looks.within(CONNECT, move || agent_socket::find(&directory)).await;
        let socket = found.map_err(|_| OwnSvidError::NoAnswer(self.directory.clone()))??;
        let connected = timeout(CONNECT, unix_channel::connect_by(&self.looks, &socket)).await;
        let channel = connected.map_err(|_| OwnSvidError::Slow(CONNECT))??;
        let mut client = SpiffeWorkloadApiClient::new(channel).max_decoding_message_size(MOST_BYTES);
        let opening = async {
            let mut stream = client.fetch_x509svid(asking(X509svidRequest {})).await?.into_inner();
            let first = stream.message().await?;
            Ok::<_, Status>((stream, first))
        };
        let opened = timeout(FIRST_MESSAGE, opening).await;
        let (mut stream, mut next) = opened.map_err(|_| OwnSvidError::Slow(FIRST_MESSAGE))??;
        while let Some(message) = next {
            let taken = read(message).await.map(|context| self.take(context));
            match &taken {
                Ok(()) => backoff.succeeded(),
                Err(refused) => self.log_failure(refused),
            }
            next = tokio::select! {
                biased;
                next = stream.message() => next?,
                () = backoff.pause(), if taken.is_err() => return Ok(()),
            };
        }
        Err(OwnSvidError::Ended)
    }

    fn take(&mut self, context: X509Context) {
        self.bundle_warnings.report(&context);
        let context = context.or_last_good(self.last.value().borrow().as_ref().map(|last| &*last.context));
        let own = CurrentSvid::new(context);
        let (id, until) = (own.context.default_svid().id().to_string(), own.context.held().not_after);
        if self.last.good(Some(own)) {
            info!(spiffe_id = id, not_after = report::rfc3339(until), "received the driver's own identity");
        }
    }

    /// A failure keeps the last identity, but a withdrawal removes it.
    fn log_failure(&mut self, error: &OwnSvidError) {
        let has_one = self.last.value().borrow().is_some();
        if has_one && matches!(error, OwnSvidError::NotRegistered(_)) {
            self.last.good(None);
        }
        let trouble = report::chain(error);
        if self.last.broken(trouble.clone()) {
            let kept = self.last.value().borrow().is_some();
            warn!(error = trouble, kept, "cannot receive the driver's own identity");
        }
    }
}

async fn read(message: X509svidResponse) -> Result<X509Context, OwnSvidError> {
    let now = clock::now();
    let checked = blocking(move || Ok(x509_message::read(message, now)?));
    checked.await?
}

/// If nothing can be watched, the agent is found by retrying.
async fn changed(changes: io::Result<Inotify>) {
    match changes {
        Ok(changes) if changes.changed().await.is_ok() => {}
        _ => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use svid_csi_testkit::agent::Agent;

    use super::*;
    use crate::host::simulated::{self, Machine, Random};

    #[tokio::test]
    async fn an_identity_refused_for_a_wrong_clock_is_taken_once_the_clock_is_right() {
        let (folder, right, tasks) = (tempfile::tempdir().unwrap(), clock::now(), Tasks::default());
        let _agent = Agent::start(folder.path());
        let wall = right - Duration::from_secs(300);
        let _simulated = simulated::begin(Machine { wall, booted: Duration::ZERO, random: Random::new(1) });
        let mut own = OwnSvid::follow(folder.path().join("agent"), Looks::default(), Arc::default(), &tasks);
        let is_early = |trouble: &Option<String>| trouble.as_ref().is_some_and(|why| why.contains("valid only from"));
        timeout(LONGEST, own.trouble.wait_for(is_early)).await.unwrap().unwrap();
        simulated::change(|machine| machine.wall = right);
        let taken = timeout(LONGEST, own.current.wait_for(Option::is_some)).await;
        assert!(taken.is_ok(), "the agent has nothing new to send");
        tasks.stop();
    }

    #[test]
    fn only_the_agent_itself_can_withdraw_the_identity() {
        let denied = OwnSvidError::from(Status::permission_denied("no identity issued"));
        assert!(matches!(denied, OwnSvidError::NotRegistered(_)), "{denied}");
        let made_up = "grpc-status header missing, mapped from HTTP status code 403";
        let made_up = OwnSvidError::from(Status::permission_denied(made_up));
        assert!(matches!(made_up, OwnSvidError::Failed(_)), "{made_up}");
    }
}
