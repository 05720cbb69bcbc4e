//! The SPIFFE Workload API.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use svid_csi_core::x509_context::X509Context;
use svid_csi_proto::workload::spiffe_workload_api_server::{SpiffeWorkloadApi, SpiffeWorkloadApiServer};
use svid_csi_proto::workload::{
    JwtBundlesRequest, JwtBundlesResponse, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
    ValidateJwtsvidResponse, X509BundlesRequest, X509BundlesResponse, X509svidRequest, X509svidResponse,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use super::endpoint::{CONNECTIONS, Endpoint, Told};
use crate::x509_message;

/// Without this header a request might come from a web page (SPIFFE Workload Endpoint, section 5).
const SECURITY_HEADER: &str = "workload.spiffe.io";

/// What answers the calls of all pods.
pub(super) type Api = Routes;

/// By whose socket a call came.
#[derive(Debug, Clone)]
pub(super) enum Caller {
    /// This volume's.
    Of(Arc<Endpoint>),
    /// This volume's, which has as many connections as it may have.
    TooMany(Arc<Endpoint>),
}

impl Caller {
    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        match self {
            Caller::Of(endpoint) | Caller::TooMany(endpoint) => endpoint,
        }
    }
}

#[derive(Debug, Clone)]
struct Service;

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// All that is served on the sockets.
pub(super) fn api() -> Api {
    Routes::new(SpiffeWorkloadApiServer::with_interceptor(Service, require_security_header)).prepare()
}

fn require_security_header(request: Request<()>) -> Result<Request<()>, Status> {
    let values: Vec<_> = request.metadata().get_all(SECURITY_HEADER).iter().collect();
    match values[..] {
        [value] if value == "true" => Ok(request),
        _ => Err(Status::invalid_argument(format!("the metadata `{SECURITY_HEADER}: true` is missing"))),
    }
}

fn endpoint<T>(request: &Request<T>) -> Result<Arc<Endpoint>, Status> {
    match request.extensions().get::<Caller>() {
        Some(Caller::Of(endpoint)) => Ok(endpoint.clone()),
        Some(Caller::TooMany(_)) => Err(Status::resource_exhausted(format!(
            "this volume's socket has {CONNECTIONS} connections already: close those that are not used"
        ))),
        None => Err(Status::internal("nobody knows by which socket this call came")),
    }
}

/// What is told now, or why nothing is (SPIFFE Workload API, section 4: codes).
fn message<T>(told: &Told, make: impl Fn(&X509Context) -> T) -> Result<T, Status> {
    match told {
        Told::Given(context) => Ok(make(context)),
        Told::NotYet => Err(Status::unavailable("this pod has no identity yet: try again")),
        Told::Withdrawn => Err(Status::permission_denied("this pod has no identity any more: it was withdrawn")),
    }
}

/// What is told now and whenever it changes. Ends with the reason when the identity is withdrawn.
fn messages<T: Send + 'static>(
    endpoint: &Endpoint,
    make: impl Fn(&X509Context) -> T + Send + Sync + 'static,
) -> Result<Messages<T>, Status> {
    struct Following<F> {
        told: watch::Receiver<Told>,
        closing: CancellationToken,
        make: F,
    }
    let mut told = endpoint.told.subscribe();
    let first = message(&told.borrow_and_update(), &make)?;
    let following = Following { told, closing: endpoint.closing.clone(), make };
    let rest = futures::stream::unfold(Some(following), |following| async move {
        let mut following = following?;
        tokio::select! {
            biased;
            Ok(()) = following.told.changed() => {}
            () = following.closing.cancelled() => return None,
        }
        let next = message(&following.told.borrow_and_update(), &following.make);
        let following = next.is_ok().then_some(following);
        Some((next, following))
    });
    Ok(Box::pin(futures::stream::StreamExt::chain(futures::stream::iter([Ok(first)]), rest)))
}

#[tonic::async_trait]
impl SpiffeWorkloadApi for Service {
    type FetchX509SVIDStream = Messages<X509svidResponse>;
    type FetchX509BundlesStream = Messages<X509BundlesResponse>;
    type FetchJWTBundlesStream = Messages<JwtBundlesResponse>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        Ok(Response::new(messages(&*endpoint(&request)?, x509_message::svids)?))
    }

    async fn fetch_x509_bundles(
        &self,
        request: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        Ok(Response::new(messages(&*endpoint(&request)?, x509_message::bundles)?))
    }

    async fn fetch_jwtsvid(&self, _: Request<JwtsvidRequest>) -> Result<Response<JwtsvidResponse>, Status> {
        Err(Status::unimplemented("no JWT-SVIDs yet"))
    }

    async fn fetch_jwt_bundles(
        &self,
        _: Request<JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        Err(Status::unimplemented("no JWT-SVIDs yet"))
    }

    async fn validate_jwtsvid(
        &self,
        _: Request<ValidateJwtsvidRequest>,
    ) -> Result<Response<ValidateJwtsvidResponse>, Status> {
        Err(Status::unimplemented("no JWT-SVIDs yet"))
    }
}
