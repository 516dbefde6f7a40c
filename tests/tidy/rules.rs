//! Rules over single files.

use crate::source::{File, Tree, matching};

const FILE_LINES_MAX: usize = 600;
const TEST_FILE_LINES_MAX: usize = 1000;
const FUNCTION_LINES_MAX: usize = 70;

/// The files that may hold `unsafe`.
const ISLANDS: [&str; 10] = [
    "reactor/src/ring",
    "reactor/src/memory",
    "reactor/src/buffer",
    "reactor/src/uring",
    "reactor/src/tcp/socket",
    "reactor/src/file_probe",
    "nvme/vfio/src/sys",
    "nvme/vfio/src/registers",
    "perf/fio-engine/src/ffi",
    // Stands in for the allocator, to count.
    "volume/tests/nvme_quiet",
];

/// Crates whose protocol code does no I/O and reads no clock.
const SANS_IO: [&str; 3] = ["iscsi/proto/src/", "iscsi/scsi/src/", "nvmf/proto/src/"];

/// No file grows past what a person reads at once.
pub fn file_length(tree: &Tree) -> Vec<String> {
    tree.rust()
        .filter_map(|file| {
            let lines = file.text.lines().count();
            let limit = if file.is_test() { TEST_FILE_LINES_MAX } else { FILE_LINES_MAX };
            (lines > limit).then(|| format!("{}: {lines} lines, at most {limit}", file.path))
        })
        .collect()
}

/// No function grows past a screen.
pub fn function_length(tree: &Tree) -> Vec<String> {
    tree.rust().flat_map(long_functions).collect()
}

fn long_functions(file: &File) -> Vec<String> {
    let code = file.code.as_bytes();
    let mut complaints = Vec::new();
    for (start, _) in file.code.match_indices("fn ") {
        if start > 0 && (code[start - 1].is_ascii_alphanumeric() || code[start - 1] == b'_') {
            continue;
        }
        let name: String =
            file.code[start + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let Some(body) = body_start(code, start) else { continue };
        let end = matching(code, body, b'{', b'}');
        let lines = file.code[start..end].lines().count();
        if lines > FUNCTION_LINES_MAX && !name.is_empty() {
            let line = line_of(&file.code, start);
            complaints.push(format!(
                "{}:{line}: fn {name} has {lines} lines, at most {FUNCTION_LINES_MAX}",
                file.path
            ));
        }
    }
    complaints
}

/// Where the body begins; `None` for a declaration.
fn body_start(code: &[u8], start: usize) -> Option<usize> {
    let mut depth = 0i32;
    for (position, byte) in code.iter().enumerate().skip(start) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b'{' if depth == 0 => return Some(position),
            b';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

fn line_of(text: &str, offset: usize) -> usize {
    text[..offset].matches('\n').count() + 1
}

/// Words of code, with their offsets.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let boundary = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        boundary(code[..*at].chars().next_back()) && boundary(code[at + word.len()..].chars().next())
    })
}

/// `// SAFETY:` above each unsafe block and impl, `# Safety` above each unsafe function.
pub fn safety_comments(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in tree.rust() {
        let lines: Vec<&str> = file.text.lines().collect();
        for at in words(&file.code, "unsafe") {
            let line = line_of(&file.code, at);
            let rest = file.code[at + 6..].trim_start();
            let needs_reason = rest.starts_with('{')
                || rest.starts_with("impl")
                || rest.starts_with("fn")
                || rest.starts_with("extern");
            if needs_reason && !reason_above(&lines, line) {
                complaints.push(format!("{}:{line}: unsafe without its SAFETY line", file.path));
            }
        }
    }
    complaints
}

/// Looks upwards through comments, attributes and the statement that the block stands in.
fn reason_above(lines: &[&str], line: usize) -> bool {
    let is_reason = |text: &str| text.contains("SAFETY:") || text.contains("# Safety");
    if is_reason(lines[line - 1]) {
        return true;
    }
    for text in lines[..line - 1].iter().rev().take(40) {
        let text = text.trim();
        if is_reason(text) {
            return true;
        }
        let goes_on = text.starts_with("//") || text.starts_with("#[");
        let same_statement = !text.is_empty() && !text.ends_with([';', '{', '}']);
        if !goes_on && !same_statement {
            return false;
        }
    }
    false
}

