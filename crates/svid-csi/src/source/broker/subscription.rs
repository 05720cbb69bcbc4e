//! One pod's subscription: the agent's messages about it, as long as the pod has a volume.

use std::convert::Infallible;
use std::time::Duration;

use svid_csi_core::pod::PodRef;
use tokio::time::{Instant, timeout};
use tonic::{Code, Status, Streaming};
use tracing::{debug, warn};

use super::connection::Connection;
use super::connections::Connections;
use super::error::code;
use super::pod_state::Nothing;
use super::topic::Topic;
use super::{api, reference};
use crate::backoff::{Backoff, spread};
use crate::telemetry::report;

/// The longest pause between two attempts.
const LONGEST: Duration = Duration::from_secs(30);
/// How long a stream must last to count as a success. An agent that answers and disconnects is retried less and less
/// often.
const STEADY: Duration = Duration::from_secs(30);
/// How long the first message of a stream may take. Without an identity for a pod it is an empty one.
const FIRST_MESSAGE: Duration = Duration::from_secs(60);
/// The time in which all subscriptions move to a connection that replaces a broken one.
const SPREAD_AFTER_LOSS: Duration = Duration::from_secs(1);
/// The same if the older connection still works.
const SPREAD: Duration = Duration::from_secs(5);

/// A stream, and its first message.
struct Opened<T: Topic> {
    connection: Connection,
    stream: Streaming<T::Message>,
    first: T::Message,
}

enum StreamEnd {
    /// The connection was lost.
    Lost,
    /// The last message was refused, and no other came during a pause. It is requested again, because what makes it
    /// invalid may pass without another message: a wrong clock.
    Refused,
    /// With this status.
    Status(Connection, Status),
}

/// Follows one topic of a pod.
pub(super) struct SubscriptionTask<T> {
    pub(super) topic: T,
    pub(super) connections: Connections,
}

impl<T: Topic> SubscriptionTask<T> {
    /// Keeps `known` up to date with the agent's last message.
    pub(super) async fn run(mut self) -> Infallible {
        let mut backoff = Backoff::up_to(LONGEST);
        // Waiting pods are served without delay, but after a broken connection many subscriptions come together.
        let mut over = Duration::ZERO;
        loop {
            let connection = self.connections.any().await;
            tokio::time::sleep(spread(over)).await;
            over = SPREAD_AFTER_LOSS;
            let opened = tokio::select! {
                biased;
                opened = open::<T>(self.topic.pod(), &connection) => opened,
                () = self.connections.lost() => continue,
            };
            let ended = match opened {
                Ok(opened) => {
                    // A connection stays open as long as it is referenced.
                    drop(connection);
                    let since = Instant::now();
                    let ended = self.listen(opened, &mut backoff).await;
                    if since.elapsed() >= STEADY && !matches!(ended, StreamEnd::Refused) {
                        backoff.succeeded();
                    }
                    ended
                }
                Err(status) => StreamEnd::Status(connection, status),
            };
            match ended {
                StreamEnd::Lost => self.topic.trouble("the connection to the agent was lost".to_owned()),
                StreamEnd::Refused => {}
                StreamEnd::Status(connection, status) => {
                    self.take(&connection, &status).await;
                    backoff.pause().await;
                }
            }
        }
    }

    /// Processes every message, on this connection and on its replacements.
    async fn listen(&self, mut opened: Opened<T>, backoff: &mut Backoff) -> StreamEnd {
        loop {
            let Opened { connection, mut stream, first } = opened;
            let mut is_taken = self.topic.take(&connection, first).await;
            let mut connections = self.connections.clone();
            let than = connection.generation;
            let move_on = || move_on::<T>(self.topic.pod(), self.connections.clone(), than);
            let mut moving = std::pin::pin!(move_on());
            opened = loop {
                let message = tokio::select! {
                    biased;
                    () = connections.lost() => return StreamEnd::Lost,
                    moved = &mut moving => match moved {
                        Ok(moved) => break moved,
                        Err((newer, status)) => return StreamEnd::Status(newer, status),
                    },
                    message = stream.message() => message,
                    () = backoff.pause(), if !is_taken => return StreamEnd::Refused,
                };
                match message {
                    Ok(Some(message)) => {
                        is_taken = self.topic.take(&connection, message).await;
                        // What the agent has said meanwhile on a newer connection may be older than this message.
                        moving.set(move_on());
                    }
                    Ok(None) => return StreamEnd::Status(connection, ended()),
                    Err(status) => return StreamEnd::Status(connection, status),
                }
            };
        }
    }

    /// Interprets a status for the pod (SPIFFE Broker Endpoint, section 6; SPIFFE Broker API, section 4.8).
    async fn take(&mut self, connection: &Connection, status: &Status) {
        let (pod, why) = (self.topic.pod(), report::one_line(status.message()));
        debug!(%pod, code = ?status.code(), why, "a subscription ended");
        let code = code(status);
        if code != Code::Unavailable {
            connection.prove();
        }
        match code {
            Code::PermissionDenied => self.topic.nothing(Nothing::Denied(why)),
            Code::InvalidArgument => {
                warn!(%pod, why, "the agent does not understand the call; not retrying");
                self.topic.not_understood(why);
                // Another agent may support it.
                self.connections.next_era(connection.era).await;
            }
            Code::Unauthenticated => connection.refuse(&why),
            // The pod exists, because the kubelet mounts its volume; the agent does not know it yet.
            Code::NotFound => self.topic.trouble(format!("the agent does not find the pod: {why}")),
            code => self.topic.trouble(format!("the agent failed ({code:?}): {why}")),
        }
    }
}

fn ended() -> Status {
    Status::unavailable("the agent has ended the stream")
}

fn silent() -> Status {
    Status::unavailable(format!("the agent has sent nothing for {} seconds", FIRST_MESSAGE.as_secs()))
}

async fn open<T: Topic>(pod: &PodRef, connection: &Connection) -> Result<Opened<T>, Status> {
    let opening = async {
        let mut stream = T::subscribe(api(connection), reference(pod)).await?;
        let first = stream.message().await?.ok_or_else(ended)?;
        Ok((stream, first))
    };
    let (stream, first) = timeout(FIRST_MESSAGE, opening).await.unwrap_or_else(|_| Err(silent()))?;
    connection.prove();
    Ok(Opened { connection: connection.clone(), stream, first })
}

/// Opens another stream on the next newer connection, while the older one is still read. Fails only with the agent's
/// status for the pod.
async fn move_on<T: Topic>(
    pod: &PodRef,
    mut connections: Connections,
    than: u64,
) -> Result<Opened<T>, (Connection, Status)> {
    let mut backoff = Backoff::up_to(LONGEST);
    loop {
        let newer = connections.newer(than).await;
        tokio::time::sleep(spread(SPREAD)).await;
        match open::<T>(pod, &newer).await {
            Ok(opened) => return Ok(opened),
            Err(status) if code(&status) != Code::Unavailable => return Err((newer, status)),
            Err(status) => {
                debug!(%pod, why = status.message(), "a subscription could not be moved to the new connection yet")
            }
        }
        backoff.pause().await;
    }
}

#[cfg(test)]
mod tests;
