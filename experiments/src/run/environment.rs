//! Environment of one session of a run: its programs, its machine, and the systems that cannot be measured with them.

use std::{collections::BTreeMap, path::Path};

use anyhow::Context;
use record::{HostFacts, Manifest, PointDir};

use crate::{
    machine::host,
    run::{
        basis::{Basis, RUNNER},
        manifest,
        programs::Programs,
    },
};

/// Programs and machine of a session.
pub(super) struct Environment {
    /// The machine.
    pub(super) host: HostFacts,
    /// Revision of the checkout.
    git_revision: String,
    /// The programs; `None` until they are built.
    programs: Option<Programs>,
    /// Reasons why systems cannot be measured, by system; known once programs are built.
    unable: BTreeMap<String, String>,
}

impl Environment {
    /// This machine with the checkout at `root`, before programs are built.
    pub(super) fn new(root: &Path) -> Self {
        Self { host: host::facts(), git_revision: manifest::revision(root), programs: None, unable: BTreeMap::new() }
    }

    /// Takes built programs, and the reasons why systems cannot be measured with them.
    pub(super) fn take(&mut self, programs: Programs, unable: BTreeMap<String, String>) {
        self.programs = Some(programs);
        self.unable.extend(unable);
    }

    pub(super) fn programs(&self) -> anyhow::Result<&Programs> {
        self.programs.as_ref().context("programs are built before they are used")
    }

    /// The reason why a system cannot be measured here; `None` if it can.
    pub(super) fn unable(&self, system: &str) -> Option<&str> {
        self.unable.get(system).map(String::as_str)
    }

    /// Programs and machine of a repetition that begins now; `fingerprint` is that of its dependencies.
    pub(super) fn basis(&self, fingerprint: String, point: &PointDir, manifest: &Manifest) -> Basis {
        Basis {
            fingerprint,
            system: manifest.systems.get(&point.system).cloned().unwrap_or_default(),
            loadgen: manifest.checksums.get("loadgen").cloned().unwrap_or_default(),
            runner: RUNNER.to_owned(),
            git_revision: self.git_revision.clone(),
            host: self.host.clone(),
        }
    }
}
