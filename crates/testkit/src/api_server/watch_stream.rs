//! Watches: streams of the changes after a resource version.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::World;
use super::failure::Failure;
use super::kinds::Kind;
use super::objects::{Change, Object};
use super::selector::Selector;
use super::target::Target;
use super::watches::{Action, Command, Opened};

/// The duration of a watch whose client does not set one.
const USUAL_TIMEOUT: u64 = 30 * 60;

struct RunningWatch {
    world: Arc<World>,
    kind: &'static Kind,
    selector: Selector,
    bookmarks: bool,
    seen: u64,
    last: Option<Change>,
    lines: mpsc::Sender<io::Result<Bytes>>,
}

/// The stream has ended.
struct WatchEnded;

/// Begins a watch.
pub(super) fn start(world: &Arc<World>, target: &Target) -> Result<Response, Failure> {
    let kind = target.kind;
    let selector = target.selector()?;
    // Without a version, or with version 0, a watch begins with all existing objects.
    let from = target.number("resourceVersion").filter(|version| *version > 0 && !target.is_set("sendInitialEvents"));
    let now = world.objects.list(kind, &selector, 0, "")?;
    if let Some(version) = from {
        world.objects.since(version)?;
    }
    let initial = if from.is_none() { now.items } else { Vec::new() };
    let (lines, body) = mpsc::channel(16);
    let bookmarks = target.is_set("allowWatchBookmarks");
    let watch = RunningWatch {
        world: world.clone(),
        kind,
        selector,
        bookmarks,
        seen: from.unwrap_or(now.version),
        last: None,
        lines,
    };
    let timeout = Duration::from_secs(target.number("timeoutSeconds").unwrap_or(USUAL_TIMEOUT));
    let marked = target.is_set("sendInitialEvents");
    tokio::spawn(async move {
        let world = watch.world.clone();
        let opened = world.watches.open(kind.plural);
        // The client notices only the end of the stream.
        let _ = watch.run(opened, initial, marked, timeout).await;
    });
    let json = [(header::CONTENT_TYPE, "application/json")];
    Ok((json, Body::from_stream(ReceiverStream::new(body))).into_response())
}

impl RunningWatch {
    async fn run(
        mut self,
        mut opened: Opened<'_>,
        initial: Vec<Object>,
        marked: bool,
        timeout: Duration,
    ) -> Result<(), WatchEnded> {
        for object in initial {
            self.send("ADDED", (*object).clone()).await?;
        }
        if marked {
            self.bookmark(json!({"k8s.io/initial-events-end": "true"})).await?;
        }
        let mut changes = self.world.pulse.listen();
        let timeout = tokio::time::sleep(timeout);
        tokio::pin!(timeout);
        loop {
            changes.mark_unchanged();
            while let Ok(command) = opened.commands.try_recv() {
                self.obey(command).await?;
            }
            self.catch_up(u64::MAX).await?;
            tokio::select! {
                biased;
                Some(command) = opened.commands.recv() => self.obey(command).await?,
                _ = changes.changed() => {}
                () = &mut timeout => return self.bookmark(json!({})).await,
                () = self.lines.closed() => return Err(WatchEnded),
            }
        }
    }

    async fn obey(&mut self, command: Command) -> Result<(), WatchEnded> {
        self.catch_up(command.after).await?;
        match command.action {
            Action::Bookmark => return self.bookmark(json!({})).await,
            Action::Repeat => match self.last.clone() {
                Some(change) => return self.send_change(change).await,
                None => return Ok(()),
            },
            Action::Silence => self.lines.closed().await,
            Action::Gone => self.send("ERROR", Failure::expired(self.seen, self.seen + 1).status()).await?,
            Action::Break => {
                let broken = io::Error::new(io::ErrorKind::ConnectionReset, "the test breaks the connection");
                self.lines.send(Err(broken)).await.map_err(|_| WatchEnded)?;
            }
            Action::End => {}
        }
        Err(WatchEnded)
    }

    async fn catch_up(&mut self, until: u64) -> Result<(), WatchEnded> {
        let changes = match self.world.objects.since(self.seen) {
            Ok(changes) => changes,
            Err(failure) => {
                self.send("ERROR", failure.status()).await?;
                return Err(WatchEnded);
            }
        };
        for change in changes.into_iter().take_while(|change| change.version <= until) {
            self.seen = change.version;
            if (change.group, change.plural) == (self.kind.group, self.kind.plural) {
                self.last = Some(change.clone());
                self.send_change(change).await?;
            }
        }
        Ok(())
    }

    /// An object that begins or ceases to match counts as created or deleted.
    async fn send_change(&self, change: Change) -> Result<(), WatchEnded> {
        let matching = |object: Option<Object>| object.filter(|object| self.selector.matches(object));
        let (kind, object) = match (matching(change.before), matching(change.after)) {
            (None, Some(after)) => ("ADDED", after),
            (Some(_), Some(after)) => ("MODIFIED", after),
            (Some(before), None) => ("DELETED", before),
            (None, None) => return Ok(()),
        };
        let mut object = (*object).clone();
        object["metadata"]["resourceVersion"] = change.version.to_string().into();
        self.send(kind, object).await
    }

    async fn bookmark(&self, annotations: Value) -> Result<(), WatchEnded> {
        if !self.bookmarks {
            return Ok(());
        }
        let metadata = json!({"resourceVersion": self.seen.to_string(), "annotations": annotations});
        let object = json!({"kind": self.kind.kind, "apiVersion": self.kind.api_version(), "metadata": metadata});
        self.send("BOOKMARK", object).await
    }

    async fn send(&self, kind: &str, object: Value) -> Result<(), WatchEnded> {
        let line = json!({"type": kind, "object": object}).to_string() + "\n";
        self.lines.send(Ok(line.into())).await.map_err(|_| WatchEnded)
    }
}
