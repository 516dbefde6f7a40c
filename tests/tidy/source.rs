//! The tree as text: files, and for Rust files a copy in which comments and literals are blank.

use std::path::Path;

/// One text file.
#[derive(Clone, Debug)]
pub struct File {
    /// Path from the root of the tree, with `/`.
    pub path: String,
    /// Everything.
    pub text: String,
    /// For Rust: the same, with comments and literals replaced by spaces. Line breaks stay.
    pub code: String,
}

/// All files that the rules look at.
#[derive(Clone, Debug)]
pub struct Tree {
    /// In path order.
    pub files: Vec<File>,
}

const SKIPPED_FOLDERS: [&str; 8] =
    [".git", ".cache", "target", "vega-data", "corpus", "artifacts", "results", "__pycache__"];
const EXTENSIONS: [&str; 8] = ["rs", "toml", "md", "sh", "py", "txt", "json", "yaml"];
const BARE_NAMES: [&str; 3] = ["Makefile", "run", "Dockerfile"];

impl Tree {
    /// Reads the tree below `root`.
    pub fn read(root: &Path) -> Self {
        let mut files = Vec::new();
        collect(root, root, &mut files);
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Self { files }
    }

    /// A tree for a test of a rule.
    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Self {
        Self {
            files: files
                .iter()
                .map(|(path, text)| File::new((*path).to_owned(), (*text).to_owned()))
                .collect(),
        }
    }

    /// The Rust files.
    pub fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.path.ends_with(".rs"))
    }

    /// The file at `path`.
    pub fn get(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<File>) {
    let entries = std::fs::read_dir(folder).expect("the tree is readable");
    for entry in entries {
        let entry = entry.expect("the tree is readable");
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        if path.is_dir() {
            if !SKIPPED_FOLDERS.contains(&name.as_str()) {
                collect(root, &path, files);
            }
            continue;
        }
        let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
        if !EXTENSIONS.contains(&extension) && !BARE_NAMES.contains(&name.as_str()) {
            continue;
        }
        // A file that vanishes meanwhile or is no text is none of the rules' business.
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let relative = path.strip_prefix(root).expect("below the root");
        files.push(File::new(relative.to_string_lossy().replace('\\', "/"), text));
    }
}

impl File {
    fn new(path: String, text: String) -> Self {
        let code = if path.ends_with(".rs") { mask(&text) } else { String::new() };
        Self { path, text, code }
    }

    /// The whole file is test code.
    pub fn is_test(&self) -> bool {
        let parts: Vec<&str> = self.path.split('/').collect();
        let name = parts.last().copied().unwrap_or_default();
        parts[..parts.len() - 1].iter().any(|part| ["tests", "benches"].contains(part))
            || ["tests.rs", "testing.rs"].contains(&name)
            || name.ends_with("_tests.rs")
    }

    /// `code` with everything under `#[cfg(test)]` and `#[test]` blank as well.
    pub fn product_code(&self) -> String {
        if self.is_test() {
            return String::new();
        }
        let mut code = self.code.clone().into_bytes();
        for marker in ["#[cfg(test)]", "#[cfg(any(test", "#[cfg(all(test", "#[test]"] {
            let mut from = 0;
            while let Some(found) = find(&code, marker, from) {
                let end = item_end(&code, found);
                for byte in &mut code[found..end] {
                    if *byte != b'\n' {
                        *byte = b' ';
                    }
                }
                from = end.max(found + 1);
            }
        }
        String::from_utf8_lossy(&code).into_owned()
    }
}

fn find(code: &[u8], needle: &str, from: usize) -> Option<usize> {
    code.get(from..)?.windows(needle.len()).position(|window| window == needle.as_bytes()).map(|at| from + at)
}

/// The end of the item that an attribute at `start` belongs to: its `;` or its closing brace.
fn item_end(code: &[u8], start: usize) -> usize {
    let mut position = start;
    // Past this and any further attributes.
    loop {
        while code.get(position).is_some_and(u8::is_ascii_whitespace) {
            position += 1;
        }
        if code.get(position) != Some(&b'#') {
            break;
        }
        position = matching(code, position, b'[', b']');
    }
    while position < code.len() {
        match code[position] {
            b';' => return position + 1,
            b'{' => return matching(code, position, b'{', b'}'),
            _ => position += 1,
        }
    }
    code.len()
}

