//! The driver's process: how it was started, and what it may do.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;

use svid_csi_core::redact::{Keep, MARK};

use super::archive::Contents;
use crate::doctor::paths::Paths;
use crate::host::fsx::FsError;
use crate::telemetry::report;

/// The lines of /proc/PID/status that help.
const STATUS: [&str; 14] = [
    "Name", "State", "Uid", "Gid", "FDSize", "VmPeak", "VmSize", "VmHWM", "VmRSS", "VmSwap", "Threads", "CapEff",
    "CapBnd", "Seccomp",
];

/// The driver's program under each of its names, and its subcommand.
const PROGRAMS: [&str; 4] = ["svid-csi", "spiffe-csi-driver", "cert-manager-csi-driver-spiffe", "driver"];

pub(super) fn add(contents: &mut Contents, paths: &Paths, open_flags: &BTreeSet<&'static str>) {
    let Some(pid) = paths.pid else {
        contents.leave_out("flags.txt, environment.txt, process.txt", "the driver's process cannot be seen from here");
        return;
    };
    let environment = read(pid, "environ");
    let of_environment = environment.as_ref().map_or_else(|_| String::new(), |found| set(&words(found), open_flags));
    let flags = read(pid, "cmdline").map(|line| shown(&words(&line), open_flags) + &of_environment);
    contents.add_found("flags.txt", "the flags that the driver runs with; values only if they hold no secret", flags);
    let names = environment.map(|variables| names(&words(&variables)));
    contents.add_found("environment.txt", "the names of the driver's environment variables", names);
    contents.add(
        "process.txt",
        "the driver's process: memory, capabilities, limits, labels",
        &process(pid),
        Keep::Start,
    );
}

/// A file of the process, or the reason why it cannot be read.
pub(super) fn read(pid: i32, file: &str) -> Result<String, String> {
    let path = format!("/proc/{pid}/{file}");
    let read = fs::read(&path).map_err(FsError::of("read", path.as_ref()));
    read.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).map_err(|error| report::chain(&error))
}

/// Words that NUL ends.
fn words(text: &str) -> Vec<&str> {
    text.split('\0').filter(|word| !word.is_empty()).collect()
}

/// A flag for each line. The value of a flag that is not known to be open is redacted, as is a word without a flag.
pub(super) fn shown(words: &[&str], open_flags: &BTreeSet<&'static str>) -> String {
    let mut text = String::new();
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        let is_flag = word.starts_with('-');
        let (name, inline) = word.split_once('=').map_or((*word, None), |(name, value)| (name, Some(value)));
        let is_open = open_flags.contains(name.trim_start_matches('-'));
        let _ = match inline {
            _ if !is_flag && PROGRAMS.contains(&word.rsplit('/').next().unwrap_or_default()) => {
                writeln!(text, "{word}")
            }
            _ if !is_flag => writeln!(text, "{MARK}"),
            Some(value) if is_open => writeln!(text, "{name}={value}"),
            Some(_) => writeln!(text, "{name}={MARK}"),
            None => match words.next_if(|next| !next.starts_with('-')) {
                Some(value) if is_open => writeln!(text, "{name} {value}"),
                Some(_) => writeln!(text, "{name} {MARK}"),
                None => writeln!(text, "{name}"),
            },
        };
    }
    text
}

/// The flags that are set by variables, which begin with `SVID_CSI_`.
fn set(variables: &[&str], open_flags: &BTreeSet<&'static str>) -> String {
    let mut text = String::new();
    for (name, value) in variables.iter().filter_map(|variable| variable.split_once('=')) {
        let Some(flag) = name.strip_prefix("SVID_CSI_") else { continue };
        let is_open = open_flags.contains(flag.to_lowercase().replace('_', "-").as_str());
        let _ = writeln!(text, "{name}={}", if is_open { value } else { MARK });
    }
    text
}

fn names(variables: &[&str]) -> String {
    let mut names: Vec<_> = variables.iter().filter_map(|variable| Some(variable.split_once('=')?.0)).collect();
    names.sort_unstable();
    names.into_iter().map(|name| format!("{name}\n")).collect()
}

fn process(pid: i32) -> String {
    let mut text = String::new();
    match read(pid, "status") {
        Ok(status) => {
            let is_shown = |line: &&str| STATUS.iter().any(|name| line.split(':').next() == Some(name));
            status.lines().filter(is_shown).for_each(|line| _ = writeln!(text, "{line}"));
        }
        Err(why) => _ = writeln!(text, "status: {why}"),
    }
    let label =
        |file: &str| read(pid, file).map_or_else(|why| why, |label| label.trim_end_matches(['\0', '\n']).to_owned());
    let _ = writeln!(text, "\nlabel of the security module: {}", label("attr/current"));
    let _ = writeln!(text, "AppArmor: {}", label("attr/apparmor/current"));
    let _ = writeln!(text, "\n{}", label("limits"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_values_that_hold_no_secret_are_shown() {
        let open = BTreeSet::from(["node-id", "source", "allow-missing-read-only", "v"]);
        let words = [
            "/bin/svid-csi",
            "driver",
            "--source=local-ca",
            "-node-id",
            "n1",
            "--token",
            "abc",
            "--client-key=/k",
            "stray",
            "--allow-missing-read-only",
            "--new-flag=x",
            "-v3",
        ];
        let text = shown(&words, &open);
        let lines: Vec<_> = text.lines().collect();
        let expected = [
            "/bin/svid-csi",
            "driver",
            "--source=local-ca",
            "-node-id n1",
            "--token [redacted]",
            "--client-key=[redacted]",
            "[redacted]",
            "--allow-missing-read-only",
            "--new-flag=[redacted]",
            "-v3",
        ];
        assert_eq!(lines, expected);
        assert_eq!(shown(&["spiffe-csi-driver", "--a=b=c"], &BTreeSet::from(["a"])), "spiffe-csi-driver\n--a=b=c\n");
        assert_eq!(names(&["B=secret", "A=", "nonsense"]), "A\nB\n");
        let variables = ["SVID_CSI_NODE_ID=n1", "SVID_CSI_TOKEN=secret", "OTHER=secret"];
        assert_eq!(set(&variables, &open), "SVID_CSI_NODE_ID=n1\nSVID_CSI_TOKEN=[redacted]\n");
    }
}
