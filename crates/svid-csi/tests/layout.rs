//! The rooms of `src` and their imports match ARCHITECTURE.md, a name stands for one type, and the modules of core form no
//! circle.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

mod rust_text;

const MOST_LOOSE_FILES: usize = 4;

/// The names of more than one type, and why each is clear.
const SHARED_NAMES: [(&str, &str); 10] = [
    ("Cluster", "the configuration of the approver, and a private type of `node/cluster`"),
    ("Entry", "private types, in a queue and in a list of roots"),
    ("Pods", "the approver has no demo, and the demo no approver"),
    ("Progress", "private types of the approver's list and of a stream in the Workload API"),
    ("ReadError", "the errors of the functions `read` of two modules, which say of what"),
    ("Rule", "private types, one of them for a test"),
    ("RunError", "the errors of the functions `run` of the approver and the driver"),
    ("Wire", "private types with the fields that are read of an object"),
    ("WireMetadata", "part of `Wire`"),
    ("Writer", "the approver's, and a private type for tests"),
];

/// The picture in ARCHITECTURE.md: the floors from the top down, and the imports of each room.
struct Picture {
    floors: Vec<Vec<String>>,
    imports: BTreeMap<String, BTreeSet<String>>,
}

impl Picture {
    fn read() -> Self {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ARCHITECTURE.md")).unwrap();
        let (_, section) = text.split_once("\n### `crates/svid-csi`\n").expect("the section about this crate");
        let (_, drawn) = section.split_once("```text\n").expect("the picture");
        let (drawn, below) = drawn.split_once("\n```\n").unwrap();
        let floors = drawn.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect();
        let rows = below.lines().skip_while(|line| !line.starts_with("| room ")).skip(2);
        let rows = rows.take_while(|line| line.starts_with('|')).map(|line| {
            let cells: Vec<_> = line.split('|').collect();
            (in_backticks(cells[1]).next().expect("the name of a room"), in_backticks(cells[3]).collect())
        });
        Self { floors, imports: rows.collect() }
    }

    fn floor(&self, room: &str) -> Option<usize> {
        self.floors.iter().position(|floor| floor.iter().any(|name| name == room))
    }

    /// The room of a module: the longest prefix of its path that is a room.
    fn room(&self, module: &[String]) -> Option<String> {
        (1..=module.len()).rev().map(|n| module[..n].join("/")).find(|room| self.floor(room).is_some())
    }
}

fn in_backticks(text: &str) -> impl Iterator<Item = String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned)
}

/// Every module of a crate beside this one, with its text.
fn modules(name: &str) -> BTreeMap<Vec<String>, String> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(name).join("src");
    let (mut folders, mut found) = (vec![src.clone()], BTreeMap::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.metadata().unwrap().is_dir() {
                folders.push(entry);
                continue;
            }
            if entry.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let parts = entry.strip_prefix(&src).unwrap().with_extension("");
            let mut module: Vec<_> = parts.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
            match module.last().unwrap().as_str() {
                "main" => continue,
                "lib" | "mod" => _ = module.pop(),
                _ => {}
            }
            found.insert(module, fs::read_to_string(entry).unwrap());
        }
    }
    found
}

/// The modules and items that a module refers to, as paths from the crate.
fn named<'a>(module: &[String], text: &'a str, is_module: impl Fn(&[String]) -> bool) -> Vec<Vec<String>> {
    let code = rust_text::tokens(text).into_iter().filter(|token| !token.is_string);
    let (tokens, mut named, mut depth) = (code.map(|token| token.text).collect::<Vec<_>>(), Vec::new(), 0);
    // The enclosing inline modules, and the prefixes of the braces of a `use`, each with its depth.
    let mut inside: Vec<(usize, String)> = Vec::new();
    let mut prefixes: Vec<(usize, Vec<&'a str>)> = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let start = at;
        let mut path = vec![tokens[at]];
        while is_path(tokens[at]) && tokens.get(at + 1) == Some(&"::") {
            at += 2;
            path.push(tokens[at]);
        }
        at += 1;
        match path[0] {
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                inside.retain(|(begun, _)| *begun <= depth);
                prefixes.retain(|(begun, _)| *begun <= depth);
            }
            "mod" if tokens.get(at + 1) == Some(&"{") => inside.push((depth + 1, tokens[at].to_owned())),
            _ => {}
        }
        let opens = path.len() > 1 && path.last() == Some(&"{");
        let before = prefixes.last().map(|(_, prefix)| prefix.clone()).unwrap_or_default();
        let is_restriction = start > 0 && tokens[start - 1] == "in";
        if is_path(path[0]) && !is_restriction && (path.len() > 1 || !before.is_empty()) {
            let whole: Vec<_> = before.into_iter().chain(path.iter().copied().filter(|name| *name != "{")).collect();
            let here: Vec<_> = module.iter().cloned().chain(inside.iter().map(|(_, name)| name.clone())).collect();
            named.extend(from_the_crate(&here, &whole, &is_module));
            if opens {
                depth += 1;
                prefixes.push((depth, whole));
            }
        }
    }
    named
}

