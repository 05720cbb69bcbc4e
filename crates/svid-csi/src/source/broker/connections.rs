//! The single connection to the broker, re-created when needed.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use svid_csi_core::finding;
use tokio::sync::watch;
use tracing::{info, warn};

use super::connection::{BrokerServer, Connection};
use super::own_svid::{CurrentSvid, OwnSvid};
use crate::backoff::Backoff;
use crate::tasks::Tasks;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::report;
use crate::telemetry::reported::{Reported, gist};

/// The longest pause between two attempts.
const LONGEST: Duration = Duration::from_secs(10);

/// The connection and its replacements. A newer one is established before the older one is closed, unless that broke.
#[derive(Debug, Clone)]
pub(super) struct Connections {
    current: watch::Receiver<Option<Connection>>,
    trouble: watch::Receiver<Option<String>>,
    own: OwnSvid,
}

impl Connections {
    /// Connects as soon as the driver has its own identity, and again with each new one.
    pub(super) fn keep(server: BrokerServer, own: OwnSvid, metrics: Arc<Metrics>, tasks: &Tasks) -> Self {
        let (current, connection) = watch::channel(None);
        let (trouble, reported_trouble) = watch::channel(None);
        let keeper = Connector {
            server,
            tasks: tasks.clone(),
            metrics,
            own: own.clone(),
            svid: own.current.clone(),
            current,
            trouble,
            backoff: Backoff::up_to(LONGEST),
            reported: Reported::default(),
            generation: 0,
            era: 0,
        };
        tasks.detached(async move { match keeper.run().await {} });
        Connections { current: connection, trouble: reported_trouble, own }
    }

    /// Those that a test makes.
    #[cfg(test)]
    pub(super) fn scripted(current: watch::Receiver<Option<Connection>>, own: CurrentSvid) -> Self {
        Connections { current, trouble: watch::channel(None).1, own: OwnSvid::scripted(own) }
    }

    /// The current connection, or the next one.
    pub(super) async fn any(&mut self) -> Connection {
        self.wait(|_| true).await
    }

    /// The next connection that is newer than that one.
    pub(super) async fn newer(&mut self, than: u64) -> Connection {
        self.wait(|connection| connection.generation > than).await
    }

    /// The next connection after all earlier ones were lost.
    pub(super) async fn next_era(&mut self, than: u64) -> Connection {
        self.wait(|connection| connection.era > than).await
    }

    async fn wait(&mut self, fits: impl Fn(&Connection) -> bool) -> Connection {
        loop {
            let found = self.current.borrow_and_update().clone().filter(&fits);
            match found {
                Some(connection) => return connection,
                None if self.current.changed().await.is_ok() => {}
                // The driver is ending.
                None => std::future::pending().await,
            }
        }
    }

    /// Waits until there is no connection.
    pub(super) async fn lost(&mut self) {
        if self.current.wait_for(Option::is_none).await.is_err() {
            std::future::pending().await
        }
    }

    /// Whether there is a connection.
    pub(super) fn is_up(&self) -> bool {
        self.current.borrow().is_some()
    }

    /// The current connection, for its changes.
    pub(super) fn follow(&self) -> watch::Receiver<Option<Connection>> {
        self.current.clone()
    }

    /// What a connection still needs; `None` if there is one.
    pub(super) fn waits_for(&self) -> Option<String> {
        if self.is_up() {
            return None;
        }
        let because = |trouble: Option<String>| trouble.map(|why| format!(" ({why})")).unwrap_or_default();
        if self.own.current.borrow().is_none() {
            return Some(format!("the driver's own identity{}", because(self.own.trouble.borrow().clone())));
        }
        Some(format!("the agent's Broker API{}", because(self.trouble.borrow().clone())))
    }
}

struct Connector {
    server: BrokerServer,
    tasks: Tasks,
    metrics: Arc<Metrics>,
    own: OwnSvid,
    svid: watch::Receiver<Option<CurrentSvid>>,
    current: watch::Sender<Option<Connection>>,
    trouble: watch::Sender<Option<String>>,
    backoff: Backoff,
    reported: Reported,
    generation: u64,
    era: u64,
}

impl Connector {
    async fn run(mut self) -> Infallible {
        loop {
            let own = self.svid.borrow_and_update().clone();
            let current = self.current.borrow().clone();
            // A connection stays open as long as it is referenced.
            match (own, current) {
                (Some(own), Some(connection)) if connection.own == own => self.watch(&connection).await,
                (Some(own), current) => {
                    drop(current);
                    self.renew(own).await;
                }
                (None, current) => {
                    if current.is_some() {
                        self.lose("the driver's own identity was withdrawn".to_owned());
                    }
                    drop(current);
                    self.svid_changes().await;
                }
            }
        }
    }

    /// Waits until the connection is lost, or must be replaced.
    async fn watch(&mut self, connection: &Connection) {
        tokio::select! {
            why = connection.over() => self.lost(connection, why).await,
            _ = self.svid.changed() => self.backoff.succeeded(),
        }
    }

    /// Connects. The existing connection stays until it is replaced.
    async fn renew(&mut self, own: CurrentSvid) {
        match self.server.connect(own, (self.generation + 1, self.era), &self.tasks).await {
            Ok(connection) => {
                self.generation += 1;
                self.metrics.broker_connected();
                self.trouble.send_replace(None);
                if self.reported.ends() || self.generation == 1 {
                    info!(broker = %self.server.endpoint, "connected to the broker");
                }
                self.current.send_replace(Some(connection));
            }
            Err(error) => {
                self.log_failure(report::chain(&error));
                self.pause().await;
            }
        }
    }

    async fn lost(&mut self, connection: &Connection, why: String) {
        if connection.is_proved() && !connection.is_refused() {
            self.backoff.succeeded();
        }
        if connection.is_refused() {
            self.own.refresh();
        }
        self.lose(why);
        self.pause().await;
    }

    fn lose(&mut self, why: String) {
        self.era += 1;
        self.current.send_replace(None);
        self.log_failure(why);
    }

    /// Waits, longer each time. A new identity of the driver ends the wait, and so does the end of the existing
    /// connection.
    async fn pause(&mut self) {
        self.backoff.failed();
        let pause = self.backoff.delay();
        let current = self.current.borrow().clone();
        let over = async {
            match &current {
                Some(connection) => connection.over().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            why = over => self.lose(why),
            _ = self.svid.changed() => {}
        }
    }

    async fn svid_changes(&mut self) {
        if self.svid.changed().await.is_err() {
            // The driver is ending.
            std::future::pending().await
        }
    }

    /// Logs the problem whenever it changes.
    fn log_failure(&mut self, trouble: String) {
        self.trouble.send_replace(Some(trouble.clone()));
        if self.reported.is_new(gist(&trouble)) {
            let kept = self.current.borrow().is_some();
            let finding = finding!("broker-not-connected").id;
            warn!(error = trouble, kept, finding, "cannot connect to the broker; pods keep their identities");
        }
    }
}
