//! The names of the policies there are, as told to whoever named another one.

use policy::{autoscale, balance, placement};

/// What a policy decides.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Decides {
    Scale,
    Placement,
    Balance,
}

impl Decides {
    /// The names there are, the default first.
    fn names(self) -> Vec<&'static str> {
        match self {
            Self::Scale => autoscale::policies().iter().map(|policy| policy.name).collect(),
            Self::Placement => placement::policies().iter().map(|policy| policy.name).collect(),
            Self::Balance => balance::policies().iter().map(|policy| policy.name).collect(),
        }
    }

    /// Whether there is a policy of that name.
    pub(crate) fn has(self, name: &str) -> bool {
        self.names().contains(&name)
    }

    /// The names there are, for people.
    pub(crate) fn known(self) -> String {
        self.names().join(", ")
    }
}
