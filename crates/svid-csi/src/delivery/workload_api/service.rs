//! The SPIFFE Workload API.

use std::sync::Arc;

use svid_csi_core::x509_context::X509Context;
use svid_csi_proto::workload::spiffe_workload_api_server::{SpiffeWorkloadApi, SpiffeWorkloadApiServer};
use svid_csi_proto::workload::{
    JwtBundlesRequest, JwtBundlesResponse, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
    ValidateJwtsvidResponse, X509BundlesRequest, X509BundlesResponse, X509svidRequest, X509svidResponse,
};
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status};

use super::call::{Call, answered};
use super::following::{Messages, messages};
use super::{health, jwt, sds};
use crate::source::Sources;
use crate::spiffe::{workload_header, x509_message};
use crate::tasks::Tasks;
use crate::telemetry::metrics::Metrics;

/// The maximum size of a request, in bytes: the longest valid token, and an audience.
const REQUEST: usize = 20 * 1024;

/// The service for the calls of all pods.
pub(super) type ApiRoutes = Routes;

/// X.509 responses come from the volume's current identity. Only JWT-SVIDs are requested from a source here, because
/// they are issued on request.
#[derive(Debug, Clone)]
struct WorkloadApiService {
    sources: Arc<Sources>,
    metrics: Arc<Metrics>,
}

/// All services on the sockets.
pub(super) fn api(sources: Arc<Sources>, metrics: Arc<Metrics>, tasks: &Tasks) -> ApiRoutes {
    let service = WorkloadApiService { sources, metrics: metrics.clone() };
    let workload = SpiffeWorkloadApiServer::new(service).max_decoding_message_size(REQUEST);
    let workload = InterceptedService::new(workload, workload_header::require);
    Routes::new(workload).add_service(sds::service(metrics, tasks.clone())).add_service(health::service()).prepare()
}

/// Whether a bundle has changed.
fn bundles_differ(last: &X509Context, now: &X509Context) -> bool {
    last.bundle() != now.bundle() || last.federated() != now.federated() || last.crls() != now.crls()
}

#[tonic::async_trait]
impl SpiffeWorkloadApi for WorkloadApiService {
    type FetchX509SVIDStream = Messages<X509svidResponse>;
    type FetchX509BundlesStream = Messages<X509BundlesResponse>;
    type FetchJWTBundlesStream = Messages<JwtBundlesResponse>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        let answer = Call::of(&request).and_then(|call| messages(&call, x509_message::svids, |_, _| true));
        answered(&self.metrics, "FetchX509SVID", answer)
    }

    async fn fetch_x509_bundles(
        &self,
        request: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        let answer = Call::of(&request).and_then(|call| messages(&call, x509_message::bundles, bundles_differ));
        answered(&self.metrics, "FetchX509Bundles", answer)
    }

    async fn fetch_jwtsvid(&self, request: Request<JwtsvidRequest>) -> Result<Response<JwtsvidResponse>, Status> {
        let answer = async {
            let call = Call::of(&request)?;
            let svids = jwt::svids(&self.sources, &call.caller.endpoint, request.into_inner()).await?;
            call.answers_with(&svids).await?;
            Ok(svids)
        };
        answered(&self.metrics, "FetchJWTSVID", answer.await)
    }

    async fn fetch_jwt_bundles(
        &self,
        request: Request<JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        let answer = async { jwt::bundles(&self.sources, &Call::of(&request)?).await };
        answered(&self.metrics, "FetchJWTBundles", answer.await)
    }

    async fn validate_jwtsvid(
        &self,
        request: Request<ValidateJwtsvidRequest>,
    ) -> Result<Response<ValidateJwtsvidResponse>, Status> {
        let answer = async {
            let call = Call::of(&request)?;
            let validated = jwt::validated(&self.sources, &call.caller.endpoint, request.into_inner()).await?;
            call.answers_with(&validated).await?;
            Ok(validated)
        };
        answered(&self.metrics, "ValidateJWTSVID", answer.await)
    }
}
