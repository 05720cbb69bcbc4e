//! broker -> files: tokens, and the bundles of other trust domains.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use svid_csi::demo::kubelet::InlineVolume;
use svid_csi_core::jwt::validate;
use svid_csi_testkit::TestCa;
use svid_csi_testkit::agent::{Entry, SpoilTokens};
use tonic::Code;

use super::scene::{Scene, files_test, id};
use crate::fixture::{pod, serial, until, volume};
use crate::formats::store::opens;
use crate::formats::tokens::bundles;

fn for_db(pod_name: &str) -> InlineVolume {
    volume(pod_name).attribute("svid-csi/audience", "db")
}

/// All files of a volume through one resolution of `..data`, by their names.
fn files(target: &Path) -> Vec<(String, Vec<u8>)> {
    let read = || {
        let now = fs::canonicalize(target.join("..data")).ok()?;
        let entry = |entry: std::io::Result<fs::DirEntry>| {
            let path = entry.ok()?.path();
            Some((path.file_name()?.to_str()?.to_owned(), fs::read(&path).ok()?))
        };
        let mut files: Vec<_> = fs::read_dir(now).ok()?.map(entry).collect::<Option<_>>()?;
        files.sort();
        Some(files)
    };
    (0..50).find_map(|_| read()).unwrap_or_default()
}

fn file(target: &Path, name: &str) -> Option<Vec<u8>> {
    files(target).into_iter().find(|(file, _)| file == name).map(|(_, contents)| contents)
}

/// The workload of the token in the volume, verified with the keys beside it.
fn subject(target: &Path) -> Option<String> {
    let (token, keys) = (file(target, "jwt_svid_0.token")?, file(target, "jwt_bundles.json")?);
    let token = String::from_utf8(token).ok()?;
    validate(&token, "db", &bundles(&keys), SystemTime::now()).ok().map(|valid| valid.id.to_string())
}

