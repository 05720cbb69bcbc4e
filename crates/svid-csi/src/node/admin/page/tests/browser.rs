//! The page in Chromium (`just page-test`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::{HOSTILE, html, node};
use crate::host::clock;

const VOLUMES: usize = 5_000;
/// In milliseconds, on any machine; the page itself says how long it took.
const LENIENT: u64 = 10_000;

struct Browser {
    dir: TempDir,
}

impl Browser {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// Opens a page, and returns its elements as HTML and what the console says.
    fn open(&self, html: &str, args: &[&str]) -> (String, String) {
        let page = self.dir.path().join("page.html");
        fs::write(&page, html).unwrap();
        let program = std::env::var_os("CHROMIUM").unwrap_or_else(|| "chromium".into());
        let profile = format!("--user-data-dir={}", self.dir.path().join("profile").display());
        let output = Command::new(program)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"])
            .args([profile.as_str()])
            .args(args)
            .arg(&page)
            .output()
            .expect("Chromium runs");
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let console = said.lines().filter(|line| line.contains("CONSOLE")).collect::<Vec<_>>().join("\n");
        (String::from_utf8(output.stdout).unwrap(), console)
    }

    fn picture(&self, html: &str, scheme: &str, [width, height]: [u32; 2]) -> PathBuf {
        let picture = self.dir.path().join("picture.png");
        let screenshot = format!("--screenshot={}", picture.display());
        let size = format!("--window-size={width},{height}");
        let scheme = format!("--blink-settings=preferredColorScheme={}", u8::from(scheme == "light"));
        let (_, console) = self.open(html, &[&screenshot, &size, &scheme]);
        assert_eq!(console, "");
        picture
    }
}

/// A page about a node with many volumes, some of whose pods are hostile.
fn page(now: SystemTime, hostile: &[&str]) -> String {
    let mut driver = node::with_volumes(VOLUMES, now);
    for (volume, text) in driver.volumes.values_mut().skip(20).zip(hostile) {
        (volume.pod, volume.failed) = (Some((*text).to_owned()), Some((*text).to_owned()));
    }
    let report = node::report(&driver, now);
    html(&driver, Some(&report), now)
}

fn milliseconds(dom: &str) -> u64 {
    let (_, rest) = dom.split_once("drawn in ").expect("it was drawn");
    rest.split_once(" ms").unwrap().0.parse().unwrap()
}

#[test]
#[ignore = "needs Chromium"]
fn thousands_of_volumes_are_drawn_at_once_and_hostile_texts_as_text() {
    let (dom, console) = Browser::new().open(&page(clock::now(), &HOSTILE), &["--dump-dom"]);
    assert_eq!(console, "");
    let body = dom.split_once("<tbody role=\"rowgroup\">").expect("the table").1;
    assert_eq!(body.matches("<tr class=").count(), VOLUMES);
    assert!(dom.contains(&format!("{VOLUMES} of {VOLUMES} shown")));
    assert!(dom.contains("&lt;img src=x onerror="), "hostile names are shown");
    assert_eq!((dom.matches("<img").count(), dom.matches("<script").count()), (0, 2), "they do not become elements");
    assert!(dom.contains("<title>worker-7: svid-csi</title>"), "their scripts did not run");
    assert!(dom.contains("no registration entry selects this pod"), "failures");
    assert!(dom.contains("svid-csi doctor --explain identity-expired"), "findings");
    let took = milliseconds(&dom);
    println!("{VOLUMES} volumes drawn in {took} ms");
    assert!(took < LENIENT, "{took} ms");
}

#[test]
#[ignore = "needs Chromium"]
fn a_changed_script_or_style_does_not_run() {
    let page = page(clock::now(), &[]);
    for (from, to) in [("\"use strict\";", "\"use strict\"; "), (":root {", ":root  {")] {
        let changed = page.replacen(from, to, 1);
        assert_ne!(changed, page);
        let (_, console) = Browser::new().open(&changed, &["--dump-dom"]);
        assert!(console.contains("Content Security Policy"), "{console}");
    }
    let injected = page.replacen("<main", "<img src=x onerror=\"document.title='taken'\"><main", 1);
    let (dom, console) = Browser::new().open(&injected, &["--dump-dom"]);
    assert!(console.contains("Content Security Policy") && !dom.contains("<title>taken"), "{console}");
}

/// What a reader does, as a script, which the page's policy forbids: it is left out here.
const READER: &str = r##"<script>
const act = (id, value, event) => {
  const control = document.getElementById(id);
  control.value = value;
  control.dispatchEvent(new Event(event));
};
const shown = () => document.getElementById("shown").textContent;
const first = () => document.querySelector("#volumes tbody tr").cells[0].textContent;
const seen = [first()];
act("filter", " BANK/ ", "input");
seen.push(shown());
document.querySelector("#states button").click();
seen.push(shown());
document.querySelector("#states button").click();
act("filter", "no such pod", "input");
seen.push(shown());
act("order", "pod", "change");
seen.push(first().slice(0, 10));
document.title = seen.join("; ");
</script></body>"##;

#[test]
#[ignore = "needs Chromium"]
fn volumes_are_filtered_and_sorted() {
    let page = page(clock::now(), &[]).replacen("http-equiv=", "data-none=", 1);
    let page = page.replacen("</body>", READER, 1);
    let (dom, console) = Browser::new().open(&page, &["--dump-dom"]);
    assert_eq!(console, "");
    let (_, title) = dom.split_once("<title>").unwrap();
    let seen = "bank/checkout-01eef-001; 1667 of 5000 shown; 1 of 5000 shown; 0 of 5000 shown; bank/cart-";
    assert_eq!(title.split_once("</title>").unwrap().0, seen);
}

/// With `SVID_CSI_WRITE_PICTURES=1` they replace those of the documentation.
#[test]
#[ignore = "needs Chromium"]
fn pictures_are_light_and_dark() {
    let page = page(clock::now() - Duration::from_secs(1), &[]);
    let browser = Browser::new();
    let mut taken = Vec::new();
    for (name, scheme, size) in
        [("light", "light", [1100, 1250]), ("dark", "dark", [1100, 1250]), ("narrow", "light", [500, 900])]
    {
        let picture = browser.picture(&page, scheme, size);
        let bytes = fs::read(&picture).unwrap();
        assert!(bytes.starts_with(b"\x89PNG"));
        if std::env::var_os("SVID_CSI_WRITE_PICTURES").is_some() && name != "narrow" {
            let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
            fs::copy(&picture, docs.join(format!("status-page-{name}.png"))).unwrap();
        }
        taken.push(bytes);
    }
    assert_ne!(taken[0], taken[1], "light and dark differ");
}
