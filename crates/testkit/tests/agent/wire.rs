use prost::Message;
use spiffe::broker_api::pb::spiffe::broker as theirs;
use svid_csi_proto::broker as ours;
use svid_csi_proto::workload;

use crate::client::{pod, reference};

#[test]
fn requests_are_the_same_on_the_wire() {
    let pod = pod("cart");
    let ours = || Some(ours::WorkloadReference::to_pod(&pod.namespace, &pod.name, &pod.uid));
    let subscribe = theirs::SubscribeToX509svidRequest { reference: reference(&pod) };
    assert_eq!(ours::SubscribeToX509svidRequest { reference: ours() }.encode_to_vec(), subscribe.encode_to_vec());
    let jwt_bundles = theirs::SubscribeToJwtBundlesRequest { reference: reference(&pod) };
    assert_eq!(ours::SubscribeToJwtBundlesRequest { reference: ours() }.encode_to_vec(), jwt_bundles.encode_to_vec());
    let (audience, spiffe_id) = (vec!["a".to_owned(), "b".to_owned()], "spiffe://example.org/a".to_owned());
    let (reference, id) = (reference(&pod), spiffe_id.clone());
    let fetch = theirs::FetchJwtsvidRequest { reference, audience: audience.clone(), spiffe_id: id };
    let mine = ours::FetchJwtsvidRequest { reference: ours(), audience, spiffe_id };
    assert_eq!(mine.encode_to_vec(), fetch.encode_to_vec());
}

#[test]
fn answers_are_those_of_the_workload_api_on_the_wire() {
    let theirs = theirs::SubscribeToX509svidResponse {
        svids: vec![theirs::X509svid {
            spiffe_id: "spiffe://example.org/a".to_owned(),
            x509_svid: vec![1].into(),
            x509_svid_key: vec![2].into(),
            bundle: vec![3].into(),
            hint: "internal".to_owned(),
        }],
        crl: vec![vec![4].into()],
        federated_bundles: [("spiffe://other.example".to_owned(), vec![5].into())].into(),
    };
    let ours = workload::X509svidResponse::decode(&*theirs.encode_to_vec()).unwrap();
    assert_eq!(ours.encode_to_vec(), theirs.encode_to_vec());
    let svid = &ours.svids[0];
    assert_eq!((&*svid.spiffe_id, &*svid.hint), ("spiffe://example.org/a", "internal"));
    assert_eq!((&*svid.x509_svid, &*svid.x509_svid_key, &*svid.bundle), (&[1][..], &[2][..], &[3][..]));
    assert_eq!((ours.crl.len(), ours.federated_bundles.len()), (1, 1));

    let svids = vec![theirs::Jwtsvid { spiffe_id: "a".into(), svid: "b".into(), hint: "c".into() }];
    let theirs = theirs::FetchJwtsvidResponse { svids };
    let ours = workload::JwtsvidResponse::decode(&*theirs.encode_to_vec()).unwrap();
    assert_eq!((&*ours.svids[0].spiffe_id, &*ours.svids[0].svid, &*ours.svids[0].hint), ("a", "b", "c"));
}

#[test]
fn the_service_has_the_same_name() {
    assert_eq!(ours::api_server::SERVICE_NAME, "spiffe.broker.API");
}
