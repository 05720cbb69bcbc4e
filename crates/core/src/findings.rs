//! Findings about a node, each with a cause and a fix, from facts that other modules gather.
//!
//! [`checks`] lists all checks: the page `docs/reference/findings.md` and `doctor --explain` come from it.

pub mod before;
mod cluster;
mod data;
mod driver;
pub mod facts;
pub mod handshake;
pub mod identity;
pub mod kernel;
mod mounts;
pub mod overview;
mod registration;
mod source;
pub mod storage_health;
pub mod volume_state;
pub mod walk;

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use self::facts::Facts;
pub use self::source::of_waiting;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It works now, but may stop.
    Warning,
    /// Pods are affected, or will be.
    Fault,
}

/// The subject of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Category {
    /// The driver's process.
    Driver,
    /// The kubelet and the driver's sockets.
    Registration,
    /// The volumes in pods.
    Mounts,
    /// The volumes' data.
    Data,
    /// The time.
    Clock,
    /// Where identities come from.
    Source,
    /// The identities of pods.
    Identity,
    /// The node's kernel.
    Kernel,
    /// Objects and permissions in the API server.
    Cluster,
}

impl Category {
    /// All of them, in the order in which they are reported.
    pub const ALL: [Self; 9] = [
        Self::Driver,
        Self::Registration,
        Self::Mounts,
        Self::Data,
        Self::Clock,
        Self::Source,
        Self::Identity,
        Self::Kernel,
        Self::Cluster,
    ];

    /// Its name, as `doctor --category` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Driver => "driver",
            Self::Registration => "registration",
            Self::Mounts => "mounts",
            Self::Data => "data",
            Self::Clock => "clock",
            Self::Source => "source",
            Self::Identity => "identity",
            Self::Kernel => "kernel",
            Self::Cluster => "cluster",
        }
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One check. Its finding has the same id.
#[derive(Debug)]
pub struct Check {
    /// Its id, an anchor on the page of all findings.
    pub id: &'static str,
    /// Its subject.
    pub category: Category,
    /// How bad it is to find it.
    pub severity: Severity,
    /// The problem, in one sentence.
    pub title: &'static str,
    /// The consequence for pods, and the fix.
    pub explanation: &'static str,
}

const CHECKS: [&[&Check]; 10] = [
    driver::CHECKS,
    registration::CHECKS,
    mounts::CHECKS,
    data::CHECKS,
    source::CHECKS,
    identity::CHECKS,
    handshake::CHECKS,
    kernel::CHECKS,
    cluster::CHECKS,
    before::CHECKS,
];

/// Every check.
pub fn checks() -> impl Iterator<Item = &'static Check> {
    CHECKS.into_iter().flatten().copied()
}

/// The check with that id.
pub fn check(id: &str) -> Option<&'static Check> {
    checks().find(|check| check.id == id)
}

/// The check with that id, for errors, events and log lines that lead to it. An unknown id does not compile.
#[macro_export]
macro_rules! finding {
    ($id:literal) => {
        const { $crate::findings::known($id) }
    };
}

/// The check with that id, for the compiler: [`finding!`](crate::finding!).
///
/// # Panics
/// If there is none.
pub const fn known(id: &str) -> &'static Check {
    let (mut of, mut at) = (0, 0);
    while of < CHECKS.len() {
        if at == CHECKS[of].len() {
            (of, at) = (of + 1, 0);
        } else if is_same(CHECKS[of][at].id.as_bytes(), id.as_bytes()) {
            return CHECKS[of][at];
        } else {
            at += 1;
        }
    }
    panic!("no check has this id")
}

/// `==` is not for constants.
const fn is_same(one: &[u8], other: &[u8]) -> bool {
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

/// A message of at most `most` bytes that ends with the id of its finding in brackets, if it has one.
pub fn leading_to(finding: Option<&Check>, message: &str, most: usize) -> String {
    let end = finding.map(|check| format!(" [{}]", check.id)).unwrap_or_default();
    let kept = message.floor_char_boundary(most.saturating_sub(end.len()));
    format!("{}{end}", &message[..kept])
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The id of its check.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// Its subject.
    pub category: Category,
    /// The pod, driver name or path that is affected.
    pub about: String,
    /// The evidence.
    pub cause: String,
    /// A command that fixes it, or shows more.
    pub fix: String,
}

/// Something that could not be checked, which does not mean that it is fine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotChecked {
    /// The category of the check.
    pub category: Category,
    /// The subject of the check.
    pub what: String,
    /// Why it could not be.
    pub why: String,
}

/// The result of all checks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The problems: by category, then as found.
    pub findings: Vec<Finding>,
    /// The checks that were not possible.
    pub not_checked: Vec<NotChecked>,
}

impl Report {
    /// Applies every check to the facts.
    pub fn of(facts: &Facts) -> Self {
        let mut report = Report::default();
        driver::find(facts, &mut report);
        registration::find(facts, &mut report);
        mounts::find(facts, &mut report);
        data::find(facts, &mut report);
        source::find(facts, &mut report);
        identity::find(facts, &mut report);
        kernel::find(facts, &mut report);
        cluster::find(facts, &mut report);
        report.findings.sort_by_key(|finding| finding.category);
        report
    }

    /// The findings of these categories only.
    #[must_use]
    pub fn only(mut self, categories: &[Category]) -> Self {
        self.findings.retain(|finding| categories.contains(&finding.category));
        self
    }

    /// The findings of each check together, in the order of the first ones.
    pub fn by_check(&self) -> Vec<Vec<&Finding>> {
        let (mut groups, mut places) = (Vec::<Vec<&Finding>>::new(), BTreeMap::new());
        for finding in &self.findings {
            let place = *places.entry(finding.id).or_insert(groups.len());
            match groups.get_mut(place) {
                Some(group) => group.push(finding),
                None => groups.push(vec![finding]),
            }
        }
        groups
    }

    /// How bad the worst finding is.
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max()
    }

    fn find(
        &mut self,
        check: &'static Check,
        about: impl Into<String>,
        cause: impl Into<String>,
        fix: impl Into<String>,
    ) {
        let Check { id, category, severity, .. } = *check;
        self.findings.push(Finding {
            id,
            severity,
            category,
            about: about.into(),
            cause: cause.into(),
            fix: fix.into(),
        });
    }

    fn not_checked(&mut self, category: Category, what: impl Into<String>, why: impl Into<String>) {
        self.not_checked.push(NotChecked { category, what: what.into(), why: why.into() });
    }
}

/// A word of a command to copy, in quotation marks if a shell would see more than a word in it.
fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._:=@%+,-".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests;
