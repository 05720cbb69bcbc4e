//! JWT-SVIDs of pods, requested whenever one is needed. The agent caches those that are still valid.

use std::time::Duration;

use svid_csi_core::hint;
use svid_csi_core::jwt::{Audiences, JwtSvid};
use svid_csi_core::pod::PodRef;
use svid_csi_core::secret::Secret;
use svid_csi_core::spiffe_id::{SpiffeId, TrustDomain};
use svid_csi_core::volume::{Subject, VolumeSpec};
use svid_csi_proto::broker::FetchJwtsvidRequest;
use svid_csi_proto::workload::Jwtsvid;
use tokio::time::timeout;
use tonic::{Code, Status};
use tracing::error;

use super::connection::Connection;
use super::error::{BrokerError, code};
use super::{Broker, api, ask, reference};
use crate::host::clock;
use crate::telemetry::report;

/// How long to wait for a connection, and then for a response.
const PATIENCE: Duration = Duration::from_secs(10);

impl Broker {
    /// JWT-SVIDs of a volume's pod for these audiences: for that ID, or for all its IDs; with the volume's hint, if it
    /// has one.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn jwt_svids(
        &self,
        spec: &VolumeSpec,
        subject: &Subject,
        audiences: &Audiences,
        id: Option<&SpiffeId>,
    ) -> Result<Vec<JwtSvid>, BrokerError> {
        let pod = spec.pod.as_ref().ok_or(BrokerError::NoPod)?;
        let mut connections = self.connections.clone();
        let connection = timeout(PATIENCE, connections.any()).await.map_err(|_| {
            let waits_for = self.connections.waits_for().unwrap_or_default();
            BrokerError::Unavailable(format!("it waits for {waits_for}"))
        })?;
        let svids = fetch(pod, &connection, audiences, id).await?;
        let trust_domain = connection.own.context.trust_domain();
        // As with X509-SVIDs (SPIFFE Broker API, section 6.2.1).
        let svids = hint::first_of_each(svids, |svid| &svid.hint);
        let read = svids.map(|svid| read(svid, trust_domain, audiences)).collect::<Result<Vec<_>, _>>();
        let read = read.inspect_err(|error| {
            error!(%pod, error = report::chain(error), "a token that the agent gave for a pod is refused");
            self.reporter.metrics.identity_refused();
        })?;
        let wanted = |svid: &JwtSvid| {
            // The agent issues those of every ID, whatever is requested.
            id.is_none_or(|id| svid.id == *id) && subject.hint.as_ref().is_none_or(|hint| svid.hint == *hint)
        };
        Ok(read.into_iter().filter(wanted).collect())
    }
}

async fn fetch(
    pod: &PodRef,
    connection: &Connection,
    audiences: &Audiences,
    id: Option<&SpiffeId>,
) -> Result<Vec<Jwtsvid>, BrokerError> {
    let request = ask(FetchJwtsvidRequest {
        reference: Some(reference(pod)),
        audience: audiences.as_slice().to_vec(),
        spiffe_id: id.map(ToString::to_string).unwrap_or_default(),
    });
    let mut api = api(connection);
    let slow = |_| Status::unavailable(format!("no answer within {} seconds", PATIENCE.as_secs()));
    let answer = timeout(PATIENCE, api.fetch_jwtsvid(request)).await.map_err(slow).flatten();
    answer.map(|answer| answer.into_inner().svids).map_err(|status| failure(connection, &status))
}

fn failure(connection: &Connection, status: &Status) -> BrokerError {
    let why = report::one_line(status.message());
    match code(status) {
        Code::PermissionDenied => BrokerError::Denied(why),
        Code::InvalidArgument => BrokerError::NotUnderstood(why),
        Code::Unauthenticated => {
            connection.refuse(&why);
            BrokerError::Unavailable(why)
        }
        _ => BrokerError::Unavailable(why),
    }
}

/// Takes a token that is a JWT-SVID of the stated ID.
fn read(svid: Jwtsvid, trust_domain: &TrustDomain, audiences: &Audiences) -> Result<JwtSvid, BrokerError> {
    let Jwtsvid { spiffe_id, svid: token, hint } = svid;
    let token = Secret::new(token);
    let id = SpiffeId::parse(&spiffe_id).map_err(|problem| BrokerError::TokenId { problem })?;
    if id.trust_domain() != trust_domain {
        return Err(BrokerError::ForeignToken { id, trust_domain: trust_domain.clone() });
    }
    Ok(JwtSvid::read(token, &id, audiences, hint, clock::now())?)
}
