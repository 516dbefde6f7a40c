//! Reads what the conformance program prints (CUnit's basic format).

/// Complaints kept of one test.
const WORDS_MAX: usize = 6;

/// One test as reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestLine {
    /// `Suite.Test`.
    pub name: String,
    /// It said "passed".
    pub passed: bool,
    /// Its `[SKIPPED]` reasons, without repetition.
    pub skips: Vec<String>,
    /// Its other words: what failed and where.
    pub words: Vec<String>,
}

/// A whole run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// The tests, in order.
    pub tests: Vec<TestLine>,
    /// Ran and failed counts of the summary; `None` when the program did not reach it.
    pub summary: Option<(usize, usize)>,
}

/// Suite names of `iscsi-test-cu --list` in family ALL.
pub fn parse_suites(list: &str) -> Vec<String> {
    list.lines()
        .filter_map(|line| line.trim().strip_prefix("ALL."))
        .filter(|name| !name.is_empty() && !name.contains('.'))
        .map(str::to_owned)
        .collect()
}

/// Parses the output of one run.
pub fn parse(output: &str) -> Run {
    let mut run = Run::default();
    let mut suite = "";
    let mut open = false;
    for line in output.lines() {
        if let Some(name) = line.strip_prefix("Suite: ") {
            suite = name.trim();
        } else if let Some((name, rest)) =
            line.trim_start().strip_prefix("Test: ").and_then(|rest| rest.split_once(" ..."))
        {
            let name = format!("{suite}.{}", name.trim());
            run.tests.push(TestLine { name, passed: false, skips: Vec::new(), words: Vec::new() });
            open = true;
            note(&mut run, &mut open, rest);
        } else if let Some(counts) = line.trim_start().strip_prefix("tests ") {
            let numbers: Vec<usize> =
                counts.split_whitespace().filter_map(|word| word.parse().ok()).collect();
            if let [_total, ran, _passed, failed, ..] = numbers[..] {
                run.summary = Some((ran, failed));
            }
            open = false;
        } else {
            note(&mut run, &mut open, line);
        }
    }
    run
}

/// Adds a line to the test that is open. A verdict begins its line; a verbose run may go on after it.
fn note(run: &mut Run, open: &mut bool, line: &str) {
    let Some(test) = run.tests.last_mut() else { return };
    let text = line.trim();
    if !*open {
        // CUnit numbers the failed assertions and prints them after the verdict.
        if !test.passed && text.starts_with(|first: char| first.is_ascii_digit()) {
            test.add_words(text);
        }
    } else if let Some((_, reason)) = text.split_once("[SKIPPED]") {
        let reason = reason.trim().to_owned();
        if !test.skips.contains(&reason) {
            test.skips.push(reason);
        }
    } else if text.starts_with("passed") || text.starts_with("FAILED") {
        test.passed = text.starts_with("passed");
        *open = false;
    } else if text.contains("[FAILED]") {
        // The rest of a verbose run is the story of each command.
        test.add_words(text);
    }
}

impl TestLine {
    /// Keeps the first few: a loop that fails says the same thing thousands of times.
    fn add_words(&mut self, text: &str) {
        if self.words.len() < WORDS_MAX {
            self.words.push(text.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "
Suite: Reserve6
  Test: Simple ...passed    Send PRIN/READ_KEYS
  Test: Loss ...    [SKIPPED] RESERVE6 is not implemented.
    [SKIPPED] RESERVE6 is not implemented.
passed
  Test: Bad ...    [FAILED] READ10 command failed with sense.
FAILED
    1. test_x.c:71  - CU_ASSERT_EQUAL(ret,0)

Run Summary:    Type  Total    Ran Passed Failed Inactive
              suites      1      1    n/a      0        0
               tests      3      3      2      1        0
             asserts   6859   6859   6859      0      n/a
";

    #[test]
    fn verdicts_skips_and_reasons_are_read() {
        let run = parse(OUTPUT);
        assert_eq!(run.summary, Some((3, 1)));
        let verdicts: Vec<_> = run.tests.iter().map(|test| (test.name.as_str(), test.passed)).collect();
        assert_eq!(verdicts, [("Reserve6.Simple", true), ("Reserve6.Loss", true), ("Reserve6.Bad", false)]);
        assert_eq!(run.tests[1].skips, ["RESERVE6 is not implemented."]);
        assert!(run.tests[2].words.iter().any(|word| word.contains("test_x.c:71")));
        assert!(run.tests[0].words.is_empty() && run.tests[1].words.is_empty());
    }

    #[test]
    fn a_program_that_dies_leaves_no_summary() {
        let cut = OUTPUT.split("Run Summary").next().expect("text before");
        assert_eq!(parse(cut).summary, None);
        assert_eq!(parse("").tests, []);
    }

    #[test]
    fn suites_are_the_names_with_one_dot() {
        assert_eq!(parse_suites("ALL\nALL.Read10\nALL.Read10.Simple\nSCSI.Read10\n"), ["Read10"]);
    }
}
