//! Real requests that break one rule each: the API server and cert-manager's webhook accept them, and our approver
//! denies them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Pod;
use kube::{Client, ResourceExt};
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, SanType,
};
use serde_json::{Value, json};
use svid_csi_cluster::predecessor;
use svid_csi_cluster::program::metric;
use svid_csi_cluster::requests::{self, condition, wait_condition};
use svid_csi_core::approve::CONDITION_REASON;
use svid_csi_core::cert_request::IDENTITY_ANNOTATION;

use super::stage::{Stage, play_with};
use crate::eventually::{SOON, eventually};
use crate::pods::{PodSpec, TestPod};

const BYSTANDER: &str = "bystander";

/// A request before its creation, valid until a case changes it.
struct Draft {
    object: Value,
    csr: CertificateParams,
    key: KeyPair,
    id: String,
    by_administrator: bool,
    /// The UID of another pod.
    bystander: String,
}

impl Draft {
    fn sans(&mut self, names: Vec<SanType>) {
        self.csr.subject_alt_names = names;
    }

    /// Another identity, in the CSR and in the annotation.
    fn identity(&mut self, id: &str) {
        self.sans(vec![uri(id)]);
        self.object["metadata"]["annotations"][IDENTITY_ANNOTATION] = json!(id);
    }

    fn finish(mut self) -> Result<Value> {
        let csr = self.csr.serialize_request(&self.key)?.pem()?;
        self.object["spec"]["request"] = json!(STANDARD.encode(csr));
        Ok(self.object)
    }
}

/// The change, the class of the denial, and words of its message.
struct Case {
    class: &'static str,
    words: &'static str,
    change: fn(&mut Draft),
}

const fn case(class: &'static str, words: &'static str, change: fn(&mut Draft)) -> Case {
    Case { class, words, change }
}

const OF_THE_CSR: [Case; 14] = [
    case("subject", "must have none", |draft| draft.csr.distinguished_name.push(DnType::CommonName, "web")),
    case("subject", "system:masters", |draft| {
        draft.csr.distinguished_name.push(DnType::OrganizationName, "system:masters");
    }),
    case("name", "DNS", |draft| draft.csr.subject_alt_names.push(SanType::DnsName(ascii("web.example.org")))),
    case("name", "IP", |draft| draft.csr.subject_alt_names.push(SanType::IpAddress([10, 0, 0, 1].into()))),
    case("name", "mail", |draft| draft.csr.subject_alt_names.push(SanType::Rfc822Name(ascii("a@example.org")))),
    case("uri_count", "2 URIs", |draft| draft.csr.subject_alt_names.push(uri("spiffe://example.org/more"))),
    case("uri_count", "0 URIs", |draft| draft.sans(Vec::new())),
    case("spiffe_id", "not a SPIFFE ID", |draft| draft.identity("https://example.org/ns/a/sa/b")),
    case("spiffe_id", "not a SPIFFE ID", |draft| draft.identity(&format!("{}/", draft.id))),
    case("key_type", "key of type", |draft| draft.key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("a key")),
    case("extension", "only subject alternative name", |draft| {
        let odd = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
        draft.csr.custom_extensions.push(odd);
    }),
    case("key_usage", "key usage bits", |draft| {
        // cert-manager's webhook requires that usages in the CSR, if there are any, match those beside it.
        draft.csr.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        draft.csr.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        draft.object["spec"]["usages"] = json!(["cert sign", "server auth", "client auth"]);
    }),
    case("extended_key_usage", "extended key usage", |draft| {
        draft.csr.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        draft.csr.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        draft.object["spec"]["usages"] = json!(["digital signature", "key encipherment", "code signing"]);
    }),
    case("annotation", "the annotation names", |draft| {
        draft.object["metadata"]["annotations"][IDENTITY_ANNOTATION] = json!("spiffe://example.org/ns/a/sa/b");
    }),
];

