//! JWT-SVIDs through the broker, on sockets and in files.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use svid_csi_core::jwt::{Audiences, JwtBundle, JwtSvid};
use svid_csi_core::secret::Secret;
use svid_csi_core::spiffe_id::SpiffeId;
use svid_csi_proto::workload::{
    JwtBundlesRequest, JwtBundlesResponse, Jwtsvid, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
    ValidateJwtsvidResponse,
};
use svid_csi_testkit::agent::{Entry, SpoilTokens};
use tonic::{Code, Status};

use super::scene::{files_test, id, names, workload_api_test};
use crate::fixture::{pod, until, volume};
use crate::workload_api::client::{Api, Stream, api, asking};

const OWN: &str = "spiffe://example.org";
const OTHER: &str = "spiffe://other.example";
const NO_KEYS: &[u8] = br#"{"keys":[]}"#;

async fn socket(target: &Path) -> Api {
    api(&target.join("agent.sock")).await
}

async fn fetch(api: &mut Api, audience: &str, id: &str) -> Result<Vec<Jwtsvid>, Status> {
    let request = JwtsvidRequest { audience: vec![audience.to_owned()], spiffe_id: id.to_owned() };
    Ok(api.fetch_jwtsvid(asking(request)).await?.into_inner().svids)
}

async fn validate(api: &mut Api, token: &str, audience: &str) -> Result<ValidateJwtsvidResponse, Status> {
    let request = ValidateJwtsvidRequest { audience: audience.to_owned(), svid: token.to_owned() };
    Ok(api.validate_jwtsvid(asking(request)).await?.into_inner())
}

#[test]
fn tokens_are_for_the_pod_and_for_the_id_it_requests() {
    workload_api_test(async |scene| {
        let entries = [Entry::new(&id("web")), Entry::new(&id("web-internal")).hint("internal")];
        scene.agent.register(&pod("web"), &entries);
        let mut web = socket(&scene.node.publish(&volume("web")).await).await;
        let all = fetch(&mut web, "db", "").await.unwrap();
        assert_eq!(
            all.iter().map(|svid| (&*svid.spiffe_id, &*svid.hint)).collect::<Vec<_>>(),
            [(&*id("web"), ""), (&*id("web-internal"), "internal")]
        );
        // The agent issues both, whatever is requested.
        let one = fetch(&mut web, "db", &id("web-internal")).await.unwrap();
        assert_eq!(one.iter().map(|svid| &*svid.spiffe_id).collect::<Vec<_>>(), [id("web-internal")]);
        let others = fetch(&mut web, "db", &id("somebody-else")).await.unwrap_err();
        assert_eq!(others.code(), Code::PermissionDenied);
        let calls = scene.agent.calls_of("FetchJWTSVID");
        assert!(calls.iter().all(|call| call.uid == "uid-of-web" && call.pod == "shop/web" && call.connection == 1));

        let mut db = socket(&scene.registered("db").await).await;
        assert_eq!(validate(&mut db, &all[0].svid, "db").await.unwrap().spiffe_id, id("web"));
        assert_eq!(validate(&mut db, &all[0].svid, "vault").await.unwrap_err().code(), Code::InvalidArgument);
    });
}

#[test]
fn a_volume_with_a_hint_gives_only_that_identitys_tokens() {
    workload_api_test(async |scene| {
        let entries = [Entry::new(&id("web")), Entry::new(&id("web-internal")).hint("internal")];
        scene.agent.register(&pod("web"), &entries);
        let volume = volume("web").attribute("svid-csi/hint", "internal");
        let mut web = socket(&scene.node.publish(&volume).await).await;
        let svids = fetch(&mut web, "db", "").await.unwrap();
        assert_eq!(svids.iter().map(|svid| &*svid.spiffe_id).collect::<Vec<_>>(), [id("web-internal")]);
    });
}

