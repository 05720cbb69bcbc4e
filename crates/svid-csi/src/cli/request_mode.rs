//! `--request-mode`, and the predecessor's older word for one of the modes.

use std::str::FromStr;

use super::mistakes::Mistakes;

/// Who makes certificate requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestMode {
    /// Each pod, by its own token.
    Pod,
    /// The driver, for any pod.
    Own,
    /// The driver, for pods of its own node.
    NodeBound,
}

impl RequestMode {
    /// The mode these two flags ask for together.
    pub(super) fn asked_for(mode: Option<Self>, own_service_account: bool, mistakes: &mut Mistakes) -> Self {
        if mode == Some(Self::Pod) && own_service_account {
            mistakes
                .add("request-mode", "pods do not use the driver's service account; leave out one of the two flags");
        }
        mode.unwrap_or(if own_service_account { Self::Own } else { Self::Pod })
    }
}

impl FromStr for RequestMode {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "pod" => Ok(Self::Pod),
            "own" => Ok(Self::Own),
            "node-bound" => Ok(Self::NodeBound),
            _ => Err(format!("{word:?} is not a request mode; use pod, own or node-bound")),
        }
    }
}
