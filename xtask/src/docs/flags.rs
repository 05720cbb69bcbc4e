//! Every subcommand and flag.

use std::collections::BTreeMap;

use clap::{Arg, ArgAction, Command};

use super::{head, row};

const FIRST: &str = "\
# Flags

This page is generated from the program (`cargo xtask docs`); `svid-csi <command> --help` says the same.

One or two dashes make no difference, `--flag value` is `--flag=value`, a boolean takes its value after `=` only, and an
empty value means that the flag is not set. Every flag also reads the environment variable beside it; there, repeatable
flags read several values separated by spaces. The command line wins. All mistakes are reported at once, with exit code 2.
";

pub(super) fn page() -> String {
    let command = svid_csi::cli::command();
    FIRST.to_owned() + &command.get_subcommands().map(section).collect::<String>()
}

fn section(command: &Command) -> String {
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    let mut section = format!("\n## svid-csi {}\n\n{}\n", command.get_name(), prose(&about));
    let mut headings: Vec<_> = Vec::new();
    let mut flags: BTreeMap<_, String> = BTreeMap::new();
    for arg in command.get_arguments().filter(|arg| arg.get_long().is_some() && !arg.is_hide_set()) {
        let heading = arg.get_help_heading().unwrap_or("Options");
        if !headings.contains(&heading) {
            headings.push(heading);
        }
        *flags.entry(heading).or_default() += &flag(arg);
    }
    for heading in headings {
        section += &format!("\n### {heading}\n\n{}{}", head(&["flag", "environment", ""]), flags[heading]);
    }
    section
}

fn flag(arg: &Arg) -> String {
    let aliases = arg.get_visible_aliases().unwrap_or_default();
    let long = arg.get_long().into_iter().chain(aliases).map(|name| format!("`--{name}`"));
    let short = arg.get_short().map(|name| format!("`-{name}`"));
    let mut written = long.chain(short).collect::<Vec<_>>().join(", ");
    if matches!(arg.get_action(), ArgAction::Set | ArgAction::Append) {
        let fallback = arg.get_id().as_str().to_uppercase();
        let value = arg.get_value_names().and_then(|names| names.first()).map_or(fallback, ToString::to_string);
        written += &format!(" `{value}`");
    }
    let variable = arg.get_long().unwrap_or_default().to_uppercase().replace('-', "_");
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    row(&[&written, &format!("`SVID_CSI_{variable}`"), &prose(&help)])
}

/// Help is plain text, so characters that Markdown reads as a tag are escaped.
fn prose(help: &str) -> String {
    help.trim().replace('<', "&lt;").replace("\n\n", " ").replace('\n', " ")
}
