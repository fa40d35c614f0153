//! The programs that a run starts: built from this checkout, or taken from a folder where they are already.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    ffi::OsString,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context, bail};
use serde::Deserialize;

use crate::{
    checkout::Checkout,
    console::Console,
    definition::template::Values,
    exit::{Interrupted, UsageError},
    interrupt::Interrupt,
    run::{builder::Builder, measured_system::MeasuredSystem},
    system::needs,
};

/// Packages of the harness itself, which every run needs.
const HARNESS: [&str; 2] = ["loadgen", "analysis"];

/// The program that starts and controls the baseline.
const TESTBED: &str = "knative";

/// The folder with all built programs: `{bin}`.
#[derive(Clone, Debug)]
pub struct Programs {
    folder: PathBuf,
    /// The reasons why programs of systems were not built, by system.
    unbuilt: BTreeMap<String, String>,
}

/// Origin of the programs.
#[derive(Clone, Copy, Debug)]
pub enum Origin<'a> {
    /// All programs are built from the checkout.
    Checkout,
    /// The checkout's programs are in this folder; a system's own build command is still run.
    Folder(&'a Path),
    /// The same, inside the private namespaces, where nothing can be built: there is no network. With the reasons why
    /// programs of systems were not built, by system.
    Done(&'a Path, &'a BTreeMap<String, String>),
}

impl<'a> Origin<'a> {
    /// A folder, if one was typed.
    #[must_use]
    pub fn typed(folder: Option<&'a Path>) -> Self {
        folder.map_or(Self::Checkout, Self::Folder)
    }
}

impl Programs {
    /// The programs of the systems and the harness, optimised and with the committed lock file if they are built. A
    /// system that cannot run here builds nothing: its step gives the reason. A failed build of one system does not
    /// prevent the others.
    ///
    /// # Errors
    /// If the build of the checkout fails, which has printed its own messages, or the folder does not exist;
    /// [`Interrupted`] when the user asks to stop, which ends the build.
    pub fn new(
        origin: Origin<'_>,
        checkout: &Checkout,
        systems: &[MeasuredSystem],
        (console, interrupt): (&Console, &Interrupt),
    ) -> anyhow::Result<Self> {
        let mut programs = match origin {
            Origin::Done(folder, unbuilt) => return Ok(Self { unbuilt: unbuilt.clone(), ..Self::in_folder(folder)? }),
            Origin::Folder(folder) => Self::in_folder(folder)?,
            Origin::Checkout => Self::build(checkout, systems, (console, interrupt))?,
        };
        for measured in systems.iter().filter(|known| needs::missing(&known.system).is_empty()) {
            if let Err(error) = programs.build_further(measured, checkout, (console, interrupt)) {
                if error.is::<Interrupted>() {
                    return Err(error);
                }
                let name = &measured.name;
                console.line(&format!("{name} will not be measured: {error:#}"));
                programs.unbuilt.insert(name.clone(), format!("building it failed: {error:#}"));
            }
        }
        Ok(programs)
    }

    /// Returns true for a program of this project that only talks to the measured system: the harness itself, or the
    /// testbed of the baseline.
    #[must_use]
    pub fn is_ours(&self, program: &str) -> bool {
        HARNESS.iter().chain(&[TESTBED]).any(|name| self.folder.join(name) == Path::new(program))
    }

    fn at(folder: PathBuf) -> Self {
        Self { folder, unbuilt: BTreeMap::new() }
    }

    fn in_folder(folder: &Path) -> anyhow::Result<Self> {
        Ok(Self::at(folder.canonicalize().with_context(|| format!("finding {}", folder.display()))?))
    }

