//! One line per check, a summary at the end, and an exit code that tells the truth.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use crate::failure::{Failure, Outcome};

/// Prints one line at once; the report is this program's product.
pub fn say(line: &str) {
    // A closed standard output must not hide the exit code.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Collects the results.
#[derive(Debug)]
pub struct Report {
    print: fn(&str),
    only: Option<String>,
    suite: &'static str,
    passed: u32,
    skipped: u32,
    failures: Vec<(String, Failure)>,
}

impl Report {
    /// A report that runs only checks whose name contains `only`.
    pub fn new(only: Option<String>) -> Self {
        Self { print: say, only, suite: "", passed: 0, skipped: 0, failures: Vec::new() }
    }

    /// Names the suite that the next checks belong to.
    pub fn suite(&mut self, name: &'static str) {
        self.suite = name;
    }

    /// True when a check of this name is to be run.
    pub fn wants(&self, name: &str) -> bool {
        let full_name = self.full_name(name);
        self.only.as_ref().is_none_or(|part| full_name.contains(part.as_str()))
    }

    fn full_name(&self, name: &str) -> String {
        format!("{}::{name}", self.suite)
    }

    /// Runs one check. A panic in it is a failure of it, not of the others.
    pub fn check(&mut self, name: &str, body: impl FnOnce() -> Outcome) {
        if self.wants(name) {
            let outcome = catch_unwind(AssertUnwindSafe(body))
                .unwrap_or_else(|_| Err(Failure::new("the check panicked; see above")));
            self.record(name, outcome);
        }
    }

    /// Names a check that cannot be run here; it counts as ignored.
    pub fn skip(&mut self, name: &str) {
        if self.wants(name) {
            self.skipped += 1;
            (self.print)(&format!("test {} ... ignored", self.full_name(name)));
        }
    }

    /// Records the result of a check that was run elsewhere.
    pub fn record(&mut self, name: &str, outcome: Outcome) {
        let full_name = self.full_name(name);
        match outcome {
            Ok(()) => {
                self.passed += 1;
                (self.print)(&format!("test {full_name} ... ok"));
            }
            Err(failure) => {
                (self.print)(&format!("test {full_name} ... FAILED\n    {failure}"));
                self.failures.push((full_name, failure));
            }
        }
    }

    /// Prints the summary; success only if something ran and nothing failed.
    pub fn finish(self) -> ExitCode {
        let failed = self.failures.len();
        if failed > 0 {
            (self.print)("\nfailures:");
        }
        for (name, failure) in &self.failures {
            // The whole story stands where it happened.
            let text = failure.to_string();
            (self.print)(&format!("    {name}: {}", text.lines().next().unwrap_or_default()));
        }
        let good = failed == 0 && self.passed > 0;
        let word = if good { "ok" } else { "FAILED" };
        let (passed, skipped) = (self.passed, self.skipped);
        (self.print)(&format!(
            "\ntest result: {word}. {passed} passed; {failed} failed; {skipped} ignored; 0 measured; 0 filtered out"
        ));
        if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::fail;

    /// These reports are about nothing, and whoever counts lines of the real one must not see them.
    fn silent(only: Option<String>) -> Report {
        Report { print: |_| {}, ..Report::new(only) }
    }

    #[test]
    fn a_failing_or_panicking_check_is_counted_and_the_next_one_runs() {
        let mut report = silent(None);
        report.check("a", || fail("on purpose"));
        report.check("b", || panic!("on purpose"));
        report.check("c", || Ok(()));
        assert_eq!((report.passed, report.failures.len()), (1, 2));
        assert_eq!(format!("{:?}", report.finish()), format!("{:?}", ExitCode::FAILURE));
    }

    #[test]
    fn a_filter_that_matches_nothing_is_not_a_success() {
        let mut report = silent(Some("nothing".into()));
        report.check("a", || Ok(()));
        assert_eq!(format!("{:?}", report.finish()), format!("{:?}", ExitCode::FAILURE));
    }
}
