use svid_csi_proto::workload::X509svidRequest;
use svid_csi_testkit::agent::{Agent, Answer, DRIVER};
use tonic::{Code, Request, Status};

use crate::client::workload;

#[tokio::test]
async fn the_driver_receives_its_own_svid() {
    let folder = tempfile::tempdir().unwrap();
    let agent = Agent::start(folder.path());
    let mut client = workload(folder.path()).await;
    let bare = client.fetch_x509svid(X509svidRequest {}).await.unwrap_err();
    assert_eq!(bare.code(), Code::InvalidArgument);

    let mut request = Request::new(X509svidRequest {});
    request.metadata_mut().insert("workload.spiffe.io", "true".parse().unwrap());
    let mut stream = client.fetch_x509svid(request).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap();
    assert_eq!(first.svids[0].spiffe_id, DRIVER);
    agent.rotate_own();
    let second = stream.message().await.unwrap().unwrap();
    assert_ne!(first.svids[0].x509_svid, second.svids[0].x509_svid);
    agent.respond_to_driver(Answer::Refused(Status::permission_denied("no identity issued")));
    assert_eq!(stream.message().await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(agent.calls_of("FetchX509SVID").len(), 1);
}
