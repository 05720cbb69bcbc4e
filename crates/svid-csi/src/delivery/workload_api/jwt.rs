//! The calls about JWT-SVIDs.
//!
//! Nothing is cached here: the local CA signs in less time than a call takes, and an agent behind the broker caches the
//! tokens it has fetched.

use std::sync::{Arc, LazyLock};

use futures::stream;
use svid_csi_core::error::Class;
use svid_csi_core::jwt::{Audiences, JwtBundle, JwtBundles, JwtSvid, validate};
use svid_csi_core::spiffe_id::{SpiffeId, TrustDomain};
use svid_csi_core::volume::{Subject, VolumeSpec};
use svid_csi_proto::workload::{
    JwtBundlesResponse, Jwtsvid, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest, ValidateJwtsvidResponse,
};
use tokio::sync::watch;
use tonic::Status;
use tracing::debug;

use super::call::Call;
use super::claims;
use super::endpoint::Endpoint;
use super::following::{Following, Messages, given};
use crate::host::clock;
use crate::source::{SourceError, Sources};
use crate::tasks::OneThread;
use crate::telemetry::report;

/// For the tokens of all pods.
static CHECKS: LazyLock<OneThread> = LazyLock::new(OneThread::default);

/// JWT-SVIDs for the requested audiences.
pub(super) async fn svids(
    sources: &Sources,
    endpoint: &Endpoint,
    request: JwtsvidRequest,
) -> Result<JwtsvidResponse, Status> {
    let audiences =
        Audiences::new(request.audience).map_err(|error| Status::invalid_argument(format!("audience: {error}")))?;
    let id = match request.spiffe_id.as_str() {
        "" => None,
        id => Some(SpiffeId::parse(id).map_err(|error| Status::invalid_argument(format!("spiffe_id: {error}")))?),
    };
    given(&endpoint.identity.borrow())?;
    let spec = endpoint.spec();
    let svids = sources.jwt_svids(&spec, subject(&spec)?, &audiences, id.as_ref()).await;
    let svids = svids.map_err(|error| refusal(endpoint, &error))?;
    if svids.is_empty() {
        return Err(Status::permission_denied("this pod has no such identity"));
    }
    Ok(JwtsvidResponse { svids: svids.into_iter().map(svid).collect() })
}

fn svid(svid: JwtSvid) -> Jwtsvid {
    Jwtsvid { spiffe_id: svid.id.to_string(), svid: svid.token.expose().to_owned(), hint: svid.hint }
}

/// The bundles to validate JWT-SVIDs of others with, and their changes.
pub(super) async fn bundles(sources: &Sources, call: &Arc<Call>) -> Result<Messages<JwtBundlesResponse>, Status> {
    let mut following = Following::begin(call);
    following.now()?;
    let mut bundles = trusted(sources, &call.caller.endpoint).await?;
    let first = any_of(&bundles.borrow_and_update())?;
    Ok(Box::pin(stream::unfold(Some((following, bundles, Some(first))), |state| async move {
        let (mut following, mut bundles, mut due) = state?;
        let now = loop {
            if let Some(due) = due.take() {
                break due;
            }
            tokio::select! {
                biased;
                given = following.next() => if let Err(withdrawn) = given? {
                    return Some((Err(withdrawn), None));
                },
                Ok(()) = bundles.changed() => match any_of(&bundles.borrow_and_update()) {
                    Ok(now) => due = Some(now),
                    Err(none) => return Some((Err(none), None)),
                },
            }
        };
        let message = following.fit(message(&now), || message(&now)).await?;
        Some((Ok(message), Some((following, bundles, None))))
    })))
}

/// Without any bundles they are withdrawn; an empty response would mean that no one is trusted any more.
fn any_of(bundles: &Arc<JwtBundles>) -> Result<Arc<JwtBundles>, Status> {
    if bundles.is_empty() {
        return Err(Status::permission_denied("this pod's JWT bundles were withdrawn"));
    }
    Ok(bundles.clone())
}

fn message(bundles: &JwtBundles) -> JwtBundlesResponse {
    let named =
        |(trust_domain, bundle): (&TrustDomain, &Arc<JwtBundle>)| (trust_domain.id().to_string(), bundle.to_jwks());
    JwtBundlesResponse { bundles: bundles.iter().map(named).collect() }
}

/// Whether a token is valid according to the pod's own bundles.
pub(super) async fn validated(
    sources: &Sources,
    endpoint: &Endpoint,
    request: ValidateJwtsvidRequest,
) -> Result<ValidateJwtsvidResponse, Status> {
    given(&endpoint.identity.borrow())?;
    let bundles = trusted(sources, endpoint).await?.borrow().clone();
    let validated = CHECKS.run(move || validate(&request.svid, &request.audience, &bundles, clock::now()));
    let validated = validated.await.map_err(|_| Status::internal("the check of the JWT-SVID failed"))?;
    let validated = validated.map_err(|rejection| Status::invalid_argument(rejection.to_string()))?;
    let claims = claims::to_struct(validated.claims);
    Ok(ValidateJwtsvidResponse { spiffe_id: validated.id.to_string(), claims: Some(claims) })
}

async fn trusted(sources: &Sources, endpoint: &Endpoint) -> Result<watch::Receiver<Arc<JwtBundles>>, Status> {
    let spec = endpoint.spec();
    sources.jwt_bundles(&spec, subject(&spec)?).await.map_err(|error| refusal(endpoint, &error))
}

fn subject(spec: &VolumeSpec) -> Result<&Subject, Status> {
    spec.subject().ok_or_else(|| Status::internal("this volume does not deliver an identity"))
}

/// Returns why the source failed, without the details, which are for the administrator.
fn refusal(endpoint: &Endpoint, error: &SourceError) -> Status {
    debug!(volume = %endpoint.volume, error = report::chain(error), "no JWT-SVID or JWT bundle for a pod");
    let reason = error.to_string();
    match (error, error.class()) {
        (SourceError::NoJwt(_), _) => Status::unimplemented(reason),
        (_, Class::Denied) => Status::permission_denied(reason),
        (_, Class::Invalid) => Status::invalid_argument(reason),
        (_, Class::Exhausted) => Status::resource_exhausted(reason),
        (_, Class::Internal) => Status::internal(reason),
        (_, Class::NotYet | Class::Blocked | Class::Conflict | Class::Missing) => Status::unavailable(reason),
    }
}
