//! The options that apply to each source of invocations. One that does not is refused: an option that was typed and then
//! ignored would make a run another one than its user believes.

use anyhow::anyhow;
use clap::{ArgMatches, parser::ValueSource};
use terminal::UsageError;
use trace::{
    Arrivals,
    formats::{AUTO, TraceKind},
};

use crate::source::trace_kind;

/// The source of invocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// `--trace` with a directory: counts per minute.
    Trace,
    /// `--trace` with a file: each call with its start.
    Exact,
    /// `--synthetic`, and when nothing else is given.
    Synthetic,
    /// `--schedule`.
    Schedule,
    /// `--rate`.
    Rate,
}

use Source::{Exact, Rate, Schedule, Synthetic, Trace};

impl Source {
    fn of(matches: &ArgMatches) -> Self {
        let given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
        let trace = matches.try_get_one::<std::path::PathBuf>("trace").ok().flatten().map(|path| path.as_path());
        if given("schedule") {
            Self::Schedule
        } else if given("rate") {
            Self::Rate
        } else {
            let format = matches.try_get_one::<String>("trace_format").ok().flatten().map_or(AUTO, String::as_str);
            match trace.map(|path| trace_kind(format, path)) {
                Some(TraceKind::Calls) => Self::Exact,
                Some(TraceKind::Counts) => Self::Trace,
                None => Self::Synthetic,
            }
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Trace => "--trace with a directory",
            Self::Exact => "--trace with a file of exact calls",
            Self::Synthetic => "--synthetic",
            Self::Schedule => "--schedule",
            Self::Rate => "--rate",
        }
    }
}

/// One option: where it applies, and what does instead where that exists.
struct Rule {
    /// Its id: its name with underscores.
    option: &'static str,
    sources: &'static [Source],
    instead: &'static [(Source, &'static str)],
}

const fn rule(option: &'static str, sources: &'static [Source], instead: &'static [(Source, &'static str)]) -> Rule {
    Rule { option, sources, instead }
}

const WINDOW: &[Source] = &[Trace, Exact, Synthetic];
const COUNTS: &[Source] = &[Trace, Synthetic];

/// Every option of a source.
const RULES: [Rule; 23] = [
    rule("trace_format", &[Trace, Exact], &[]),
    rule("start_minute", WINDOW, &[]),
    rule("minutes", WINDOW, &[(Rate, "--duration")]),
    rule("functions", COUNTS, &[(Rate, "--warm-functions")]),
    rule("max_cores", COUNTS, &[]),
    rule("missing", &[Trace], &[]),
    rule("duplicates", &[Trace], &[]),
    rule("day", &[Trace], &[(Exact, "--start-minute")]),
    rule("seed", &[Trace, Synthetic, Rate], &[]),
    rule("arrivals", &[Trace, Synthetic, Rate], &[]),
    rule("warmup", &[Trace, Exact, Synthetic, Schedule, Rate], &[]),
    rule("min_run", WINDOW, &[(Rate, "--run")]),
    rule("max_run", WINDOW, &[(Rate, "--run")]),
    rule("minute", WINDOW, &[(Rate, "--rate itself")]),
    rule("include_idle", COUNTS, &[(Rate, "--warm-functions")]),
    rule("duration", &[Rate], &[(Trace, "--minutes"), (Exact, "--minutes"), (Synthetic, "--minutes")]),
    rule("burst", &[Rate], &[(Trace, "--arrivals bursty"), (Synthetic, "--arrivals bursty")]),
    rule("cold", &[Rate], &[]),
    rule("cooldown", &[Rate], &[]),
    rule("warm_functions", &[Rate], &[(Trace, "--functions"), (Synthetic, "--functions")]),
    rule("run", &[Rate], &[(Trace, "--max-run"), (Exact, "--max-run"), (Synthetic, "--max-run")]),
    rule("memory", &[Rate], &[]),
    rule("name_prefix", &[Rate], &[]),
];

/// Options of invocations, which a command that only makes a trace has no use for.
const OF_INVOCATIONS: [&str; 3] = ["arrivals", "warmup", "include_idle"];

/// Decides how many cores a function needs, and with that which ones a sample has; of a trace that is made it changes
/// nothing else.
const OF_CORES: &str = "minute";

/// Options that mean nothing without another one, which the error names only if the first applies.
const NEEDED: [(&str, &str); 3] = [("max_cores", "functions"), ("cold", "cooldown"), ("cooldown", "cold")];

