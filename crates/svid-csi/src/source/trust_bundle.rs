//! TEMP
use std::sync::Arc;
use svid_csi_core::identity::TrustBundle;
use tokio::sync::watch;
/// TEMP
#[derive(Debug, Clone)]
pub enum BundleSource {
    /// f
    File(std::path::PathBuf),
}
impl std::str::FromStr for BundleSource {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        Ok(Self::File(s.into()))
    }
}
impl std::fmt::Display for BundleSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}
/// TEMP
#[derive(Debug, thiserror::Error)]
pub enum TrustBundleError {
    /// a
    #[error("a")]
    A,
}
/// TEMP
#[derive(Debug, Clone)]
pub struct CurrentBundle {
    /// a
    pub bundle: watch::Receiver<Option<Arc<TrustBundle>>>,
}
impl CurrentBundle {
    /// a
    pub fn trouble(&self) -> Option<String> {
        None
    }
}
/// TEMP
pub fn start(
    _: BundleSource,
    _: Option<kube::Client>,
    _: &crate::tasks::Tasks,
) -> Result<CurrentBundle, TrustBundleError> {
    Err(TrustBundleError::A)
}
