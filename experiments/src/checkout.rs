//! Where the project's files are: definitions, systems, runs.

use std::{
    env,
    path::{Path, PathBuf},
};

use crate::exit::UsageError;

/// The file that marks the root of a checkout.
const MARK: &str = "experiments/systems.toml";

/// A checkout of the project.
#[derive(Clone, Debug)]
pub struct Checkout {
    root: PathBuf,
    /// Whether it was named, and would not be found without its name.
    is_named: bool,
}

impl Checkout {
    /// The one given, else the one around the working folder, else the one this program was built from.
    ///
    /// # Errors
    /// When none of them has `experiments/systems.toml`.
    pub fn find(given: Option<&Path>) -> anyhow::Result<Self> {
        let built_from = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/")).to_owned();
        let candidates: Vec<PathBuf> = match given {
            Some(root) => vec![root.to_owned()],
            None => env::current_dir()?.ancestors().map(Path::to_owned).chain([built_from]).collect(),
        };
        match candidates.iter().find(|root| root.join(MARK).is_file()) {
            Some(root) => Ok(Self { root: root.canonicalize()?, is_named: given.is_some() }),
            None => {
                let place = candidates.first().map(|root| root.display().to_string()).unwrap_or_default();
                Err(UsageError(format!("no {MARK} in {place}: go to a checkout or name it with --checkout")).into())
            }
        }
    }

    /// Its root.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The root, if a command that is typed to go on must name it again.
    #[must_use]
    pub fn named(&self) -> Option<&Path> {
        self.is_named.then_some(&self.root)
    }

    /// `experiments/systems.toml`.
    #[must_use]
    pub fn systems(&self) -> PathBuf {
        self.root.join(MARK)
    }

    /// `experiments/definitions/`.
    #[must_use]
    pub fn definitions(&self) -> PathBuf {
        self.root.join("experiments/definitions")
    }

    /// `artifacts/runs/`.
    #[must_use]
    pub fn runs(&self) -> PathBuf {
        self.root.join("artifacts/runs")
    }
}
