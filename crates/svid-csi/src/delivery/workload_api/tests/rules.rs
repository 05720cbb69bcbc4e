//! The rules of the SPIFFE Workload API, one test each.

use http::uri::PathAndQuery;
use svid_csi_core::identity::PrivateKey;
use svid_csi_core::x509_context::split;
use svid_csi_proto::workload::{
    JwtBundlesRequest, JwtsvidRequest, ValidateJwtsvidRequest, X509BundlesRequest, X509BundlesResponse,
    X509svidRequest, X509svidResponse,
};
use tonic::{Code, Request, Status, Streaming};

use super::*;
use crate::delivery::workload_api::endpoint::PodIdentity;
use crate::delivery::workload_api::following::given;

fn asking<T>(message: T, headers: &[&'static str]) -> Request<T> {
    let mut request = Request::new(message);
    for value in headers {
        request.metadata_mut().append("workload.spiffe.io", value.parse().unwrap());
    }
    request
}

async fn svids(socket: &Socket) -> Result<Streaming<X509svidResponse>, Status> {
    Ok(socket.api().await.fetch_x509svid(asking(X509svidRequest {}, &["true"])).await?.into_inner())
}

async fn bundles(socket: &Socket) -> Result<Streaming<X509BundlesResponse>, Status> {
    Ok(socket.api().await.fetch_x509_bundles(asking(X509BundlesRequest {}, &["true"])).await?.into_inner())
}

async fn next<T>(stream: &mut Streaming<T>) -> T {
    stream.message().await.unwrap().expect("the stream continues")
}

/// The code and message at the end of the stream.
async fn end<T>(stream: &mut Streaming<T>) -> Option<Status> {
    stream.message().await.map(|message| assert!(message.is_none(), "one more message")).err()
}

#[tokio::test]
async fn the_security_header_must_occur_once_and_be_true() {
    let (socket, ca) = (Socket::serve(), TestCa::new("ca"));
    socket.endpoint.send(context(vec![svid(&ca, "web", "")], &[], &[]));
    let mut api = socket.api().await;
    for headers in [&[][..], &["false"], &["True"], &["TRUE"], &["1"], &[""], &["true", "true"], &["true", "false"]] {
        let codes = [
            api.fetch_x509svid(asking(X509svidRequest {}, headers)).await.map(drop),
            api.fetch_x509_bundles(asking(X509BundlesRequest {}, headers)).await.map(drop),
            api.fetch_jwtsvid(asking(JwtsvidRequest::default(), headers)).await.map(drop),
            api.fetch_jwt_bundles(asking(JwtBundlesRequest {}, headers)).await.map(drop),
            api.validate_jwtsvid(asking(ValidateJwtsvidRequest::default(), headers)).await.map(drop),
        ];
        for answer in codes {
            let status = answer.expect_err("refused");
            assert_eq!(status.code(), Code::InvalidArgument, "{headers:?}: {status}");
            assert!(status.message().contains("workload.spiffe.io: true"), "{headers:?}: {status}");
        }
    }
    svids(&socket).await.unwrap();
}

#[tokio::test]
async fn a_pod_without_an_identity_yet_is_asked_to_retry() {
    let socket = Socket::serve();
    assert_eq!(svids(&socket).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(bundles(&socket).await.unwrap_err().code(), Code::Unavailable);
    let mut api = socket.api().await;
    let request = JwtsvidRequest { audience: vec!["a".to_owned()], spiffe_id: String::new() };
    assert_eq!(api.fetch_jwtsvid(asking(request, &["true"])).await.unwrap_err().code(), Code::Unavailable);
    let stream = api.fetch_jwt_bundles(asking(JwtBundlesRequest {}, &["true"])).await;
    assert_eq!(stream.map(drop).unwrap_err().code(), Code::Unavailable);
    let request = ValidateJwtsvidRequest { audience: "a".to_owned(), svid: "x".to_owned() };
    assert_eq!(api.validate_jwtsvid(asking(request, &["true"])).await.unwrap_err().code(), Code::Unavailable);
    let page = socket.metrics.encode(&crate::telemetry::metrics::Snapshot::default());
    for method in ["FetchX509SVID", "FetchX509Bundles", "FetchJWTSVID", "FetchJWTBundles", "ValidateJWTSVID"] {
        let line = format!(r#"svid_csi_workload_api_calls_total{{method="{method}",code="Unavailable"}} 1"#);
        assert!(page.contains(&line), "{method}: {page}");
    }
}

/// Calls that arrive just before the socket is removed with the identity.
#[test]
fn a_pod_whose_identity_was_withdrawn_is_denied() {
    let given = |identity: PodIdentity| given(&identity).map(drop).map_err(|status| status.code());
    assert_eq!(given(PodIdentity::NotYet), Err(Code::Unavailable));
    assert_eq!(given(PodIdentity::Withdrawn), Err(Code::PermissionDenied));
    let ca = TestCa::new("ca");
    assert_eq!(given(PodIdentity::Given(context(vec![svid(&ca, "web", "")], &[], &[]))), Ok(()));
}

#[tokio::test]
async fn the_first_message_comes_at_once_and_every_message_is_the_full_state() {
    let (socket, ca, friend) = (Socket::serve(), TestCa::with_intermediate("ca"), TestCa::new("friend"));
    socket.endpoint.send(context(vec![svid(&ca, "web", "")], &[], &[]));
    let mut stream = svids(&socket).await.unwrap();
    let first = next(&mut stream).await;
    assert_eq!((first.svids.len(), first.federated_bundles.len(), first.crl.len()), (1, 0, 0));
    let given = context(
        vec![svid(&ca, "web", "main"), svid(&ca, "web/admin", "admin"), svid(&ca, "other", "")],
        &[("friend.org", &friend)],
        &[b"one", b"two"],
    );
    socket.endpoint.send(given.clone());
    let second = next(&mut stream).await;
    let names: Vec<_> = second.svids.iter().map(|svid| (svid.spiffe_id.as_str(), svid.hint.as_str())).collect();
    let [web, admin, other] = [("web", "main"), ("web/admin", "admin"), ("other", "")]
        .map(|(id, hint)| (format!("spiffe://example.org/{id}"), hint));
    assert_eq!(names, [(&*web.0, web.1), (&*admin.0, admin.1), (&*other.0, other.1)], "the default one is the first");
    for (svid, given) in second.svids.iter().zip(given.svids()) {
        assert_eq!(split(&svid.x509_svid).unwrap(), given.identity.chain(), "concatenated DER, the leaf first");
        assert_eq!(given.identity.chain().len(), 2);
        assert_eq!(split(&svid.bundle).unwrap(), given.identity.bundle());
        let key = PrivateKey::from_pkcs8_der(&svid.x509_svid_key).expect("PKCS#8 in DER");
        assert_eq!(key.public_key_der(), given.identity.key().public_key_der());
    }
    assert_eq!(second.federated_bundles.keys().collect::<Vec<_>>(), ["spiffe://friend.org"]);
    assert_eq!(second.federated_bundles["spiffe://friend.org"], friend.bundle_der());
    assert_eq!(second.crl, [b"one", b"two"], "revocation lists are passed on");
}

#[tokio::test]
async fn of_two_svids_with_the_same_hint_only_the_first_is_sent() {
    let (socket, ca) = (Socket::serve(), TestCa::new("ca"));
    socket.endpoint.send(context(vec![svid(&ca, "a", "x"), svid(&ca, "b", "x"), svid(&ca, "c", "y")], &[], &[]));
    let message = next(&mut svids(&socket).await.unwrap()).await;
    let ids: Vec<_> = message.svids.iter().map(|svid| svid.spiffe_id.rsplit('/').next().unwrap()).collect();
    assert_eq!(ids, ["a", "c"]);
}

#[tokio::test]
async fn bundles_are_keyed_by_trust_domain_and_sent_again_when_one_changes() {
    let (socket, ca, friend) = (Socket::serve(), TestCa::new("ca"), TestCa::new("friend"));
    let web = || vec![svid(&ca, "web", "")];
    socket.endpoint.send(context(web(), &[("friend.org", &friend)], &[b"crl"]));
    let (mut of_bundles, mut of_svids) = (bundles(&socket).await.unwrap(), svids(&socket).await.unwrap());
    let first = next(&mut of_bundles).await;
    let mut names: Vec<_> = first.bundles.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["spiffe://example.org", "spiffe://friend.org"]);
    assert_eq!(first.bundles["spiffe://example.org"], ca.bundle_der());
    assert_eq!((first.bundles["spiffe://friend.org"].clone(), first.crl), (friend.bundle_der(), vec![b"crl".to_vec()]));
    next(&mut of_svids).await;
    socket.endpoint.send(context(web(), &[("friend.org", &friend)], &[b"crl"]));
    next(&mut of_svids).await;
    let other = TestCa::new("another");
    socket.endpoint.send(context(web(), &[("friend.org", &other)], &[b"crl"]));
    let second = next(&mut of_bundles).await;
    assert_eq!(
        second.bundles["spiffe://friend.org"],
        other.bundle_der(),
        "a rotated SVID is not sent to a client of bundles"
    );
    assert_eq!(second.bundles["spiffe://example.org"], ca.bundle_der(), "the full state");
    socket.endpoint.send(context(web(), &[("friend.org", &other)], &[b"new"]));
    assert_eq!(next(&mut of_bundles).await.crl, [b"new"]);
}

#[tokio::test]
async fn a_withdrawn_identity_ends_every_stream_with_permission_denied() {
    let (socket, ca) = (Socket::serve_with_tokens(), TestCa::new("ca"));
    socket.endpoint.send(context(vec![svid(&ca, "web", "")], &[], &[]));
    let (mut of_svids, mut of_bundles) = (svids(&socket).await.unwrap(), bundles(&socket).await.unwrap());
    let mut api = socket.api().await;
    let of_tokens = api.fetch_jwt_bundles(asking(JwtBundlesRequest {}, &["true"])).await;
    let mut of_tokens = of_tokens.unwrap().into_inner();
    next(&mut of_svids).await;
    next(&mut of_bundles).await;
    assert_eq!(next(&mut of_tokens).await.bundles.len(), 1);
    socket.endpoint.withdraw();
    for status in [end(&mut of_svids).await, end(&mut of_bundles).await, end(&mut of_tokens).await] {
        let status = status.expect("a reason");
        assert_eq!(status.code(), Code::PermissionDenied);
        assert!(status.message().contains("withdrawn"), "{status}");
    }
}

#[tokio::test]
async fn large_messages_are_sent_whole() {
    let (socket, ca) = (Socket::serve(), TestCa::new("ca"));
    let friends: Vec<_> = (0..100).map(|number| (format!("friend-{number}.org"), TestCa::new("friend"))).collect();
    let friends: Vec<_> = friends.iter().map(|(name, ca)| (name.as_str(), ca)).collect();
    let list = vec![7; 300_000];
    socket.endpoint.send(context(vec![svid(&ca, "web", "")], &friends, &[&list]));
    let message = next(&mut svids(&socket).await.unwrap()).await;
    assert_eq!((message.federated_bundles.len(), message.crl), (100, vec![list]));
}

#[tokio::test]
async fn wit_svids_are_unimplemented() {
    let socket = Socket::serve();
    for method in ["FetchWITSVID", "FetchWITBundles"] {
        let mut grpc = tonic::client::Grpc::new(socket.channel().await);
        grpc.ready().await.unwrap();
        let path: PathAndQuery = format!("/SpiffeWorkloadAPI/{method}").parse().unwrap();
        let codec = tonic_prost::ProstCodec::<X509svidRequest, X509svidResponse>::default();
        let answer = grpc.server_streaming(asking(X509svidRequest {}, &["true"]), path, codec).await;
        assert_eq!(answer.map(drop).unwrap_err().code(), Code::Unimplemented, "{method}");
    }
}
