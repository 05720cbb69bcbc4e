use spiffe::broker_api::pb::spiffe::broker::api_client::ApiClient;
use spiffe::broker_api::pb::spiffe::broker::{
    FetchJwtsvidRequest, KubernetesObjectKey, KubernetesObjectReference, SubscribeToJwtBundlesRequest,
    SubscribeToX509svidRequest, SubscribeToX509svidResponse, WorkloadPidReference, WorkloadReference,
};
use svid_csi_core::jwt::JwtBundle;
use svid_csi_core::spiffe_id::TrustDomain;
use svid_csi_proto::workload::X509svid;
use svid_csi_testkit::TestCa;
use svid_csi_testkit::agent::{Agent, Answer, DRIVER, Entry};
use tonic::{Code, Request, Status, Streaming};

use crate::client::{Broker, broker, channel, object, pod, reference};

const CART: &str = "spiffe://example.org/ns/shop/sa/cart";

/// An agent, and a broker it admits.
async fn connected(folder: &tempfile::TempDir) -> (Agent, Broker) {
    let agent = Agent::start(folder.path());
    let broker = broker(folder.path(), &own(&agent, folder).await).await;
    (agent, broker)
}

async fn own(_: &Agent, folder: &tempfile::TempDir) -> X509svid {
    let mut request = Request::new(svid_csi_proto::workload::X509svidRequest {});
    request.metadata_mut().insert("workload.spiffe.io", "true".parse().unwrap());
    let mut client = crate::client::workload(folder.path()).await;
    let mut stream = client.fetch_x509svid(request).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap().svids.remove(0)
}

async fn subscribe(
    broker: &mut Broker,
    reference: Option<WorkloadReference>,
) -> Result<Streaming<SubscribeToX509svidResponse>, Status> {
    Ok(broker.subscribe_to_x509svid(SubscribeToX509svidRequest { reference }).await?.into_inner())
}

#[tokio::test]
async fn a_pod_is_sent_every_change_of_its_entries() {
    let folder = tempfile::tempdir().unwrap();
    let (agent, mut broker) = connected(&folder).await;
    let pod = pod("cart");
    let mut stream = subscribe(&mut broker, reference(&pod)).await.unwrap();
    let mut next = async || stream.message().await.map(|message| message.expect("the stream is open").svids);

    assert!(next().await.unwrap().is_empty(), "no entry matches, and the stream stays open");
    agent.register(&pod, &[Entry::new(CART), Entry::new("spiffe://example.org/other").hint("other")]);
    let first = next().await.unwrap();
    let named: Vec<_> = first.iter().map(|svid| (&*svid.spiffe_id, &*svid.hint)).collect();
    assert_eq!(named, [(CART, ""), ("spiffe://example.org/other", "other")]);
    agent.rotate(&pod);
    let second = next().await.unwrap();
    assert_ne!(first[0].x509_svid, second[0].x509_svid);
    agent.add_root();
    let third = next().await.unwrap();
    assert_eq!(second[0].x509_svid, third[0].x509_svid);
    assert!(third[0].bundle.len() > second[0].bundle.len());
    agent.withdraw(&pod);
    assert!(next().await.unwrap().is_empty());
    agent.respond(&pod, Answer::Refused(Status::permission_denied("policy")));
    assert_eq!(next().await.unwrap_err().code(), Code::PermissionDenied);

    assert_eq!(agent.connections().ever, 1);
    let calls = agent.calls_of("SubscribeToX509SVID");
    assert_eq!((&*calls[0].caller, &*calls[0].pod, &*calls[0].uid), (DRIVER, "shop/cart", "uid-of-cart"));
}

