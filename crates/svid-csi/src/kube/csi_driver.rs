//! Whether the CSIDriver object has the fields that a plan needs.

use std::time::Duration;

use k8s_openapi::api::storage::v1::{CSIDriver, CSIDriverSpec};
use kube::{Api, Client};
use tracing::info;

use super::error;

/// How long the check may take; afterwards the driver starts without it.
const PATIENCE: Duration = Duration::from_secs(5);

/// The required fields of the CSIDriver object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Tokens of the pods, with regular republishes.
    pub tokens: bool,
}

/// The CSIDriver object lacks fields that a plan needs.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the CSIDriver object {name} lacks {}, without which volumes cannot be served", .lacks.join(" and "))]
pub struct Lacking {
    name: String,
    lacks: Vec<&'static str>,
}

/// Checks the object, if it exists and the driver may read it. Otherwise mistakes show with the first volume.
///
/// # Errors
/// [`Lacking`].
pub async fn check(client: &Client, name: &str, needs: Needs) -> Result<(), Lacking> {
    let read = tokio::time::timeout(PATIENCE, Api::<CSIDriver>::all(client.clone()).get_opt(name)).await;
    match read {
        Ok(Ok(Some(driver))) => match lacks(&driver.spec, needs) {
            lacks if lacks.is_empty() => Ok(()),
            lacks => Err(Lacking { name: name.to_owned(), lacks }),
        },
        Ok(Ok(None)) => Ok(()),
        Ok(Err(error)) => {
            info!(
                name,
                error = error::describe(&error),
                "the CSIDriver object cannot be checked; it must have podInfoOnMount: true"
            );
            Ok(())
        }
        Err(_) => {
            info!(name, "the CSIDriver object cannot be checked in time; it must have podInfoOnMount: true");
            Ok(())
        }
    }
}

fn lacks(spec: &CSIDriverSpec, needs: Needs) -> Vec<&'static str> {
    let for_api_server = spec.token_requests.iter().flatten().any(|token| token.audience.is_empty());
    let wanted = [
        ("podInfoOnMount: true", spec.pod_info_on_mount == Some(true)),
        ("tokenRequests: [{audience: \"\"}]", !needs.tokens || for_api_server),
        ("requiresRepublish: true", !needs.tokens || spec.requires_republish == Some(true)),
    ];
    wanted.into_iter().filter(|(_, there)| !there).map(|(field, _)| field).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::storage::v1::TokenRequest;

    use super::*;

    #[test]
    fn names_every_missing_field() {
        let audience =
            |audience: &str| Some(vec![TokenRequest { audience: audience.to_owned(), ..Default::default() }]);
        let good = CSIDriverSpec {
            pod_info_on_mount: Some(true),
            requires_republish: Some(true),
            token_requests: audience(""),
            ..CSIDriverSpec::default()
        };
        let tokens = Needs { tokens: true };
        assert!(lacks(&good, tokens).is_empty());
        assert_eq!(lacks(&CSIDriverSpec::default(), tokens).len(), 3);
        assert_eq!(lacks(&CSIDriverSpec::default(), Needs { tokens: false }), ["podInfoOnMount: true"]);
        let vault = CSIDriverSpec { token_requests: audience("vault"), ..good };
        assert_eq!(lacks(&vault, tokens), ["tokenRequests: [{audience: \"\"}]"]);
    }
}