/// One past the bracket that closes the first `open` at or after `start`.
pub fn matching(code: &[u8], start: usize, open: u8, close: u8) -> usize {
    let mut depth = 0usize;
    for (position, byte) in code.iter().enumerate().skip(start) {
        if *byte == open {
            depth += 1;
        } else if *byte == close {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                return position + 1;
            }
        }
    }
    code.len()
}

/// Replaces comments and the inside of literals by spaces.
pub fn mask(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut position = 0;
    while position < bytes.len() {
        let end = match bytes[position] {
            b'/' if bytes.get(position + 1) == Some(&b'/') => line_end(bytes, position),
            b'/' if bytes.get(position + 1) == Some(&b'*') => block_comment_end(bytes, position),
            b'"' => string_end(bytes, position),
            b'r' if !is_word_before(bytes, position) => match raw_string_end(bytes, position) {
                Some(end) => end,
                None => position,
            },
            b'\'' => char_end(bytes, position),
            _ => position,
        };
        for byte in &mut out[position..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        position = end.max(position + 1);
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn is_word_before(bytes: &[u8], position: usize) -> bool {
    let before = position.checked_sub(1).map(|at| bytes[at]);
    // `br"…"` is a raw string as well.
    before.is_some_and(|byte| (byte.is_ascii_alphanumeric() && byte != b'b') || byte == b'_')
}

fn line_end(bytes: &[u8], start: usize) -> usize {
    bytes[start..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| start + at)
}

fn block_comment_end(bytes: &[u8], start: usize) -> usize {
    let mut depth = 0;
    let mut position = start;
    while position < bytes.len() {
        match &bytes[position..(position + 2).min(bytes.len())] {
            b"/*" => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                position += 1;
                continue;
            }
        }
        position += 2;
        if depth == 0 {
            return position;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut position = start + 1;
    while position < bytes.len() {
        match bytes[position] {
            b'\\' => position += 2,
            b'"' => return position + 1,
            _ => position += 1,
        }
    }
    bytes.len()
}

fn raw_string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let hashes = bytes[start + 1..].iter().take_while(|byte| **byte == b'#').count();
    if bytes.get(start + 1 + hashes) != Some(&b'"') {
        return None;
    }
    let closing = ["\"", &"#".repeat(hashes)].concat();
    Some(find(bytes, &closing, start + 2 + hashes).map_or(bytes.len(), |at| at + closing.len()))
}

/// A character literal ends at its quote; a lifetime is left alone.
fn char_end(bytes: &[u8], start: usize) -> usize {
    match bytes.get(start + 1) {
        Some(b'\\') => find(bytes, "'", start + 3).map_or(bytes.len(), |at| at + 1),
        Some(_) => {
            let window = &bytes[start + 1..bytes.len().min(start + 6)];
            let quote = window.iter().position(|byte| *byte == b'\'');
            let one_character = |length: usize| {
                std::str::from_utf8(&window[..length]).is_ok_and(|text| text.chars().count() == 1)
            };
            quote.filter(|length| one_character(*length)).map_or(start, |length| start + length + 2)
        }
        None => start,
    }
}

#[test]
fn comments_and_literals_are_blank_and_code_stays() {
    let masked = mask(
        "let a = \"unsafe {\"; // unsafe\nlet b = '\\''; /* x /* y */ */ let c: &'static str = r#\"un\"safe\"#;",
    );
    assert!(!masked.contains("unsafe") && !masked.contains("un\"safe"));
    for kept in ["let a =", "let b =", "let c: &'static str ="] {
        assert!(masked.contains(kept), "{masked}");
    }
}

#[test]
fn test_code_is_not_product_code() {
    let file = File::new(
        "a/src/x.rs".into(),
        "fn a() {}\n#[cfg(test)]\n#[allow(x)]\nmod tests {\n fn b() {} }\nfn c() {}\n".into(),
    );
    let product = file.product_code();
    assert!(product.contains("fn a") && product.contains("fn c") && !product.contains("fn b"));
}
