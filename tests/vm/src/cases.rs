//! The cases: shell scripts in `cases/GROUP/`, one idea each, whose file names are sentences.

use std::path::{Path, PathBuf};

use harness::failure::{Context, Outcome, ensure};

/// One case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The folder it is in.
    pub group: String,
    /// Its sentence, without the file's ending.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
}

impl Case {
    /// How reports and the guest call it.
    pub fn full_name(&self) -> String {
        format!("{}::{}", self.group, self.name)
    }

    /// Where the guest has it.
    pub fn guest_path(&self) -> String {
        format!("/vm/cases/{}/{}.sh", self.group, self.name)
    }
}

/// Every case of `group` below `folder`, in the order of their names.
pub fn find(folder: &Path, group: &str) -> Outcome<Vec<Case>> {
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(folder.join(group)).context(&format!("the cases of {group}"))? {
        let path = entry?.path();
        let (Some(stem), Some(ending)) = (path.file_stem(), path.extension()) else { continue };
        if ending == "sh" {
            cases.push(Case { group: group.to_owned(), name: stem.to_string_lossy().into_owned(), path });
        }
    }
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    ensure(!cases.is_empty(), || format!("{group} has no cases"))?;
    Ok(cases)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_says_its_idea_and_asks_for_what_it_uses() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
        for group in crate::options::GROUPS {
            for case in find(&folder, group).expect("cases") {
                let text = std::fs::read_to_string(&case.path).expect("a script");
                let mut lines = text.lines();
                let idea = lines.next().unwrap_or_default();
                assert!(idea.starts_with("# ") && idea.ends_with('.'), "{}: {idea:?}", case.full_name());
                assert!(text.contains(". /vm/lib.sh"), "{}", case.full_name());
                assert!(case.name.contains('_'), "{}: a sentence has words", case.full_name());
            }
        }
    }
}
