//! The result, for people and programs. Text of others is escaped: it cannot move the cursor or forge a line.

use std::fmt::Write;

use serde::Serialize;
use svid_csi_core::findings::facts::Facts;
use svid_csi_core::findings::walk::Step;
use svid_csi_core::findings::{Check, Finding, NotChecked, Report, Severity, check};
use svid_csi_core::quoted::ascii_json;

use super::{DoctorOptions, Examined, Output, Scope};
use crate::telemetry::report::one_line;

/// How many of one check's findings the table shows.
const MOST: usize = 10;

/// The whole answer as JSON.
#[derive(Serialize)]
struct Answer<'a> {
    node: Option<&'a str>,
    driver_version: Option<&'a str>,
    worst: Option<Severity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    findings: Option<&'a [Finding]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_checked: Option<&'a [NotChecked]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<&'a [Step]>,
}

impl Answer<'_> {
    fn to_json(&self) -> String {
        ascii_json(&serde_json::to_string_pretty(self).unwrap_or_default()) + "\n"
    }
}

/// The result of the checks before an installation.
pub(super) fn before(output: Output, report: &Report, coloured: bool) -> String {
    match output {
        Output::Json => Answer {
            node: None,
            driver_version: None,
            worst: report.worst(),
            findings: Some(&report.findings),
            not_checked: Some(&report.not_checked),
            steps: None,
        }
        .to_json(),
        Output::Short => report.findings.iter().map(line).collect(),
        Output::Table => table("this node, before an installation", report, coloured),
    }
}

pub(super) fn result(options: &DoctorOptions, facts: &Facts, result: &Examined, coloured: bool) -> String {
    let driver = facts.driver.as_ref().ok();
    match (options.output, result) {
        (Output::Json, _) => {
            let (findings, not_checked, steps) = match result {
                Examined::Node(report) => (Some(&*report.findings), Some(&*report.not_checked), None),
                Examined::Pod(steps) => (None, None, Some(&**steps)),
            };
            Answer {
                node: driver.map(|driver| driver.node.as_str()),
                driver_version: driver.map(|driver| driver.version.as_str()),
                worst: result.worst(),
                findings,
                not_checked,
                steps,
            }
            .to_json()
        }
        (Output::Short, Examined::Node(report)) => report.findings.iter().map(line).collect(),
        (Output::Short, Examined::Pod(steps)) => steps.iter().flat_map(|step| &step.findings).map(line).collect(),
        (Output::Table, Examined::Node(report)) => {
            let what = match (&options.scope, driver) {
                (Scope::Handshake(from, to), Some(_)) => format!("{} and {}", one_line(from), one_line(to)),
                (_, Some(driver)) => format!("node {}", one_line(&driver.node)),
                (_, None) => "this node".to_owned(),
            };
            table(&what, report, coloured)
        }
        (Output::Table, Examined::Pod(steps)) => {
            let pod = if let Scope::Pod(pod) = &options.scope { pod } else { "" };
            walked(pod, steps, coloured)
        }
    }
}

/// The text about a check.
pub(super) fn explanation(Check { id, category, severity, title, explanation }: &Check) -> String {
    let severity = name(*severity);
    format!("{id} ({severity}, category {category})\n\n{title}\n\n{explanation}\n")
}

fn name(severity: Severity) -> &'static str {
    match severity {
        Severity::Warning => "warning",
        Severity::Fault => "fault",
    }
}

fn line(finding: &Finding) -> String {
    let Finding { id, severity, about, cause, fix, .. } = finding;
    format!("{} {id} {}: {}; fix: {}\n", name(*severity), one_line(about), one_line(cause), one_line(fix))
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn table(node: &str, report: &Report, coloured: bool) -> String {
    let of = |severity| report.findings.iter().filter(|finding| finding.severity == severity).count();
    let (faults, warnings) = (of(Severity::Fault), of(Severity::Warning));
    let mut text = match (faults, warnings) {
        (0, 0) => format!("{node}: nothing is wrong\n"),
        _ => format!("{node}: {}, {}\n", count(faults, "fault"), count(warnings, "warning")),
    };
    for findings in report.by_check() {
        group(&mut text, &findings, coloured);
    }
    if !report.not_checked.is_empty() {
        text.push_str("\nNot checked:\n");
        for NotChecked { what, why, .. } in &report.not_checked {
            let _ = writeln!(text, "  {}: {}", one_line(what), one_line(why));
        }
    }
    text
}

fn group(text: &mut String, findings: &[&Finding], coloured: bool) {
    let Finding { id, severity, .. } = *findings[0];
    let title = check(id).map_or("", |check| check.title);
    let _ = writeln!(text, "\n{} {id}: {title}", word(severity, coloured));
    for finding in findings.iter().take(MOST) {
        let _ = writeln!(text, "  {}: {}", one_line(&finding.about), one_line(&finding.cause));
    }
    if findings.len() > MOST {
        let _ = writeln!(text, "  and {} more", findings.len() - MOST);
    }
    let _ = writeln!(text, "  fix:  {}", one_line(&findings[0].fix));
    let _ = writeln!(text, "  more: svid-csi doctor --explain {id}");
}

fn word(severity: Severity, coloured: bool) -> &'static str {
    match (severity, coloured) {
        (Severity::Fault, true) => "\x1b[31mFAULT\x1b[0m",
        (Severity::Fault, false) => "FAULT",
        (Severity::Warning, true) => "\x1b[33mWARNING\x1b[0m",
        (Severity::Warning, false) => "WARNING",
    }
}

fn walked(pod: &str, steps: &[Step], coloured: bool) -> String {
    let stops = steps.iter().find(|step| step.stops());
    let uncertain = steps.iter().filter(|step| !step.not_checked.is_empty()).count();
    let pod = one_line(pod);
    let mut text = match (stops, uncertain) {
        (Some(step), _) => format!("{pod}: it stops at the step \"{}\"\n", step.what),
        (None, 0) => format!("{pod}: every step is done\n"),
        (None, _) => format!("{pod}: no step fails, but {} could not be checked\n", count(uncertain, "step")),
    };
    for step in steps {
        let mark = match step {
            _ if step.stops() => "stop",
            Step { not_checked, .. } if not_checked.is_empty() => " ok ",
            _ => " ?? ",
        };
        let _ = writeln!(text, "  [{mark}] {}", step.what);
        for NotChecked { what, why, .. } in &step.not_checked {
            let _ = writeln!(text, "         not checked: {}: {}", one_line(what), one_line(why));
        }
    }
    for finding in steps.iter().flat_map(|step| &step.findings) {
        group(&mut text, &[finding], coloured);
    }
    text
}