    /// Refuses a folder given by the user that lacks a program of the checkout. Programs that a system's own command builds
    /// may be missing.
    ///
    /// # Errors
    /// If there is no such folder, or one of the checkout's programs is not in it.
    pub fn check_folder(folder: &Path, systems: &[MeasuredSystem]) -> Result<(), UsageError> {
        let place = folder.display();
        let found = Self::in_folder(folder)
            .map_err(|error| UsageError(format!("--programs {place}: {}", error.root_cause())))?;
        let able = systems.iter().filter(|known| needs::missing(&known.system).is_empty());
        let versions = able.filter_map(|known| found.values(known).expand(known.system.version.first()?).ok());
        let needed = HARNESS.iter().map(|name| found.folder.join(name)).chain(versions.map(PathBuf::from));
        let is_missing = |program: &PathBuf| program.starts_with(&found.folder) && !program.is_file();
        match needed
            .filter_map(|program| is_missing(&program).then(|| program.file_name().map(OsString::from)))
            .flatten()
            .next()
        {
            None => Ok(()),
            Some(name) => {
                Err(UsageError(format!("--programs {place}: expected built programs, found no {}", name.display())))
            }
        }
    }

    fn build(
        checkout: &Checkout,
        systems: &[MeasuredSystem],
        (console, interrupt): (&Console, &Interrupt),
    ) -> anyhow::Result<Self> {
        let own = systems.iter().flat_map(|known| known.system.build.packages.iter().map(String::as_str));
        let packages: BTreeSet<&str> = own.chain(HARNESS).collect();
        let names = packages.iter().copied().collect::<Vec<_>>().join(", ");
        console.line(&format!("building {names} (optimised; the first time takes minutes)"));
        Ok(Self::at(cargo_build(checkout.root(), &packages, interrupt)?))
    }

    /// Runs a system's own command that builds the rest of it, if it has one.
    fn build_further(
        &self,
        measured: &MeasuredSystem,
        checkout: &Checkout,
        (console, interrupt): (&Console, &Interrupt),
    ) -> anyhow::Result<()> {
        let name = &measured.name;
        let command = self.values(measured).expand_all(&measured.system.build.command);
        let command = command.with_context(|| format!("{name}.build.command"))?;
        let Some((program, arguments)) = command.split_first() else { return Ok(()) };
        let whole = command.join(" ");
        console.line(&format!("building {name}: {whole}"));
        let build = Builder::start(Command::new(program).args(arguments).current_dir(checkout.root()))?;
        if !build.wait(interrupt)?.success() {
            bail!("{whole} failed");
        }
        Ok(())
    }

