//! Keeps the directories of pods as the agent's is.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::SocketDir;
use super::dir_watch::DirWatch;
use super::hard_links::Touched;
use super::of_pods::OfPods;
use crate::backoff;
use crate::telemetry::report;

const PAUSE_BETWEEN_LOOKS: Duration = Duration::from_millis(20);
const FIRST_RETRY: Duration = Duration::from_millis(100);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// Without a watch, only a look shows that the agent has restarted. Containers of root can use up the watches of the
/// driver's user, so this must not take long.
const LONGEST_UNWATCHED: Duration = Duration::from_secs(5);

impl SocketDir {
    /// Follows the agent's directory until `stop`. If it cannot be watched, or the links cannot be updated, each publish
    /// and each check of a volume compares instead, and both are retried.
    ///
    /// # Errors
    /// If a worker panics.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) -> io::Result<()> {
        tokio::select! {
            ended = self.follow_for_ever() => ended.map(|never| match never {}),
            () = stop.cancelled() => Ok(()),
        }
    }

    async fn follow_for_ever(self: &Arc<Self>) -> io::Result<Infallible> {
        let mut failures = 0;
        loop {
            match self.at_leisure(|this| this.prepare()).await? {
                Ok(()) if self.stable().is_none() => std::future::pending().await,
                Ok(()) => {
                    let Err(error) = self.watch().await;
                    warn!(%error, agent = %self.agent.display(), "the agent's directory cannot be watched; retrying");
                }
                Err(error) => {
                    warn!(error = report::chain(&error), agent = %self.agent.display(), "the agent's directory cannot be used; retrying");
                }
            }
            let was_followed = self.followed.swap(false, Ordering::Relaxed);
            self.at_leisure(|this| (this.look(), this.synchronise_pods())).await?;
            failures = if was_followed { 0 } else { failures + 1 };
            tokio::time::sleep(backoff::doubled(FIRST_PAUSE, failures, LONGEST_UNWATCHED)).await;
        }
    }

    /// Looks, however long it takes.
    async fn at_leisure<T: Send + 'static>(
        self: &Arc<Self>,
        look: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> io::Result<T> {
        let this = self.clone();
        self.looks.at_leisure(move || look(&this)).await
    }

    async fn watch(self: &Arc<Self>) -> io::Result<Infallible> {
        let begun = self.at_leisure(|this| {
            if let Some(parent) = this.agent.parent() {
                fs::create_dir_all(parent)?;
            }
            let stable = this.stable().ok_or(io::ErrorKind::NotFound)?;
            DirWatch::new(&this.agent, stable)
        });
        let watch = Arc::new(begun.await??);
        let mut touched = Touched::first();
        let mut failures = 0;
        loop {
            let watch_again = watch.clone();
            let look = move |this: &Self| {
                watch_again.rearm(&this.of_pods().map_or(Vec::new(), OfPods::paths))?;
                let trouble = this.synchronise(&touched);
                let retries = this.synchronise_pods() || trouble.is_some();
                let linked = this.linked();
                let seen = (linked.restored, linked.is_undecided(), linked.is_wrong, linked.has_judged);
                Ok::<_, io::Error>((trouble.is_none(), retries, touched, seen))
            };
            let (is_followed, retries, before, seen) = self.at_leisure(look).await??;
            let (restored, is_undecided, is_wrong, has_judged) = seen;
            // The events of our own restoring, which are not those of a pod. The next look sees what happened since.
            let own = if restored { watch.so_far()? } else { Touched::default() };
            self.followed.store(is_followed, Ordering::Relaxed);
            // A pod that keeps changing it must not keep the driver busy.
            tokio::time::sleep(PAUSE_BETWEEN_LOOKS).await;
            touched = match retries {
                false if is_undecided => watch.so_far()?,
                false => tokio::select! {
                    changed = watch.changed() => changed?,
                    () = self.has_new.notified() => watch.so_far()?,
                },
                // It may end without a change of the directories.
                true => match tokio::time::timeout(backoff::doubled(FIRST_RETRY, failures, LONGEST), watch.changed())
                    .await
                {
                    Ok(changed) => changed?,
                    Err(_elapsed) => watch.so_far()?,
                },
            };
            touched.by_agent.add(own.by_agent);
            if !has_judged {
                touched.by_agent.add(before.by_agent);
                touched.by_pods.add(before.by_pods);
            }
            // An impostor may be in the place of the agent.
            failures = if !retries || is_wrong { 0 } else { failures + 1 };
        }
    }
}