fn is_path(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

fn from_the_crate(here: &[String], path: &[&str], is_module: impl Fn(&[String]) -> bool) -> Option<Vec<String>> {
    let up = path.iter().take_while(|name| **name == "super").count();
    let base = match path[0] {
        "crate" => &[],
        "super" => &here[..here.len().checked_sub(up)?],
        _ => here,
    };
    let rest = &path[if up > 0 { up } else { usize::from(matches!(path[0], "crate" | "self")) }..];
    let whole: Vec<_> = base.iter().cloned().chain(rest.iter().map(|name| (*name).to_owned())).collect();
    let is_ours = matches!(path[0], "crate" | "super" | "self") || is_module(&whole[..=base.len()]);
    is_ours.then_some(whole)
}

/// The names of the types of a module and of its inline modules. Associated types and types in functions are not visible
/// from elsewhere, and tests name their types for themselves.
fn types(text: &str) -> Vec<&str> {
    let code = rust_text::tokens(text).into_iter().filter(|token| !token.is_string);
    let (tokens, mut found) = (code.map(|token| token.text).collect::<Vec<_>>(), Vec::new());
    // For each open brace, whether it is that of a module that counts.
    let mut open = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match *token {
            "{" => open.push(at > 1 && tokens[at - 2] == "mod" && tokens[at - 1] != "tests"),
            "}" => _ = open.pop(),
            "struct" | "enum" | "trait" | "type" if open.iter().all(|counts| *counts) => found.push(tokens[at + 1]),
            _ => {}
        }
    }
    found
}

/// The imports between rooms, each with the first file that has it.
fn imports(picture: &Picture) -> BTreeMap<(String, String), String> {
    let modules = modules("svid-csi");
    let mut found = BTreeMap::new();
    for (module, text) in &modules {
        let Some(room) = picture.room(module) else { continue };
        for path in named(module, text, |path| modules.contains_key(path)) {
            if let Some(other) = picture.room(&path).filter(|other| *other != room) {
                found.entry((room.clone(), other)).or_insert_with(|| module.join("/"));
            }
        }
    }
    found
}

#[test]
fn every_file_is_in_a_room() {
    let picture = Picture::read();
    let shown: Vec<_> = picture.floors.concat();
    let of_floors: BTreeSet<_> = shown.iter().collect();
    assert_eq!(of_floors.len(), shown.len(), "no room is on two floors");
    assert_eq!(of_floors, picture.imports.keys().collect(), "the rooms of the picture and of the table");
    let modules = modules("svid-csi");
    let top: BTreeSet<_> = modules.keys().filter_map(|module| module.first()).collect();
    assert_eq!(top, of_floors.iter().copied().filter(|room| !room.contains('/')).collect(), "what is in src");
    let is_loose = |room: &String| !modules.keys().any(|module| module.len() > 1 && module[0] == *room);
    let loose: Vec<_> = top.into_iter().filter(|room| is_loose(room)).collect();
    assert!(loose.len() <= MOST_LOOSE_FILES, "files that are in no room: {loose:?}");
}

#[test]
fn rooms_import_only_what_is_below_them() {
    let picture = Picture::read();
    for ((room, other), file) in imports(&picture) {
        assert!(
            picture.floor(&room) < picture.floor(&other),
            "src/{file}: `{room}` imports `{other}`, which is not below"
        );
    }
}

