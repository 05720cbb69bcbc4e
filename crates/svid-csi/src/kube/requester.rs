//! Making and removing `CertificateRequest` objects: as the driver, or as a pod by its token.

use http::header::{AUTHORIZATION, HeaderValue};
use kube::api::{DeleteParams, PostParams};
use kube::{Client, Config, Resource};
use svid_csi_core::cert_request;
use svid_csi_core::secret::Secret;

use super::cert_request::CertificateRequest;
use super::client::{self, CALL_TIMEOUT, ClientError};

/// Makes and removes requests.
#[derive(Clone)]
pub struct Requester {
    own: Client,
    anonymous: Client,
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
    #[error("the API server did not answer as it should: {0}")]
    Unclear(String),
    /// Whether the request was made is not known.
    #[error("the API server did not answer within {} seconds", CALL_TIMEOUT.as_secs())]
    Slow,
    /// The token is no text that fits into a header.
    #[error("the token holds characters that no token has")]
    Garbled,
}

impl std::fmt::Debug for Requester {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Requester")
    }
}

impl Requester {
    /// Acts with the credentials of `config`, or with none of them where a pod's token is given: a client certificate
    /// would win over the token.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn new(own: Client, config: &Config) -> Result<Self, ClientError> {
        let mut anonymous = config.clone();
        anonymous.auth_info = kube::config::AuthInfo::default();
        Ok(Self { own, anonymous: client::client(anonymous)? })
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
        let unclear = |error: &kube::Error| CreateError::Unclear(client::reason(error));
        let body = serde_json::to_vec(object).map_err(|error| unclear(&kube::Error::SerdeError(error)))?;
        let mut call = requests_in(&object.metadata.namespace)
            .create(&PostParams::default(), body)
            .map_err(|error| unclear(&kube::Error::BuildRequest(error)))?;
        if let Some(token) = token {
            call.headers_mut().insert(AUTHORIZATION, bearer(token)?);
        }
        let client = if token.is_some() { &self.anonymous } else { &self.own };
        let made = tokio::time::timeout(CALL_TIMEOUT, client.request::<CertificateRequest>(call));
        match made.await.map_err(|_| CreateError::Slow)? {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) => match status.code {
                409 if status.reason == "AlreadyExists" => Ok(()),
                401 => Err(CreateError::Unauthorized),
                403 => Err(CreateError::Forbidden(status.message.clone())),
                400 | 404 | 405 | 413 | 415 | 422 => Err(CreateError::Refused(status.message.clone())),
                _ => Err(unclear(&kube::Error::Api(status))),
            },
            Err(error) => Err(unclear(&error)),
        }
    }

    /// Removes a request, as the driver. One that is not there is fine.
    ///
    /// # Errors
    /// What the API server says, or that it says nothing.
    pub async fn delete(&self, namespace: &str, name: &str) -> Result<(), DeleteError> {
        let call = requests_in(namespace).delete(name, &DeleteParams::default());
        let call = call.map_err(|error| DeleteError::Api(error.to_string()))?;
        let removed = tokio::time::timeout(CALL_TIMEOUT, self.own.request_text(call)).await;
        match removed.map_err(|_| DeleteError::Slow)? {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(DeleteError::Api(client::reason(&error))),
        }
    }
}

/// Why a request was not removed.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// The API server refuses, or cannot be reached.
    #[error("the API server did not remove the request: {0}")]
    Api(String),
    /// No answer.
    #[error("the API server did not answer within {} seconds", CALL_TIMEOUT.as_secs())]
    Slow,
}

fn requests_in(namespace: &str) -> kube::core::Request {
    kube::core::Request::new(CertificateRequest::url_path(&(), Some(namespace)))
}

fn bearer(token: &Secret) -> Result<HeaderValue, CreateError> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose())).map_err(|_| CreateError::Garbled)?;
    value.set_sensitive(true);
    Ok(value)
}