#[tokio::test]
async fn references_are_checked_as_spire_does() {
    let folder = tempfile::tempdir().unwrap();
    let (agent, mut broker) = connected(&folder).await;
    let pod = pod("cart");
    agent.register(&pod, &[Entry::new(CART)]);
    let another = KubernetesObjectKey { namespace: "shop".to_owned(), name: "web".to_owned() };
    let wrong = KubernetesObjectReference { key: Some(another), ..object(&pod) };
    let typeless = KubernetesObjectReference { r#type: None, ..object(&pod) };
    for (reference, code) in [
        (None, Code::InvalidArgument),
        (Some(WorkloadReference::from(WorkloadPidReference { pid: 1 })), Code::PermissionDenied),
        (Some(WorkloadReference::from(typeless)), Code::InvalidArgument),
        (Some(WorkloadReference::from(wrong)), Code::NotFound),
    ] {
        assert_eq!(subscribe(&mut broker, reference).await.unwrap_err().code(), code);
    }
}

#[tokio::test]
async fn the_security_header_must_be_there_exactly_once() {
    let folder = tempfile::tempdir().unwrap();
    let agent = Agent::start(folder.path());
    let own = own(&agent, &folder).await;
    let mut bare = ApiClient::new(channel(folder.path(), &own).await.unwrap());
    for values in [&[][..], &["false"], &["true", "true"]] {
        let mut request = Request::new(SubscribeToX509svidRequest { reference: reference(&pod("cart")) });
        values.iter().for_each(|value| _ = request.metadata_mut().append("broker.spiffe.io", value.parse().unwrap()));
        assert_eq!(bare.subscribe_to_x509svid(request).await.unwrap_err().code(), Code::InvalidArgument, "{values:?}");
    }
}

#[tokio::test]
async fn only_the_driver_is_admitted() {
    let folder = tempfile::tempdir().unwrap();
    let (agent, _broker) = connected(&folder).await;
    let stranger = TestCa::new("stranger").issue(DRIVER, std::time::Duration::from_secs(60), None);
    let mut another = own(&agent, &folder).await;
    (another.x509_svid, another.x509_svid_key) = (stranger.chain, stranger.key);
    agent.own(&[Entry::new(CART)]);
    let workload = own(&agent, &folder).await;
    for own in [another, workload] {
        let subscribed = match channel(folder.path(), &own).await {
            Ok(channel) => {
                let mut broker = ApiClient::with_interceptor(channel, spiffe::broker_api::SecurityHeader::new());
                subscribe(&mut broker, reference(&pod("cart"))).await.map(drop).map_err(drop)
            }
            Err(_) => Err(()),
        };
        assert!(subscribed.is_err());
    }
    assert_eq!(agent.connections().ever, 1);
}

#[tokio::test]
async fn a_restart_ends_all_connections() {
    let folder = tempfile::tempdir().unwrap();
    let (agent, mut broker) = connected(&folder).await;
    let mut stream = subscribe(&mut broker, reference(&pod("cart"))).await.unwrap();
    stream.message().await.unwrap();
    let port = agent.broker_address();
    agent.restart();
    stream.message().await.unwrap_err();
    assert_eq!((agent.connections().now, agent.subscriptions().now, agent.broker_address()), (0, 0, port));
    subscribe(&mut broker, reference(&pod("cart"))).await.unwrap().message().await.unwrap().unwrap();
    assert_eq!(agent.connections().ever, 2);
}

#[tokio::test]
async fn tokens_are_issued_for_every_entry_whatever_id_is_requested() {
    let folder = tempfile::tempdir().unwrap();
    let (agent, mut broker) = connected(&folder).await;
    let pod = pod("cart");
    let fetch = |audience: &[&str]| FetchJwtsvidRequest {
        reference: reference(&pod),
        audience: audience.iter().map(|audience| (*audience).to_owned()).collect(),
        spiffe_id: CART.to_owned(),
    };
    assert_eq!(broker.fetch_jwtsvid(fetch(&[])).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(broker.fetch_jwtsvid(fetch(&["db"])).await.unwrap_err().code(), Code::PermissionDenied);
    agent.register(&pod, &[Entry::new("spiffe://example.org/other").hint("other"), Entry::new(CART)]);
    let svids = broker.fetch_jwtsvid(fetch(&["db"])).await.unwrap().into_inner().svids;
    assert_eq!(svids.iter().map(|svid| &*svid.spiffe_id).collect::<Vec<_>>(), ["spiffe://example.org/other", CART]);

    let request = SubscribeToJwtBundlesRequest { reference: reference(&pod) };
    let mut stream = broker.subscribe_to_jwt_bundles(request).await.unwrap().into_inner();
    let mut bundle = async || stream.message().await.unwrap().unwrap().bundles.remove("spiffe://example.org").unwrap();
    let validate = |jwks: &[u8]| {
        let bundle = JwtBundle::read(jwks).unwrap();
        let bundles = [(TrustDomain::parse("example.org").unwrap(), bundle.into())].into();
        svid_csi_core::jwt::validate(&svids[1].svid, "db", &bundles, std::time::SystemTime::now()).unwrap();
    };
    validate(&bundle().await);
    agent.add_jwt_key();
    let both = bundle().await;
    validate(&both);
    assert_eq!(JwtBundle::read(&both).unwrap().key_ids().count(), 2);
}
