//! Keeps the directories of pods as the agent's is.

use std::fs;
use std::path::Path;
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
use crate::tasks::blocking;

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
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) -> std::io::Result<()> {
        let mut failures = 0;
        while let Some(stable) = self.stable.as_ref().filter(|_| !stop.is_cancelled()) {
            let watched = tokio::select! {
                watched = self.watch(stable) => watched,
                () = stop.cancelled() => return Ok(()),
            };
            if let Err(error) = watched {
                warn!(%error, agent = %self.agent.display(), "the agent's directory cannot be watched; retrying");
            }
            let was_followed = self.followed.swap(false, Ordering::Relaxed);
            let socket_dir = self.clone();
            blocking(move || (socket_dir.look(), socket_dir.synchronise_pods())).await?;
            failures = if was_followed { 0 } else { failures + 1 };
            tokio::select! {
                () = tokio::time::sleep(backoff::doubled(FIRST_PAUSE, failures, LONGEST_UNWATCHED)) => {}
                () = stop.cancelled() => {}
            }
        }
        stop.cancelled().await;
        Ok(())
    }

    async fn watch(self: &Arc<Self>, stable: &Path) -> std::io::Result<()> {
        if let Some(parent) = self.agent.parent() {
            fs::create_dir_all(parent)?;
        }
        let watch = Arc::new(DirWatch::new(&self.agent, stable)?);
        let mut touched = Touched::first();
        let mut failures = 0;
        loop {
            let (socket_dir, watch_again) = (self.clone(), watch.clone());
            let look = move || {
                watch_again.rearm(&socket_dir.of_pods.as_ref().map_or(Vec::new(), OfPods::paths))?;
                let trouble = socket_dir.synchronise(&touched);
                let retries = socket_dir.synchronise_pods() || trouble.is_some();
                Ok::<_, std::io::Error>((trouble.is_none(), retries, touched))
            };
            let (is_followed, retries, before) = blocking(look).await??;
            let (restored, is_undecided, is_wrong, has_judged) = {
                let linked = self.linked();
                (linked.restored, linked.is_undecided(), linked.is_wrong, linked.has_judged)
            };
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
