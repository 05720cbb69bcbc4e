//! Converts the forms that the predecessors accept, and the environment, into the single form that clap reads:
//! `--flag=value`.
//!
//! Go's flags may have one dash or two, booleans may have a value, an empty value means "not set", and the last
//! occurrence wins. Every flag is then checked separately, so that all mistakes are found, not just the first.

use std::error::Error;
use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, Command};

use super::Environment;
use super::mistakes::FlagMistakes;
use super::profile::Profile;
use super::values;

/// A flag that was set, on the command line or in the environment.
struct Given<'c> {
    arg: &'c Arg,
    flag: &'c str,
    written: String,
    values: Vec<String>,
}

/// The words of the command line, after those implied by the binary's name.
pub(super) fn words(argv: impl IntoIterator<Item = OsString>) -> Vec<String> {
    let mut argv = argv.into_iter().map(|word| word.to_string_lossy().into_owned());
    let binary = argv.next().unwrap_or_default();
    let name = binary.rsplit('/').next().unwrap_or_default();
    std::iter::once("svid-csi".to_owned()).chain(meant_by(name)).chain(argv).collect()
}

/// The words implied by the name of the binary.
fn meant_by(name: &str) -> Vec<String> {
    match Profile::of_binary(name) {
        Some(profile) => vec!["driver".to_owned(), format!("--profile={profile}")],
        None if name == "cert-manager-csi-driver-spiffe-approver" => vec!["approver".to_owned()],
        None => Vec::new(),
    }
}

/// Removes the words of the command to run, which are all those after `--exec`, and returns them.
pub(super) fn split_off_command(words: &mut Vec<String>) -> Option<Vec<String>> {
    const FLAG: [&str; 2] = ["--exec", "-exec"];
    if words.get(1).is_none_or(|subcommand| subcommand != "watch") {
        return None;
    }
    let inline =
        |word: &String| FLAG.iter().find_map(|flag| word.strip_prefix(flag)?.strip_prefix('=').map(str::to_owned));
    let at = words.iter().position(|word| FLAG.contains(&word.as_str()) || inline(word).is_some())?;
    let mut command = words.split_off(at);
    match inline(&command[0]) {
        Some(program) => command[0] = program,
        None => drop(command.remove(0)),
    }
    Some(command)
}

/// Rewrites the flags of a subcommand, without those that have a mistake.
pub(super) fn normalise(
    command: &Command,
    words: &[String],
    environment: Environment<'_>,
    mistakes: &mut FlagMistakes,
) -> Vec<String> {
    if let Some(answer) = words.iter().find_map(|word| asks_for_text(word)) {
        return vec![answer.to_owned()];
    }
    let mut given = from_command_line(command, words, mistakes);
    given.retain(|flag| !flag.values.is_empty());
    from_environment(command, environment, &mut given);
    let mut rewritten = Vec::new();
    for flag in &given {
        mistakes.note(flag.flag, &flag.written);
        for value in &flag.values {
            match word(command, flag, value) {
                Ok(word) => rewritten.extend(word),
                Err(problem) => mistakes.add(flag.flag, problem),
            }
        }
    }
    rewritten
}

fn asks_for_text(word: &str) -> Option<&'static str> {
    match word {
        "-h" | "-help" | "--help" => Some("--help"),
        "-V" | "-version" | "--version" => Some("--version"),
        _ => None,
    }
}

fn from_command_line<'c>(command: &'c Command, words: &[String], mistakes: &mut FlagMistakes) -> Vec<Given<'c>> {
    let mut given: Vec<Given<'c>> = Vec::new();
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        let (name, inline) = word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value)));
        let (name, inline) = spread_short(name, inline);
        if !name.starts_with('-') {
            mistakes.stray(word, "is neither a flag nor the value of one (a boolean takes its value after =)");
            continue;
        }
        let next_is_value = words.peek().is_some_and(|next| !next.starts_with('-') || find(command, next).is_none());
        let Some((arg, flag)) = find(command, name) else {
            mistakes.stray(name, unknown(command, name));
            let _ = words.next_if(|next| inline.is_none() && !next.starts_with('-'));
            continue;
        };
        let value = match inline {
            Some(value) => value.to_owned(),
            None if !takes_value(arg) || may_go_without(arg) => "true".to_owned(),
            None if next_is_value => words.next().cloned().unwrap_or_default(),
            None => {
                mistakes.note(flag, name);
                mistakes.add(flag, "has no value; write it as --flag=value or --flag value");
                continue;
            }
        };
        set(&mut given, Given { arg, flag, written: name.to_owned(), values: vec![value] });
    }
    given
}

