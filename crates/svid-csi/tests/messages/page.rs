//! docs/messages.md.

use std::fs;
use std::path::Path;

use crate::fixed_parts;

pub struct Page {
    /// Its lines, without backticks.
    rows: Vec<String>,
    text: String,
}

impl Page {
    pub fn read() -> Self {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/messages.md")).unwrap();
        let rows = text.lines().map(|line| line.replace('`', "")).collect();
        Self { rows, text }
    }

    /// Whether one row has all fixed parts of a message.
    pub fn has(&self, message: &str) -> bool {
        let parts = fixed_parts(message);
        parts.is_empty() || self.rows.iter().any(|row| parts.iter().all(|part| row.contains(*part)))
    }

    /// Whether a row has a link to that finding.
    pub fn leads_to(&self, id: &str) -> bool {
        let link = format!("](reference/findings.md#{id})");
        self.rows.iter().any(|row| row.starts_with('|') && row.contains(&link))
    }

    /// The messages that it explains: the code in the first column of its tables, and in lines between these.
    pub fn messages(&self) -> impl Iterator<Item = String> {
        let (_, explained) = self.text.split_once("<a id=").expect("the first section");
        let lines = explained.lines().filter(|line| !line.starts_with('#'));
        lines.flat_map(|line| code_spans(line.strip_prefix('|').map_or(line, first_cell)))
    }
}

fn first_cell(row: &str) -> &str {
    let end = row.match_indices('|').find(|(at, _)| !row[..*at].ends_with('\\'));
    end.map_or(row, |(at, _)| &row[..at])
}

/// The code in a line of Markdown, between single or double backticks, without those in it.
fn code_spans(line: &str) -> Vec<String> {
    let (mut rest, mut found) = (line, Vec::new());
    while let Some(begin) = rest.find('`') {
        let ticks = if rest[begin..].starts_with("``") { "``" } else { "`" };
        let inside = &rest[begin + ticks.len()..];
        let end = inside.find(ticks).unwrap_or_else(|| panic!("the code in this line has an end: {line}"));
        found.push(inside[..end].replace('`', ""));
        rest = &inside[end + ticks.len()..];
    }
    found
}
