//! The Workload API from the view of a workload: a stream that is reopened whenever it ends.

use std::path::{Path, PathBuf};
use std::time::Duration;

use svid_csi_core::x509_context::X509Context;
use svid_csi_proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use svid_csi_proto::workload::{JwtsvidRequest, X509svidRequest, X509svidResponse};
use tonic::Streaming;
use tonic::transport::Channel;

use super::CurrentIdentity;
use super::token::FetchedToken;
use super::trouble::{Explained, Trouble};
use super::wait_reason::WaitReason;
use crate::backoff::Backoff;
use crate::host::clock;
use crate::net::unix_channel;
use crate::spiffe::workload_header::asking;
use crate::spiffe::x509_message::{self, MOST_BYTES};

/// How long to wait for a token.
const TOKEN_PATIENCE: Duration = Duration::from_secs(5);

const LONGEST_PAUSE: Duration = Duration::from_secs(10);

type Client = SpiffeWorkloadApiClient<Channel>;

/// A followed Workload API.
pub(super) struct SocketSource {
    socket: PathBuf,
    audiences: Vec<String>,
    open: Option<(Client, Streaming<X509svidResponse>)>,
    backoff: Backoff,
    wait_reason: WaitReason,
}

impl SocketSource {
    pub(super) fn new(socket: PathBuf, audiences: Vec<String>) -> Self {
        Self {
            socket,
            audiences,
            open: None,
            backoff: Backoff::up_to(LONGEST_PAUSE),
            wait_reason: WaitReason::default(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.socket
    }

    pub(super) fn waits_for(&self) -> String {
        self.wait_reason
            .reason()
            .unwrap_or_else(|| format!("{} accepts connections but does not respond", self.socket.display()))
    }

    /// The next message that is a valid identity, with tokens if they are requested.
    pub(super) async fn next(&mut self) -> CurrentIdentity {
        loop {
            match self.message().await {
                Ok(context) => {
                    self.backoff.succeeded();
                    self.wait_reason.done();
                    return CurrentIdentity { context, tokens: self.tokens().await };
                }
                // A refused message is requested again: what makes it invalid may pass without another message, such as a
                // wrong clock.
                Err(trouble) => {
                    self.open = None;
                    self.wait_reason.waiting(trouble.explain(&self.socket));
                    self.backoff.pause().await;
                }
            }
        }
    }

    async fn message(&mut self) -> Result<X509Context, Trouble> {
        let (_, stream) = match &mut self.open {
            Some(open) => open,
            closed => closed.insert(open(&self.socket).await?),
        };
        let message = stream.message().await.map_err(Trouble::Status)?.ok_or(Trouble::Closed)?;
        x509_message::read_for_workload(message, clock::now()).map_err(Trouble::Refused)
    }

    async fn tokens(&mut self) -> Vec<FetchedToken> {
        let Some((client, _)) = &mut self.open else { return Vec::new() };
        let mut tokens = Vec::new();
        for audience in &self.audiences {
            tokens.extend(fetch(client, audience).await);
        }
        tokens
    }
}

async fn open(socket: &Path) -> Result<(Client, Streaming<X509svidResponse>), Trouble> {
    let channel = unix_channel::connect(socket).await.map_err(Trouble::Connect)?;
    let mut client = Client::new(channel).max_decoding_message_size(MOST_BYTES);
    let stream = client.fetch_x509svid(asking(X509svidRequest {})).await.map_err(Trouble::Status)?;
    Ok((client, stream.into_inner()))
}

async fn fetch(client: &mut Client, audience: &str) -> Vec<FetchedToken> {
    let request = JwtsvidRequest { audience: vec![audience.to_owned()], spiffe_id: String::new() };
    let mut request = asking(request);
    request.set_timeout(TOKEN_PATIENCE);
    match client.fetch_jwtsvid(request).await {
        Ok(answer) if answer.get_ref().svids.is_empty() => {
            vec![FetchedToken::missing(audience, "the server sent none".to_owned())]
        }
        Ok(answer) => answer.into_inner().svids.into_iter().map(|svid| FetchedToken::of(audience, svid)).collect(),
        Err(status) => vec![FetchedToken::missing(audience, Explained(&status).to_string())],
    }
}