fn names(target: &Path) -> Vec<String> {
    files(target).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn tokens_are_the_agents_and_follow_its_keys() {
    files_test(async |scene| {
        let entries = [Entry::new(&id("web")), Entry::new(&id("web-internal")).hint("internal")];
        scene.agent.register(&pod("web"), &entries);
        let target = scene.node.publish(&for_db("web")).await;
        assert_eq!(subject(&target), Some(id("web")), "the first one");
        let (before, certificate) = (file(&target, "jwt_svid_0.token"), serial(&target));
        scene.agent.add_jwt_key();
        until("the new key exists and has signed the token", async || {
            let keys = file(&target, "jwt_bundles.json").map(|json| bundles(&json));
            keys.is_some_and(|keys| keys.values().next().unwrap().key_ids().count() == 2)
                && subject(&target) == Some(id("web"))
                && file(&target, "jwt_svid_0.token") != before
        })
        .await;
        assert_eq!(serial(&target), certificate, "the certificate stays");

        let internal = for_db("web").attribute("svid-csi/hint", "internal");
        scene.node.publish(&internal).await;
        assert_eq!(subject(&target), Some(id("web-internal")), "the hint picks the token too");
    });
}

#[test]
fn a_repeated_delivery_changes_no_file() {
    files_test(async |scene| {
        scene.register("web");
        let target = scene.node.publish(&for_db("web").attribute("svid-csi/file-pkcs12", "key.p12")).await;
        let before = files(&target);
        for _ in 0..3 {
            scene.agent.repeat(&pod("web"));
        }
        // A later delivery shows that the earlier one was processed: another pod's identity arrives over the same
        // connection.
        scene.registered("api").await;
        assert_eq!(files(&target), before);
        assert_eq!(scene.agent.calls_of("FetchJWTSVID").len(), 1, "nor is a token asked for");
        scene.agent.rotate(&pod("web"));
        until("all is renewed", async || {
            files(&target).iter().zip(&before).filter(|(now, then)| now != then).count() == 4
        })
        .await;
    });
}

#[test]
fn another_password_is_used_though_the_identity_stays() {
    files_test(async |scene| {
        scene.register("web");
        let with = |password: &str| {
            volume("web").attribute("svid-csi/file-pkcs12", "key.p12").secret("pkcs12-password", password)
        };
        let target = scene.node.publish(&with("the first")).await;
        let first = serial(&target);
        assert!(opens(&file(&target, "key.p12").unwrap(), "the first"));
        scene.node.publish(&with("another")).await;
        until("the store has it", async || file(&target, "key.p12").is_some_and(|store| opens(&store, "another")))
            .await;
        assert_eq!(serial(&target), first, "the agent gives the same");
    });
}

#[test]
fn each_federated_trust_domain_has_a_file_as_long_as_it_is_federated() {
    files_test(async |scene| {
        scene.register("web");
        let other = TestCa::new("other");
        let federate = |name: &str| {
            let (name, der) = (format!("spiffe://{name}"), other.bundle_der());
            scene.agent.edit(&pod("web"), |response| _ = response.federated_bundles.insert(name, der));
        };
        federate("other.org");
        let target = scene.node.publish(&volume("web")).await;
        assert_eq!(names(&target), ["ca.crt", "federated.other.org.pem", "tls.crt", "tls.key"]);
        federate("third.org");
        let all = ["ca.crt", "federated.other.org.pem", "federated.third.org.pem", "tls.crt", "tls.key"];
        until("the third exists", async || names(&target) == all).await;
        scene.agent.edit(&pod("web"), |response| response.federated_bundles.clear());
        until("both are removed", async || names(&target) == ["ca.crt", "tls.crt", "tls.key"]).await;
        let visible = || super::scene::names(&target).into_iter().filter(|name| name.starts_with("federated")).count();
        until("their names too", async || visible() == 0).await;
    });
}

#[test]
fn a_damaged_bundle_of_another_trust_domain_affects_only_itself() {
    files_test(async |scene| {
        scene.register("web");
        let federate = |name: &str, der: Vec<u8>| {
            let name = name.to_owned();
            scene.agent.edit(&pod("web"), |response| _ = response.federated_bundles.insert(name, der));
        };
        federate("spiffe://other.org", b"damaged".to_vec());
        federate("no trust domain", TestCa::new("other").bundle_der());
        let target = scene.node.publish(&volume("web")).await;
        assert_eq!(names(&target), ["ca.crt", "tls.crt", "tls.key"], "the pod starts");
        let reported = "the bundle of a federated trust domain is damaged";
        assert_eq!(scene.node.log().matches(reported).count(), 2, "{}", scene.node.log());
        federate("spiffe://other.org", TestCa::new("other").bundle_der());
        let both = ["ca.crt", "federated.other.org.pem", "tls.crt", "tls.key"];
        until("the bundle exists", async || names(&target) == both).await;
        let (good, first) = (fs::read(target.join("federated.other.org.pem")).unwrap(), serial(&target));
        federate("spiffe://other.org", b"damaged again".to_vec());
        scene.agent.rotate(&pod("web"));
        until("the pod is renewed", async || serial(&target) != first).await;
        assert_eq!(fs::read(target.join("federated.other.org.pem")).unwrap(), good, "the last good one stays");
    });
}

#[test]
fn merged_lets_every_ca_vouch_for_every_trust_domain() {
    files_test(async |scene| {
        scene.register("web");
        let der = TestCa::new("other").bundle_der();
        scene.agent.edit(&pod("web"), |response| {
            _ = response.federated_bundles.insert("spiffe://other.org".to_owned(), der);
        });
        let target = scene.node.publish(&volume("web").attribute("svid-csi/federated", "merged")).await;
        let bundle = String::from_utf8(file(&target, "ca.crt").unwrap()).unwrap();
        assert_eq!(bundle.matches("BEGIN CERTIFICATE").count(), 2);
        assert!(scene.node.log().contains("vouch for every ID"), "{}", scene.node.log());
    });
}

#[test]
fn the_tokens_of_a_withdrawn_identity_are_removed() {
    files_test(async |scene| {
        scene.register("web");
        let target = scene.node.publish(&for_db("web")).await;
        scene.agent.withdraw(&pod("web"));
        until("nothing is left", async || super::scene::names(&target).is_empty()).await;
        scene.register("web");
        until("everything is back", async || subject(&target) == Some(id("web"))).await;
    });
}

/// Only these are replaced, by the token of the wrong workload.
fn of_somebody_else() -> SpoilTokens {
    Arc::new(|response| {
        for svid in &mut response.svids {
            svid.spiffe_id = id("other");
        }
    })
}

#[test]
fn an_invalid_token_is_not_delivered_and_the_files_stay() {
    files_test(async |scene: Scene| {
        scene.register("web");
        scene.agent.spoil_tokens(Some(of_somebody_else()));
        let (code, message) = scene.node.refused(&for_db("web")).await;
        assert!(code != Code::Ok && message.contains("but spiffe://example.org/other was requested"), "{message}");
        scene.agent.spoil_tokens(None);
        let target = scene.node.publish(&for_db("web")).await;
        let (token, first) = (file(&target, "jwt_svid_0.token"), serial(&target));
        scene.agent.spoil_tokens(Some(of_somebody_else()));
        scene.agent.rotate(&pod("web"));
        until("the certificate is renewed nevertheless", async || serial(&target) != first).await;
        assert_eq!(file(&target, "jwt_svid_0.token"), token, "the last good one stays");
    });
}

#[test]
fn new_keys_are_delivered_even_if_the_token_is_not() {
    files_test(async |scene| {
        scene.register("web");
        let target = scene.node.publish(&for_db("web")).await;
        let (token, first) = (file(&target, "jwt_svid_0.token"), serial(&target));
        scene.agent.spoil_tokens(Some(of_somebody_else()));
        scene.agent.add_jwt_key();
        until("the new key exists", async || {
            let keys = file(&target, "jwt_bundles.json").map(|json| bundles(&json));
            keys.is_some_and(|keys| keys.values().next().unwrap().key_ids().count() == 2)
        })
        .await;
        assert_eq!((file(&target, "jwt_svid_0.token"), serial(&target)), (token, first), "nothing else has changed");
        until("it is said", async || scene.node.log().contains("renewal of the tokens failed")).await;
    });
}
