//! Rules over crates: what belongs to one, and how it introduces itself.

use std::collections::BTreeSet;

use crate::source::{File, Tree};

/// Files that no `mod` line, target or manifest reaches.
pub fn dead_files(tree: &Tree) -> Vec<String> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<String> =
        tree.rust().filter(|file| is_root(tree, &file.path)).map(|file| file.path.clone()).collect();
    while let Some(path) = open.pop() {
        if !reached.insert(path.clone()) {
            continue;
        }
        if let Some(file) = tree.get(&path) {
            open.extend(modules(tree, file));
        }
    }
    tree.rust()
        .filter(|file| !reached.contains(&file.path))
        .map(|file| format!("{}: no mod line reaches it", file.path))
        .collect()
}

fn is_root(tree: &Tree, path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    let (name, folders) = parts.split_last().expect("a path has a name");
    let by_convention = match folders {
        [.., "src"] => ["lib.rs", "main.rs"].contains(name),
        [.., "src", "bin"] | [.., "tests" | "benches" | "examples"] => true,
        [.., "src", "bin", _] | [.., "tests" | "benches" | "examples", _] => *name == "main.rs",
        [.., "fuzz_targets"] => true,
        _ => *name == "build.rs",
    };
    by_convention || is_named_by_manifest(tree, path)
}

/// `path = "…"` in the manifest of a folder above.
fn is_named_by_manifest(tree: &Tree, path: &str) -> bool {
    let mut folder = path;
    while let Some((above, _)) = folder.rsplit_once('/') {
        folder = above;
        let manifest = tree.get(&format!("{folder}/Cargo.toml"));
        let relative = &path[folder.len() + 1..];
        if manifest.is_some_and(|file| file.text.contains(&format!("path = \"{relative}\""))) {
            return true;
        }
    }
    false
}

/// The files that the `mod name;` lines of `file` may mean, as far as they exist.
fn modules(tree: &Tree, file: &File) -> Vec<String> {
    let (folder, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
    let stem = name.strip_suffix(".rs").unwrap_or(name);
    let beside = ["mod", "lib", "main", "build"].contains(&stem) || is_root(tree, &file.path);
    let own_folder = if beside { folder.to_owned() } else { join(folder, stem) };
    let mut found = Vec::new();
    for (number, line) in file.code.lines().enumerate() {
        let Some(module) = declared_module(line) else { continue };
        if let Some(explicit) = explicit_path(file, number) {
            found.push(join(folder, &explicit));
        }
        found.push(join(&own_folder, &format!("{module}.rs")));
        found.push(join(&own_folder, &format!("{module}/mod.rs")));
    }
    found.retain(|path| tree.get(path).is_some());
    found
}

fn join(folder: &str, rest: &str) -> String {
    if folder.is_empty() { rest.to_owned() } else { format!("{folder}/{rest}") }
}

/// The name in `mod name;`, with any visibility.
fn declared_module(line: &str) -> Option<&str> {
    let (before, name) = line.trim().strip_suffix(';')?.rsplit_once(' ')?;
    let before = before.trim_end();
    (before == "mod" || before.ends_with(" mod") || before.ends_with(")mod")).then_some(name)
}

/// The value of `#[path = "…"]` just above line `number`.
fn explicit_path(file: &File, number: usize) -> Option<String> {
    let above = file.text.lines().nth(number.checked_sub(1)?)?;
    Some(above.trim().strip_prefix("#[path = \"")?.strip_suffix("\"]")?.to_owned())
}

/// Every library says what it is, what it is not, and in which order to read it.
pub fn library_introduction(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in tree.rust().filter(|file| file.path.ends_with("src/lib.rs") && !file.path.contains("/fuzz/"))
    {
        let introduction: String = file
            .text
            .lines()
            .take_while(|line| line.starts_with("//!"))
            .collect::<Vec<_>>()
            .join("\n")
            .to_lowercase();
        for part in ["it is", "is not", "reading order"] {
            if !introduction.contains(part) {
                complaints.push(format!("{}: the introduction lacks {part:?}", file.path));
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_mod_line_is_dead() {
        let files = [
            ("a/src/lib.rs", "mod x;\npub(crate) mod y;\n#[path = \"odd/z.rs\"]\nmod z;"),
            ("a/src/x.rs", "mod deep;"),
            ("a/src/x/deep.rs", ""),
            ("a/src/y/mod.rs", ""),
            ("a/src/odd/z.rs", ""),
            ("a/src/bin/tool.rs", ""),
            ("a/tests/t.rs", ""),
        ];
        assert_eq!(dead_files(&Tree::of(&files)), Vec::<String>::new());
        let dead = Tree::of(&[files[0], ("a/src/forgotten.rs", ""), ("a/tests/deep/helper.rs", "")]);
        assert_eq!(dead_files(&dead).len(), 2);
        let commented = Tree::of(&[("a/src/lib.rs", "// mod x;"), ("a/src/x.rs", "")]);
        assert_eq!(dead_files(&commented).len(), 1);
    }

    #[test]
    fn a_library_without_an_introduction_is_seen() {
        let good = "//! X.\n//!\n//! It is: a.\n//! It is not: b.\n//!\n//! Reading order: c.\n";
        assert!(library_introduction(&Tree::of(&[("a/src/lib.rs", good)])).is_empty());
        assert_eq!(library_introduction(&Tree::of(&[("a/src/lib.rs", "//! X.\n")])).len(), 3);
    }
}
