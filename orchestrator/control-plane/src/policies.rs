//! Names of the policies that exist, as error messages list them.

use policy::{autoscale, balance, placement};

/// A kind of decision that policies make.
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

    /// Returns true if there is a policy of that name.
    pub(crate) fn has(self, name: &str) -> bool {
        self.names().contains(&name)
    }

    /// The names there are, for people.
    pub(crate) fn known(self) -> String {
        self.names().join(", ")
    }
}