const OF_THE_REST: [Case; 13] = [
    case("trust_domain", "not of the trust domain example.org", |draft| {
        draft.identity(&draft.id.replace("example.org", "example.com"));
    }),
    case("identity", "but may ask only for", |draft| draft.identity(&draft.id.replace("/sa/default", "/sa/admin"))),
    case("identity", "but may ask only for", |draft| draft.identity("spiffe://example.org/ns/kube-system/sa/default")),
    case("duration", "must be 1h0m0s", |draft| draft.object["spec"]["duration"] = json!("24h")),
    case("duration", "must be 1h0m0s", |draft| draft.object["spec"]["duration"] = Value::Null),
    case("is_ca", "spec.isCA is true", |draft| draft.object["spec"]["isCA"] = json!(true)),
    case("usages", "but must be", |draft| {
        draft.object["spec"]["usages"] = json!(["digital signature", "key encipherment", "server auth"]);
    }),
    case("usages", "but must be", |draft| {
        let all = ["digital signature", "key encipherment", "server auth", "client auth", "code signing"];
        draft.object["spec"]["usages"] = json!(all);
    }),
    case("issuer", "spec.issuerRef is", |draft| draft.object["spec"]["issuerRef"]["name"] = json!("another")),
    case("issuer", "spec.issuerRef is", |draft| draft.object["spec"]["issuerRef"]["kind"] = json!("Issuer")),
    case("owner_stamp", "its owner is the pod with UID", |draft| {
        draft.object["metadata"]["ownerReferences"][0]["name"] = json!(BYSTANDER);
        draft.object["metadata"]["ownerReferences"][0]["uid"] = json!(draft.bystander);
    }),
    case("owner", "0 pods as owners", |draft| draft.object["metadata"]["ownerReferences"] = json!([])),
    case("user", "the requester has no identity", |draft| draft.by_administrator = true),
];

#[tokio::test]
async fn every_rule_denies_a_request_that_breaks_it() {
    play_with("e2e-denials", Duration::from_secs(3600), async |stage: &Stage<'_>| {
        let scene = stage.scene;
        stage.announce(None).await?;
        stage.put(&predecessor::requester(&scene.name, "default")).await?;
        let pod = scene.run(&PodSpec::idle("asker")).await?;
        scene.create(&PodSpec::idle(BYSTANDER)).await?;
        let client = stage.client_of(&pod, "default").await?;
        let approver = stage.approver(&["--allowed-key-types=ecdsa-p256"]).await?;

        let good = requests::create(&client, &draft(stage, &pod).await?.finish()?).await?;
        wait_condition(&stage.requests(), &good, "Ready").await.context("a request without a fault")?;
        for case in OF_THE_CSR.iter().chain(&OF_THE_REST) {
            let denied = deny(stage, &pod, &client, case).await;
            denied.with_context(|| format!("the case {} ({})", case.class, case.words))?;
        }
        let all = OF_THE_CSR.len() + OF_THE_REST.len();
        // Each is counted once the API server has answered, which may be after this test has seen the denial.
        eventually("the denials to be counted", SOON, async || {
            let metrics = approver.metrics().await?;
            ensure_counted(&metrics, &OF_THE_CSR)?;
            ensure_counted(&metrics, &OF_THE_REST)
        })
        .await?;
        let signed = stage.requests().list(&kube::api::ListParams::default()).await?.items;
        let signed = signed.iter().filter(|request| condition(request, "Ready").is_some()).count();
        ensure!(signed == 1, "{signed} requests were signed, {all} of which were denied");
        pod.wait_event("a denial", |message| message.contains("was denied") && message.contains("must have none"))
            .await
            .map(drop)
    })
    .await;
}

async fn deny(stage: &Stage<'_>, pod: &TestPod<'_>, client: &Client, case: &Case) -> Result<()> {
    let mut draft = draft(stage, pod).await?;
    (case.change)(&mut draft);
    let client = if draft.by_administrator { &stage.scene.client } else { client };
    let name = requests::create(client, &draft.finish()?).await?;
    let denied = wait_condition(&stage.requests(), &name, "Denied").await?;
    ensure!(denied.reason == CONDITION_REASON, "its reason is {:?}", denied.reason);
    ensure!(denied.message.starts_with("Denied request: "), "its message is {:?}", denied.message);
    ensure!(denied.message.contains(case.words), "its message is {:?}", denied.message);
    Ok(())
}