/// Refuses what was typed and does not apply to the source, or to a command that makes a trace.
///
/// # Errors
/// [`UsageError`] that names the option, where it applies, and the one that would do.
pub(crate) fn check(command: &str, matches: &ArgMatches) -> anyhow::Result<()> {
    // Commands without a source have none of its options.
    if matches.try_contains_id("synthetic").is_err() {
        return Ok(());
    }
    let source = Source::of(matches);
    if matches!(command, "synth" | "sample") && !COUNTS.contains(&source) {
        let problem = format!(
            "{} does not apply to `loadgen {command}`, which takes counts per minute: --trace with a directory, or --synthetic",
            source.name()
        );
        return Err(UsageError::of(anyhow!(problem)));
    }
    let given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    for rule in RULES.iter().filter(|rule| given(rule.option)) {
        if !rule.sources.contains(&source) {
            return Err(UsageError::of(anyhow!("{}", rule.refusal(source))));
        }
        if matches!(command, "synth" | "sample") && OF_INVOCATIONS.contains(&rule.option) {
            let problem = format!("{} applies to invocations: give it to `loadgen schedule` or `run`", rule.flag());
            return Err(UsageError::of(anyhow!(problem)));
        }
        let is_sampled = given("functions") && (source == Trace || given("max_cores"));
        if let Some(problem) = seedless(command, source, matches).filter(|_| rule.option == "seed") {
            return Err(UsageError::of(anyhow!(problem)));
        }
        if command == "synth" && rule.option == OF_CORES && !is_sampled {
            let problem =
                format!("{} applies to samples: --functions with --max-cores, or of a --trace directory", rule.flag());
            return Err(UsageError::of(anyhow!(problem)));
        }
        // What is shown is counted by the minute, and not by phase.
        let is_unseen = rule.option == "warmup" || (rule.option == "arrivals" && COUNTS.contains(&source));
        if command == "inspect" && is_unseen {
            let problem = format!(
                "{} changes nothing that `loadgen inspect` shows: give it to `loadgen schedule` or `run`",
                rule.flag()
            );
            return Err(UsageError::of(anyhow!(problem)));
        }
    }
    if let Some((option, needed)) = NEEDED.into_iter().find(|(option, needed)| given(option) && !given(needed)) {
        return Err(UsageError::of(anyhow!("{} needs {} too", flag(option), flag(needed))));
    }
    if command == "sample" && !given("functions") {
        return Err(UsageError::of(anyhow!("--functions is needed: how many functions the sample is to have")));
    }
    Ok(())
}

/// The reason why a seed changes nothing, if nothing is drawn.
fn seedless(command: &str, source: Source, matches: &ArgMatches) -> Option<&'static str> {
    let arrivals = matches.try_get_one::<Arrivals>("arrivals").ok().flatten();
    if source == Rate && arrivals != Some(&Arrivals::Exponential) {
        Some("--seed applies with --arrivals exponential: of calls at equal gaps nothing is drawn")
    } else if command == "synth" && source == Trace && !matches.contains_id("functions") {
        Some("--seed applies with --functions: of a whole --trace nothing is drawn")
    } else {
        None
    }
}

/// Returns true if a command that makes a trace has no use for an option.
pub(crate) fn is_of_invocations(option: &str) -> bool {
    let rule = RULES.iter().find(|rule| rule.option == option);
    let never = rule.is_some_and(|rule| !rule.sources.iter().any(|source| COUNTS.contains(source)));
    never || ["schedule", "rate"].contains(&option) || OF_INVOCATIONS.contains(&option)
}

/// An option as it is typed.
fn flag(option: &str) -> String {
    format!("--{}", option.replace('_', "-"))
}

impl Rule {
    fn flag(&self) -> String {
        flag(self.option)
    }

