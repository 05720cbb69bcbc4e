//! JWT-SVIDs through the socket (Workload API, section 6, and JWT-SVID).

use std::fs;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use prost_types::value::Kind;
use svid_csi_core::identity::PrivateKey;
use svid_csi_core::jwt::{Audiences, JwtAuthority, JwtBundle, MAX_AUDIENCES};
use svid_csi_core::spiffe_id::{SpiffeId, TrustDomain};
use svid_csi_proto::workload::{JwtBundlesRequest, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest};
use tonic::{Code, Status};

use super::client::{Api, Stream, api, asking};
use super::node;
use crate::cert_manager::cluster::Cluster;
use crate::fixture::{Node, test, volume};

const WEB: &str = "spiffe://example.org/ns/shop/sa/web";
const HOUR: Duration = Duration::from_secs(3600);

/// A pod's client on its socket.
async fn web(node: &Node) -> Api {
    api(&node.publish(&volume("web")).await.join("agent.sock")).await
}

async fn fetch(api: &mut Api, audience: &[&str], id: &str) -> Result<JwtsvidResponse, Status> {
    let audience = audience.iter().map(|&audience| audience.to_owned()).collect();
    Ok(api.fetch_jwtsvid(asking(JwtsvidRequest { audience, spiffe_id: id.to_owned() })).await?.into_inner())
}

async fn token(api: &mut Api, audience: &[&str]) -> String {
    fetch(api, audience, "").await.unwrap().svids.remove(0).svid
}

/// The content of the response to ValidateJWTSVID: the SPIFFE ID, and `aud`.
async fn validate(api: &mut Api, token: &str, audience: &str) -> Result<(String, Vec<String>), Status> {
    let request = ValidateJwtsvidRequest { audience: audience.to_owned(), svid: token.to_owned() };
    let answer = api.validate_jwtsvid(asking(request)).await?.into_inner();
    let mut claims = answer.claims.unwrap().fields;
    assert_eq!(claims["sub"].kind, Some(Kind::StringValue(answer.spiffe_id.clone())));
    assert!(matches!(claims["exp"].kind, Some(Kind::NumberValue(_))));
    let Some(Kind::ListValue(list)) = claims.remove("aud").unwrap().kind else { panic!("aud is not a list") };
    let text = |kind| if let Some(Kind::StringValue(text)) = kind { text } else { panic!("{kind:?}") };
    Ok((answer.spiffe_id, list.values.into_iter().map(|value| text(value.kind)).collect()))
}

async fn refused(api: &mut Api, token: &str, audience: &str, why: &str) {
    let status = validate(api, token, audience).await.expect_err(why);
    assert_eq!(status.code(), Code::InvalidArgument, "{why}: {status}");
    assert!(status.message().contains(why), "{why}: {status}");
}

#[test]
fn a_pod_gets_tokens_for_its_audiences_which_others_can_validate() {
    test(async || {
        let node = node().await;
        let mut web = web(&node).await;
        let svids = fetch(&mut web, &["vault", "db"], "").await.unwrap().svids;
        assert_eq!((svids.len(), svids[0].spiffe_id.as_str(), svids[0].hint.as_str()), (1, WEB, ""));
        let mut db = api(&node.publish(&volume("db")).await.join("agent.sock")).await;
        let both = vec!["vault".to_owned(), "db".to_owned()];
        assert_eq!(validate(&mut db, &svids[0].svid, "db").await.unwrap(), (WEB.to_owned(), both));
        let by_id = fetch(&mut web, &["vault"], WEB).await.unwrap().svids;
        assert_eq!(by_id[0].spiffe_id, WEB);
        let one = validate(&mut web, &by_id[0].svid, "vault").await.unwrap();
        assert_eq!(one.1, ["vault"], "a single audience is a list too");
    });
}

#[test]
fn requests_for_tokens_are_checked() {
    test(async || {
        let node = node().await;
        let mut web = web(&node).await;
        let longest = "a".repeat(256);
        let too_long = "a".repeat(257);
        let many: Vec<_> = (0..=MAX_AUDIENCES).map(|number| number.to_string()).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        fetch(&mut web, &[&longest], "").await.unwrap();
        fetch(&mut web, &many[1..], "").await.unwrap();
        for (audience, id, code, why) in [
            (&[][..], "", Code::InvalidArgument, "audience: at least one"),
            (&[""], "", Code::InvalidArgument, "audience: audience 1 has 0 bytes"),
            (&["a", &too_long], "", Code::InvalidArgument, "audience: audience 2 has 257 bytes"),
            (&many, "", Code::InvalidArgument, "audience: there are 9 audiences, at most 8"),
            (&["a"], "web", Code::InvalidArgument, "spiffe_id: "),
            (&["a"], "spiffe://example.org/ns/shop/sa/db", Code::PermissionDenied, "no such identity"),
            (&["a"], "spiffe://other.org/ns/shop/sa/web", Code::PermissionDenied, "no such identity"),
        ] {
            let status = fetch(&mut web, audience, id).await.expect_err(why);
            assert!(status.code() == code && status.message().contains(why), "{why}: {status}");
        }
    });
}

