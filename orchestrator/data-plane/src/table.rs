//! The table of functions: by name for invocations, by id for messages of the control plane.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasherDefault, DefaultHasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use model::{FunctionId, FunctionName};
use policy::balance::Balance;

use crate::{
    function::{Function, FunctionConfig, FunctionState},
    plane::Plane,
};

/// Hashes alike in every run, so that a simulation is reproducible.
// Fixed keys are no risk: clients only look names up, operators alone add them.
type FixedHash = BuildHasherDefault<DefaultHasher>;

/// A registered function as the control plane describes it.
pub(crate) struct Registration {
    pub(crate) id: FunctionId,
    pub(crate) name: FunctionName,
    pub(crate) config: FunctionConfig,
    /// Its balancing policy, or the data plane's default.
    pub(crate) balance: &'static Balance,
}

/// All functions known to this data plane.
#[derive(Default)]
pub(crate) struct Table {
    /// Registered functions. A lock-free map, because every invocation reads it.
    by_name: papaya::HashMap<FunctionName, Arc<Function>, FixedHash>,
    /// Registered functions, and deregistered ones that still have sandboxes.
    by_id: Mutex<BTreeMap<FunctionId, Arc<Function>>>,
}

impl Table {
    /// The registered function of that name.
    pub(crate) fn by_name(&self, name: &str) -> Option<Arc<Function>> {
        self.by_name.pin().get(name).cloned()
    }

    /// The function of that id, including a deregistered one that still has sandboxes.
    pub(crate) fn by_id(&self, id: FunctionId) -> Option<Arc<Function>> {
        self.lock().get(&id).cloned()
    }

    /// All functions by id, including deregistered ones that still have sandboxes.
    pub(crate) fn all(&self) -> Vec<Arc<Function>> {
        self.lock().values().cloned().collect()
    }

    /// Number of registered functions.
    pub(crate) fn len(&self) -> usize {
        self.by_name.pin().len()
    }

    /// Registers a function or changes its configuration. A predecessor of the same name counts as deregistered.
    pub(crate) fn configure(&self, plane: &Arc<Plane>, registration: Registration) {
        let Registration { id, name, config, balance } = registration;
        if let Some(function) = self.by_id(id) {
            function.change(|state, _, _| state.configure(config, balance));
            return;
        }
        let function = Arc::new(Function::new(plane.clone(), id, name.clone(), config, balance));
        self.lock().insert(id, function.clone());
        let predecessor = self.by_name.pin().insert(name, function).cloned();
        if let Some(predecessor) = predecessor {
            predecessor.change(FunctionState::remove);
        }
    }

    /// Deregisters a function: its name becomes free, its waiters are refused, its grants are returned.
    pub(crate) fn remove(&self, id: FunctionId) {
        let Some(function) = self.by_id(id) else { return };
        let names = self.by_name.pin();
        // The name may belong to a successor by now.
        let _ = names.remove_if(function.name(), |_, named| named.id() == id);
        function.change(FunctionState::remove);
    }

    /// Deregisters every function that a snapshot did not contain.
    pub(crate) fn keep_only(&self, known: &BTreeSet<FunctionId>) {
        // Collected first, because removing takes the lock again.
        let unknown: Vec<_> = self.lock().keys().copied().filter(|id| !known.contains(id)).collect();
        for id in unknown {
            self.remove(id);
        }
    }

    /// Removes a deregistered function that has neither sandboxes nor invocations.
    pub(crate) fn forget(&self, function: &Arc<Function>) {
        let mut by_id = self.lock();
        if by_id.get(&function.id()).is_some_and(|known| Arc::ptr_eq(known, function)) {
            by_id.remove(&function.id());
        }
    }

    /// Removes all functions, which breaks the reference cycle between functions and data plane.
    pub(crate) fn clear(&self) {
        self.by_name.pin().clear();
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<FunctionId, Arc<Function>>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
