//! One line of the result.

use serde::Serialize;

/// Something that was measured.
#[derive(Debug, Serialize)]
pub struct Figure {
    /// What it is.
    name: String,
    /// How much, in `unit`.
    value: f64,
    /// `ms`, `/s`, `s`, `MB`, `%`, `x` or `requests`.
    unit: &'static str,
    /// What the kernel, and an empty call, cost or allow at least.
    floor: Option<f64>,
    /// What it shall be.
    target: Option<Target>,
}

/// A bound.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Good up to this.
    AtMost(f64),
    /// Good from this on.
    AtLeast(f64),
}

impl Figure {
    /// A figure that is reported, not judged.
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value, unit, floor: None, target: None }
    }

    /// With what cannot be gone below.
    #[must_use]
    pub fn floor(mut self, floor: f64) -> Self {
        self.floor = Some(floor);
        self
    }

    /// Good up to `bound`.
    #[must_use]
    pub fn at_most(mut self, bound: f64) -> Self {
        self.target = Some(Target::AtMost(bound));
        self
    }

    /// Good from `bound` on.
    #[must_use]
    pub fn at_least(mut self, bound: f64) -> Self {
        self.target = Some(Target::AtLeast(bound));
        self
    }

    /// Whether it misses its target.
    pub fn is_over(&self) -> bool {
        match self.target {
            Some(Target::AtMost(bound)) => self.value > bound,
            Some(Target::AtLeast(bound)) => self.value < bound,
            None => false,
        }
    }

    /// The cells of its row: figure, value, floor, ratio, target, verdict.
    pub fn cells(&self) -> [String; 6] {
        let ratio = |floor: f64| match self.unit {
            "/s" => floor / self.value,
            _ => self.value / floor,
        };
        let (target, verdict) = match self.target {
            Some(Target::AtMost(bound)) => {
                (format!("<= {bound} {}", self.unit), if self.is_over() { "over" } else { "ok" })
            }
            Some(Target::AtLeast(bound)) => {
                (format!(">= {bound} {}", self.unit), if self.is_over() { "over" } else { "ok" })
            }
            None => (String::new(), ""),
        };
        [
            self.name.clone(),
            format!("{} {}", number(self.value), self.unit),
            self.floor.map(|floor| format!("{} {}", number(floor), self.unit)).unwrap_or_default(),
            self.floor.map(|floor| format!("{:.1}x", ratio(floor))).unwrap_or_default(),
            target,
            verdict.to_owned(),
        ]
    }
}

/// Three digits that matter.
fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        small if small >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
