//! The findings of all nodes: the same finding with the same cause is one paragraph.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use svid_csi_core::findings::check;
use svid_csi_core::quoted::one_line;

use super::NodeExamination;
use crate::everywhere::{Answers, named};

/// How many affected pods or paths a paragraph names.
const MOST: usize = 10;
pub(super) const WARNING: &str = "warning";

/// Whether it is only a warning, the id, and the cause: faults come first.
type Key<'a> = (bool, &'a str, &'a str);

#[derive(Default)]
struct Group<'a> {
    nodes: BTreeSet<&'a str>,
    about: BTreeSet<&'a str>,
    fix: &'a str,
}

pub(super) fn text(answers: &Answers<NodeExamination>, is_coloured: bool) -> String {
    let mut groups: BTreeMap<Key<'_>, Group<'_>> = BTreeMap::new();
    let mut not_checked: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    for answer in &answers.answered {
        let node = answer.node.as_deref().unwrap_or_default();
        for finding in &answer.findings {
            let key = (finding.severity == WARNING, finding.id.as_str(), finding.cause.as_str());
            let group = groups.entry(key).or_default();
            group.nodes.insert(node);
            group.about.insert(&finding.about);
            group.fix = &finding.fix;
        }
        for missing in &answer.not_checked {
            not_checked.entry((&missing.what, &missing.why)).or_default().insert(node);
        }
    }
    let mut text = answers.summary();
    if groups.is_empty() && answers.unanswered.is_empty() {
        text.push_str("nothing is wrong\n");
    }
    for (key, group) in &groups {
        paragraph(&mut text, *key, group, is_coloured);
    }
    if !not_checked.is_empty() {
        text.push_str("\nNot checked:\n");
    }
    for ((what, why), nodes) in not_checked {
        let _ = writeln!(text, "  {}: {} on {}", one_line(what), one_line(why), named(nodes));
    }
    text
}

fn paragraph(text: &mut String, (is_warning, id, cause): Key<'_>, group: &Group<'_>, is_coloured: bool) {
    let word = match (is_warning, is_coloured) {
        (true, true) => "\x1b[33mWARNING\x1b[0m",
        (true, false) => "WARNING",
        (false, true) => "\x1b[31mFAULT\x1b[0m",
        (false, false) => "FAULT",
    };
    let title = check(id).map_or("", |check| check.title);
    let shown: Vec<_> = group.about.iter().take(MOST).map(|about| one_line(about)).collect();
    let more = match group.about.len() - shown.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let _ = writeln!(text, "\n{word} {}: {title}", one_line(id));
    let _ = writeln!(text, "  {}", one_line(cause));
    let _ = writeln!(text, "  on {}", named(group.nodes.iter().copied()));
    let _ = writeln!(text, "  affected: {}{more}", shown.join(", "));
    let _ = writeln!(text, "  fix, on the node: {}", one_line(group.fix));
    let _ = writeln!(text, "  more: kubectl svid doctor --explain {}", one_line(id));
}