#[test]
fn of_two_svids_with_one_hint_only_the_first_has_tokens() {
    workload_api_test(async |scene| {
        let entries = ["a", "b", "c"].map(|name| Entry::new(&id(name)).hint(if name == "c" { "other" } else { "one" }));
        scene.agent.register(&pod("web"), &entries);
        let mut web = socket(&scene.node.publish(&volume("web")).await).await;
        let svids = fetch(&mut web, "db", "").await.unwrap();
        let issued: Vec<_> = svids.iter().map(|svid| (&*svid.spiffe_id, &*svid.hint)).collect();
        assert_eq!(issued, [(&*id("a"), "one"), (&*id("c"), "other")], "as with X509-SVIDs");
        let dropped = fetch(&mut web, "db", &id("b")).await.unwrap_err();
        assert_eq!(dropped.code(), Code::PermissionDenied, "it is not one of the pod's identities");
    });
}

#[test]
fn bundles_are_requested_when_they_are_needed_and_pushed() {
    workload_api_test(async |scene| {
        let target = scene.registered("web").await;
        let asked = || scene.agent.calls_of("SubscribeToJWTBundles").len();
        assert_eq!(asked(), 0);
        let mut web = socket(&target).await;
        let mut bundles = Stream::of(web.fetch_jwt_bundles(asking(JwtBundlesRequest {})).await.unwrap());
        let keys = |jwks: &[u8]| JwtBundle::read(jwks).unwrap().key_ids().count();
        let first = bundles.next().await.unwrap().bundles;
        assert_eq!((first.len(), keys(&first["spiffe://example.org"])), (1, 1));
        scene.agent.add_jwt_key();
        assert_eq!(keys(&bundles.next().await.unwrap().bundles["spiffe://example.org"]), 2);
        let token = fetch(&mut web, "db", "").await.unwrap().remove(0).svid;
        validate(&mut web, &token, "db").await.unwrap();
        assert_eq!(asked(), 1, "once a pod");

        scene.agent.restart();
        scene.until("it is asked for again", || (asked() == 2).then_some(())).await;
        scene.agent.add_jwt_key();
        assert_eq!(keys(&bundles.next().await.unwrap().bundles["spiffe://example.org"]), 3);
        scene.node.unpublish(&volume("web")).await;
        scene.until("nothing is followed any more", || (scene.agent.subscriptions().now == 1).then_some(())).await;
    });
}

#[test]
fn a_damaged_key_set_does_not_affect_other_trust_domains() {
    workload_api_test(async |scene| {
        let spoil = |spoil: fn(&mut JwtBundlesResponse)| scene.agent.spoil_jwt_bundles(Some(Arc::new(spoil)));
        spoil(|response| _ = response.bundles.insert(OTHER.to_owned(), NO_KEYS.to_vec()));
        let mut web = socket(&scene.registered("web").await).await;
        let mut bundles = Stream::of(web.fetch_jwt_bundles(asking(JwtBundlesRequest {})).await.unwrap());
        let keys = |jwks: &[u8]| JwtBundle::read(jwks).unwrap().key_ids().count();
        assert_eq!(bundles.next().await.unwrap().bundles[OTHER], NO_KEYS);
        spoil(|response| {
            response.bundles.insert(OTHER.to_owned(), b"damaged".to_vec());
            response.bundles.insert("nobody".to_owned(), NO_KEYS.to_vec());
        });
        scene.agent.add_jwt_key();
        let next = bundles.next().await.unwrap().bundles;
        assert_eq!((next.len(), keys(&next[OWN]), &*next[OTHER]), (2, 2, NO_KEYS), "the last good one is kept");
        assert_eq!(scene.node.log().matches("of other trust domains").count(), 1, "{}", scene.node.log());
        assert_eq!(scene.metric("identities_refused_total").await, 0.0);

        spoil(|response| _ = response.bundles.insert(OWN.to_owned(), b"damaged".to_vec()));
        until("it is refused", async || scene.metric("identities_refused_total").await == 1.0).await;
        scene.agent.spoil_jwt_bundles(None);
        let last = bundles.next().await.unwrap().bundles;
        assert_eq!((last.len(), keys(&last[OWN])), (1, 2), "what the agent leaves out is withdrawn");
    });
}

