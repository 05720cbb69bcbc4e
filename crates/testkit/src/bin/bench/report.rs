//! The result, for people and for machines.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use svid_csi_testkit::measure::{Figure, Machine, over, print_table};

use crate::chart;
use crate::floor::FloorRange;
use crate::growth::Growth;

/// All figures, and the machine.
#[derive(Serialize)]
pub(crate) struct Report {
    #[serde(flatten)]
    machine: Machine,
    /// The file system with the folders of the kubelet.
    file_system: String,
    rounds: u32,
    floors: FloorRange,
    figures: Vec<Figure>,
    growth: Vec<Growth>,
    over: usize,
}

/// The part of it that charts show.
#[derive(Deserialize)]
struct Drawn {
    growth: Vec<Growth>,
}

/// The results of all parts.
#[derive(Default)]
pub(crate) struct Measured {
    pub(crate) figures: Vec<Figure>,
    pub(crate) growth: Vec<Growth>,
}

impl Report {
    pub(crate) fn new(rounds: u32, file_system: String, floors: FloorRange, measured: Measured) -> Result<Self> {
        let Measured { figures, growth } = measured;
        Ok(Self { machine: Machine::read()?, file_system, rounds, floors, over: over(&figures), figures, growth })
    }

    pub(crate) fn print(&self, json: bool) -> Result<()> {
        let mut out = io::stdout().lock();
        if json {
            serde_json::to_writer_pretty(&mut out, self)?;
            return Ok(writeln!(out)?);
        }
        self.print_place(&mut out)?;
        print_table(&mut out, &self.figures)?;
        self.growth.iter().try_for_each(|growth| print_growth(&mut out, growth))
    }

    fn print_place(&self, out: &mut impl Write) -> Result<()> {
        let Self { machine: Machine { kernel, cores, load_average }, file_system, rounds, floors, .. } = self;
        writeln!(
            out,
            "Linux {kernel}, {cores} cores, load average {load_average}, {rounds} rounds, targets on {file_system}"
        )?;
        writeln!(out, "floors, p50 in microseconds, at the start and at the end of the run:")?;
        for (name, before, after) in floors.rows() {
            writeln!(out, "  {name:<34}{:>8.1}{:>8.1}", before * 1e3, after * 1e3)?;
        }
        Ok(writeln!(out)?)
    }
}

fn print_growth(out: &mut impl Write, growth: &Growth) -> Result<()> {
    writeln!(out, "\npublish p50 in milliseconds, by {}:", growth.of)?;
    for line in &growth.lines {
        let points: Vec<_> = line.points.iter().map(|(count, time)| format!("{count}: {time:.3}")).collect();
        writeln!(out, "  {:<44}{}", line.name, points.join("  "))?;
    }
    Ok(())
}

/// Draws the charts of a printed report beside it.
pub(crate) fn draw(report: &Path) -> Result<()> {
    for (name, svg) in charts(report)? {
        fs::write(report.with_file_name(name), svg)?;
    }
    Ok(())
}

fn charts(report: &Path) -> Result<Vec<(String, String)>> {
    let text = fs::read_to_string(report).with_context(|| format!("cannot read {}", report.display()))?;
    let Drawn { growth } = serde_json::from_str(&text)?;
    let named = |growth: &Growth| {
        let about = growth.of.split(' ').find(|word| ["mounts", "volumes"].contains(word)).unwrap_or("sizes");
        Ok::<_, anyhow::Error>((format!("publish-by-{about}.svg"), chart::draw(growth)?))
    };
    growth.iter().map(named).collect()
}
