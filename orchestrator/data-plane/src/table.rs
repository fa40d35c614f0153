//! Which functions there are: by name for invocations, by id for what the control plane says.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasherDefault, DefaultHasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use api::wire;
use model::{DEFAULT_CONNECTION_IDLE, FunctionId, FunctionName, Protocol};
use policy::balance::{self, Balance};

use crate::{
    function::{Function, FunctionConfig, FunctionState},
    plane::Plane,
};

/// The same hashes in every run, so that a simulation repeats exactly.
type FixedHash = BuildHasherDefault<DefaultHasher>;

/// Every function known here.
#[derive(Default)]
pub(crate) struct Table {
    /// Those that take invocations. Read without a lock by each invocation.
    by_name: papaya::HashMap<FunctionName, Arc<Function>, FixedHash>,
    /// These, and deregistered ones that still have sandboxes.
    by_id: Mutex<BTreeMap<FunctionId, Arc<Function>>>,
}

impl Table {
    /// The function of that name.
    pub(crate) fn by_name(&self, name: &str) -> Option<Arc<Function>> {
        self.by_name.pin().get(name).cloned()
    }

    /// The function of that id, also when it was deregistered but has sandboxes left.
    pub(crate) fn by_id(&self, id: FunctionId) -> Option<Arc<Function>> {
        self.lock().get(&id).cloned()
    }

    /// Every function, deregistered ones with sandboxes left included, by id.
    pub(crate) fn all(&self) -> Vec<Arc<Function>> {
        self.lock().values().cloned().collect()
    }

    /// How many functions take invocations.
    pub(crate) fn len(&self) -> usize {
        self.by_name.pin().len()
    }

    /// A function is registered, or has changed. Its predecessor of the same name, if any, is taken for deregistered.
    pub(crate) fn configure(&self, plane: &Arc<Plane>, config: &wire::FunctionConfig) {
        let Ok(name) = config.name.parse::<FunctionName>() else {
            tracing::error!(name = config.name, "the control plane sent a function without a valid name");
            return;
        };
        let (id, function_config, balance) =
            (FunctionId(config.function), to_function_config(config), balance(plane, config));
        if let Some(function) = self.by_id(id) {
            function.change(|state, _, _| state.configure(function_config, balance));
            return;
        }
        let function = Arc::new(Function::new(plane.clone(), id, name.clone(), function_config, balance));
        self.lock().insert(id, function.clone());
        let predecessor = self.by_name.pin().insert(name, function).cloned();
        if let Some(predecessor) = predecessor {
            predecessor.change(FunctionState::remove);
        }
    }

    /// A function is deregistered: its name is free, its waiters are answered, its sandboxes go back.
    pub(crate) fn remove(&self, id: FunctionId) {
        let Some(function) = self.by_id(id) else { return };
        let names = self.by_name.pin();
        // Its name may belong to a successor by now.
        let _ = names.remove_if(function.name(), |_, named| named.id() == id);
        function.change(FunctionState::remove);
    }

    /// A snapshot named `known` functions: every other one is deregistered.
    pub(crate) fn keep_only(&self, known: &BTreeSet<FunctionId>) {
        let unknown: Vec<_> = self.lock().keys().copied().filter(|id| !known.contains(id)).collect();
        for id in unknown {
            self.remove(id);
        }
    }

    /// Nothing of a deregistered function is left.
    pub(crate) fn forget(&self, function: &Arc<Function>) {
        let mut by_id = self.lock();
        if by_id.get(&function.id()).is_some_and(|known| Arc::ptr_eq(known, function)) {
            by_id.remove(&function.id());
        }
    }

    /// Forgets everything: functions and this data plane hold on to each other, and it ends.
    pub(crate) fn clear(&self) {
        self.by_name.pin().clear();
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<FunctionId, Arc<Function>>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn to_function_config(config: &wire::FunctionConfig) -> FunctionConfig {
    let protocol = match config.protocol() {
        wire::Protocol::Http1 => Protocol::Http1,
        wire::Protocol::H2c => Protocol::H2c,
    };
    let default_idle_us = u64::try_from(DEFAULT_CONNECTION_IDLE.as_micros()).unwrap_or(u64::MAX);
    FunctionConfig {
        timeout_us: config.timeout_ms.saturating_mul(1000),
        queue_deadline_us: config.queue_deadline_ms.saturating_mul(1000),
        queue_limit: config.queue_limit,
        protocol,
        concurrency: config.concurrency,
        retry_any: config.retry() == wire::Retry::Any,
        connection_idle_us: config.connection_idle_ms.map_or(default_idle_us, |ms| ms.saturating_mul(1000)),
    }
}

/// How the function's invocations are balanced: as it says itself, else as this data plane does.
fn balance(plane: &Plane, config: &wire::FunctionConfig) -> &'static Balance {
    if config.balance.is_empty() {
        return plane.policy;
    }
    balance::find(&config.balance).unwrap_or_else(|| {
        // The control plane checked the name: it is of another version than this data plane.
        tracing::warn!(name = config.name, balance = config.balance, "unknown balancing policy, the default is taken");
        plane.policy
    })
}
