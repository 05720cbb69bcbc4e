//! Objects of any kind, as JSON, at the API server.

use anyhow::{Context, Result};
use kube::Client;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams};
use serde_json::Value;

const MANAGER: &str = "e2e";

/// Creates or updates objects in this order. Those without a namespace have none.
pub async fn apply(client: &Client, objects: &[Value]) -> Result<()> {
    for object in objects {
        let (api, name) = place(client, object)?;
        let applied = api.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(object)).await;
        applied.with_context(|| format!("cannot apply {} {name}", object["kind"]))?;
    }
    Ok(())
}

/// Deletes objects in this order; missing ones are skipped.
pub async fn delete(client: &Client, objects: &[Value]) -> Result<()> {
    for object in objects {
        let (api, name) = place(client, object)?;
        match api.delete(&name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            deleted => deleted.map(drop).with_context(|| format!("cannot delete {} {name}", object["kind"]))?,
        }
    }
    Ok(())
}

/// Reads an object.
pub async fn get(client: &Client, object: &Value) -> Result<Value> {
    let (api, name) = place(client, object)?;
    Ok(serde_json::to_value(api.get(&name).await?)?)
}

fn place(client: &Client, object: &Value) -> Result<(Api<DynamicObject>, String)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let (version, kind) = text(&object["apiVersion"]).zip(text(&object["kind"])).context("an object without a kind")?;
    let name = text(&object["metadata"]["name"]).context("an object without a name")?;
    let (group, version) = version.split_once('/').unwrap_or(("", &version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &kind));
    let api = match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    Ok((api, name))
}
