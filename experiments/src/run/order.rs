//! What is to be run, settled: a definition at a scale, with what the command line changed, and its steps.

use anyhow::Context;

use crate::{
    definition::{Definition, overrides::Overrides, settings::Settings},
    exit::UsageError,
    run::plan::Plan,
    system::{System, Systems},
};

/// What to run, settled.
#[derive(Clone, Debug)]
pub struct Order {
    /// The experiment.
    pub definition: Definition,
    /// Its effective settings.
    pub settings: Settings,
    /// The systems, in the order in which they take turns.
    pub systems: Vec<(String, System)>,
    /// The steps.
    pub plan: Plan,
}

impl Order {
    /// Settles a definition on a scale and the command line's changes.
    ///
    /// # Errors
    /// When a value is out of bounds or a system is unknown.
    pub fn new(definition: Definition, systems: &Systems, scale: &str, overrides: &Overrides) -> anyhow::Result<Self> {
        let settings = definition.settle(scale, overrides)?;
        let chosen = settings.systems.iter().map(|name| Ok((name.clone(), systems.get(name)?.clone())));
        let systems = chosen.collect::<Result<_, UsageError>>()?;
        let plan = Plan::new(&definition.id, scale, overrides, &settings);
        Ok(Self { definition, settings, systems, plan })
    }

    /// One of its systems.
    ///
    /// # Errors
    /// When it is not among them.
    pub fn system(&self, name: &str) -> anyhow::Result<&System> {
        let found = self.systems.iter().find(|(known, _)| known == name);
        found.map(|(_, system)| system).with_context(|| format!("the plan names {name}, which is not measured"))
    }
}
