//! The tokens that a control plane asks for: from a file that is named, or found next to the `ports.json` of a control plane
//! that listens where the call goes.

use std::{
    collections::BTreeMap,
    fs, iter,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::Context;
use api::{CLUSTER_TOKEN_FILE, Token};

/// Name of the file in a control plane's data directory.
const FILE: &str = "token";
/// Folder of the control plane in the data directory of `dirigent up`.
const PART: &str = "control-plane";
/// Most directories that are searched: in a larger one the user names the file.
const MAX_DIRECTORIES: usize = 1000;

/// The source of a token.
pub(crate) struct Source {
    file: Option<PathBuf>,
    called: Option<Called>,
}

/// The address of a call.
#[derive(Debug, PartialEq, Eq)]
struct Called {
    ip: IpAddr,
    port: u16,
}

impl Source {
    /// The token in `file`, or else the one of the control plane at `url`.
    pub(crate) fn new(file: Option<PathBuf>, url: &str) -> Self {
        Self { file, called: Called::parse(url) }
    }

    /// Returns true if a user named the file.
    pub(super) fn is_named(&self) -> bool {
        self.file.is_some()
    }

    /// The token; `None` where none was named and none is found: the control plane may want none.
    ///
    /// # Errors
    /// If the file that was named holds none.
    pub(crate) fn token(&self) -> anyhow::Result<Option<Token>> {
        match &self.file {
            Some(file) => Token::read(file).map(Some).context("--token-file"),
            None => {
                let found = |called| find(Path::new("."), "http", called, FILE);
                Ok(self.called.as_ref().and_then(found).and_then(|file| Token::read(&file).ok()))
            }
        }
    }
}

/// The file with the token of the cluster whose streams are at one of `control_planes`, where one of these keeps its data
/// in or below the current directory.
pub(crate) fn cluster_token(control_planes: &[String]) -> Option<PathBuf> {
    let mut called = control_planes.iter().filter_map(|address| Called::parse(address));
    called.find_map(|called| find(Path::new("."), "stream", &called, CLUSTER_TOKEN_FILE))
}

impl Called {
    /// The address in `url`. A name other than `localhost` may lead to any machine, and is none.
    fn parse(url: &str) -> Option<Self> {
        let authority = url.split_once("://").map_or(url, |(_, rest)| rest).split('/').next()?;
        let (host, port) = authority.rsplit_once(':')?;
        let host = if host == "localhost" { "127.0.0.1" } else { host.trim_matches(['[', ']']) };
        Some(Self { ip: host.parse().ok()?, port: port.parse().ok()? })
    }

    /// Returns true if a call reaches a server on this machine that says it listens on `address`. The token must not be
    /// sent to a server of the same port elsewhere.
    fn reaches(&self, address: SocketAddr) -> bool {
        let is_here = address.ip() == self.ip || (self.ip.is_loopback() && address.ip().is_unspecified());
        is_here && address.port() == self.port
    }
}

/// The file called `name` of the control plane that is `called` for a `purpose` and keeps its data in or below `directory`.
fn find(directory: &Path, purpose: &str, called: &Called, name: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(directory).ok()?.take(MAX_DIRECTORIES).filter_map(Result::ok);
    let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path());
    let folders = iter::once(directory.to_owned()).chain(below).flat_map(|folder| [folder.join(PART), folder]);
    let mut listening = folders.filter(|folder| listens(folder, purpose, called));
    // `dirigent up` has its ports.json one level above the control plane's folder.
    listening.find_map(|folder| {
        let files = [folder.join(name), folder.join(PART).join(name)];
        files.into_iter().find(|file| Token::read(file).is_ok())
    })
}

/// Returns true if a daemon that keeps its data in `folder` says that it listens for that `purpose` at the address that is
/// `called`.
fn listens(folder: &Path, purpose: &str, called: &Called) -> bool {
    let text = fs::read_to_string(folder.join("ports.json")).unwrap_or_default();
    let ports: BTreeMap<String, SocketAddr> = serde_json::from_str(&text).unwrap_or_default();
    ports.get(purpose).is_some_and(|address| called.reaches(*address))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn called(url: &str) -> Called {
        Called::parse(url).unwrap()
    }

    #[test]
    fn the_token_of_the_control_plane_that_is_called_is_found() {
        let directory = tempfile::tempdir().unwrap();
        for (ports, token, port) in
            [("up", "up/control-plane", 1), ("state", "state", 2), ("alone/control-plane", "alone/control-plane", 3)]
        {
            let [ports, token] = [ports, token].map(|folder| directory.path().join(folder));
            fs::create_dir_all(&token).unwrap();
            fs::write(ports.join("ports.json"), format!(r#"{{"http":"127.0.0.1:{port}"}}"#)).unwrap();
            fs::write(token.join(FILE), format!("{TOKEN}{port}")).unwrap();
        }
        for port in 1..=3 {
            let file = find(directory.path(), "http", &called(&format!("localhost:{port}")), FILE).unwrap();
            let header = Token::read(&file).unwrap().header();
            assert!(header.ends_with(&port.to_string()), "the other's token would be given away: port {port}");
        }
        let find = |directory: &Path, url: &str| find(directory, "http", &called(url), FILE);
        assert!(find(directory.path(), "127.0.0.1:4").is_none(), "nobody there listens on it");
        assert!(find(directory.path(), "192.0.2.1:1").is_none(), "another machine is called");
        for folder in ["up", "state", "alone"] {
            let found = (1..=3).find_map(|port| find(&directory.path().join(folder), &format!("[127.0.0.1]:{port}")));
            assert!(found.is_some(), "from within {folder}");
        }
    }

    #[test]
    fn the_address_is_read_from_any_form_of_it() {
        let expected = Called { ip: [127, 0, 0, 1].into(), port: 9091 };
        for url in ["127.0.0.1:9091", "http://127.0.0.1:9091/", "http://localhost:9091", "localhost:9091/x"] {
            assert_eq!(Called::parse(url).as_ref(), Some(&expected), "{url}");
        }
        assert_eq!(called("http://[::1]:9091").ip, IpAddr::from(std::net::Ipv6Addr::LOCALHOST));
        assert!(Called::parse("http://h").is_none() && Called::parse("http://h.example:9091").is_none());
        assert!(Source::new(Some("/nonexistent".into()), "127.0.0.1:1").token().is_err());
        assert!(called("127.0.0.1:1").reaches("0.0.0.0:1".parse().unwrap()));
    }
}