fn ensure_counted(metrics: &str, cases: &[Case]) -> Result<()> {
    for Case { class, .. } in cases {
        let labels = ["decision=\"denied\"", &format!("reason=\"{class}\"")];
        let counted = metric(metrics, "svid_csi_approver_decisions_total", &labels).unwrap_or_default();
        let made = OF_THE_CSR.iter().chain(&OF_THE_REST).filter(|case| case.class == *class).count();
        ensure!(counted >= made as f64, "{counted} denials are counted as {class}, {made} were made:\n{metrics}");
    }
    Ok(())
}

#[tokio::test]
async fn a_denial_that_the_webhook_forbids_is_left_pending_and_counted() {
    play_with("e2e-unsigned", Duration::from_secs(3600), async |stage: &Stage<'_>| {
        let scene = stage.scene;
        stage.announce(None).await?;
        // An issuer other than the one that the approver may decide about.
        let mut signers = predecessor::rule("cert-manager.io", "signers", &["approve"]);
        signers["resourceNames"] = json!([format!("clusterissuers.cert-manager.io/{}", scene.name)]);
        let approver = format!("{}-approver", scene.name);
        let rules = [
            predecessor::rule("cert-manager.io", "certificaterequests", &["list", "watch"]),
            predecessor::rule("cert-manager.io", "certificaterequests/status", &["update"]),
            signers,
        ];
        stage.put(&predecessor::cluster_role(&approver, (&scene.name, &approver), &rules)).await?;
        stage.put(&predecessor::requester(&scene.name, "default")).await?;
        let pod = scene.run(&PodSpec::idle("asker")).await?;
        let client = stage.client_of(&pod, "default").await?;
        let approver = stage.approver(&[]).await?;

        let mut other = draft(stage, &pod).await?;
        other.object["spec"]["issuerRef"]["name"] = json!("another");
        let other = requests::create(&client, &other.finish()?).await?;
        eventually("the forbidden denial to be counted", SOON, async || {
            let metrics = approver.metrics().await?;
            let counted = metric(&metrics, "svid_csi_approver_denials_forbidden_total", &[]);
            ensure!(counted >= Some(1.0), "it counts {counted:?}");
            Ok(())
        })
        .await?;
        let good = requests::create(&client, &draft(stage, &pod).await?.finish()?).await?;
        wait_condition(&stage.requests(), &good, "Ready")
            .await
            .context("a request of the issuer it may decide about")?;
        let left = stage.requests().get(&other).await?;
        ensure!(condition(&left, "Denied").is_none() && condition(&left, "Approved").is_none(), "it was decided");
        let counted = metric(&approver.metrics().await?, "svid_csi_approver_denials_forbidden_total", &[]);
        ensure!(counted <= Some(3.0), "it was tried {counted:?} times");
        Ok(())
    })
    .await;
}

/// A request of the pod that breaks no rule.
async fn draft(stage: &Stage<'_>, pod: &TestPod<'_>) -> Result<Draft> {
    let object = stage.terms.request(&stage.pod_ref(pod, "default"))?;
    let id = stage.terms.identity(&stage.scene.name, "default")?.as_str().to_owned();
    let mut csr = CertificateParams::default();
    csr.distinguished_name = DistinguishedName::new();
    csr.subject_alt_names = vec![uri(&id)];
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let bystander = stage.scene.api::<Pod>().get_opt(BYSTANDER).await?.and_then(|pod| pod.uid()).unwrap_or_default();
    Ok(Draft { object, csr, key, id, by_administrator: false, bystander })
}

fn uri(text: &str) -> SanType {
    SanType::URI(ascii(text))
}

fn ascii(text: &str) -> rcgen::string::Ia5String {
    text.try_into().expect("ASCII")
}