/// `-v3` means `-v=3`.
fn spread_short<'w>(name: &'w str, inline: Option<&'w str>) -> (&'w str, Option<&'w str>) {
    match name.strip_prefix("-v") {
        Some(digits) if inline.is_none() && !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            ("-v", Some(digits))
        }
        _ => (name, inline),
    }
}

/// The last occurrence wins, and an empty value removes the previous ones; repeatable flags accumulate.
fn set<'c>(given: &mut Vec<Given<'c>>, mut new: Given<'c>) {
    new.values.retain(|value| !value.is_empty());
    match given.iter_mut().find(|old| old.flag == new.flag) {
        Some(old) if repeatable(new.arg) => old.values.extend(new.values),
        Some(old) => *old = new,
        None => given.push(new),
    }
}

fn from_environment<'c>(command: &'c Command, environment: Environment<'_>, given: &mut Vec<Given<'c>>) {
    for arg in command.get_arguments() {
        let Some(flag) = arg.get_long().filter(|flag| given.iter().all(|set| set.flag != *flag)) else { continue };
        for name in names(arg) {
            let written = format!("SVID_CSI_{}", name.to_uppercase().replace('-', "_"));
            let value = environment(&written).unwrap_or_default().to_string_lossy().into_owned();
            if !value.is_empty() {
                let several = value.split_whitespace().map(str::to_owned).collect();
                let values = if repeatable(arg) { several } else { vec![value] };
                given.push(Given { arg, flag, written, values });
                break;
            }
        }
    }
}

/// The flag and this value in the form clap reads, or the mistake in the value. A `false` is left out.
fn word(command: &Command, given: &Given<'_>, value: &str) -> Result<Option<String>, String> {
    if !takes_value(given.arg) {
        return Ok(values::boolean(value)?.then(|| format!("--{}", given.flag)));
    }
    let word = format!("--{}={value}", given.flag);
    match command.clone().try_get_matches_from(["svid-csi", &word]) {
        Ok(_) => Ok(Some(word)),
        Err(error) => Err(error.source().map_or_else(|| error.to_string(), ToString::to_string)),
    }
}

fn unknown(command: &Command, name: &str) -> String {
    let long = format!("--{}", name.trim_start_matches('-'));
    let refusal = command.clone().try_get_matches_from(["svid-csi", &long]).err();
    match refusal.as_ref().and_then(|error| error.get(ContextKind::SuggestedArg)) {
        Some(ContextValue::String(like)) => format!("there is no such flag; did you mean {like}?"),
        _ => "there is no such flag; --help lists them".to_owned(),
    }
}

fn find<'c>(command: &'c Command, word: &str) -> Option<(&'c Arg, &'c str)> {
    let name = word.split('=').next()?.strip_prefix('-')?;
    let name = name.strip_prefix('-').unwrap_or(name);
    let arg = command
        .get_arguments()
        .find(|arg| names(arg).any(|known| known == name) || arg.get_short().is_some_and(|c| name == c.to_string()))?;
    Some((arg, arg.get_long()?))
}

fn names(arg: &Arg) -> impl Iterator<Item = &str> {
    arg.get_long().into_iter().chain(arg.get_all_aliases().unwrap_or_default())
}

fn takes_value(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
}

/// Whether the flag alone means `--flag=true`.
fn may_go_without(arg: &Arg) -> bool {
    arg.get_num_args().is_some_and(|number| number.min_values() == 0)
}

fn repeatable(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append)
}
