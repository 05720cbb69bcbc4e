//! What a driver did, as text that is the same on every run.

use std::fmt::Write;
use std::path::PathBuf;

use nix::errno::Errno;

use super::calls::Class;

/// A call that was counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// Its class.
    pub class: Class,
    /// The paths that it names.
    pub paths: Vec<PathBuf>,
    /// Modes, flags, and where a link leads.
    pub detail: String,
    /// The error that it ended with, also one that was made up.
    pub failed: Option<Errno>,
}

/// Names in a trace that differ from run to run, with what stands for them, the longest first.
#[derive(Debug, Default, Clone)]
pub struct Names(Vec<(String, String)>);

impl Names {
    /// One more. Names that are part of others are given after these.
    #[must_use]
    pub fn with(mut self, text: impl Into<String>, stands_for: &str) -> Self {
        self.0.push((text.into(), stands_for.to_owned()));
        self
    }

    /// The trace, a line for each call.
    pub fn render(&self, trace: &[Effect]) -> String {
        let mut moments = Vec::new();
        let mut text = String::new();
        for effect in trace {
            let paths: Vec<_> = effect.paths.iter().map(|path| path.display().to_string()).collect();
            let mut line = format!("{:<12}{}", effect.class.name(), paths.join(" -> "));
            if !effect.detail.is_empty() {
                let _ = write!(line, " {}", effect.detail);
            }
            if let Some(errno) = effect.failed {
                let _ = write!(line, " = {errno:?}");
            }
            for (name, stands_for) in &self.0 {
                line = line.replace(name, stands_for);
            }
            let _ = writeln!(text, "{}", without_moments(&line, &mut moments));
        }
        text
    }
}

/// Folders are named after the moment at which they were made: `..1700000000.000000001`.
fn without_moments(line: &str, moments: &mut Vec<String>) -> String {
    let is_of_moment = |text: &char| text.is_ascii_digit() || *text == '.';
    let mut text = String::new();
    let mut rest = line;
    while let Some(at) = rest.find("..") {
        let (before, found) = rest.split_at(at + 2);
        let moment: String = found.chars().take_while(is_of_moment).collect();
        text.push_str(before);
        if moment.len() > 9 && moment.contains('.') {
            let known = moments.iter().position(|known| *known == moment);
            let index = known.unwrap_or_else(|| {
                moments.push(moment.clone());
                moments.len() - 1
            });
            let _ = write!(text, "<moment {}>", index + 1);
            rest = &found[moment.len()..];
        } else {
            rest = found;
        }
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_moments_are_replaced() {
        let effect = |paths: &[&str], detail: &str| Effect {
            class: Class::Rename,
            paths: paths.iter().map(PathBuf::from).collect(),
            detail: detail.to_owned(),
            failed: None,
        };
        let trace = [
            effect(&["/tmp/x/v/..1700000000.000000001/tls.key"], ""),
            effect(&["/tmp/x/v/..1700000000.000000002", "/tmp/x/v/..data"], "-> ..1700000000.000000001"),
        ];
        let text = Names::default().with("/tmp/x/", "").render(&trace);
        assert_eq!(
            text,
            "rename      v/..<moment 1>/tls.key\nrename      v/..<moment 2> -> v/..data -> ..<moment 1>\n"
        );
    }
}
