//! Health checks of a socket, by a plain gRPC client.

use svid_csi_proto::health::health_check_response::ServingStatus;
use svid_csi_proto::health::health_client::HealthClient;
use svid_csi_proto::health::{HealthCheckRequest, HealthCheckResponse};
use tonic::{Code, Streaming};

use super::*;

fn asking(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

async fn next(statuses: &mut Streaming<HealthCheckResponse>) -> Option<ServingStatus> {
    statuses.message().await.unwrap().map(|said| said.status())
}

#[tokio::test]
async fn a_socket_serves_while_its_pod_has_an_identity() {
    let (socket, ca) = (Socket::serve(), TestCa::new("ca"));
    let mut health = HealthClient::new(socket.channel().await);
    let mut watched = health.watch(asking("")).await.unwrap().into_inner();
    assert_eq!(next(&mut watched).await, Some(ServingStatus::NotServing));
    for service in ["", "SpiffeWorkloadAPI", "envoy.service.secret.v3.SecretDiscoveryService"] {
        assert_eq!(health.check(asking(service)).await.unwrap().into_inner().status(), ServingStatus::NotServing);
    }
    let mut unknown = health.watch(asking("x")).await.unwrap().into_inner();
    assert_eq!(next(&mut unknown).await, Some(ServingStatus::ServiceUnknown));
    assert_eq!(health.check(asking("x")).await.unwrap_err().code(), Code::NotFound);

    for _ in 0..2 {
        socket.endpoint.send(context(vec![svid(&ca, "web", "")], &[], &[]));
        assert_eq!(health.check(asking("")).await.unwrap().into_inner().status(), ServingStatus::Serving);
    }
    assert_eq!(next(&mut watched).await, Some(ServingStatus::Serving));
    socket.endpoint.withdraw();
    assert_eq!(next(&mut watched).await, Some(ServingStatus::NotServing), "a rotation is not a change");
    assert_eq!(next(&mut watched).await, None);
}
