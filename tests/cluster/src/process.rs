//! Programs that outlive this one: started with a log and a record, and stopped only if the record is still correct.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::files;
use crate::layout::Layout;
use crate::wait;

const PATIENCE: Duration = Duration::from_secs(15);

/// The record of a started program. Process ids are reused, so the command line shows whether it is still ours.
#[derive(Debug, Deserialize, Serialize)]
pub struct Started {
    pid: i32,
    command_line: Vec<String>,
}

impl Started {
    /// Whether exactly that program is still running.
    #[must_use]
    pub fn runs(&self) -> bool {
        command_line(self.pid).is_some_and(|seen| seen == self.command_line)
    }

    fn signal(&self, signal: Signal) {
        if let (true, Some(pid)) = (self.runs(), Pid::from_raw(self.pid)) {
            // A program that has ended in the meantime counts as stopped.
            let _ = kill_process(pid, signal);
        }
    }
}

/// Keeps the program of that name running if its command equals `command`; restarts it otherwise.
pub fn keep(layout: &Layout, name: &str, command: &mut Command) -> Result<()> {
    let wanted = words(command);
    if read(&record(layout, name)).is_some_and(|started| started.command_line == wanted && started.runs()) {
        return Ok(());
    }
    stop(layout, name)?;
    start(layout, name, command)
}

/// Starts `command` in the background, detached from the terminal's signals, with its output in `logs/<name>.log`.
pub fn start(layout: &Layout, name: &str, command: &mut Command) -> Result<()> {
    let log = layout.logs().join(format!("{name}.log"));
    let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let child = command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .with_context(|| format!("cannot start {name} ({})", command.get_program().display()))?;
    let started = Started { pid: i32::try_from(child.id())?, command_line: words(command) };
    files::write(&record(layout, name), serde_json::to_vec(&started)?)
}

/// Whether the program of that name runs.
#[must_use]
pub fn runs(layout: &Layout, name: &str) -> bool {
    read(&record(layout, name)).is_some_and(|started| started.runs())
}

/// The process of that name, if it runs.
#[must_use]
pub fn pid(layout: &Layout, name: &str) -> Option<u32> {
    let started = read(&record(layout, name)).filter(Started::runs)?;
    u32::try_from(started.pid).ok()
}

/// Fails, with the end of its log, if the program of that name has stopped.
pub fn check(layout: &Layout, name: &str) -> Result<()> {
    if runs(layout, name) {
        return Ok(());
    }
    let log = layout.logs().join(format!("{name}.log"));
    let text = fs::read_to_string(&log).unwrap_or_default();
    let lines: Vec<_> = text.lines().rev().take(12).collect();
    let end: Vec<_> = lines.into_iter().rev().collect();
    bail!("{name} has stopped; the end of {}:\n{}", log.display(), end.join("\n"))
}

/// Stops the program of that name, if it is still the one that was started.
pub fn stop(layout: &Layout, name: &str) -> Result<()> {
    let path = record(layout, name);
    if let Some(started) = read(&path) {
        started.signal(Signal::TERM);
        if wait::until(name, PATIENCE, || gone(&started)).is_err() {
            started.signal(Signal::KILL);
            wait::until(name, PATIENCE, || gone(&started))?;
        }
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// The processes whose command line satisfies `wanted`.
pub fn find(wanted: impl Fn(&[String]) -> bool) -> Result<Vec<i32>> {
    let entries = fs::read_dir("/proc").context("cannot list processes")?;
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(pids.filter(|pid| command_line(*pid).is_some_and(|line| wanted(&line))).collect())
}

/// Kills those of the named programs whose arguments mention `folder`: a killed run may not have recorded them.
pub fn sweep(programs: &[&str], folder: &Path) -> Result<()> {
    let folder = format!("{}/", folder.display());
    let ours = find(|line| {
        let program = line.first().and_then(|path| Path::new(path).file_name()?.to_str());
        program.is_some_and(|name| programs.contains(&name)) && line.iter().any(|word| word.contains(&folder))
    })?;
    ours.into_iter().for_each(kill);
    Ok(())
}

/// Kills a process, if it still exists.
pub fn kill(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

fn words(command: &Command) -> Vec<String> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect()
}

fn gone(started: &Started) -> Result<()> {
    if started.runs() { bail!("process {} does not stop", started.pid) } else { Ok(()) }
}

fn record(layout: &Layout, name: &str) -> PathBuf {
    layout.pids().join(name)
}

fn read(path: &Path) -> Option<Started> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// `None` for a process that has ended, even if it has not been reaped yet.
fn command_line(pid: i32) -> Option<Vec<String>> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let text = String::from_utf8_lossy(bytes.strip_suffix(b"\0")?).into_owned();
    Some(text.split('\0').map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(folder: &Path) -> Layout {
        let layout = Layout { repo: folder.into(), cache: folder.into(), work: folder.into(), kubernetes: "1.37" };
        fs::create_dir_all(layout.logs()).unwrap();
        fs::create_dir_all(layout.pids()).unwrap();
        layout
    }

    #[test]
    fn a_started_program_is_found_and_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let layout = layout(folder.path());
        start(&layout, "nap", Command::new("sleep").arg("600")).unwrap();
        wait::until("the program", PATIENCE, || check(&layout, "nap")).unwrap();
        stop(&layout, "nap").unwrap();
        assert!(!runs(&layout, "nap"));
    }

    #[test]
    fn a_program_is_kept_until_its_command_changes() {
        let folder = tempfile::tempdir().unwrap();
        let layout = layout(folder.path());
        let pid = || read(&record(&layout, "nap")).unwrap().pid;
        let keep = |seconds: &str| {
            keep(&layout, "nap", Command::new("sleep").arg(seconds)).unwrap();
            wait::until("the program", PATIENCE, || check(&layout, "nap")).unwrap();
            pid()
        };
        let first = keep("600");
        assert_eq!(keep("600"), first);
        assert_ne!(keep("601"), first);
        stop(&layout, "nap").unwrap();
    }

    #[test]
    fn an_unrecorded_program_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        files::write(&file, "").unwrap();
        let mut lost = Command::new("tail").arg("-f").arg(&file).spawn().unwrap();
        // `spawn` returns before the kernel shows the new command line.
        let pid = i32::try_from(lost.id()).unwrap();
        let shown =
            || command_line(pid).filter(|line| line[0] == "tail").map(drop).context("it has no command line yet");
        wait::until("the program", PATIENCE, shown).unwrap();
        sweep(&["cat"], folder.path()).unwrap();
        assert!(lost.try_wait().unwrap().is_none(), "a program of another name was killed");
        sweep(&["tail"], folder.path()).unwrap();
        let ended = || lost.try_wait()?.context("it still runs");
        let status = wait::until("the program's end", PATIENCE, ended).unwrap();
        assert!(!status.success());
    }

    #[test]
    fn another_program_with_the_recorded_id_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let layout = layout(folder.path());
        let pid = i32::try_from(std::process::id()).unwrap();
        let stale = Started { pid, command_line: vec!["etcd".to_owned()] };
        files::write(&record(&layout, "etcd"), serde_json::to_vec(&stale).unwrap()).unwrap();
        stop(&layout, "etcd").unwrap();
        assert!(!record(&layout, "etcd").exists());
    }
}
