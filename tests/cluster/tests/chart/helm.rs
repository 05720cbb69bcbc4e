//! Renders the chart.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use svid_csi_cluster::layout::Layout;
use svid_csi_cluster::tools::Tools;

/// All supported versions of Kubernetes, from the oldest to the newest.
pub const VERSIONS: [&str; 8] = ["1.30", "1.31", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37"];

/// The root of the checkout.
pub static LAYOUT: LazyLock<Layout> = LazyLock::new(|| Layout::of_this_checkout().expect("this checkout"));

/// The programs, built on first use.
pub static TOOLS: LazyLock<Tools> = LazyLock::new(|| {
    let mut say = |line: &str| println!("{line}");
    Tools::build_for_chart(&LAYOUT, &mut say).expect("the tools can be built")
});

/// The folder of the chart.
pub fn chart() -> PathBuf {
    LAYOUT.repo.join("deploy/chart")
}

/// The objects of the chart for this Kubernetes with these additional arguments, separated by spaces, or Helm's error.
pub fn template(kubernetes: &str, arguments: &str) -> Result<String, String> {
    let version = format!("{kubernetes}.0");
    let usual = ["template", "svid-csi", ".", "--namespace", "svid-csi", "--kube-version", &version];
    let output = run(&usual, arguments);
    match output.status.success() {
        true => Ok(text(output.stdout)),
        false => Err(text(output.stderr)),
    }
}

/// Runs Helm in the folder of the chart.
pub fn run(usual: &[&str], arguments: &str) -> Output {
    Command::new(TOOLS.program("helm"))
        .args(usual)
        .args(arguments.split_whitespace())
        .current_dir(chart())
        .output()
        .expect("helm runs")
}

/// Output of a program.
pub fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("text")
}

/// Copies a folder with its content.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}
