//! Figures for people, and the machine they were measured on.

use std::fs;
use std::io::Write;
use std::thread::available_parallelism;

use anyhow::{Context, Result};
use serde::Serialize;

use super::figure::Figure;

const HEADINGS: [&str; 6] = ["figure", "measured", "floor", "ratio", "target", ""];

/// The state of the machine.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// The version of the kernel, without what its distribution appends.
    pub kernel: String,
    /// The number of cores.
    pub cores: usize,
    /// The load averages over 1, 5 and 15 minutes.
    pub load_average: String,
}

impl Machine {
    /// Reads it from `/proc`.
    ///
    /// # Errors
    /// If that cannot be read.
    pub fn read() -> Result<Self> {
        let read = |path| fs::read_to_string(path).with_context(|| format!("cannot read {path}"));
        Ok(Self {
            kernel: read("/proc/sys/kernel/osrelease")?.split(['-', '+', '\n']).next().unwrap_or_default().to_owned(),
            cores: available_parallelism()?.get(),
            load_average: read("/proc/loadavg")?.split(' ').take(3).collect::<Vec<_>>().join(" "),
        })
    }
}

/// The number of figures that miss their targets.
pub fn over(figures: &[Figure]) -> usize {
    figures.iter().filter(|figure| figure.is_over()).count()
}

/// One line per figure, and a last one that counts the missed targets.
///
/// # Errors
/// If `out` cannot be written.
pub fn print_table(out: &mut impl Write, figures: &[Figure]) -> Result<()> {
    let rows: Vec<_> = figures.iter().map(Figure::cells).collect();
    let widths = widths(&rows);
    for cells in [HEADINGS.map(str::to_owned)].iter().chain(&rows) {
        let mut line = format!("{:<width$}", cells[0], width = widths[0]);
        for (cell, width) in cells.iter().zip(widths).skip(1) {
            line += &format!("  {cell:>width$}");
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(writeln!(out, "\n{} of {} figures over target", over(figures), figures.len())?)
}

fn widths(rows: &[[String; 6]]) -> [usize; 6] {
    let mut widths = HEADINGS.map(str::len);
    for cells in rows {
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = (*width).max(cell.chars().count());
        }
    }
    widths
}
