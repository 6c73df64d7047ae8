//! The command line of a benchmark.

use std::env;

/// Options of ours and of criterion's that a value follows, which is no case's name.
const WITH_VALUE: [&str; 10] = [
    "--out",
    "--save-baseline",
    "--baseline",
    "--baseline-lenient",
    "--load-baseline",
    "--sample-size",
    "--warm-up-time",
    "--measurement-time",
    "--profile-time",
    "--color",
];

/// What stands after `--` in `cargo bench -p aircheck-benches --bench throughput -- disruptor --quick`.
///
/// All benchmarks read it in the same way: the first word that is no option is a part of the names of the cases to run.
#[derive(Clone, Debug)]
pub struct Arguments {
    words: Vec<String>,
}

impl Arguments {
    /// Reads the command line of this process. Where it asks for a short run, stderr says what that is worth.
    #[must_use]
    pub fn read() -> Self {
        let arguments = Self { words: env::args().skip(1).collect() };
        if arguments.is_quick() {
            eprintln!("a short run: its figures and verdicts mean nothing");
        }
        arguments
    }

    /// Returns whether each case is only run briefly, so that its figures mean nothing: with `--quick` or `--test`, and
    /// without `--bench`, which `cargo bench` adds and `cargo test --benches` does not. criterion has the same rule.
    #[must_use]
    pub fn is_quick(&self) -> bool {
        let has = |option: &str| self.words.iter().any(|word| word == option);
        has("--quick") || has("--test") || !has("--bench")
    }

    /// Returns the word after an option.
    #[must_use]
    pub fn value(&self, option: &str) -> Option<&str> {
        let at = self.words.iter().position(|word| word == option)?;
        self.words.get(at + 1).map(String::as_str)
    }

    /// Returns whether a case is to run: all do, unless the command line has a part of a name that is not in this one.
    #[must_use]
    pub fn wants(&self, case: &str) -> bool {
        self.name().is_none_or(|name| case.contains(name))
    }

    /// Returns the cases to run. Where there are none, says on stderr which names there are.
    pub fn choose<Case>(&self, cases: impl IntoIterator<Item = Case>, name: impl Fn(&Case) -> String) -> Vec<Case> {
        let mut names = Vec::new();
        let mut chosen = Vec::new();
        for case in cases {
            names.push(name(&case));
            if names.last().is_some_and(|name| self.wants(name)) {
                chosen.push(case);
            }
        }
        if let (true, Some(name)) = (chosen.is_empty(), self.name()) {
            eprintln!("no case has `{name}` in its name: there are {}", names.join(", "));
        }
        chosen
    }

    fn name(&self) -> Option<&str> {
        let follows_option = |at: usize| at > 0 && WITH_VALUE.contains(&self.words[at - 1].as_str());
        let is_name = |at: &usize| !self.words[*at].starts_with('-') && !follows_option(*at);
        (0..self.words.len()).find(is_name).map(|at| self.words[at].as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &str) -> Arguments {
        Arguments { words: line.split_whitespace().map(str::to_owned).collect() }
    }

    #[test]
    fn a_name_chooses_the_cases_that_contain_it() {
        let cases = ["one by one/4/disruptor", "by 8/4/disruptor", "by 8/4/bus"];
        let chosen = |line| arguments(line).choose(cases, |case| (*case).to_owned());
        assert_eq!(chosen("--bench"), cases);
        assert_eq!(chosen("--bench disruptor"), cases[..2]);
        assert_eq!(chosen("bus --bench"), cases[2..]);
        assert_eq!(chosen("--bench nothing"), [""; 0]);
    }

    #[test]
    fn the_value_of_an_option_is_no_name() {
        let line = arguments("--bench --out disruptor --save-baseline before");
        assert!(line.wants("bus"));
        assert_eq!(line.value("--out"), Some("disruptor"));
        assert_eq!(line.value("--none"), None);
    }

    #[test]
    fn a_run_is_quick_unless_cargo_bench_starts_it() {
        assert!(!arguments("--bench").is_quick());
        assert!(arguments("").is_quick());
        assert!(arguments("--bench --quick").is_quick());
        assert!(arguments("--bench --test").is_quick());
    }
}
