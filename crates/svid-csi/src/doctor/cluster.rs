//! The API server, asked with the driver's own access.

use std::path::PathBuf;
use std::time::Duration;

use futures::future::join_all;
use http::Request;
use http::header::DATE;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use svid_csi_core::findings::facts::{
    ClusterSeen, CsiDriverSeen, DriverFacts, IssuerFacts, IssuerSeen, Look, Reach, Right,
};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use super::paths::Paths;
use crate::host::clock;
use crate::kube::call::{self, CallError};
use crate::kube::client::{self, ClientOptions};
use crate::kube::error;
use crate::telemetry::report;

const PATIENCE: Duration = Duration::from_secs(3);

pub(super) async fn look(driver: &DriverFacts, paths: &Paths, given: Option<PathBuf>) -> Reach {
    let is_needed = driver.names.iter().flat_map(|name| &name.plans).any(|plan| !plan.starts_with("socket:"));
    if !is_needed {
        return Reach::NotNeeded;
    }
    let client = match connect(driver, paths, given).await {
        Ok(client) => client,
        Err(why) => return Reach::NotPossible(why),
    };
    let ahead = match ahead(&client).await {
        Ok(ahead) => ahead,
        Err(why) => return Reach::Unreachable(report::chain(&why)),
    };
    let drivers = driver.names.iter().map(async |name| (name.name.clone(), csi_driver(&client, &name.name).await));
    let source = driver.cert_manager.as_ref();
    let issuer = source.and_then(|source| source.issuer.as_ref()).filter(|issuer| issuer.is_cluster_issuer());
    let rights = source.map(|source| needed(source.pods_ask)).unwrap_or_default();
    let (csi_drivers, rights, issuer) = tokio::join!(
        join_all(drivers),
        join_all(
            rights.into_iter().map(async |(verb, resource)| right(&client, verb, "cert-manager.io", resource).await)
        ),
        async {
            match issuer {
                Some(issuer) => Some(issuer_of(&client, issuer).await),
                None => None,
            }
        },
    );
    Reach::Seen(ClusterSeen { ahead, csi_drivers: csi_drivers.into_iter().collect(), rights, issuer })
}

/// A client with the driver's own access, or that of a kubeconfig.
pub(super) async fn connect(driver: &DriverFacts, paths: &Paths, given: Option<PathBuf>) -> Result<Client, String> {
    let kubeconfig = given.or_else(|| driver.kubeconfig.as_deref().map(|path| paths.of_driver(path)));
    let options = ClientOptions { kubeconfig, ..ClientOptions::default() };
    let client = client::config(&options).await.and_then(|access| client::client(&access));
    client.map_err(|why| report::chain(&why))
}

/// By how many seconds the clock here is ahead.
async fn ahead(client: &Client) -> Result<Option<i64>, CallError> {
    let request = Request::get("/version").body(Body::empty()).map_err(kube::Error::HttpError);
    let response = call::within(PATIENCE, async { client.send(request?).await }).await?;
    let date = response.headers().get(DATE).and_then(|date| date.to_str().ok()).and_then(read_date);
    let now = OffsetDateTime::from(clock::now()).unix_timestamp();
    Ok(date.map(|date| now - date))
}

/// A date of HTTP, which is one of mails but for the name of its zone.
fn read_date(text: &str) -> Option<i64> {
    let text = text.strip_suffix("GMT").map(|text| format!("{text}+0000"))?;
    Some(OffsetDateTime::parse(&text, &Rfc2822).ok()?.unix_timestamp())
}

/// What the source cert-manager needs in all namespaces: docs/rbac.md.
fn needed(pods_ask: bool) -> Vec<(&'static str, &'static str)> {
    let verbs = ["list", "watch", "delete"].into_iter().chain((!pods_ask).then_some("create"));
    verbs.map(|verb| (verb, "certificaterequests")).collect()
}

/// Whether a permission is granted in all namespaces.
pub(super) async fn right(client: &Client, verb: &'static str, group: &'static str, resource: &'static str) -> Right {
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": verb, "group": group, "resource": resource}},
    });
    let request = Request::post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews")
        .header("content-type", "application/json")
        .body(review.to_string().into_bytes());
    let answer = ask(client, request).await;
    let allowed = answer.map(|review| review.is_some_and(|review| review["status"]["allowed"] == true));
    Right { verb, group, resource, allowed }
}

async fn csi_driver(client: &Client, name: &str) -> Look<Option<CsiDriverSeen>> {
    let path = format!("/apis/storage.k8s.io/v1/csidrivers/{name}");
    let found = ask(client, Request::get(path).body(Vec::new())).await?;
    Ok(found.map(|object| {
        let spec = &object["spec"];
        let any = |field: &str, matches: &dyn Fn(&Value) -> bool| {
            spec[field].as_array().is_some_and(|all| all.iter().any(matches))
        };
        CsiDriverSeen {
            ephemeral: any("volumeLifecycleModes", &|mode| mode == "Ephemeral"),
            pod_info: spec["podInfoOnMount"] == true,
            tokens: any("tokenRequests", &|token| token["audience"].as_str().is_none_or(str::is_empty)),
            republish: spec["requiresRepublish"] == true,
        }
    }))
}

async fn issuer_of(client: &Client, issuer: &IssuerFacts) -> Look<Option<IssuerSeen>> {
    let path = format!("/apis/cert-manager.io/v1/clusterissuers/{}", issuer.name);
    let found = ask(client, Request::get(path).body(Vec::new())).await?;
    Ok(found.map(|object| {
        let is = |kind: &str| !object["spec"][kind].is_null();
        let unusable = if is("selfSigned") { Some("SelfSigned") } else { is("acme").then_some("ACME") };
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions.iter().find(|condition| condition["type"] == "Ready");
        let not_ready = ready.filter(|ready| ready["status"] != "True");
        let message = |ready: &Value| ready["message"].as_str().unwrap_or("without a message").to_owned();
        IssuerSeen { unusable, not_ready: not_ready.map(message) }
    }))
}

/// The object; `None` if there is none.
pub(super) async fn ask(client: &Client, request: Result<Request<Vec<u8>>, http::Error>) -> Look<Option<Value>> {
    let request = request.map_err(|error| error.to_string())?;
    match call::within(PATIENCE, client.request::<Value>(request)).await {
        Ok(object) => Ok(Some(object)),
        Err(CallError::Failed(error)) if error::is_not_found(&error) => Ok(None),
        Err(why) => Err(report::chain(&why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_http_are_read() {
        assert_eq!(read_date("Tue, 14 Nov 2023 22:13:20 GMT"), Some(1_700_000_000));
        assert_eq!(read_date("yesterday"), None);
    }
}
