//! A resolved experiment: a definition at a scale, with the command line's changes, and its systems; and the plan made of it.

use anyhow::Context;

use crate::{
    definition::{
        Definition,
        overrides::Overrides,
        points::{self, Point},
        settings::Settings,
    },
    exit::UsageError,
    isolation,
    run::{compatibility, measured_system::MeasuredSystem, plan::Plan},
    system::{System, Systems},
};

/// A definition resolved for one run.
#[derive(Clone, Debug)]
pub struct ResolvedExperiment {
    /// The experiment.
    pub definition: Definition,
    /// Its points with their effective settings; at least one.
    pub points: Vec<Point>,
    /// The systems, in the order in which they alternate.
    pub systems: Vec<MeasuredSystem>,
}

/// A resolved experiment and its steps, of which none has begun.
#[derive(Clone, Debug)]
pub struct PlannedExperiment {
    /// The experiment.
    pub experiment: ResolvedExperiment,
    /// The steps.
    pub plan: Plan,
}

impl PlannedExperiment {
    /// Resolves a definition at a scale with the command line's changes, and plans it.
    ///
    /// # Errors
    /// If a value is out of bounds, or a system is unknown or cannot be measured so.
    pub fn new(definition: Definition, systems: &Systems, scale: &str, overrides: &Overrides) -> anyhow::Result<Self> {
        let experiment = ResolvedExperiment::new(definition, systems, scale, overrides)?;
        let takes = |name: &str| {
            let system = experiment.systems.iter().find(|known| known.name == name).map(|known| &known.system);
            let prepare = system.and_then(|system| system.prepare.as_ref()).map(|prepare| prepare.estimate.as_secs());
            (system.map_or(0, |system| system.setup_estimate.as_secs()), prepare.unwrap_or(0))
        };
        let plan = Plan::new((&experiment.definition.id, scale), overrides, &experiment.points, takes);
        Ok(Self { experiment, plan })
    }
}

impl ResolvedExperiment {
    fn new(definition: Definition, systems: &Systems, scale: &str, overrides: &Overrides) -> anyhow::Result<Self> {
        let points = definition.resolve(scale, overrides)?;
        let mut names: Vec<&String> = Vec::new();
        for name in points.iter().flat_map(|point| &point.settings.systems) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let measured = |name: &String| {
            let own: Vec<&Settings> =
                points.iter().map(|point| &point.settings).filter(|own| own.systems.contains(name)).collect();
            MeasuredSystem::new(name.clone(), systems.get(name)?.clone(), &own)
        };
        let systems: Vec<MeasuredSystem> = names.into_iter().map(measured).collect::<Result<_, UsageError>>()?;
        compatibility::check(&points, &systems, overrides)?;
        Ok(Self { definition, points, systems })
    }

    /// Settings shared by all points: those of the first one that do not vary.
    #[must_use]
    pub fn shared(&self) -> &Settings {
        &self.points[0].settings
    }

    /// A plan of it as text, with a note if the run is isolated.
    #[must_use]
    pub fn plan_text(&self, plan: &Plan) -> String {
        let mut text = plan.text(&self.points);
        if self.systems.iter().any(|known| known.system.isolated) {
            text.push_str("     ");
            text.push_str(isolation::PLACE);
            text.push('\n');
        }
        text
    }

    /// Its settings as one resolved definition.
    #[must_use]
    pub fn to_toml(&self) -> String {
        points::to_toml(&self.points)
    }

    /// One of its points.
    ///
    /// # Errors
    /// If it is not among them.
    pub fn point(&self, name: &str) -> anyhow::Result<&Point> {
        let found = self.points.iter().find(|point| point.name == name);
        found.with_context(|| format!("the plan names the point {name}, which is not measured"))
    }

    /// One of its systems.
    ///
    /// # Errors
    /// If it is not among them.
    pub fn system(&self, name: &str) -> anyhow::Result<&System> {
        let found = self.systems.iter().find(|known| known.name == name);
        found.map(|known| &known.system).with_context(|| format!("the plan names {name}, which is not measured"))
    }
}
