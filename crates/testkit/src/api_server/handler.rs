//! The path of a call: recorded, broken if the test wants that, authenticated, authorized, executed.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::World;
use super::access::Access;
use super::calls::Call;
use super::failure::Failure;
use super::faults::Fault;
use super::target::Target;
use super::users::User;
use super::verbs::Allowed;

/// The maximum size of a body, in bytes, as in etcd.
const MAX_BODY: usize = 3 << 20;

/// Everything that the server answers.
pub(super) fn router(world: Arc<World>) -> Router {
    Router::new().fallback(answer).with_state(world)
}

async fn answer(State(world): State<Arc<World>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if parts.method == Method::GET && parts.uri.path() == "/version" {
        let date = world.date().map(|date| [(header::DATE, date)]);
        let minor = world.minor();
        let version = json!({"major": "1", "minor": minor.to_string(), "gitVersion": format!("v1.{minor}.2")});
        return (date, Json(version)).into_response();
    }
    if parts.method == Method::GET && parts.uri.path() == "/apis/admissionregistration.k8s.io/v1" {
        let mut names = vec!["validatingadmissionpolicies"];
        names.extend((world.minor() >= 36).then_some("mutatingadmissionpolicies"));
        let resources: Vec<_> = names.iter().map(|name| json!({"name": name})).collect();
        return Json(json!({"kind": "APIResourceList", "resources": resources})).into_response();
    }
    let Some(target) = Target::parse(&parts.uri) else { return Failure::unknown_path().into_response() };
    let Some(verb) = target.verb(&parts.method) else { return Failure::method_not_allowed().into_response() };
    let user = bearer(&parts.headers).and_then(|token| world.users.of(token));
    let body = read(body).await;
    let call = Call {
        user: user.as_ref().map(|user| user.name.clone()),
        verb,
        resource: target.resource(),
        namespace: target.namespace.clone(),
        name: target.name.clone(),
        uri: parts.uri.to_string(),
        body: body.as_ref().cloned().unwrap_or_default(),
        at: Instant::now(),
        code: None,
    };
    let answering = world.calls.begin(call);
    let fault = world.faults.meet(verb, &target.resource());
    let lost = matches!(fault, Some(Fault::LoseAnswer | Fault::Drop));
    let answer = match spoil(&world, fault).await {
        Err(answer) => answer,
        Ok(()) => {
            let content_type = text(&parts.headers, header::CONTENT_TYPE);
            serve(&world, user, verb, &target, content_type, body).unwrap_or_else(Failure::into_response)
        }
    };
    if lost {
        return broken();
    }
    answering.answered(answer.status().as_u16());
    answer
}

/// Injects a fault; `Err` if the fault is the response.
async fn spoil(world: &World, fault: Option<Fault>) -> Result<(), Response> {
    let Some(fault) = fault else { return Ok(()) };
    if let Some(failure) = fault.failure() {
        return Err(failure.into_response());
    }
    match fault {
        Fault::Delay(delay) => tokio::time::sleep(delay).await,
        Fault::Hang => world.faults.until_cleared().await,
        Fault::Drop => return Err(broken()),
        _ => {}
    }
    Ok(())
}

fn serve(
    world: &Arc<World>,
    user: Option<User>,
    verb: &'static str,
    target: &Target,
    content_type: &str,
    body: Result<Value, Failure>,
) -> Result<Response, Failure> {
    let user = user.ok_or_else(Failure::unauthorized)?;
    let access = Access {
        user,
        verb,
        group: target.kind.group.to_owned(),
        resource: target.resource(),
        namespace: target.namespace.clone(),
        name: target.asked_for().to_owned(),
    };
    if verb != "create" || target.kind.plural != "selfsubjectaccessreviews" {
        world.permissions.allow(&access).then_some(()).ok_or_else(|| Failure::forbidden(&access))?;
    }
    let body = body?;
    Allowed { world, access: &access, target, content_type, body }.answer()
}

async fn read(body: Body) -> Result<Value, Failure> {
    let bytes = axum::body::to_bytes(body, MAX_BODY).await.map_err(|error| Failure::bad_request(error.to_string()))?;
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&bytes).map_err(|error| Failure::bad_request(format!("the body is not JSON: {error}")))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    text(headers, header::AUTHORIZATION).strip_prefix("Bearer ")
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// A response that breaks off before its first byte.
fn broken() -> Response {
    let nothing = tokio_stream::once(Err::<Bytes, _>(io::Error::from(io::ErrorKind::ConnectionReset)));
    Body::from_stream(nothing).into_response()
}