#[test]
fn the_imports_match_the_table() {
    let picture = Picture::read();
    let mut found: BTreeMap<_, BTreeSet<_>> =
        picture.imports.keys().map(|room| (room.clone(), BTreeSet::new())).collect();
    for (room, other) in imports(&picture).into_keys() {
        found.get_mut(&room).expect("it is in the table").insert(other);
    }
    let other: BTreeMap<_, _> = found.into_iter().filter(|(room, imports)| picture.imports[room] != *imports).collect();
    assert!(other.is_empty(), "the table of ARCHITECTURE.md is to show these imports: {other:#?}");
}

#[test]
fn a_name_stands_for_one_type() {
    let modules = modules("svid-csi");
    let mut places: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (module, text) in modules.iter().filter(|(module, _)| !module.iter().any(|name| name == "tests")) {
        for name in types(text) {
            places.entry(name).or_default().push(format!("src/{}", module.join("/")));
        }
    }
    places.retain(|_, places| places.len() > 1);
    for (name, why) in SHARED_NAMES {
        assert!(places.remove(name).is_some(), "`{name}` ({why}) is no longer shared: remove it from SHARED_NAMES");
    }
    let shared: Vec<_> = places.iter().map(|(name, places)| format!("`{name}` in {}", places.join(" and "))).collect();
    assert!(
        shared.is_empty(),
        "rename all but one of each, so that a name stands for one type:\n{}",
        shared.join("\n")
    );
}

#[test]
fn no_modules_of_core_import_each_other_in_a_circle() {
    let modules = modules("core");
    let mut imports: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (module, text) in &modules {
        let Some(top) = module.first() else { continue };
        let others = named(module, text, |path| modules.contains_key(path)).into_iter().map(|path| path[0].clone());
        imports.entry(top.as_str()).or_default().extend(others.filter(|other| other != top));
    }
    assert!(imports["volume"].contains("plan"), "{imports:#?}");
    // Modules that import none of the others are not part of a circle.
    while let Some(free) =
        imports.iter().find(|(_, others)| others.iter().all(|other| !imports.contains_key(other.as_str())))
    {
        let free = *free.0;
        imports.remove(free);
    }
    assert!(imports.is_empty(), "these import each other in a circle, or import the circle: {imports:#?}");
}

#[test]
fn the_types_of_modules_are_found() {
    let text = r##"
        pub(in crate::node) struct One<'a>(&'a str); // struct Comment
        #[serde(rename = "struct Text")]
        enum Two { A { b: u8 } }
        mod inner { pub type Three = u8; fn f() { struct InAFunction; } }
        impl Iterator for Two { type Item = u8; }
        trait Four { type Associated; }
        const FIVE: &str = "{ struct Text";
        struct Five {}
        mod tests { struct OfATest; mod inner { struct OfATest; } }
        type Six = [u8; 6];
    "##;
    assert_eq!(types(text), ["One", "Two", "Three", "Four", "Five", "Six"]);
}

#[test]
fn paths_are_read_as_the_compiler_reads_them() {
    let text = r##"
        use super::volume::{self, publish::{Brought, Given}};
        use crate::host::{clock, fsx::FsError}; // crate::no::comment
        use kube::Client;
        pub(in crate::node) fn f<'a>(of: &'a crate::net::Page, c: char) -> bool { c == '"' && bare::call("crate::no::text") }
        mod tests { use super::*; use super::super::admin; const S: &str = r#"crate::no::"raw"#; fn g() { crate::source::ask() } }
    "##;
    let module = ["node", "kubelet"].map(str::to_owned);
    let found = named(&module, text, |path| path.join("/") == "node/kubelet/bare");
    let found: Vec<_> = found.into_iter().map(|path| path.join("/")).collect();
    let expected = [
        "node/volume",
        "node/volume/self",
        "node/volume/publish",
        "node/volume/publish/Brought",
        "node/volume/publish/Given",
        "host",
        "host/clock",
        "host/fsx/FsError",
        "net/Page",
        "node/kubelet/bare/call",
        "node/kubelet/*",
        "node/admin",
        "source/ask",
    ];
    assert_eq!(found, expected);
}
