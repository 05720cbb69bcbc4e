//! The resources that a process uses, from /proc (proc(5)).

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::param::clock_ticks_per_second;

/// Resident memory.
pub struct Memory {
    /// VmRSS in megabytes (10^6 bytes).
    pub rss: f64,
    /// PSS: the memory not shared with other processes, and its portion of the shared memory.
    pub pss: f64,
}

/// The memory of a process once it no longer changes.
///
/// # Errors
/// If it never settles, or the process has ended.
pub fn settled_memory(pid: u32) -> Result<Memory> {
    let mut last = 0.0;
    let mut steady = 0;
    for _ in 0..200 {
        let rss = megabytes(&format!("/proc/{pid}/status"), "VmRSS:")?;
        steady = if rss == last { steady + 1 } else { 0 };
        if steady == 5 {
            return Ok(Memory { rss, pss: megabytes(&format!("/proc/{pid}/smaps_rollup"), "Pss:")? });
        }
        last = rss;
        sleep(Duration::from_millis(50));
    }
    bail!("the memory of process {pid} does not settle")
}

/// The resident memory of a process at this moment, in megabytes (10^6 bytes).
///
/// # Errors
/// If the process has ended.
pub fn resident_memory(pid: u32) -> Result<f64> {
    megabytes(&format!("/proc/{pid}/status"), "VmRSS:")
}

/// Waits until a process has used no processor time for a quarter of a second.
///
/// # Errors
/// If it is never idle, or has ended.
pub fn until_idle(pid: u32) -> Result<()> {
    let (mut last, mut steady) = (0.0, 0);
    for _ in 0..200 {
        let used = processor_seconds(pid)?;
        steady = if used == last { steady + 1 } else { 0 };
        if steady == 5 {
            return Ok(());
        }
        last = used;
        sleep(Duration::from_millis(50));
    }
    bail!("process {pid} does not rest")
}

/// The peak resident memory of a process, in megabytes (10^6 bytes).
///
/// # Errors
/// If the process has ended.
pub fn peak_memory(pid: u32) -> Result<f64> {
    megabytes(&format!("/proc/{pid}/status"), "VmHWM:")
}

fn megabytes(path: &str, field: &str) -> Result<f64> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let line =
        text.lines().find_map(|line| line.strip_prefix(field)).with_context(|| format!("no {field} in {path}"))?;
    let kibibytes: u32 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(f64::from(kibibytes) * 1024.0 / 1e6)
}

/// The processor time a process has used so far, in seconds (utime and stime).
///
/// # Errors
/// If the process has ended.
pub fn processor_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name may contain spaces, but the fields after it do not.
    let (_, fields) = stat.rsplit_once(") ").context("/proc/pid/stat")?;
    let mut times = fields.split(' ').skip(11).map(str::parse::<u32>);
    let (user, system) = (times.next().context("utime")??, times.next().context("stime")??);
    let ticks = u32::try_from(clock_ticks_per_second())?;
    Ok((f64::from(user) + f64::from(system)) / f64::from(ticks))
}
