//! What the approver reads, for the fuzz targets.

use svid_csi_core::approve::{PodFacts, Request};
use svid_csi_core::cert_request::Condition;

use super::input::{self, InputError};
use super::object::Listed;
use super::pods;

/// A request as it was listed.
#[derive(Debug)]
pub struct ListedRequest(Listed);

impl ListedRequest {
    /// From the API server's JSON.
    ///
    /// # Errors
    /// If it is not of this form.
    pub fn read(json: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(json).map(Self)
    }

    /// The request to judge.
    pub fn request(&self) -> Request {
        self.0.request()
    }

    /// Its size in memory, as the queue counts it.
    pub fn weight(&self) -> usize {
        self.0.weight()
    }

    /// The object for an update of its status.
    ///
    /// # Errors
    /// If that is not JSON.
    pub fn with(&self, condition: &Condition) -> serde_json::Result<Vec<u8>> {
        self.0.with(condition)
    }
}

/// The facts about a pod in the API server's JSON.
///
/// # Errors
/// If it is not of this form.
pub fn pod(json: &[u8]) -> serde_json::Result<PodFacts> {
    serde_json::from_slice::<pods::Wire>(json).map(PodFacts::from)
}

/// The requests in the input of a dry run.
///
/// # Errors
/// [`InputError`].
pub fn input(text: &[u8]) -> Result<Vec<Request>, InputError> {
    input::read(text)
}