#[test]
fn tokens_that_break_a_rule_are_invalid_arguments() {
    test(async || {
        let node = node().await;
        let mut web = web(&node).await;
        let good = token(&mut web, &["vault"]).await;
        validate(&mut web, &good, "vault").await.unwrap();
        refused(&mut web, &good, "", "audience").await;
        refused(&mut web, &good, "db", "not meant for the audience").await;
        refused(&mut web, "", "vault", "").await;
        refused(&mut web, "a.b.c", "vault", "").await;
        let (message, signature) = good.rsplit_once('.').unwrap();
        let (header, claims) = message.split_once('.').unwrap();
        let with_header =
            |header: &str, signature: &str| format!("{}.{claims}.{signature}", BASE64.encode(header.as_bytes()));
        refused(&mut web, &with_header(r#"{"alg":"none"}"#, ""), "vault", "not one of RS256").await;
        refused(&mut web, &with_header(r#"{"alg":"HS256","kid":"k"}"#, signature), "vault", "not one of RS256").await;
        refused(&mut web, &with_header(r#"{"alg":"ES256","typ":"at+jwt"}"#, signature), "vault", "typ").await;
        let signed = BASE64.decode(header).unwrap();
        let more = String::from_utf8(signed).unwrap().replacen('{', r#"{"jku":"x","#, 1);
        refused(&mut web, &with_header(&more, signature), "vault", "header").await;
        let mut flipped = BASE64.decode(signature).unwrap();
        flipped[7] ^= 1;
        let forged = format!("{message}.{}", BASE64.encode(flipped));
        refused(&mut web, &forged, "vault", "signature").await;
        let huge = "a".repeat(20_000);
        refused(&mut web, &huge, "vault", "bytes").await;
    });
}

#[test]
fn unknown_and_expired_tokens_are_invalid_arguments() {
    test(async || {
        let node = node().await;
        let mut web = web(&node).await;
        let domain = |name: &str| TrustDomain::parse(name).unwrap();
        let sign = |authority: &JwtAuthority, id: &str, at: SystemTime| {
            let audiences = Audiences::new(vec!["vault".to_owned()]).unwrap();
            let svid = authority.sign(&SpiffeId::parse(id).unwrap(), &audiences, at, HOUR / 4).unwrap();
            svid.token.expose().to_owned()
        };
        let key = fs::read_to_string(node.path("root/data/ca/example.org/jwt.key")).unwrap();
        let own = JwtAuthority::from_key(&domain("example.org"), PrivateKey::from_pem(&key).unwrap()).unwrap();
        let now = SystemTime::now();
        validate(&mut web, &sign(&own, WEB, now), "vault").await.unwrap();
        refused(&mut web, &sign(&own, WEB, now - HOUR), "vault", "expired").await;
        refused(&mut web, &sign(&own, WEB, now + HOUR), "vault", "valid only from").await;
        let impostor = JwtAuthority::create(&domain("example.org")).unwrap();
        refused(&mut web, &sign(&impostor, WEB, now), "vault", "has no key").await;
        let foreign = JwtAuthority::create(&domain("other.org")).unwrap();
        let foreign = sign(&foreign, "spiffe://other.org/web", now);
        refused(&mut web, &foreign, "vault", "no JWT bundle of the trust domain other.org").await;
    });
}

#[test]
fn bundles_are_sent_at_once_as_plain_jwks_by_trust_domain() {
    test(async || {
        let node = node().await;
        let mut web = web(&node).await;
        let mut stream = Stream::of(web.fetch_jwt_bundles(asking(JwtBundlesRequest {})).await.unwrap());
        let bundles = stream.next().await.unwrap().bundles;
        assert_eq!(bundles.keys().collect::<Vec<_>>(), ["spiffe://example.org"]);
        let jwks = &bundles["spiffe://example.org"];
        let set: serde_json::Value = serde_json::from_slice(jwks).unwrap();
        assert_eq!(set.as_object().unwrap().keys().collect::<Vec<_>>(), ["keys"], "no bundle document");
        assert_eq!(JwtBundle::read(jwks).unwrap().key_ids().count(), 1);
        node.unpublish(&volume("web")).await;
        stream.next().await.expect_err("the stream ends with the volume");
    });
}

#[test]
fn tokens_stay_valid_across_a_restart_of_the_driver() {
    test(async || {
        let mut node = node().await;
        let mut before = web(&node).await;
        let token = token(&mut before, &["vault"]).await;
        node.kill();
        node.start().await;
        let mut after = api(&node.kubelet.target(&volume("web")).join("agent.sock")).await;
        assert_eq!(validate(&mut after, &token, "vault").await.unwrap().0, WEB);
    });
}

#[test]
fn no_token_is_in_a_file_a_record_or_the_log() {
    test(async || {
        let node = node().await;
        let mut web = web(&node).await;
        let token = token(&mut web, &["vault"]).await;
        refused(&mut web, &token, "db", "not meant for").await;
        let found = std::process::Command::new("grep").args(["-rlF", &token]).arg(node.dir.path()).output().unwrap();
        assert_eq!(String::from_utf8(found.stdout).unwrap(), "");
    });
}

#[test]
fn a_source_without_jwt_reports_that() {
    test(async || {
        let cluster =
            Cluster::started(&[crate::cert_manager::cluster::BUNDLE, &["--allow-plan=cert-manager:workload-api"]])
                .await;
        let volume = cluster.volume("web").attribute("svid-csi/delivery", "workload-api");
        let mut web = api(&cluster.node.publish(&volume).await.join("agent.sock")).await;
        let reason = "the source `cert-manager` does not issue JWT-SVIDs";
        let request = asking(ValidateJwtsvidRequest { audience: "a".to_owned(), svid: "a.b.c".to_owned() });
        for refused in [
            fetch(&mut web, &["a"], "").await.map(drop).unwrap_err(),
            web.fetch_jwt_bundles(asking(JwtBundlesRequest {})).await.map(drop).unwrap_err(),
            web.validate_jwtsvid(request).await.map(drop).unwrap_err(),
        ] {
            assert_eq!((refused.code(), refused.message()), (Code::Unimplemented, reason));
        }
    });
}
