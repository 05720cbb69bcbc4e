//! The driver's verdicts compared with those of the libraries that other programs use: `just oracles`.
//!
//! The libraries are in one Go program (`tests/cluster/tools/oracle`). Each test creates many inputs from a seed, asks that
//! program about them, and compares. If a verdict differs, a [`Reason`] must explain it, which
//! docs/spiffe-conformance.md quotes; otherwise the input is reduced, and shown with the seed that creates it again.

mod accept;
mod authority;
mod comparison;
mod csr;
mod documents;
mod jwt;
mod pkcs12;
mod program;
mod rolls;
mod texts;

pub(crate) use self::accept::chains;
pub(crate) use self::comparison::{Comparison, Verdict, inputs, number, seed};
pub(crate) use self::program::{Program, Question, record};
pub(crate) use self::rolls::Rolls;

/// Why a verdict differs, as docs/spiffe-conformance.md explains it.
pub(crate) type Reason = &'static str;

#[test]
fn every_reason_is_documented() {
    let document = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/spiffe-conformance.md"));
    let all = [accept::REASONS, documents::REASONS, jwt::REASONS, texts::REASONS].concat();
    for reason in all {
        assert!(document.contains(&format!("\n| `{reason}` | ")), "{reason}");
    }
}
