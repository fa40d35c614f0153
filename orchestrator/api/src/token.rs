//! Bearer tokens (RFC 6750). One authorises writing requests to the operators' API, another one the streams of peers.
//!
//! The control plane creates them in its data directory, readable by its own user only. Permission to read the file is
//! the permission to connect; there is no other authentication.

use std::{
    fmt, fs,
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use thiserror::Error;
use tonic::{Request, Status, metadata::AsciiMetadataValue};

use crate::PeerInfo;

/// Random bytes in a new token: the size of a 256-bit key.
const RANDOM_BYTES: usize = 32;
/// Minimum length of an accepted token: half the length of a generated one.
const MIN_CHARACTERS: usize = 32;
/// Maximum length of an accepted token, which must fit a header field.
const MAX_CHARACTERS: usize = 512;
/// Maximum number of bytes read of a token file: the token and white space around it.
const MAX_FILE_BYTES: u64 = 4096;
/// Permissions of a new token file: readable and writable by its owner only.
const MODE: u32 = 0o600;
/// Authentication scheme in the header field `authorization`.
const SCHEME: &str = "Bearer ";

/// A secret that authorises its holder. Its text is never logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Arc<str>);

/// A token could not be read or created.
#[derive(Debug, Error)]
pub enum TokenError {
    /// The token file cannot be read or written.
    #[error("token file {}", path.display())]
    File {
        /// The token file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The token file does not contain a token.
    #[error("token file {} must hold {MIN_CHARACTERS} to {MAX_CHARACTERS} visible ASCII characters", path.display())]
    Content {
        /// The token file.
        path: PathBuf,
    },
    /// Other users may read the token file, so the token authenticates nobody.
    #[error("token file {} can be read by others: chmod 600 it, or remove it for a new one to be made", path.display())]
    Open {
        /// The token file.
        path: PathBuf,
    },
}

impl Token {
    /// Reads the token in the file at `path`.
    ///
    /// # Errors
    /// If the file cannot be read, or contains no token.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let failed = |source| TokenError::File { path: path.to_owned(), source };
        // Bounded, because the path may name a device or pipe without an end.
        let mut text = String::new();
        let file = fs::File::open(path).map_err(failed)?;
        file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(failed)?;
        let text = text.trim();
        let is_token = (MIN_CHARACTERS..=MAX_CHARACTERS).contains(&text.len());
        if !is_token || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::Content { path: path.to_owned() });
        }
        Ok(Self(text.into()))
    }

    /// Reads the token in the file at `path`, and creates a random one if the file does not exist.
    ///
    /// # Errors
    /// As [`Token::read`]; if the file cannot be written; if other users may read it.
    pub fn read_or_create(path: &Path) -> Result<Self, TokenError> {
        let failed = |source| TokenError::File { path: path.to_owned(), source };
        match fs::metadata(path) {
            Ok(found) if found.permissions().mode() & 0o077 != 0 => {
                return Err(TokenError::Open { path: path.to_owned() });
            }
            Ok(_) => return Self::read(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        create(path).map_err(failed)?;
        Self::read(path)
    }

    /// Returns true if `header`, the value of a header field `authorization`, carries this token. Compares in constant
    /// time, so that response times do not reveal a token character by character.
    #[must_use]
    pub fn matches_header(&self, header: &[u8]) -> bool {
        let Some(sent) = header.strip_prefix(SCHEME.as_bytes()) else { return false };
        let own = self.0.as_bytes();
        let differences = own.iter().zip(sent).fold(0, |all, (one, other)| all | (one ^ other));
        std::hint::black_box(differences) == 0 && own.len() == sent.len()
    }

    /// Returns the value of the header field `authorization` for this token.
    #[must_use]
    pub fn header(&self) -> String {
        format!("{SCHEME}{}", self.0)
    }

    /// Wraps `message` in a request that carries `token`, if there is one.
    pub fn attach<T>(token: Option<&Self>, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = token {
            let value = AsciiMetadataValue::try_from(token.header()).expect("its characters are visible ASCII");
            request.metadata_mut().insert("authorization", value);
        }
        request
    }

    /// Returns an interceptor that accepts only requests with `token`, or all requests if there is none. An accepted
    /// request marks its connection as authenticated.
    pub fn require(token: Option<Self>) -> impl Fn(Request<()>) -> Result<Request<()>, Status> + Clone + Send + Sync {
        move |request| {
            let sent = request.metadata().get("authorization");
            let is_accepted = |token: &Self| sent.is_some_and(|value| token.matches_header(value.as_bytes()));
            if token.as_ref().is_none_or(is_accepted) {
                if let Some(connection) = request.extensions().get::<PeerInfo>() {
                    connection.set_authenticated();
                }
                return Ok(request);
            }
            let what = if sent.is_some() { "shows another token" } else { "shows no token" };
            Err(Status::unauthenticated(format!(
                "the peer {what}: set token_file (--token-file) to a copy of `cluster-token` in the control plane's data directory"
            )))
        }
    }
}

/// Name of the file with the cluster's token in the data directory of a control plane.
pub const CLUSTER_TOKEN_FILE: &str = "cluster-token";

/// Location of the cluster's token for a data plane or worker: a configured file, or the directory `control-plane` next
/// to the component's own data directory, where a control plane on the same machine creates it by default. The
/// `Default` source has no token.
#[derive(Clone, Debug, Default)]
pub struct TokenSource {
    file: Option<PathBuf>,
    default_file: PathBuf,
}

impl TokenSource {
    /// Creates the source of a component with data directory `data_dir`; `file` is the configured token file, if any.
    #[must_use]
    pub fn new(file: Option<PathBuf>, data_dir: &Path) -> Self {
        let default_file = data_dir.join("..").join("control-plane").join(CLUSTER_TOKEN_FILE);
        Self { file, default_file }
    }

    /// Reads the token for the control plane at `control_plane` (`host:port`). Callers read it before each connection,
    /// because a control plane may create it after this component has started. Returns `None` if no file is configured
    /// and there is no token in the default file: the control plane may not require one. The default file's token is
    /// sent to control planes on this machine only.
    ///
    /// # Errors
    /// If the configured file cannot be read, or contains no token.
    pub fn token(&self, control_plane: &str) -> Result<Option<Token>, TokenError> {
        match &self.file {
            Some(file) => Token::read(file).map(Some),
            None if crate::is_loopback(control_plane) => Ok(Token::read(&self.default_file).ok()),
            None => Ok(None),
        }
    }
}

/// Hides the text, so that a log line does not disclose the token.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Writes a new token to a temporary file and renames it to `path`, so that no reader sees an incomplete one.
fn create(path: &Path) -> io::Result<()> {
    let mut random = [0; RANDOM_BYTES];
    // From the kernel's generator, since nobody may be able to predict a token.
    fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Always a new file: an existing one would keep its own permissions.
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(MODE).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    // Synced first, or a crash could leave an empty file under the final name.
    file.sync_all()?;
    fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("dirigent-token-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn a_token_is_created_once_for_its_owner_only_and_read_again() {
        let directory = directory("made");
        let path = directory.join("token");
        let created = Token::read_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        assert!(Token::read_or_create(&path).unwrap() == created && Token::read(&path).unwrap() == created);
        assert_eq!(format!("{created:?}"), "Token(…)");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Token::read_or_create(&path), Err(TokenError::Open { .. })));
        assert!(Token::read_or_create(&directory.join("other")).unwrap() != created);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn malformed_tokens_are_refused() {
        let directory = directory("refused");
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("token");
        for text in ["", "short", &"é".repeat(40), &format!("{} x", "a".repeat(40)), &"a".repeat(600)] {
            fs::write(&path, text).unwrap();
            assert!(matches!(Token::read(&path), Err(TokenError::Content { .. })), "{text:?}");
        }
        assert!(matches!(Token::read(&directory.join("none")), Err(TokenError::File { .. })));
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn the_token_comes_from_the_configured_or_the_default_file() {
        let directory = directory("source");
        let (own, other) = (directory.join("worker"), directory.join("other"));
        fs::create_dir_all(&own).unwrap();
        let unconfigured = TokenSource::new(None, &own);
        assert!(unconfigured.token("127.0.0.1:1").unwrap().is_none(), "there is no token yet");
        let created = Token::read_or_create(&directory.join("control-plane").join(CLUSTER_TOKEN_FILE)).unwrap();
        assert!(unconfigured.token("127.0.0.1:1").unwrap() == Some(created));
        assert!(unconfigured.token("192.0.2.1:1").unwrap().is_none(), "it is not sent to another machine");
        let configured = TokenSource::new(Some(other.clone()), &own);
        assert!(configured.token("192.0.2.1:1").is_err());
        let created = Token::read_or_create(&other).unwrap();
        assert!(configured.token("192.0.2.1:1").unwrap() == Some(created));
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn only_the_whole_token_is_accepted() {
        let token = Token("0123456789abcdef0123456789abcdef".into());
        assert!(token.matches_header(token.header().as_bytes()));
        for header in ["", "Bearer ", "Bearer 0", "0123456789abcdef0123456789abcdef", "Basic 0123456789abcdef"] {
            assert!(!token.matches_header(header.as_bytes()), "{header:?}");
        }
        assert!(!token.matches_header(format!("{}0", token.header()).as_bytes()), "longer");
        let require = Token::require(Some(token.clone()));
        assert!(require(Token::attach(Some(&token), ())).is_ok());
        let error = require(Token::attach(None, ())).unwrap_err();
        assert!(error.code() == tonic::Code::Unauthenticated && error.message().contains("token_file"), "{error:?}");
        assert!(Token::require(None)(Request::new(())).is_ok(), "without a token every request is accepted");
    }
}
