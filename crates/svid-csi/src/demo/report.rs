//! The demo's output: one line, or one JSON object, for each step.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::{Map, Value};

/// Far longer than any step of a working demo.
const STEP_LIMIT: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(super) struct StepResult {
    line: String,
    facts: Map<String, Value>,
}

#[derive(Serialize)]
struct JsonLine<'a> {
    step: &'a str,
    ok: bool,
    elapsed_ms: u128,
    #[serde(flatten)]
    facts: &'a Map<String, Value>,
}

/// The output for the steps.
#[derive(Debug)]
pub(super) struct Report {
    json: bool,
    started: Instant,
}

impl StepResult {
    /// A line for people.
    pub(super) fn new(line: impl Into<String>) -> Self {
        Self { line: line.into(), facts: Map::new() }
    }

    /// Adds a fact for machines.
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.facts.insert(name.to_owned(), value.into());
        self
    }
}

impl Report {
    /// Starts measuring time.
    pub(super) fn new(json: bool) -> Self {
        Self { json, started: Instant::now() }
    }

    pub(super) fn step<T>(&self, name: &'static str, outcome: Result<(StepResult, T)>) -> Result<T> {
        match outcome {
            Ok((result, value)) => {
                self.write(name, true, result)?;
                Ok(value)
            }
            Err(error) => {
                let reason = format!("{error:#}");
                self.write(name, false, StepResult::new(reason.clone()).with("error", reason))?;
                // The reason has already been printed.
                bail!("the demo failed in the step {name}")
            }
        }
    }

    /// Runs a step and reports its result.
    pub(super) async fn run<T>(
        &self,
        name: &'static str,
        step: impl Future<Output = Result<(StepResult, T)>>,
    ) -> Result<T> {
        let outcome = tokio::time::timeout(STEP_LIMIT, step).await;
        self.step(name, outcome.with_context(|| format!("not done after {STEP_LIMIT:?}")).flatten())
    }

    fn write(&self, step: &str, ok: bool, result: StepResult) -> io::Result<()> {
        let elapsed = self.started.elapsed();
        let mut out = io::stdout().lock();
        if self.json {
            let line = JsonLine { step, ok, elapsed_ms: elapsed.as_millis(), facts: &result.facts };
            writeln!(out, "{}", serde_json::to_string(&line)?)?;
        } else {
            let mark = if ok { "ok  " } else { "FAIL" };
            writeln!(out, "{:6.2} s  {mark}  {step:<16} {}", elapsed.as_secs_f64(), result.line)?;
        }
        out.flush()
    }
}
