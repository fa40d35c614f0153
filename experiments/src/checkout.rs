//! Paths of the project's files: definitions, systems, runs.

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
    /// True if the path was given by the user, and would not be found otherwise.
    is_named: bool,
}

impl Checkout {
    /// The given checkout, else the one that contains the working directory. Never the one that the program was built from:
    /// hours of measurement might be of other code than the user is working on.
    ///
    /// # Errors
    /// If it has no `experiments/systems.toml`.
    pub fn find(given: Option<&Path>) -> anyhow::Result<Self> {
        let place = match given {
            Some(root) => root.to_owned(),
            None => env::current_dir()?,
        };
        let mut candidates = place.ancestors().take(if given.is_some() { 1 } else { usize::MAX });
        match candidates.find(|root| root.join(MARK).is_file()) {
            Some(root) => Ok(Self { root: root.canonicalize()?, is_named: given.is_some() }),
            None => Err(UsageError(Self::missing(&place, given.is_some())).into()),
        }
    }

    fn missing(place: &Path, is_named: bool) -> String {
        let place = place.display();
        if is_named {
            format!("--checkout {place}: expected the root of a checkout of dirigent, found no {MARK} in it")
        } else {
            format!("{place} is in no checkout of dirigent (with {MARK}): go to a checkout or name it with --checkout")
        }
    }

    /// Its root.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The root, if a command that resumes the run must name it.
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
