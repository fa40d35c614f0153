//! The schedule as the load generator wrote it: the invocations that every system must be sent.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use anyhow::{Context, bail};

/// The header of the table of invocations, after which only rows follow.
const HEADER: &str = "due_ns,function,run_us,memory_mib,phase";

/// One scheduled invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Due time, in nanoseconds from the start of the run.
    pub due_ns: u64,
    /// The function, as a position in [`Schedule::functions`].
    pub function: u32,
}

/// All of them in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// The invocations.
    pub dues: Vec<Due>,
    /// Names of functions.
    pub functions: Vec<String>,
}

impl Schedule {
    /// Reads the table of invocations.
    ///
    /// # Errors
    /// If the file cannot be read or a row is not of the form, with its line.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| format!("reading {}", path.display()))?;
        Self::parse(BufReader::new(file)).with_context(|| format!("reading {}", path.display()))
    }

    fn parse(text: impl BufRead) -> anyhow::Result<Self> {
        let mut schedule = Self::default();
        let mut known: HashMap<String, u32> = HashMap::new();
        let mut lines = text.lines().enumerate();
        if !lines.by_ref().any(|(_, line)| line.is_ok_and(|line| line == HEADER)) {
            bail!("no line {HEADER:?}");
        }
        for (index, line) in lines {
            let line = line?;
            let mut cells = line.split(',');
            let due_ns = cells.next().and_then(|cell| cell.parse().ok());
            let (Some(due_ns), Some(name)) = (due_ns, cells.next()) else {
                bail!("line {}: expected {HEADER}, found {line:?}", index + 1);
            };
            let function = match known.get(name) {
                Some(function) => *function,
                None => {
                    let function = u32::try_from(schedule.functions.len()).context("too many functions")?;
                    schedule.functions.push(name.to_owned());
                    known.insert(name.to_owned(), function);
                    function
                }
            };
            schedule.dues.push(Due { due_ns, function });
        }
        Ok(schedule)
    }

    /// The function of an invocation.
    #[must_use]
    pub fn name(&self, due: Due) -> &str {
        &self.functions[due.function as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_table_of_invocations_is_read() {
        let text = "setting,value\nformat,x\n\nfunction,memory_mib,invocations\na,1,2\n\n\
                    due_ns,function,run_us,memory_mib,phase\n5,a,1,1,warmup\n9,b,1,1,measured\n9,a,1,1,measured\n";
        let schedule = Schedule::parse(text.as_bytes()).unwrap();
        let read: Vec<(u64, &str)> = schedule.dues.iter().map(|due| (due.due_ns, schedule.name(*due))).collect();
        assert_eq!(read, [(5, "a"), (9, "b"), (9, "a")]);
        let bad = Schedule::parse(format!("{HEADER}\nsoon,a,1,1,measured\n").as_bytes()).unwrap_err();
        assert!(bad.to_string().starts_with("line 2: expected due_ns,"), "{bad}");
        assert!(Schedule::parse("nothing\n".as_bytes()).is_err());
    }
}
