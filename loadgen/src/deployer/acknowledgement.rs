//! Waits until data planes have acknowledged functions that were registered: an invocation before that may find no
//! function, which would be measured as a failure of the system.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{functions::FunctionLine, replay::stop::Stop};

use super::{DeployError, Deployer};

/// Longest wait for all functions. A data plane that is connected acknowledges them within milliseconds, one that
/// restarts within seconds.
const ACKNOWLEDGEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// Pause between two questions, where no data plane is connected; a control plane with one waits a second itself.
const POLL: Duration = Duration::from_millis(100);

impl Deployer {
    /// Waits until every data plane has acknowledged `functions`, and returns `created`.
    ///
    /// # Errors
    /// If one is not acknowledged in time or no more registered at all, or on a request to stop.
    pub(super) fn wait_for_data_planes(
        &self,
        functions: Vec<&FunctionLine>,
        created: Vec<String>,
        stop: &Stop,
    ) -> Result<Vec<String>, DeployError> {
        if !functions.is_empty() {
            terminal::note!("waiting until every data plane has acknowledged {} functions", functions.len());
        }
        let until = Instant::now() + ACKNOWLEDGEMENT_TIMEOUT;
        let failed = functions.iter().enumerate().find_map(|(done, function)| {
            let problem = self.wait_for(function, until, stop).err()?;
            Some((functions.len() - done, format!("{}: {problem}", function.name)))
        });
        let failures = failed.iter().map(|(_, failure)| failure.clone()).collect();
        match failed {
            Some((failed, first)) => {
                let why = format!(" at {}, the first of them, {first}", self.base);
                let (act, of) = ("confirmed as known to every data plane", functions.len());
                Err(DeployError { act, failed, of, why, failures, created })
            }
            None => Ok(created),
        }
    }

    /// Registers one again, which changes nothing, until the response is that every data plane has acknowledged it.
    fn wait_for(&self, function: &FunctionLine, until: Instant, stop: &Stop) -> Result<(), String> {
        loop {
            if stop.is_requested() {
                return Err("interrupted by the user".to_owned());
            }
            if self.put(function).map_err(|refusal| refusal.problem)?.is_acknowledged {
                return Ok(());
            }
            if Instant::now() >= until {
                let waited = ACKNOWLEDGEMENT_TIMEOUT.as_secs();
                return Err(format!("a data plane has not acknowledged it within {waited} s, or none is connected"));
            }
            thread::sleep(POLL);
        }
    }
}
