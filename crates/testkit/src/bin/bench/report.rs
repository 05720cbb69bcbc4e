//! The result, for people and for machines.

use std::io::{self, Write};

use anyhow::Result;
use serde::Serialize;
use svid_csi_testkit::measure::{Figure, Machine, over, print_table};

use crate::floor::FloorRange;

/// All figures, and the machine.
#[derive(Serialize)]
pub(crate) struct Report {
    #[serde(flatten)]
    machine: Machine,
    rounds: u32,
    floors: FloorRange,
    figures: Vec<Figure>,
    over: usize,
}

impl Report {
    pub(crate) fn new(rounds: u32, floors: FloorRange, figures: Vec<Figure>) -> Result<Self> {
        Ok(Self { machine: Machine::read()?, rounds, floors, over: over(&figures), figures })
    }

    pub(crate) fn print(&self, json: bool) -> Result<()> {
        let mut out = io::stdout().lock();
        if json {
            serde_json::to_writer(&mut out, self)?;
            return Ok(writeln!(out)?);
        }
        self.print_place(&mut out)?;
        print_table(&mut out, &self.figures)
    }

    fn print_place(&self, out: &mut impl Write) -> Result<()> {
        let Self { machine: Machine { kernel, cores, load_average }, rounds, floors, .. } = self;
        writeln!(out, "Linux {kernel}, {cores} cores, load average {load_average}, {rounds} rounds")?;
        writeln!(out, "floors, p50 in microseconds, at the start and at the end of the run:")?;
        for (name, before, after) in floors.rows() {
            writeln!(out, "  {name:<34}{:>8.1}{:>8.1}", before * 1e3, after * 1e3)?;
        }
        Ok(writeln!(out)?)
    }
}
