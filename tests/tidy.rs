//! The code's own rules, checked: which layer may import which, and that every module says what it is for.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The layers of `src/lib.rs`, by the first component of the module path. A layer may import its own and
/// earlier ones, and those of `beside` that its line names.
const LAYERS: &[(u8, &[&str])] = &[
    (1, &["acl", "auth", "config", "id", "journal", "path", "planted", "proto", "stats", "txn"]),
    (2, &["order", "prepare", "session", "throttle", "tree", "watch"]),
    (3, &["election", "storage", "zab"]),
    (4, &["node"]),
    (5, &["admin", "clock", "disk", "image_none", "image_rocksdb", "net", "priority"]),
    (6, &["bench", "lib", "main", "server"]),
];

/// Upward imports that are meant: what a connection or an operator's question reaches of the running server.
const MEANT: &[(&str, &str)] = &[("net", "server"), ("admin", "server")];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("src is readable") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn all_sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    sources(&root.join("src"), &mut found);
    sources(&root.join("jute/src"), &mut found);
    found.sort();
    let name = |path: &Path| path.strip_prefix(root).expect("below the root").display().to_string();
    found.iter().map(|path| (name(path), fs::read_to_string(path).expect("UTF-8"))).collect()
}

fn module(file: &str) -> &str {
    let inside = file.strip_prefix("src/").expect("a file of the server");
    inside.split(['/', '.']).next().expect("split yields one")
}

/// Up to the tests that stand in the same file: those in others are only named.
fn tested(text: &str) -> &str {
    let begins = text.match_indices("#[cfg(test)]\nmod ").map(|(at, _)| at);
    let is_whole = |at: &usize| text[*at..].lines().nth(1).is_some_and(|line| line.ends_with('{'));
    &text[..begins.into_iter().find(is_whole).unwrap_or(text.len())]
}

#[test]
fn no_layer_imports_a_later_one() {
    let layer_of: BTreeMap<&str, u8> =
        LAYERS.iter().flat_map(|(layer, modules)| modules.iter().map(move |module| (*module, *layer))).collect();
    let mut wrong = Vec::new();
    for (file, text) in all_sources().iter().filter(|(file, _)| file.starts_with("src/")) {
        let own = module(file);
        let layer = *layer_of.get(own).unwrap_or_else(|| panic!("{file}: the module {own} is in no layer"));
        for (at, line) in tested(text).lines().enumerate() {
            let line = line.split("//").next().expect("split yields one");
            for import in line.split("crate::").skip(1) {
                let imported = import.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
                let Some(other) = layer_of.get(imported) else { continue };
                if *other > layer && !MEANT.contains(&(own, imported)) {
                    wrong.push(format!("{file}:{}: {own} (layer {layer}) imports {imported} (layer {other})", at + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_says_what_it_is_for() {
    // A file that is small and private to its parent may leave the story to it.
    let short = 120;
    let silent: Vec<String> = all_sources()
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//!") && text.lines().count() > short)
        .map(|(file, _)| file)
        .collect();
    assert!(silent.is_empty(), "no header in {}", silent.join(", "));
}

#[test]
fn the_pure_layers_touch_nothing() {
    let forbidden = ["std::fs", "std::net::Tcp", "std::thread", "Instant::now", "SystemTime", "tokio", "rocksdb"];
    let pure: Vec<&str> =
        LAYERS.iter().filter(|(layer, _)| *layer <= 4).flat_map(|(_, modules)| *modules).copied().collect();
    let mut wrong = Vec::new();
    for (file, text) in
        all_sources().iter().filter(|(file, _)| file.starts_with("src/") && pure.contains(&module(file)))
    {
        for (at, line) in tested(text).lines().enumerate() {
            let line = line.split("//").next().expect("split yields one");
            for word in forbidden.iter().filter(|word| line.contains(*word)) {
                wrong.push(format!("{file}:{}: {word}", at + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
