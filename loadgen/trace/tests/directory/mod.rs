//! A small trace in the Azure 2019 form, on disk.
#![allow(dead_code, reason = "each test crate uses its part of it")]

use std::fs;

use tempfile::TempDir;
use trace::{
    TraceError, Workload,
    azure2019::{self, Missing, ReadOptions},
};

pub(crate) const INVOCATIONS: &str = "\
HashOwner,HashApp,HashFunction,Trigger,480,481,482
o1,a1,aaaaaaaaaaaaaaaaaaaa,http,1,0,3
o1,a1,bbbbbbbbbbbbbbbbbbbb,timer,0,2,0
";
pub(crate) const DURATIONS: &str = "\
HashOwner,HashApp,HashFunction,Average,Count,Minimum,Maximum,percentile_Average_0,percentile_Average_1,percentile_Average_25,percentile_Average_50,percentile_Average_75,percentile_Average_99,percentile_Average_100
o1,a1,bbbbbbbbbbbbbbbbbbbb,20,5,0,90,0,1,10,20,30,80,90
o1,a1,aaaaaaaaaaaaaaaaaaaa,2.5,5,1.0,9.0,1,1,2,2.5,3,8,9
";
pub(crate) const MEMORY: &str = "\
HashFunction,HashOwner,HashApp,SampleCount,AverageAllocatedMb,AverageAllocatedMb_pct1,AverageAllocatedMb_pct5,AverageAllocatedMb_pct25,AverageAllocatedMb_pct50,AverageAllocatedMb_pct75,AverageAllocatedMb_pct95,AverageAllocatedMb_pct99,AverageAllocatedMb_pct100
aaaaaaaaaaaaaaaaaaaa,o1,a1,9,100,90,91,95,100,105,110,119,120
bbbbbbbbbbbbbbbbbbbb,o1,a1,9,50,40,41,45,50,55,56,57,60
";

/// A directory with the good trace, in which single files are then replaced.
pub(crate) struct Trace(pub(crate) TempDir);

impl Trace {
    pub(crate) fn good() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in [("invocations.csv", INVOCATIONS), ("durations.csv", DURATIONS), ("memory.csv", MEMORY)] {
            fs::write(directory.path().join(name), text).unwrap();
        }
        Self(directory)
    }

    pub(crate) fn with(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        fs::write(self.0.path().join(name), content).unwrap();
        self
    }

    pub(crate) fn read(&self, missing: Missing) -> Result<Workload, TraceError> {
        azure2019::read(self.0.path(), &ReadOptions { missing, ..ReadOptions::default() })
    }

    /// The refusal without the directory, as a user reads it.
    pub(crate) fn refusal(&self) -> String {
        let error = self.read(Missing::Refuse).expect_err("this trace must be refused");
        error.to_string().replace(&format!("{}/", self.0.path().display()), "")
    }
}
