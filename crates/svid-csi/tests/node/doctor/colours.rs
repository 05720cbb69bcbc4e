//! Colours are for people.

use std::process::{Command, Stdio};

use super::{command, healthy};
use crate::fixture::test;

/// What the command writes to a terminal.
fn on_terminal(command: &Command, variables: &[(&str, &str)]) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let line: Vec<_> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    let mut terminal = Command::new("script");
    terminal.args(["-q", "-e", "-c", &line.join(" "), "/dev/null"]).stdin(Stdio::null());
    terminal.env_remove("NO_COLOR").env("TERM", "xterm").envs(variables.iter().copied());
    String::from_utf8(terminal.output().unwrap().stdout).unwrap()
}

#[test]
fn a_terminal_gets_them_unless_they_are_turned_off() {
    test(async || {
        let node = healthy(&[]).await;
        let doctor = command(&node, &["--pod=shop/none"]);
        let is_coloured = |variables: &[(&str, &str)]| {
            let text = on_terminal(&doctor, variables);
            assert!(text.contains("FAULT"), "{text}");
            text.contains("\u{1b}[31m")
        };
        assert!(is_coloured(&[]) && is_coloured(&[("NO_COLOR", "")]));
        assert!(!is_coloured(&[("NO_COLOR", "1")]) && !is_coloured(&[("TERM", "dumb")]));
    });
}