    /// Values of a system's templates before any repetition begins: `{bin}`, and `{parameters.NAME}` that all have in common.
    #[must_use]
    pub fn values(&self, system: &MeasuredSystem) -> Values {
        let mut values = Values::default();
        values.set("bin", self.folder.display().to_string());
        for (name, value) in &system.parameters {
            values.set(format!("parameters.{name}"), value);
        }
        values
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The reasons why programs of systems were not built, by system.
    #[must_use]
    pub fn all_unbuilt(&self) -> &BTreeMap<String, String> {
        &self.unbuilt
    }

    /// The reason why a system's own programs were not built; `None` if they were.
    #[must_use]
    pub fn unbuilt(&self, system: &str) -> Option<&str> {
        self.unbuilt.get(system).map(String::as_str)
    }

    /// The path of one program.
    #[must_use]
    pub fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

/// The one kind of cargo's messages that matters here.
#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    target: Target,
    #[serde(default)]
    executable: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
struct Target {
    kind: Vec<String>,
}

impl Message {
    /// The folder of the program that a line of cargo's output reports, if it reports one.
    fn program_folder(line: &str) -> Option<PathBuf> {
        let message: Self = serde_json::from_str(line).ok()?;
        let program = message.reason == "compiler-artifact" && message.target.kind == ["bin"];
        message.executable.filter(|_| program)?.parent().map(Path::to_owned)
    }
}

/// Builds packages and returns the folder of their programs, as cargo says.
fn cargo_build(root: &Path, packages: &BTreeSet<&str>, interrupt: &Interrupt) -> anyhow::Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut build = Command::new(cargo);
    build.args(["build", "--release", "--locked", "--bins", "--message-format=json-render-diagnostics"]);
    for package in packages {
        build.args(["--package", package]);
    }
    let mut build = Builder::start(build.current_dir(root).stdout(Stdio::piped()))?;
    let messages = build.stdout().context("reading what cargo says")?;
    // A thread reads the output, so that this one can end the build when the user asks to stop.
    let reading = thread::spawn(move || {
        let lines = BufReader::new(messages).lines();
        lines.map_while(Result::ok).filter_map(|line| Message::program_folder(&line)).last()
    });
    if !build.wait(interrupt)?.success() {
        bail!("the build failed; cargo's messages are above");
    }
    let folder = reading.join().ok().flatten();
    folder.context("cargo built no program")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::system::System;

    const SYSTEM: &str = "about = \"a toy\"\nversion = [\"true\"]\nregister = { command = [\"true\"] }\n\
                          invoke = { target = \"toy\", address = \"nowhere\" }\nparameters = { mark = \"built\" }\n";

    fn toy(more: &str) -> MeasuredSystem {
        let system: System = toml::from_str(&format!("{SYSTEM}{more}")).unwrap();
        MeasuredSystem { name: "toy".to_owned(), parameters: system.parameters.clone(), system }
    }

    fn checkout_in(folder: &Path) -> Checkout {
        fs::create_dir(folder.join("experiments")).unwrap();
        fs::write(folder.join("experiments/systems.toml"), "").unwrap();
        Checkout::find(Some(folder)).unwrap()
    }

    #[test]
    fn a_command_that_builds_is_filled_and_a_place_unknown_to_it_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let checkout = checkout_in(folder.path());
        let programs = Programs::at(folder.path().to_owned());
        let build = |command: &str| {
            let system = toy(&format!("build.command = {command}"));
            programs.build_further(&system, &checkout, (&Console::of_process(), &Interrupt::default()))
        };
        build(r#"["touch", "{bin}/{parameters.mark}"]"#).unwrap();
        assert!(folder.path().join("built").exists());
        let unknown = format!("{:#}", build(r#"["touch", "{ports.a.http}"]"#).unwrap_err());
        assert!(unknown.starts_with("toy.build.command: {ports.a.http} is not known here"), "{unknown}");
        assert_eq!(
            build(r#"["false", "{bin}"]"#).unwrap_err().to_string(),
            format!("false {} failed", programs.path("").trim_end_matches('/'))
        );
    }

    #[test]
    fn what_a_system_builds_itself_is_built_unless_all_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let checkout = checkout_in(path);
        let nothing = BTreeMap::new();
        let is_built = |origin, needs: &str| {
            let system = toy(&format!("build.command = [\"touch\", \"{{bin}}/built\"]\nneeds = [{needs}]"));
            Programs::new(origin, &checkout, &[system], (&Console::of_process(), &Interrupt::default())).unwrap();
            path.join("built").exists()
        };
        assert!(!is_built(Origin::Done(path, &nothing), ""));
        let needs = "{ program = \"no-such-program\", fix = \"install it\" }";
        assert!(!is_built(Origin::Folder(path), needs), "it cannot run here");
        assert!(is_built(Origin::Folder(path), ""), "a folder has the checkout's programs only");
    }

    #[test]
    fn the_folder_is_that_of_a_program_and_not_of_a_build_script() {
        let program = r#"{"reason":"compiler-artifact","package_id":"x","target":{"kind":["bin"],"name":"loadgen"},
            "fresh":true,"executable":"/t/release/loadgen"}"#;
        assert_eq!(Message::program_folder(program), Some(PathBuf::from("/t/release")));
        let script = program.replace("\"bin\"", "\"custom-build\"");
        let library = program.replace("\"/t/release/loadgen\"", "null");
        for other in [script.as_str(), &library, r#"{"reason":"build-finished","success":true}"#, "no JSON"] {
            assert_eq!(Message::program_folder(other), None, "{other}");
        }
    }
}
