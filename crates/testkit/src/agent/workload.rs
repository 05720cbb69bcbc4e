//! The Workload API, from which the driver requests its own SVID.

use std::sync::Arc;

use svid_csi_proto::workload::spiffe_workload_api_server::SpiffeWorkloadApi;
use svid_csi_proto::workload::{
    JwtBundlesRequest, JwtBundlesResponse, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
    ValidateJwtsvidResponse, X509BundlesRequest, X509BundlesResponse, X509svidRequest, X509svidResponse,
};
use tonic::{Request, Response, Status};

use super::follow::{Messages, follow, follow_state};
use super::header::once;
use super::world::{Call, World};

pub(super) struct WorkloadApi(pub(super) Arc<World>);

impl WorkloadApi {
    fn note<T>(&self, method: &'static str, request: &Request<T>) -> Result<(), Status> {
        once(request, "workload.spiffe.io")?;
        let nobody = String::new;
        let call = Call { method, caller: nobody(), connection: 0, pod: nobody(), uid: nobody() };
        self.0.change(|state| state.calls.push(call));
        Ok(())
    }
}

#[tonic::async_trait]
impl SpiffeWorkloadApi for WorkloadApi {
    type FetchX509SVIDStream = Messages<X509svidResponse>;
    type FetchX509BundlesStream = Messages<X509BundlesResponse>;
    type FetchJWTBundlesStream = Messages<JwtBundlesResponse>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        self.note("FetchX509SVID", &request)?;
        Ok(Response::new(follow(&self.0, |state| Some(&state.own), |_, current| current.response().cloned())))
    }

    async fn fetch_x509_bundles(
        &self,
        request: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        self.note("FetchX509Bundles", &request)?;
        let messages = follow(
            &self.0,
            |state| Some(&state.own),
            |state, current| {
                Some(X509BundlesResponse { bundles: current.bundles(&state.authority), ..Default::default() })
            },
        );
        Ok(Response::new(messages))
    }

    async fn fetch_jwtsvid(&self, request: Request<JwtsvidRequest>) -> Result<Response<JwtsvidResponse>, Status> {
        self.note("FetchJWTSVID", &request)?;
        let audience = &request.get_ref().audience;
        self.0.look(|state| state.tokens(Some(&state.own), audience)).map(Response::new)
    }

    async fn fetch_jwt_bundles(
        &self,
        request: Request<JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        self.note("FetchJWTBundles", &request)?;
        Ok(Response::new(follow_state(&self.0, |state| (state.jwt.version, state.jwt_bundles()))))
    }

    async fn validate_jwtsvid(
        &self,
        _: Request<ValidateJwtsvidRequest>,
    ) -> Result<Response<ValidateJwtsvidResponse>, Status> {
        Err(Status::unimplemented("not used in tests"))
    }
}
