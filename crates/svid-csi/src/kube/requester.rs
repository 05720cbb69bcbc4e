//! Making and removing `CertificateRequest` objects: as the driver, or as a pod by its token.

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

/// How many requests are made at once, and how many removed. Each call of its own has a connection of its own (HTTP/1.1), which
/// is kept for minutes, and nothing on a node takes up memory as these do.
const AT_ONCE: (usize, usize) = (4, 2);

/// Makes and removes requests, a few at a time.
#[derive(Clone)]
pub struct Requester {
    own: Client,
    anonymous: Client,
    making: Arc<Semaphore>,
    removing: Arc<Semaphore>,
}

/// Why a request was not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The API server does not know the token.
    #[error("the API server does not accept the token (401 Unauthorized)")]
    Unauthorized,
    /// The requester lacks a permission. The words are the API server's and name it.
    #[error("{0}")]
    Forbidden(String),
    /// The API server, or a webhook, refuses the object as it is.
    #[error("the API server refuses the request: {0}")]
    Refused(String),
    /// Whether the request was made is not known.
    #[error(transparent)]
    Unclear(#[from] CallError),
    /// The token does not fit into a header.
    #[error("the token contains characters that are not allowed in a token")]
    Garbled,
}

impl std::fmt::Debug for Requester {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Requester")
    }
}

impl Requester {
    /// Acts with the credentials of `config`, or with none of them if a pod's token is given: a client certificate
    /// would win over the token.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn new(own: Client, config: &Config) -> Result<Self, ClientError> {
        let mut anonymous = config.clone();
        anonymous.auth_info = kube::config::AuthInfo::default();
        let (making, removing) = (Arc::new(Semaphore::new(AT_ONCE.0)), Arc::new(Semaphore::new(AT_ONCE.1)));
        Ok(Self { own, anonymous: client::client(&anonymous)?, making, removing })
    }

    /// Makes a request, as the pod whose token it is, or as the driver. One that is there already is fine: its name is
    /// random, so it was made by an earlier call whose answer was lost.
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

    /// Removes a request, as the driver. One that is not there is fine.
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