    fn refusal(&self, source: Source) -> String {
        let applies: Vec<&str> = self.sources.iter().map(|source| source.name()).collect();
        let instead = self.instead.iter().find(|(with, _)| *with == source);
        let instead = instead.map_or_else(String::new, |(_, option)| format!("; here it is {option} that does"));
        format!("{} does not apply to {}, only to {}{instead}", self.flag(), source.name(), applies.join(" and "))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    /// A value for each option, and the sources that accept it, by the first letters of their names: Trace,
    /// eXact, sYnthetic, Schedule, Rate.
    const EXPECTED: [(&str, &str, &str); 23] = [
        ("trace-format", "auto", "TX"),
        ("start-minute", "1", "TXY"),
        ("minutes", "1", "TXY"),
        ("functions", "1", "TY"),
        ("max-cores", "1", "TY"),
        ("missing", "drop", "T"),
        ("duplicates", "merge", "T"),
        ("day", "1", "T"),
        ("seed", "1", "TYR"),
        ("arrivals", "exponential", "TYR"),
        ("warmup", "1s", "TXYSR"),
        ("min-run", "1ms", "TXY"),
        ("max-run", "1s", "TXY"),
        ("minute", "1s", "TXY"),
        ("include-idle", "", "TY"),
        ("duration", "1s", "R"),
        ("burst", "2", "R"),
        ("cold", "", "R"),
        ("cooldown", "1s", "R"),
        ("warm-functions", "2", "R"),
        ("run", "1ms", "R"),
        ("memory", "1", "R"),
        ("name-prefix", "x", "R"),
    ];

    fn refusal(typed: &str) -> Option<String> {
        let matches = Cli::command().try_get_matches_from(typed.split_whitespace()).unwrap_or_else(|error| {
            panic!("{typed}: {error}");
        });
        let (command, matches) = matches.subcommand().unwrap();
        check(command, matches).err().map(|error| error.to_string())
    }

    #[test]
    fn each_option_applies_to_its_sources_and_is_refused_with_every_other() {
        let (file, directory) = (tempfile::NamedTempFile::new().unwrap(), tempfile::tempdir().unwrap());
        let (file, directory) = (file.path().display().to_string(), directory.path().display().to_string());
        let sources = [
            ('T', format!("--trace {directory}")),
            ('X', format!("--trace {file}")),
            ('Y', "--synthetic azure".to_owned()),
            ('S', format!("--schedule {file}")),
            ('R', "--rate 5 --duration 1s".to_owned()),
        ];
        for (option, value, applies) in EXPECTED {
            for (letter, source) in &sources {
                // What the option itself needs comes with it.
                let needed = match option {
                    "max-cores" => "--functions 1",
                    "cold" => "--cooldown 1s",
                    "cooldown" => "--cold",
                    "seed" => "--arrivals exponential",
                    _ => "",
                };
                let source = if option == "duration" { source.replace("--duration 1s", "") } else { source.clone() };
                let typed = format!("loadgen schedule --out x {source} --{option} {value} {needed}");
                let refused = refusal(&typed);
                assert_eq!(refused.is_none(), applies.contains(*letter), "{typed}: {refused:?}");
                if let Some(text) = refused {
                    assert!(text.starts_with("--") && text.contains("does not apply to"), "{typed}: {text}");
                }
            }
        }
        let text = refusal("loadgen schedule --out x --rate 5 --duration 1s --minutes 3").unwrap();
        assert_eq!(
            text,
            "--minutes does not apply to --rate, only to --trace with a directory and --trace with a file of exact calls \
             and --synthetic; here it is --duration that does"
        );
    }

    #[test]
    fn what_changes_nothing_of_a_commands_result_is_refused() {
        let synth = "loadgen synth --out x --synthetic azure";
        let refused = refusal(&format!("{synth} --minute 10s")).unwrap_or_default();
        assert!(refused.contains("applies to samples: --functions with --max-cores"), "{refused:?}");
        assert_eq!(refusal(&format!("{synth} --minute 10s --functions 5 --max-cores 1")), None);
        assert_eq!(refusal(&format!("{synth} --min-run 2ms --max-run 1s")), None, "the trace has them");
        for option in ["--warmup 1m", "--arrivals bursty"] {
            let refused = refusal(&format!("loadgen inspect --synthetic azure {option}")).unwrap_or_default();
            assert!(refused.contains("changes nothing that `loadgen inspect` shows"), "{option}: {refused:?}");
        }
        let rate = "loadgen inspect --rate 5 --duration 1s --arrivals exponential";
        assert_eq!(refusal(rate), None, "there the minutes differ");
    }

    #[test]
    fn a_seed_is_refused_where_nothing_is_drawn() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().display();
        let (rate, trace) = ("schedule --out x --rate 5 --duration 1s".to_owned(), format!("--trace {directory}"));
        for (typed, expected) in [
            (rate.clone(), Some("--seed applies with --arrivals exponential: of calls at equal gaps nothing is drawn")),
            (format!("{rate} --arrivals equidistant"), Some("--seed applies with --arrivals exponential: ")),
            (format!("{rate} --arrivals exponential"), None),
            (
                format!("synth --out x {trace}"),
                Some("--seed applies with --functions: of a whole --trace nothing is drawn"),
            ),
            (format!("synth --out x {trace} --functions 5"), None),
            ("synth --out x --synthetic azure".to_owned(), None),
            (format!("schedule --out x {trace}"), None),
        ] {
            let refused = refusal(&format!("loadgen {typed} --seed 7"));
            let is_so = refused.as_deref().map(|text| expected.is_some_and(|expected| text.starts_with(expected)));
            assert_eq!(is_so, expected.map(|_| true), "{typed}: expected {expected:?}: {refused:?}");
            assert_eq!(refusal(&format!("loadgen {typed}")), None, "{typed}");
        }
    }

