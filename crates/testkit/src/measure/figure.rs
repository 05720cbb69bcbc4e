//! One line of the result.

use serde::Serialize;

/// A measured figure.
#[derive(Debug, Serialize)]
pub struct Figure {
    /// Its name.
    name: String,
    /// The value, in `unit`.
    value: f64,
    /// `ms`, `/s`, `s`, `MB`, `%`, `x` or `requests`.
    unit: &'static str,
    /// The lower limit given by the kernel or by an empty call.
    floor: Option<f64>,
    /// Its target.
    target: Option<Target>,
}

/// A bound.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// At most this value.
    AtMost(f64),
    /// At least this value.
    AtLeast(f64),
}

impl Figure {
    /// A figure that is reported without a target.
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value, unit, floor: None, target: None }
    }

    /// Adds the lower limit.
    #[must_use]
    pub fn floor(mut self, floor: f64) -> Self {
        self.floor = Some(floor);
        self
    }

    /// Sets the highest good value.
    #[must_use]
    pub fn at_most(mut self, bound: f64) -> Self {
        self.target = Some(Target::AtMost(bound));
        self
    }

    /// Sets the lowest good value.
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

/// Rounds to three significant digits.
fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        small if small >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
