//! cert-manager's webhook for certificate requests: it records their creators, and decides who may approve
//! (cert-manager 1.21, `internal/webhook/admission/certificaterequest` and `internal/apis/certmanager/validation`).

use serde_json::{Value, json};

use super::World;
use super::access::Access;
use super::failure::Failure;
use super::kinds::Kind;
use super::target::Target;
use super::users::User;

/// Writes the creator into a new request, and overwrites any values in it.
pub(super) fn stamp(kind: &Kind, mut object: Value, user: &User) -> Value {
    if kind.plural == "certificaterequests" && object["spec"].is_object() {
        let spec = &mut object["spec"];
        spec["username"] = user.name.clone().into();
        spec["uid"] = user.uid.clone().into();
        spec["groups"] = user.groups.clone().into();
        spec["extra"] = json!(user.extra);
        without_empty(spec);
    }
    object
}

/// Clients may leave out empty values, which means the same.
fn without_empty(object: &mut Value) {
    let is_empty = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    };
    if let Some(fields) = object.as_object_mut() {
        fields.values_mut().for_each(without_empty);
        fields.retain(|_, value| !is_empty(value));
    }
}

/// Whether the user may make this update.
pub(super) fn review(world: &World, access: &Access, target: &Target, update: &Value) -> Result<(), Failure> {
    if target.kind.plural != "certificaterequests" {
        return Ok(());
    }
    let Ok(current) = world.objects.find(target.kind, &target.namespace, &target.name) else { return Ok(()) };
    let (before, after) = (&current["status"]["conditions"], &update["status"]["conditions"]);
    let mut spec = update["spec"].clone();
    without_empty(&mut spec);
    if target.subresource.is_empty() && current["spec"] != spec {
        return Err(denied("spec: Forbidden: cannot change spec after creation"));
    }
    let decided = ["Approved", "Denied"].map(|decision| (decision, find(before, decision), find(after, decision)));
    for (decision, before, after) in &decided {
        if before.is_some() && before != after {
            let why = format!("status.conditions: Forbidden: '{decision}' condition may not be modified once set");
            return Err(denied(&why));
        }
    }
    if decided.iter().all(|(.., after)| after.is_some()) {
        return Err(denied("status.conditions: Forbidden: both 'Denied' and 'Approved' conditions cannot coexist"));
    }
    let deciding = decided.iter().any(|(_, before, after)| before.is_none() && after.is_some());
    if deciding && !may_decide(world, access, &current["spec"]["issuerRef"]) {
        Err(unauthorized(access, &current))
    } else {
        Ok(())
    }
}

fn find<'a>(conditions: &'a Value, kind: &str) -> Option<&'a Value> {
    conditions.as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// Whether the user has the verb `approve` on the signer, by its name or on all signers of its kind.
fn may_decide(world: &World, access: &Access, issuer: &Value) -> bool {
    let text = |field: &str, usual: &str| match issuer[field].as_str().unwrap_or_default() {
        "" => usual.to_owned(),
        text => text.to_owned(),
    };
    let (kind, group) = (text("kind", "Issuer"), text("group", "cert-manager.io"));
    let plural = format!("{}s.{group}", kind.to_lowercase());
    let name = text("name", "");
    let name = if kind == "Issuer" { format!("{}.{name}", access.namespace) } else { name };
    [format!("{plural}/*"), format!("{plural}/{name}")].into_iter().any(|signer| {
        world.permissions.allow(&Access {
            user: access.user.clone(),
            verb: "approve",
            group: "cert-manager.io".to_owned(),
            resource: "signers".to_owned(),
            namespace: String::new(),
            name: signer,
        })
    })
}

fn unauthorized(access: &Access, request: &Value) -> Failure {
    let issuer = &request["spec"]["issuerRef"];
    let text = |field: &str| issuer[field].as_str().unwrap_or_default();
    denied(&format!(
        "status.conditions: Forbidden: user {:?} does not have permissions to set approved/denied conditions for \
         issuer {{{} {} {}}}",
        access.user.name,
        text("name"),
        text("kind"),
        text("group")
    ))
}

fn denied(why: &str) -> Failure {
    let message = format!("admission webhook \"webhook.cert-manager.io\" denied the request: {why}");
    Failure::new(403, "Forbidden", message)
}
