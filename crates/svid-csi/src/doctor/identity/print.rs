//! The answer, for people and programs. No key is printed.

use std::fmt::Write;

use svid_csi_core::quoted::ascii_json;

use super::certificate::CertificateFields;
use super::{ComparedVolume, DeliveredIdentity, IdentityAnswer, IdentityForm, Recorded};
use crate::telemetry::report::one_line;

pub(super) fn answer(form: IdentityForm, answer: &IdentityAnswer<'_>) -> String {
    match form {
        IdentityForm::Json => ascii_json(&serde_json::to_string_pretty(answer).unwrap_or_default()) + "\n",
        IdentityForm::Pem => {
            answer.volumes.iter().filter_map(|volume| volume.delivered.as_ref()).map(|seen| seen.pem.as_str()).collect()
        }
        IdentityForm::Text => {
            let mut text = format!("{} on node {}\n", one_line(answer.pod), one_line(answer.node));
            answer.volumes.iter().for_each(|volume| paragraph(&mut text, volume));
            text
        }
    }
}

fn paragraph(text: &mut String, volume: &ComparedVolume<'_>) {
    let ComparedVolume { id, driver, plan, recorded, delivered, unreadable, .. } = volume;
    let _ = writeln!(text, "\nvolume {} ({}, {})", one_line(id), one_line(driver), one_line(plan));
    match delivered {
        Some(delivered) => {
            let verdict = match volume.is_as_recorded() {
                true => "the pod has what the driver recorded",
                false if !volume.differences.is_empty() => "DIFFERENT: the pod has another identity than recorded",
                false => "UNUSABLE: the pod has what the driver recorded, and peers refuse it",
            };
            let _ = writeln!(text, "  {verdict}");
            compared(text, delivered, recorded.as_ref());
        }
        None => {
            let _ = writeln!(text, "  UNREADABLE: {}", one_line(unreadable.as_deref().unwrap_or_default()));
            alone(text, recorded.as_ref());
        }
    }
}

/// The pod's identity, and what the record says where it differs.
fn compared(text: &mut String, delivered: &DeliveredIdentity, recorded: Option<&Recorded<'_>>) {
    let Some((leaf, issuers)) = delivered.chain.split_first() else { return };
    let (id, serial, end) = recorded.map_or((None, None, None), |recorded| {
        (recorded.spiffe_id, Some(recorded.serial), recorded.not_after.as_deref())
    });
    field(text, "read from", &delivered.from, None);
    field(text, "SPIFFE ID", delivered.spiffe_id.as_deref().unwrap_or("none"), id);
    field(text, "serial", &leaf.serial, serial);
    field(text, "valid from", &leaf.not_before, None);
    field(text, "valid until", &leaf.not_after, end);
    field(text, "subject", &leaf.subject, None);
    field(text, "issuer", &leaf.issuer, None);
    field(text, "SHA-256", &leaf.sha256, None);
    field(text, "key", delivered.key_problem.as_deref().unwrap_or("belongs to the certificate"), None);
    field(text, "chain", delivered.chain_problem.as_deref().unwrap_or("leads to the trust bundle"), None);
    if let Some(why) = recorded.and_then(|recorded| recorded.untrusted) {
        field(text, "recorded as untrusted", why, None);
    }
    if recorded.is_none() {
        let _ = writeln!(text, "  the driver has recorded no identity for this volume");
    }
    others(text, "issued by", issuers);
    others(text, "trust bundle", &delivered.bundle);
}

/// The record, if the pod's identity cannot be read.
fn alone(text: &mut String, recorded: Option<&Recorded<'_>>) {
    let Some(recorded) = recorded else { return };
    field(text, "recorded SPIFFE ID", recorded.spiffe_id.unwrap_or("none"), None);
    field(text, "recorded serial", recorded.serial, None);
    field(text, "recorded end", recorded.not_after.as_deref().unwrap_or("unknown"), None);
}

fn field(text: &mut String, name: &str, value: &str, recorded: Option<&str>) {
    let _ = writeln!(text, "  {name}: {}", one_line(value));
    if let Some(recorded) = recorded.filter(|recorded| *recorded != value) {
        let _ = writeln!(text, "    recorded: {}", one_line(recorded));
    }
}

fn others(text: &mut String, what: &str, certificates: &[CertificateFields]) {
    for CertificateFields { subject, not_after, sha256, .. } in certificates {
        let _ = writeln!(text, "  {what}: {subject}, until {not_after}\n    SHA-256: {sha256}");
    }
}
