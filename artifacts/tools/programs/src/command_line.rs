//! What every program's command line has in common, checked on the program itself.

use std::{
    io,
    path::Path,
    process::{Command, Output, Stdio},
};

/// Columns of the widest line of help.
const MAX_HELP_COLUMNS: usize = 100;
/// Digits of a commit in a revision.
const REVISION_DIGITS: usize = 12;
/// An option that no program has.
const UNKNOWN_FLAG: &str = "--no-such-flag";
/// Shells whose completions are tried.
const SHELLS: [&str; 3] = ["bash", "fish", "zsh"];

/// A program under test, and what is wrong with it.
struct Checked<'a> {
    program: &'a Path,
    name: String,
    faults: Vec<String>,
}

/// What is wrong with the command line of a program: its `--help`, that of each of its subcommands, `--version`, an
/// unknown flag, and the completions.
///
/// # Errors
/// If it cannot be started.
pub fn command_line_faults(program: &Path) -> io::Result<Vec<String>> {
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut checked = Checked { program, name, faults: Vec::new() };
    checked.version()?;
    let subcommands = checked.help(&[])?;
    checked.unknown_flag(&[])?;
    checked.completions(!subcommands.is_empty())?;
    Ok(checked.faults)
}

impl Checked<'_> {
    fn run(&self, arguments: &[&str]) -> io::Result<Output> {
        Command::new(self.program).args(arguments).env_remove("COLUMNS").stdin(Stdio::null()).output()
    }

    fn expect(&mut self, is_so: bool, arguments: &[&str], expected: &str, output: &Output) {
        if !is_so {
            let fault = format!("{} {}: expected {expected}, found {output:?}", self.name, arguments.join(" "));
            self.faults.push(fault);
        }
    }

    /// Its standard output, where it is expected to succeed and to report nothing.
    fn result_of(&mut self, arguments: &[&str]) -> io::Result<(String, Output)> {
        let output = self.run(arguments)?;
        let is_result = output.status.success() && output.stderr.is_empty();
        self.expect(is_result, arguments, "exit code 0 and nothing on standard error", &output);
        Ok((String::from_utf8_lossy(&output.stdout).into_owned(), output))
    }

    fn version(&mut self) -> io::Result<()> {
        let arguments = &["--version"];
        let (text, output) = self.result_of(arguments)?;
        let prefix = format!("{} ", self.name);
        let is_version = text.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(")\n")).is_some_and(|rest| {
            rest.split_once(" (").is_some_and(|(version, revision)| !version.is_empty() && is_revision(revision))
        });
        self.expect(is_version, arguments, "NAME VERSION (REVISION)", &output);
        Ok(())
    }

    /// Checks the help of a subcommand, or of the program, and of all below it; the subcommands.
    fn help(&mut self, subcommand: &[&str]) -> io::Result<Vec<String>> {
        let arguments = [subcommand, &["--help"]].concat();
        let (text, output) = self.result_of(&arguments)?;
        let usage = format!("Usage: {}", [&[self.name.as_str()], subcommand].concat().join(" "));
        self.expect(text.contains(&usage), &arguments, &format!("{usage:?}"), &output);
        let is_program = subcommand.is_empty();
        let codes = "Exit codes: 0 done, 1 failed, 2 usage or configuration error";
        self.expect(!is_program || text.contains(codes), &arguments, &format!("{codes:?}"), &output);
        for line in text.lines().filter(|line| line.chars().count() > MAX_HELP_COLUMNS) {
            self.faults.push(format!(
                "{} {}: expected at most {MAX_HELP_COLUMNS} columns, found {}: {line}",
                self.name,
                arguments.join(" "),
                line.chars().count()
            ));
        }
        let subcommands = subcommands(&text);
        for below in subcommands.iter().filter(|name| *name != "help") {
            self.help(&[subcommand, &[below.as_str()]].concat())?;
        }
        Ok(subcommands)
    }

    fn unknown_flag(&mut self, subcommand: &[&str]) -> io::Result<()> {
        let arguments = [subcommand, &[UNKNOWN_FLAG]].concat();
        let output = self.run(&arguments)?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        self.expect(
            output.status.code() == Some(2) && output.stdout.is_empty(),
            &arguments,
            "exit code 2 and nothing on standard output",
            &output,
        );
        let is_helpful = text.starts_with("error: ") && text.contains(UNKNOWN_FLAG) && text.contains("--help");
        self.expect(is_helpful, &arguments, "an error that names the flag and points to --help", &output);
        Ok(())
    }

    fn completions(&mut self, has_subcommands: bool) -> io::Result<()> {
        let form = if has_subcommands { "completions" } else { "--completions" };
        for shell in SHELLS {
            let (text, output) = self.result_of(&[form, shell])?;
            let is_script = text.contains(&self.name) && text.contains("help");
            self.expect(is_script, &[form, shell], "a script that names the program and its options", &output);
        }
        let output = self.run(&[form, "no-such-shell"])?;
        self.expect(output.status.code() == Some(2), &[form, "no-such-shell"], "exit code 2", &output);
        Ok(())
    }
}

/// Returns true for the hash of a commit, with `-dirty` if the source differs from it, and for `unknown`.
fn is_revision(text: &str) -> bool {
    let hash = text.strip_suffix("-dirty").unwrap_or(text);
    text == "unknown" || hash.len() >= REVISION_DIGITS && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The subcommands that a help lists.
fn subcommands(help: &str) -> Vec<String> {
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // A description that is wrapped is indented further.
    let names = list.filter_map(|line| line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')));
    names.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subcommands_are_read_from_the_help() {
        let help = "Does it\n\nUsage: p <COMMAND>\n\nCommands:\n  run   Runs it, and\n          more\n  stop\n\nOptions:\n  -h";
        assert_eq!(subcommands(help), ["run", "stop"]);
        assert!(subcommands("Usage: p\n\nOptions:\n  -h").is_empty());
    }

    #[test]
    fn a_revision_is_a_commit_or_unknown() {
        for (text, expected) in
            [("0123456789ab", true), ("0123456789ab-dirty", true), ("unknown", true), ("0123", false), ("", false)]
        {
            assert_eq!(is_revision(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_program_that_ignores_its_arguments_is_at_fault() {
        let faults = command_line_faults(Path::new("/bin/true")).unwrap();
        for arguments in ["--version", "--help", UNKNOWN_FLAG, "--completions bash", "--completions no-such-shell"] {
            assert!(faults.iter().any(|fault| fault.starts_with(&format!("true {arguments}: "))), "{faults:?}");
        }
    }
}
