//! The result, for people and for machines.

use std::fs;
use std::io::{self, Write};
use std::thread::available_parallelism;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::figure::Figure;
use crate::floor::FloorRange;

const HEADINGS: [&str; 6] = ["figure", "measured", "floor", "ratio", "target", ""];

/// All that was measured, and where.
#[derive(Serialize)]
pub(crate) struct Report {
    kernel: String,
    cores: usize,
    load_average: String,
    rounds: u32,
    floors: FloorRange,
    figures: Vec<Figure>,
    over: usize,
}

impl Report {
    pub(crate) fn new(rounds: u32, floors: FloorRange, figures: Vec<Figure>) -> Result<Self> {
        let read = |path| fs::read_to_string(path).with_context(|| format!("cannot read {path}"));
        Ok(Self {
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            cores: available_parallelism()?.get(),
            load_average: read("/proc/loadavg")?.split(' ').take(3).collect::<Vec<_>>().join(" "),
            rounds,
            floors,
            over: figures.iter().filter(|figure| figure.is_over()).count(),
            figures,
        })
    }

    pub(crate) fn print(&self, json: bool) -> Result<()> {
        let mut out = io::stdout().lock();
        if json {
            serde_json::to_writer(&mut out, self)?;
            return Ok(writeln!(out)?);
        }
        self.print_place(&mut out)?;
        self.print_table(&mut out)?;
        Ok(writeln!(out, "\n{} of {} figures over target", self.over, self.figures.len())?)
    }

    fn print_place(&self, out: &mut impl Write) -> Result<()> {
        let Self { kernel, cores, load_average, rounds, floors, .. } = self;
        writeln!(out, "Linux {kernel}, {cores} cores, load average {load_average}, {rounds} rounds")?;
        writeln!(out, "floors, p50 in microseconds, at the start and at the end of the run:")?;
        for (name, before, after) in floors.rows() {
            writeln!(out, "  {name:<34}{:>8.1}{:>8.1}", before * 1e3, after * 1e3)?;
        }
        Ok(writeln!(out)?)
    }

    fn print_table(&self, out: &mut impl Write) -> Result<()> {
        let rows: Vec<_> = self.figures.iter().map(Figure::cells).collect();
        let widths = widths(&rows);
        for cells in [HEADINGS.map(str::to_owned)].iter().chain(&rows) {
            let mut line = format!("{:<width$}", cells[0], width = widths[0]);
            for (cell, width) in cells.iter().zip(widths).skip(1) {
                line += &format!("  {cell:>width$}");
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
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