    #[test]
    fn an_option_that_needs_another_says_so_only_where_it_applies() {
        let schedule = "loadgen schedule --out x";
        for (typed, expected) in [
            ("--rate 5 --duration 1s --cold", "--cold needs --cooldown too"),
            ("--rate 5 --duration 1s --cooldown 1s", "--cooldown needs --cold too"),
            ("--synthetic --max-cores 1", "--max-cores needs --functions too"),
            ("--synthetic --cold", "--cold does not apply to --synthetic, only to --rate"),
            ("--synthetic --cooldown 1s", "--cooldown does not apply to --synthetic, only to --rate"),
            ("--rate 5 --duration 1s --max-cores 1", "--max-cores does not apply to --rate, only to"),
        ] {
            let refused = refusal(&format!("{schedule} {typed}")).unwrap_or_default();
            assert!(refused.starts_with(expected), "{typed}: expected {expected:?}: {refused:?}");
        }
        assert_eq!(refusal(&format!("{schedule} --rate 5 --duration 1s --cold --cooldown 1s")), None);
    }

    #[test]
    fn every_option_of_a_source_has_a_rule() {
        let cli = Cli::command();
        let schedule = cli.find_subcommand("schedule").unwrap();
        let others =
            ["trace", "synthetic", "schedule", "rate", "out", "functions_out", "image", "format", "help", "version"];
        for argument in schedule.get_arguments() {
            let id = argument.get_id().as_str();
            let ruled = RULES.iter().filter(|rule| rule.option == id).count();
            assert_eq!(ruled, usize::from(!others.contains(&id)), "--{id} has {ruled} rules");
        }
    }

    #[test]
    fn the_help_of_an_option_says_with_which_sources_it_applies() {
        let cli = Cli::command();
        let schedule = cli.find_subcommand("schedule").unwrap();
        for rule in RULES.iter().filter(|rule| rule.sources.len() < 5) {
            let argument = schedule.get_arguments().find(|argument| argument.get_id() == rule.option).unwrap();
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            let expected = if rule.sources == [Rate] { "--rate" } else { "trace" };
            assert!(help.contains(expected), "{}: {help}", rule.flag());
        }
    }

    #[test]
    fn the_help_of_a_command_that_makes_a_trace_shows_no_option_that_it_refuses() {
        let cli = terminal::command::<crate::cli::Cli>();
        for name in ["synth", "sample"] {
            let mut command = cli.find_subcommand(name).unwrap().clone();
            let help = command.render_long_help().to_string();
            for rule in &RULES {
                let flag = rule.flag();
                let shown = help.lines().any(|line| line.split_whitespace().any(|word| word == flag));
                assert_eq!(shown, !is_of_invocations(rule.option), "{name} {flag}");
            }
            assert!(help.contains("--trace <PATH>") && !help.contains("--schedule <"), "{help}");
        }
    }

    #[test]
    fn a_command_that_makes_a_trace_takes_no_options_of_invocations() {
        for option in ["--arrivals uniform", "--warmup 1s", "--include-idle"] {
            let text = refusal(&format!("loadgen synth --out x {option}")).unwrap_or_default();
            assert!(text.contains("applies to invocations"), "{option}: {text:?}");
        }
        let text = refusal("loadgen synth --out x --rate 1 --duration 1s").unwrap();
        assert!(text.starts_with("--rate does not apply to `loadgen synth`"), "{text}");
        assert!(refusal("loadgen sample --out x").unwrap().contains("--functions is needed"));
        assert_eq!(refusal("loadgen sample --out x --functions 3 --max-run 1s"), None);
    }
}
