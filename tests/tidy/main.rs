//! The house rules as a test: what a reviewer would otherwise have to say again and again.
//!
//! It is: rules over the text of the tree, each with a test that it can fail. It is not: a parser of Rust.
//! Comments and literals are masked (`source`), and the rest is matched as text (`rules`).

#![forbid(unsafe_code)]

mod crates;
mod rules;
mod source;

use std::path::Path;

use source::Tree;

/// A rule looks at the whole tree and returns its complaints.
type Rule = fn(&Tree) -> Vec<String>;

fn ensure_quiet(rule: Rule) {
    let tree = Tree::read(Path::new(env!("CARGO_MANIFEST_DIR")));
    assert!(tree.files.len() > 20, "the tree was not found");
    let complaints = rule(&tree);
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

macro_rules! tidy {
    ($($name:ident: $rule:path;)*) => {
        $(#[test]
        fn $name() {
            ensure_quiet($rule);
        })*
    };
}

tidy! {
    files_are_short: rules::file_length;
    functions_are_short: rules::function_length;
    every_unsafe_says_why_it_is_safe: rules::safety_comments;
    unsafe_stays_on_its_islands: rules::unsafe_islands;
    crates_forbid_unsafe: rules::forbid_unsafe;
    the_runtime_stays_in_control: rules::runtime_fence;
    protocols_do_no_io: rules::sans_io;
    no_leftovers: rules::leftovers;
    no_unwrap_outside_tests: rules::unwraps;
    the_project_speaks_of_itself_alone: rules::workplace_words;
    every_file_is_reachable: crates::dead_files;
    every_library_introduces_itself: crates::library_introduction;
}
