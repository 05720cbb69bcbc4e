//! Creates and deletes `CertificateRequest` objects, as the driver or as a pod with its token.

use std::sync::Arc;

use http::header::{AUTHORIZATION, HeaderValue};
use kube::api::{DeleteParams, PostParams};
use kube::core::Status;
use kube::{Client, Config, Resource};
use serde::de::IgnoredAny;
use svid_csi_core::cert_request;
use svid_csi_core::secret::Secret;
use tokio::sync::Semaphore;

use super::call::{CallError, within};
use super::cert_request::CertificateRequest;
use super::client::{self, CALL_TIMEOUT, ClientError};
use super::error;
use crate::telemetry::report;

/// The number of requests created at once, and of those deleted at once. Each concurrent call has its own connection
/// (HTTP/1.1), which is kept for minutes and uses more memory than anything else on a node.
const AT_ONCE: (usize, usize) = (4, 2);

/// Creates and deletes requests, a few at a time.
#[derive(Clone)]
pub struct Requester {
    own: Client,
    anonymous: Client,
    making: Arc<Semaphore>,
    removing: Arc<Semaphore>,
}

/// Why a request was not created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The API server does not know the token.
    #[error("the API server does not accept the token (401 Unauthorized)")]
    Unauthorized,
    /// The requester lacks a permission, which the API server's message names.
    #[error("{0}")]
    Forbidden(String),
    /// The API server or a webhook refuses the object.
    #[error("the API server refuses the request: {0}")]
    Refused(String),
    /// It is unknown whether the request was created.
    #[error(transparent)]
    Unclear(#[from] CallError),
    /// The token cannot be written into a header.
    #[error("the token contains characters that are not allowed in a token")]
    Garbled,
}

impl std::fmt::Debug for Requester {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Requester")
    }
}

impl Requester {
    /// Acts with the credentials of `config`, or without them if a pod's token is given, because a client certificate
    /// would take precedence over the token.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn new(own: Client, config: &Config) -> Result<Self, ClientError> {
        let mut anonymous = config.clone();
        anonymous.auth_info = kube::config::AuthInfo::default();
        let (making, removing) = (Arc::new(Semaphore::new(AT_ONCE.0)), Arc::new(Semaphore::new(AT_ONCE.1)));
        Ok(Self { own, anonymous: client::client(&anonymous)?, making, removing })
    }

    /// Creates a request, as the pod with that token or as the driver. An existing one is fine: its name is random, so
    /// it was created by an earlier call whose response was lost.
    ///
    /// # Errors
    /// [`CreateError`].
    pub async fn create(
        &self,
        object: &cert_request::CertificateRequest,
        token: Option<&Secret>,
    ) -> Result<(), CreateError> {
        let failed = |error| CreateError::Unclear(CallError::Failed(error));
        let body = serde_json::to_vec(object).map_err(|error| failed(kube::Error::SerdeError(error)))?;
        let call = requests_in(&object.metadata.namespace).create(&PostParams::default(), body);
        let mut call = call.map_err(|error| failed(kube::Error::BuildRequest(error)))?;
        if let Some(token) = token {
            call.headers_mut().insert(AUTHORIZATION, bearer(token)?);
        }
        let client = if token.is_some() { &self.anonymous } else { &self.own };
        let _turn = self.making.acquire().await;
        let made = within(CALL_TIMEOUT, client.request::<IgnoredAny>(call)).await;
        made.map(drop).or_else(|failed| match failed {
            CallError::Failed(error) if error::is_already_exists(&error) => Ok(()),
            CallError::Failed(kube::Error::Api(status)) => Err(refusal(status)),
            failed => Err(CreateError::Unclear(failed)),
        })
    }

    /// Deletes a request, as the driver. A missing one is fine.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn delete(&self, namespace: &str, name: &str) -> Result<(), CallError> {
        let call = requests_in(namespace).delete(name, &DeleteParams::default());
        let call = call.map_err(|error| CallError::Failed(kube::Error::BuildRequest(error)))?;
        let _turn = self.removing.acquire().await;
        match within(CALL_TIMEOUT, self.own.request::<IgnoredAny>(call)).await {
            Err(CallError::Failed(error)) if error::is_not_found(&error) => Ok(()),
            removed => removed.map(drop),
        }
    }
}

fn refusal(status: Box<Status>) -> CreateError {
    match status.code {
        401 => CreateError::Unauthorized,
        403 => CreateError::Forbidden(report::one_line(&status.message)),
        400 | 404 | 405 | 413 | 415 | 422 => CreateError::Refused(report::one_line(&status.message)),
        _ => CreateError::Unclear(CallError::Failed(kube::Error::Api(status))),
    }
}

fn requests_in(namespace: &str) -> kube::core::Request {
    kube::core::Request::new(CertificateRequest::url_path(&(), Some(namespace)))
}

fn bearer(token: &Secret) -> Result<HeaderValue, CreateError> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose())).map_err(|_| CreateError::Garbled)?;
    value.set_sensitive(true);
    Ok(value)
}