#[test]
fn withdrawn_bundles_are_not_sent_as_empty_ones() {
    workload_api_test(async |scene| {
        let mut web = socket(&scene.registered("web").await).await;
        let mut bundles = Stream::of(web.fetch_jwt_bundles(asking(JwtBundlesRequest {})).await.unwrap());
        bundles.next().await.unwrap();
        scene.agent.spoil_jwt_bundles(Some(Arc::new(|response| response.bundles.clear())));
        assert_eq!(bundles.next().await.unwrap_err().code(), Code::PermissionDenied);
    });
}

#[test]
fn token_files_belong_to_the_pod_and_are_removed_with_its_identity() {
    files_test(async |scene| {
        scene.register("web");
        let target = scene.node.publish(&volume("web").attribute("svid-csi/audience", "vault")).await;
        let token = fs::read_to_string(target.join("jwt_svid_0.token")).unwrap();
        let read = |token: &str| {
            let audiences = Audiences::new(vec!["vault".to_owned()]).unwrap();
            let id = SpiffeId::parse(&id("web")).unwrap();
            JwtSvid::read(Secret::new(token.to_owned()), &id, &audiences, String::new(), SystemTime::now())
        };
        read(&token).unwrap();
        assert!(target.join("jwt_bundles.json").exists());
        scene.agent.withdraw(&pod("web"));
        until("everything is removed", async || names(&target).is_empty()).await;
        scene.register("web");
        until("everything is back", async || target.join("jwt_svid_0.token").exists()).await;
        read(&fs::read_to_string(target.join("jwt_svid_0.token")).unwrap()).unwrap();
    });
}

#[test]
fn tokens_that_break_a_rule_are_refused() {
    workload_api_test(async |scene| {
        let mut web = socket(&scene.registered("web").await).await;
        let good = fetch(&mut web, "another", "").await.unwrap().remove(0).svid;
        type Spoil = Box<dyn Fn(&mut JwtsvidResponse) + Send + Sync>;
        let spoils: [Spoil; 5] = [
            Box::new(|response| response.svids[0].svid = "hunter2".to_owned()),
            Box::new(|response| response.svids[0].spiffe_id = id("somebody-else")),
            Box::new(|response| response.svids[0].spiffe_id = "web".to_owned()),
            Box::new(|response| response.svids[0].spiffe_id = "spiffe://other.example/web".to_owned()),
            Box::new(move |response| response.svids[0].svid.clone_from(&good)),
        ];
        for (refused, spoil) in spoils.into_iter().enumerate() {
            let spoil: SpoilTokens = Arc::from(spoil);
            scene.agent.spoil_tokens(Some(spoil));
            let error = fetch(&mut web, "db", "").await.unwrap_err();
            assert_eq!(error.code(), Code::Internal, "{error}");
            assert!(error.message().contains("is refused") && !error.message().contains("hunter2"), "{error}");
            assert_eq!(scene.metric("identities_refused_total").await, (refused + 1) as f64);
        }
        assert!(!scene.node.log().contains("hunter2"));
        scene.agent.spoil_tokens(None);
        fetch(&mut web, "db", "").await.unwrap();
    });
}

#[test]
fn failures_of_the_agent_are_passed_on_by_their_code() {
    workload_api_test(async |scene| {
        let mut web = socket(&scene.registered("web").await).await;
        for (status, code) in [
            (Status::permission_denied("not for that audience"), Code::PermissionDenied),
            (Status::unavailable("could not fetch JWT-SVID"), Code::Unavailable),
            (Status::internal("oops"), Code::Unavailable),
            (Status::invalid_argument("no such thing"), Code::Unavailable),
        ] {
            scene.agent.refuse(Some(status));
            assert_eq!(fetch(&mut web, "db", "").await.unwrap_err().code(), code);
        }
        scene.agent.refuse(None);
        assert_eq!(fetch(&mut web, "db", "").await.unwrap().len(), 1);
    });
}
