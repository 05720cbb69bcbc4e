//! A trust bundle in a ClusterTrustBundle, in the version that the API server supports.

use std::borrow::Cow;
use std::convert::Infallible;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::ClusterResourceScope;
use kube::{Api, Client, Resource};
use prometheus_client::metrics::counter::Counter;
use serde::Deserialize;

use super::TrustBundleError;
use super::updater::BundleUpdater;
use crate::backoff::Backoff;
use crate::kube::one_object::{OneObject, ReadError};

/// Since Kubernetes 1.37, 1.33 and 1.27. The fields read here are the same in all of them.
const VERSIONS: [&str; 3] = ["v1", "v1beta1", "v1alpha1"];

#[derive(Debug, Clone, Deserialize)]
struct ClusterTrustBundle {
    #[serde(default)]
    metadata: ObjectMeta,
    spec: ClusterTrustBundleSpec,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClusterTrustBundleSpec {
    trust_bundle: String,
}

impl Resource for ClusterTrustBundle {
    /// The version.
    type DynamicType = &'static str;
    type Scope = ClusterResourceScope;

    fn kind(_: &&'static str) -> Cow<'static, str> {
        "ClusterTrustBundle".into()
    }

    fn group(_: &&'static str) -> Cow<'static, str> {
        "certificates.k8s.io".into()
    }

    fn version(version: &&'static str) -> Cow<'static, str> {
        (*version).into()
    }

    fn plural(_: &&'static str) -> Cow<'static, str> {
        "clustertrustbundles".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

pub(super) async fn follow(mut updater: BundleUpdater, client: Client, name: String, restarts: Counter) -> Infallible {
    let mut backoff = Backoff::for_watches();
    loop {
        for version in VERSIONS {
            follow_in(version, &mut updater, &client, &name, &restarts).await;
        }
        updater.take(Err(TrustBundleError::NotServed));
        backoff.pause().await;
    }
}

/// Follows it as long as the API server supports this version.
async fn follow_in(
    version: &'static str,
    updater: &mut BundleUpdater,
    client: &Client,
    name: &str,
    restarts: &Counter,
) {
    let api: Api<ClusterTrustBundle> = Api::all_with(client.clone(), &version);
    let object = format!("ClusterTrustBundle {name} (--trust-bundle)");
    let mut states = OneObject::new(api, name, object.clone(), restarts.clone());
    loop {
        match states.next().await {
            Ok(Some(bundle)) => updater.offer(bundle.spec.trust_bundle.into_bytes()).await,
            Ok(None) => updater.take(Err(TrustBundleError::Absent { object: object.clone() })),
            Err(ReadError::NotServed { .. }) => return,
            Err(error) => updater.out_of_sight(&error.into()),
        }
    }
}