/// `unsafe` outside the islands.
pub fn unsafe_islands(tree: &Tree) -> Vec<String> {
    tree.rust()
        .filter(|file| !ISLANDS.iter().any(|island| file.path.starts_with(island)))
        .flat_map(|file| {
            words(&file.code, "unsafe")
                .map(|at| format!("{}:{}: unsafe outside the islands", file.path, line_of(&file.code, at)))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Every crate root but those of reactor, vfio, and fio's engine, which fio calls over a C interface, forbids unsafe code.
pub fn forbid_unsafe(tree: &Tree) -> Vec<String> {
    let roots = ["/src/lib.rs", "/src/main.rs"];
    tree.rust()
        .filter(|file| {
            roots.iter().any(|root| format!("/{}", file.path).ends_with(root)) || is_other_root(&file.path)
        })
        .filter(|file| {
            !["reactor/", "nvme/vfio/", "perf/fio-engine/"].iter().any(|island| file.path.starts_with(island))
        })
        .filter(|file| !file.code.contains("#![forbid(unsafe_code)]"))
        .map(|file| format!("{}: no #![forbid(unsafe_code)]", file.path))
        .collect()
}

fn is_other_root(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    matches!(parts[..], [.., "src", "bin", _] | [.., "src", "bin", _, "main.rs"])
}

/// The asynchronous runtime lives in `control` and nowhere else.
pub fn runtime_fence(tree: &Tree) -> Vec<String> {
    const RUNTIME: [&str; 7] = ["tokio", "axum", "hyper", "tower", "reqwest", "async-std", "smol"];
    let mut complaints = Vec::new();
    for file in &tree.files {
        if file.path.starts_with("control/") || file.path == "Cargo.lock" {
            continue;
        }
        if file.path.ends_with("Cargo.toml") {
            complaints.extend(manifest_dependencies(&file.text).into_iter().filter_map(|(line, name)| {
                RUNTIME
                    .iter()
                    .any(|word| name == *word || name.starts_with(&format!("{word}-")))
                    .then(|| format!("{}:{line}: {name} outside control", file.path))
            }));
        } else if file.path.ends_with(".rs") {
            for word in RUNTIME.map(|word| word.replace('-', "_")) {
                complaints.extend(
                    words(&file.code, &word).filter(|at| file.code[at + word.len()..].starts_with("::")).map(
                        |at| format!("{}:{}: {word} outside control", file.path, line_of(&file.code, at)),
                    ),
                );
            }
        }
    }
    complaints
}

/// Names in the dependency tables of a manifest, except the shared table of the workspace.
fn manifest_dependencies(text: &str) -> Vec<(usize, String)> {
    let mut in_table = false;
    let mut names = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            in_table = line.contains("dependencies") && !line.contains("workspace.dependencies");
        } else if in_table && !line.starts_with('#') && line.contains('=') {
            let name = line.split(['=', '.', ' ']).next().unwrap_or_default().trim().to_owned();
            names.push((index + 1, name));
        }
    }
    names
}

/// Protocol code has no socket, clock, thread, randomness or unordered iteration inside.
pub fn sans_io(tree: &Tree) -> Vec<String> {
    // Addresses are values; sockets are not.
    const FORBIDDEN: [&str; 13] = [
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "UnixStream",
        "std::time::Instant",
        "Instant::now",
        "SystemTime",
        "std::thread",
        "std::fs",
        "getrandom",
        "reactor::",
        "HashMap",
        "HashSet",
    ];
    let mut complaints = Vec::new();
    for file in tree.rust().filter(|file| SANS_IO.iter().any(|folder| file.path.starts_with(folder))) {
        let product = file.product_code();
        for word in FORBIDDEN {
            for (at, _) in product.match_indices(word) {
                let allowed = word == "reactor::"
                    && file.path.starts_with("iscsi/scsi/")
                    && product[at..].starts_with("reactor::buffer");
                if !allowed {
                    let line = line_of(&product, at);
                    complaints.push(format!("{}:{line}: {word} in protocol code", file.path));
                }
            }
        }
    }
    complaints
}

/// Left-over debugging and unfinished work.
pub fn leftovers(tree: &Tree) -> Vec<String> {
    let macros = ["todo!", "dbg!", "unimplemented!"];
    let marks = [["TO", "DO"], ["FIX", "ME"], ["XX", "X"]].map(|parts| parts.concat());
    let mut complaints = Vec::new();
    for file in &tree.files {
        for word in macros {
            for (at, _) in file.code.match_indices(word) {
                complaints.push(format!("{}:{}: {word}", file.path, line_of(&file.code, at)));
            }
        }
        for mark in &marks {
            complaints.extend(
                words(&file.text, mark)
                    .map(|at| format!("{}:{}: {mark}", file.path, line_of(&file.text, at))),
            );
        }
    }
    complaints
}

/// `unwrap` hides whether the peer or we were wrong.
pub fn unwraps(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in tree.rust() {
        let product = file.product_code();
        for (at, _) in product.match_indices(".unwrap()") {
            complaints.push(format!("{}:{}: unwrap() outside tests", file.path, line_of(&product, at)));
        }
    }
    complaints
}

/// Nothing in the tree speaks of the place or the way it was made.
pub fn workplace_words(tree: &Tree) -> Vec<String> {
    // In pieces, so that this file does not contain them.
    let words = [
        ["/wo", "rk/"],
        ["/tmp", "/t/"],
        ["/tmp", "/brief"],
        ["crates", ".io"],
        ["pypi", ".org"],
        ["deb.deb", "ian.org"],
        ["proxy.go", "lang.org"],
        ["issue", " #"],
        ["pull request", " #"],
        ["the le", "ad's"],
        ["artif", "actory"],
    ]
    .map(|parts| parts.concat());
    let mut complaints = Vec::new();
    for file in tree.files.iter().filter(|file| !file.path.ends_with("Cargo.lock")) {
        for word in &words {
            complaints.extend(
                file.text
                    .match_indices(word.as_str())
                    .map(|(at, _)| format!("{}:{}: {word:?}", file.path, line_of(&file.text, at))),
            );
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complains(rule: fn(&Tree) -> Vec<String>, path: &str, text: &str) -> bool {
        !rule(&Tree::of(&[(path, text)])).is_empty()
    }

    #[test]
    fn long_files_and_functions_are_seen() {
        assert!(complains(file_length, "a/src/x.rs", &"\n".repeat(601)));
        assert!(!complains(file_length, "a/tests/x.rs", &"\n".repeat(601)));
        assert!(complains(file_length, "a/tests/x.rs", &"\n".repeat(1001)));
        let function = |lines: usize| format!("pub fn f(a: [u8; 3]) {{\n{}}}\n", "    a;\n".repeat(lines));
        assert!(complains(function_length, "a/src/x.rs", &function(69)));
        assert!(!complains(function_length, "a/src/x.rs", &function(68)));
    }

    #[test]
    fn unsafe_needs_a_reason_and_an_island() {
        let bare = "fn f() {\n    unsafe { g() }\n}\n";
        let argued = "fn f() {\n    // SAFETY: g has no demands.\n    unsafe { g() }\n}\n";
        assert!(complains(safety_comments, "reactor/src/ring.rs", bare));
        assert!(!complains(safety_comments, "reactor/src/ring.rs", argued));
        assert!(!complains(unsafe_islands, "reactor/src/ring/spsc.rs", argued));
        assert!(complains(unsafe_islands, "volume/src/lib.rs", argued));
        assert!(!complains(unsafe_islands, "volume/src/lib.rs", "// unsafe\n#![forbid(unsafe_code)]"));
        assert!(complains(forbid_unsafe, "volume/src/lib.rs", "mod a;"));
        assert!(complains(forbid_unsafe, "perf/src/bin/x.rs", "fn main() {}"));
        assert!(!complains(forbid_unsafe, "volume/src/lib.rs", "#![forbid(unsafe_code)]"));
    }

    #[test]
    fn the_runtime_is_fenced_in() {
        assert!(complains(runtime_fence, "volume/Cargo.toml", "[dependencies]\ntokio.workspace = true\n"));
        assert!(complains(runtime_fence, "volume/Cargo.toml", "[dev-dependencies]\nhyper-util = \"1\"\n"));
        assert!(complains(runtime_fence, "volume/src/a.rs", "use tokio::net;"));
        assert!(!complains(runtime_fence, "control/src/a.rs", "use tokio::net;"));
        assert!(!complains(runtime_fence, "Cargo.toml", "[workspace.dependencies]\ntokio = \"1\"\n"));
    }

    #[test]
    fn protocols_are_kept_pure() {
        for bad in
            ["use std::net::TcpStream;", "let t = Instant::now();", "use reactor::time;", "HashMap::new()"]
        {
            assert!(complains(sans_io, "iscsi/proto/src/a.rs", bad), "{bad}");
        }
        assert!(complains(sans_io, "iscsi/proto/src/a.rs", "use reactor::buffer::Sgl;"));
        assert!(!complains(sans_io, "iscsi/scsi/src/a.rs", "use reactor::buffer::Sgl;"));
        assert!(!complains(sans_io, "iscsi/proto/src/a.rs", "#[cfg(test)]\nmod tests { use std::net::X; }"));
    }

    #[test]
    fn leftovers_unwraps_and_words_are_seen() {
        assert!(complains(leftovers, "a/src/a.rs", "fn f() { todo!() }"));
        assert!(complains(leftovers, "a/README.md", &["TO", "DO: later"].concat()));
        assert!(complains(unwraps, "a/src/a.rs", "fn f() { x.unwrap(); }"));
        assert!(!complains(unwraps, "a/src/a.rs", "#[test]\nfn f() { x.unwrap(); }"));
        assert!(complains(workplace_words, "a/README.md", &["see /wo", "rk/main"].concat()));
    }
}
