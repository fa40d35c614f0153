//! What a system needs and this machine has not.

use std::{env, fs, path::Path};

use nix::sys::resource::{Resource, getrlimit};

use crate::{
    enclosure,
    machine::host,
    system::{Need, System},
};

/// What a system needs and this machine has not, each with the command that provides it.
#[must_use]
pub fn missing(system: &System) -> Vec<String> {
    let host = host::facts();
    let open_files = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(_, hard)| hard);
    let lacks = |need: &Need| -> Option<String> {
        if let Some(program) = &need.program {
            return (!on_search_path(program)).then(|| format!("no program {program}"));
        }
        if let Some(file) = &need.file {
            return (!Path::new(file).exists()).then(|| format!("no {file}"));
        }
        if need.namespaces {
            return enclosure::missing().map(|why| format!("no private namespace ({why})"));
        }
        let numbers = [
            (need.cores, u64::from(host.cores), "cores"),
            (need.memory_mib, host.memory_mib, "MiB of memory"),
            (need.open_files, open_files, "open files"),
        ];
        let short = numbers.into_iter().find(|(least, has, _)| least.is_some_and(|least| *has < least));
        short.map(|(least, has, what)| format!("{has} {what} instead of {}", least.unwrap_or(0)))
    };
    let missing = system.needs.iter().filter_map(|need| lacks(need).map(|what| (what, need)));
    missing.map(|(what, need)| format!("{what}: {}", need.fix)).collect()
}

fn on_search_path(program: &str) -> bool {
    let paths = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&paths).any(|folder| fs::metadata(folder.join(program)).is_ok_and(|file| file.is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_fix() {
        let system: System = toml::from_str(
            r#"
            about = "a toy"
            version = ["true"]
            register = { command = ["true"] }
            invoke = { target = "toy", address = "nowhere" }
            needs = [
                { program = "sh", fix = "unneeded" },
                { program = "no-such-program", fix = "install it" },
                { file = "/no/such/file", fix = "make it" },
                { cores = 100000, fix = "buy a larger machine" },
                { memory_mib = 1, fix = "unneeded" },
            ]"#,
        )
        .unwrap();
        let missing = missing(&system);
        assert_eq!(missing[..2], ["no program no-such-program: install it", "no /no/such/file: make it"]);
        assert!(missing[2].ends_with("cores instead of 100000: buy a larger machine"), "{missing:?}");
        assert_eq!(missing.len(), 3);
    }
}
