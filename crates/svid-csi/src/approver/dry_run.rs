//! `svid-csi approver --dry-run`: judges the requests on standard input, without a cluster.

use std::io::{self, Read, Write};

use svid_csi_core::approve::{Mode, Policy, Request, Verdict, cluster_rules, judge};

use super::input::{self, InputError};
use super::text::shown;

/// The result of all requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DryRunOutcome {
    /// None of them is denied.
    NoneDenied,
    /// At least one is.
    SomeDenied,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum DryRunError {
    /// The input cannot be read. Nothing was judged.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The output cannot be written.
    #[error("the verdicts cannot be written")]
    Output(#[source] io::Error),
}

/// Judges all requests of the input, each on a line: `approve|deny|ignore NAMESPACE/NAME reason`.
///
/// # Errors
/// If the input cannot be read, or a line cannot be written.
pub fn run(input: impl Read, mut output: impl Write, policy: &Policy) -> Result<DryRunOutcome, DryRunError> {
    let mut outcome = DryRunOutcome::NoneDenied;
    for request in input::read(input)? {
        let verdict = judge(&request, policy);
        if matches!(verdict, Verdict::Deny(_)) {
            outcome = DryRunOutcome::SomeDenied;
        }
        writeln!(output, "{}", line(&request, &verdict, &policy.mode)).map_err(DryRunError::Output)?;
    }
    output.flush().map_err(DryRunError::Output)?;
    Ok(outcome)
}

/// The rules that a dry run does not check, if any, because they need pods.
pub fn unchecked(mode: &Mode) -> Option<String> {
    let rules = cluster_rules(mode);
    (!rules.is_empty()).then(|| format!("not checked without the cluster: {}", rules.join(", ")))
}

fn line(request: &Request, verdict: &Verdict, mode: &Mode) -> String {
    let (word, reason) = match verdict {
        Verdict::Approve if request.identity.is_none() => {
            ("approve", "it does not request a SPIFFE identity".to_owned())
        }
        Verdict::Approve => ("approve", "it follows every rule".to_owned()),
        Verdict::Depends(_) => {
            let open = unchecked(mode).map(|rules| format!(" ({rules})")).unwrap_or_default();
            ("approve", format!("it follows every rule that was checked{open}"))
        }
        Verdict::Deny(reasons) => ("deny", reasons.to_string()),
        Verdict::Ignore(ignored) => ("ignore", ignored.to_string()),
    };
    format!("{word} {}/{} {reason}", shown(&request.namespace), shown(&request.name))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use svid_csi_core::cert_request::IssuerRef;
    use svid_csi_core::identity::KeyType;
    use svid_csi_core::spiffe_id::TrustDomain;

    use super::*;

    fn policy() -> Policy {
        Policy {
            driver_name: "spiffe.csi.cert-manager.io".to_owned(),
            trust_domain: TrustDomain::parse("example.org").unwrap(),
            duration: Duration::from_secs(3_600),
            issuer: Some(IssuerRef::default()),
            former_issuers: Vec::new(),
            mode: Mode::Pod,
            key_types: KeyType::ALL.into(),
            auto_approve_non_spiffe: false,
        }
    }

    fn object(name: &str, identity: Option<&str>) -> String {
        let annotations = identity.map(|id| serde_json::json!({ "spiffe.csi.cert-manager.io/identity": id }));
        let metadata = serde_json::json!({ "namespace": "shop", "name": name, "annotations": annotations });
        let kind = "CertificateRequest";
        serde_json::json!({ "apiVersion": "cert-manager.io/v1", "kind": kind, "metadata": metadata }).to_string()
    }

    fn judged(input: &str) -> (DryRunOutcome, String) {
        let mut output = Vec::new();
        let outcome = run(input.as_bytes(), &mut output, &policy()).unwrap();
        (outcome, String::from_utf8(output).unwrap())
    }

    #[test]
    fn every_request_has_one_line() {
        let bad = object("a-1.b", Some("spiffe://\u{1b}[31m\nother"));
        let (outcome, lines) = judged(&format!("{bad}\n---\n{}", object("evil\napprove x/y\u{202e}", None)));
        let [denied, ignored] = lines.lines().collect::<Vec<_>>()[..] else { panic!("{lines}") };
        assert!(denied.starts_with("deny shop/a-1.b "), "{denied}");
        let name = r#"shop/"evil\napprove x/y\xe2\x80\xae""#;
        assert_eq!(ignored, format!("ignore {name} the request has no annotation spiffe.csi.cert-manager.io/identity"));
        assert!(lines.bytes().all(|byte| byte == b'\n' || (b' '..=b'~').contains(&byte)), "{lines:?}");
        assert_eq!(outcome, DryRunOutcome::SomeDenied);
    }

    #[test]
    fn nothing_is_judged_unless_all_input_can_be_read() {
        let mut output = Vec::new();
        let input = format!("{}\n---\nkind: Pod", object("a", None));
        assert!(matches!(run(input.as_bytes(), &mut output, &policy()), Err(DryRunError::Input(_))));
        assert!(output.is_empty());
    }

    #[test]
    fn only_a_driver_that_makes_the_requests_leaves_rules_open() {
        let driver = || "system:serviceaccount:a:b".parse().unwrap();
        assert_eq!(unchecked(&Mode::Pod), None);
        let own = unchecked(&Mode::OwnServiceAccount { driver: driver() }).unwrap();
        assert_eq!(own, "not checked without the cluster: pod_missing, pod_uid, pod_account");
        assert!(unchecked(&Mode::NodeBound { driver: driver() }).unwrap().contains("driver_node"));
    }
}
