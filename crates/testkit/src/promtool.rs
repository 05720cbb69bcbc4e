//! Prometheus's own tool for metrics and rules.

use std::io::Write;
use std::process::{Command, Stdio};

/// Runs promtool, which `PROMTOOL` names, with that standard input, and returns what it printed.
///
/// # Panics
/// If promtool cannot be run, or has anything to object to.
pub fn promtool(arguments: &[&str], input: &str) -> String {
    let program = std::env::var_os("PROMTOOL").expect("PROMTOOL is the path of promtool (`just promtool`)");
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool starts");
    // Dropped, which ends the input.
    child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("promtool reads its input");
    let output = child.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {arguments:?}:\n{said}\n{input}");
    said
}
