//! Tokens, and the keys to verify them.

use std::time::SystemTime;

use svid_csi_core::jwt::{JwtBundle, JwtBundles, validate};
use svid_csi_core::spiffe_id::TrustDomain;
use tonic::Code;

use super::*;

/// Reads the bundles in the form of spiffe-helper: JWK sets in base64, by the name of the trust domain.
pub(crate) fn bundles(json: &[u8]) -> JwtBundles {
    let json: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(json).unwrap();
    let bundle = |jwks: &serde_json::Value| {
        let jwks = base64(jwks.as_str().unwrap());
        JwtBundle::read(&jwks).unwrap().into()
    };
    json.iter().map(|(name, jwks)| (TrustDomain::parse(name).unwrap(), bundle(jwks))).collect()
}

/// The tests do not have a base64 crate, but certificates are written in it.
fn base64(text: &str) -> Vec<u8> {
    use rustls::pki_types::pem::PemObject;
    let pem = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
    rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

/// The workload of the token, for that audience.
pub(crate) fn subject(token: &[u8], audience: &str, bundles: &JwtBundles) -> String {
    let token = std::str::from_utf8(token).unwrap();
    let valid = validate(token, audience, bundles, SystemTime::now()).unwrap();
    assert_eq!(valid.claims["aud"], serde_json::json!([audience]), "one audience a token");
    valid.id.to_string()
}

fn token(target: &Path) -> String {
    fs::read_to_string(target.join("jwt_svid_0.token")).unwrap()
}

#[test]
fn tokens_outlive_the_driver_and_are_renewed_after_it() {
    test(async || {
        let mut node = Node::files(&[ADMIN, "--local-ca-dir={dir}/ca", "--log-level=5"]).await;
        let web = volume("web").attribute("svid-csi/audience", "vault");
        let target = node.publish(&web).await;
        let first = token(&target);
        let known = bundles(&fs::read(target.join("jwt_bundles.json")).unwrap());
        assert_eq!(subject(first.as_bytes(), "vault", &known), "spiffe://example.org/ns/shop/sa/web");
        let mode = fs::metadata(node.path("ca/jwt.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        node.kill();
        node.start().await;
        node.publish(&web).await;
        assert_eq!(token(&target), first, "it is still good");
        renew_all(&node).await;
        until("the token is renewed", async || token(&target) != first).await;
        assert_eq!(
            subject(token(&target).as_bytes(), "vault", &known),
            "spiffe://example.org/ns/shop/sa/web",
            "by the same key"
        );
        let status = crate::endpoints::get(&node, "/status").await;
        let parts: Vec<&str> = first.split('.').skip(1).collect();
        for shown in [node.record(&web), status, node.log()] {
            assert!(parts.iter().all(|part| !shown.contains(part)), "{shown}");
        }
        assert!(node.log().contains("JWT-SVID issued"), "the audit line exists: {}", node.log());
    });
}

#[test]
fn a_lost_key_is_replaced_in_every_volume() {
    test(async || {
        let mut node = Node::files(&["--local-ca-dir={dir}/ca"]).await;
        let target = node.publish(&volume("web").attribute("svid-csi/audience", "vault")).await;
        let (first, before) = (serial(&target), token(&target));
        node.kill();
        fs::remove_file(node.path("ca/jwt.key")).unwrap();
        node.start().await;
        until("the token is of the new key", async || {
            let Ok(now) = fs::canonicalize(target.join("..data")) else { return false };
            let files = ["jwt_svid_0.token", "jwt_bundles.json"].map(|name| fs::read(now.join(name)).ok());
            let [Some(token), Some(json)] = files else { return false };
            subject(&token, "vault", &bundles(&json)) == "spiffe://example.org/ns/shop/sa/web"
                && token != before.as_bytes()
        })
        .await;
        assert_eq!(serial(&target), first, "the certificate has another key");
    });
}

#[test]
fn attributes_without_meaning_are_refused_by_name() {
    test(async || {
        let node = Node::files(&["--allow-plan=local-ca:workload-api"]).await;
        for (volume, says) in [
            (volume("web").attribute("svid-csi/audience", ","), "svid-csi/audience: audience 1 has 0 bytes"),
            (volume("web").attribute("svid-csi/file-token", "t"), "svid-csi/file-token needs svid-csi/audience"),
            (
                volume("web").attribute("svid-csi/delivery", "workload-api").attribute("svid-csi/audience", "a"),
                "svid-csi/audience has no meaning with delivery `workload-api`",
            ),
        ] {
            let (code, message) = node.refused(&volume).await;
            assert_eq!(code, Code::InvalidArgument);
            assert!(message.contains(says), "{message}");
        }
        assert_eq!(fs::read_dir(node.path("root/data/volumes")).unwrap().count(), 0);
    });
}
