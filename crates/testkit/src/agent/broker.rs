//! The Broker API, as SPIRE's agent serves it.

use std::sync::Arc;

use prost::Message;
use svid_csi_proto::KUBERNETES_OBJECT_REFERENCE;
use svid_csi_proto::broker::api_server::Api;
use svid_csi_proto::broker::{
    FetchJwtsvidRequest, KubernetesObjectReference, SubscribeToJwtBundlesRequest, SubscribeToX509BundlesRequest,
    SubscribeToX509svidRequest, WorkloadReference,
};
use svid_csi_proto::workload::{JwtBundlesResponse, JwtsvidResponse, X509BundlesResponse, X509svidResponse};
use tonic::{Request, Response, Status};

use super::connection::Caller;
use super::follow::{Messages, follow, follow_state};
use super::header::once;
use super::world::{Call, World};

pub(super) struct BrokerApi(pub(super) Arc<World>);

impl BrokerApi {
    /// Records the call and finds the referenced pod. Returns its UID.
    fn resolve<T>(
        &self,
        method: &'static str,
        request: &Request<T>,
        reference: Option<&WorkloadReference>,
    ) -> Result<String, Status> {
        once(request, "broker.spiffe.io")?;
        let caller = request.extensions().get::<Caller>().cloned().unwrap_or_default();
        let reference = pod(reference)?;
        self.0.change(|state| {
            let key = reference.key.clone().unwrap_or_default();
            state.calls.push(Call {
                method,
                caller: caller.spiffe_id,
                connection: caller.connection,
                pod: format!("{}/{}", key.namespace, key.name),
                uid: reference.uid.clone(),
            });
            match &state.refused {
                Some(status) => Err(status.clone()),
                None => state.resolve(&reference),
            }
        })?;
        Ok(reference.uid)
    }
}

/// Reads a reference to a pod.
fn pod(reference: Option<&WorkloadReference>) -> Result<KubernetesObjectReference, Status> {
    let any = reference.and_then(|reference| reference.reference.as_ref());
    let any = any.ok_or_else(|| Status::invalid_argument("workload reference must be provided"))?;
    if any.type_url != KUBERNETES_OBJECT_REFERENCE {
        return Err(Status::permission_denied(format!("reference type {} is not allowed", any.type_url)));
    }
    let malformed = |what: &str| Status::invalid_argument(format!("object reference {what}"));
    let reference = KubernetesObjectReference::decode(&*any.value).map_err(|_| malformed("cannot be unmarshalled"))?;
    let kind = reference.r#type.clone().unwrap_or_default();
    if (kind.plural.as_str(), kind.group.as_str()) != ("pods", "core") {
        return Err(malformed("is not of type pods.core"));
    }
    if reference.uid.is_empty() || reference.key.as_ref().is_some_and(|key| key.name.is_empty()) {
        return Err(malformed("is incomplete"));
    }
    Ok(reference)
}

#[tonic::async_trait]
impl Api for BrokerApi {
    type SubscribeToX509SVIDStream = Messages<X509svidResponse>;
    type SubscribeToX509BundlesStream = Messages<X509BundlesResponse>;
    type SubscribeToJWTBundlesStream = Messages<JwtBundlesResponse>;

    async fn subscribe_to_x509svid(
        &self,
        request: Request<SubscribeToX509svidRequest>,
    ) -> Result<Response<Self::SubscribeToX509SVIDStream>, Status> {
        let uid = self.resolve("SubscribeToX509SVID", &request, request.get_ref().reference.as_ref())?;
        let messages = follow(&self.0, move |state| state.current(&uid), |_, current| current.response().cloned());
        Ok(Response::new(messages))
    }

    async fn subscribe_to_x509_bundles(
        &self,
        request: Request<SubscribeToX509BundlesRequest>,
    ) -> Result<Response<Self::SubscribeToX509BundlesStream>, Status> {
        let uid = self.resolve("SubscribeToX509Bundles", &request, request.get_ref().reference.as_ref())?;
        let messages = follow(
            &self.0,
            move |state| state.current(&uid),
            |state, current| {
                Some(X509BundlesResponse { bundles: current.bundles(&state.authority), ..Default::default() })
            },
        );
        Ok(Response::new(messages))
    }

    async fn fetch_jwtsvid(&self, request: Request<FetchJwtsvidRequest>) -> Result<Response<JwtsvidResponse>, Status> {
        let uid = self.resolve("FetchJWTSVID", &request, request.get_ref().reference.as_ref())?;
        let audience = &request.get_ref().audience;
        self.0.look(|state| state.tokens(state.current(&uid), audience)).map(Response::new)
    }

    async fn subscribe_to_jwt_bundles(
        &self,
        request: Request<SubscribeToJwtBundlesRequest>,
    ) -> Result<Response<Self::SubscribeToJWTBundlesStream>, Status> {
        self.resolve("SubscribeToJWTBundles", &request, request.get_ref().reference.as_ref())?;
        Ok(Response::new(follow_state(&self.0, |state| (state.jwt.version, state.jwt_bundles()))))
    }
}
