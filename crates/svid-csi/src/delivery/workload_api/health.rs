//! gRPC health checks (grpc.health.v1): a pod's socket is serving once the pod has an identity.

use std::sync::Arc;

use futures::stream;
use svid_csi_core::x509_context::X509Context;
use svid_csi_proto::health::health_check_response::ServingStatus;
use svid_csi_proto::health::health_server::{Health, HealthServer};
use svid_csi_proto::health::{HealthCheckRequest, HealthCheckResponse};
use tonic::{Request, Response, Status};

use super::call::Call;
use super::following::{Following, Messages, given};

/// The valid service names: the empty name for everything, and each of the services.
const SERVICES: [&str; 3] = ["", "SpiffeWorkloadAPI", "envoy.service.secret.v3.SecretDiscoveryService"];

/// The maximum size of a request, in bytes.
const REQUEST: usize = 1024;

#[derive(Debug, Clone)]
struct HealthService;

pub(super) fn service() -> HealthServer<impl Health> {
    HealthServer::new(HealthService).max_decoding_message_size(REQUEST)
}

fn is_known(request: &HealthCheckRequest) -> bool {
    SERVICES.contains(&request.service.as_str())
}

fn status(given: &Result<Arc<X509Context>, Status>) -> ServingStatus {
    if given.is_ok() { ServingStatus::Serving } else { ServingStatus::NotServing }
}

fn says(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl Health for HealthService {
    type WatchStream = Messages<HealthCheckResponse>;

    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let call = Call::of(&request)?;
        if !is_known(request.get_ref()) {
            return Err(Status::not_found("unknown service; leave `service` empty"));
        }
        let now = given(&call.caller.endpoint.identity.borrow()).cloned();
        Ok(Response::new(says(status(&now))))
    }

    /// According to the protocol, an unknown service may appear later; here none does.
    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let is_known = is_known(request.get_ref());
        let of = move |given| if is_known { status(&given) } else { ServingStatus::ServiceUnknown };
        let following = Following::begin(&Call::of(&request)?);
        let statuses = stream::unfold((following, None), move |(mut following, last)| async move {
            let mut now = if last.is_none() { of(following.now()) } else { of(following.next().await?) };
            while last == Some(now) {
                now = of(following.next().await?);
            }
            Some((Ok(says(now)), (following, Some(now))))
        });
        Ok(Response::new(Box::pin(statuses)))
    }
}
