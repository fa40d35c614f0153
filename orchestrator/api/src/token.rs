//! Bearer tokens: what a caller shows to be let in. One opens the operators' port for writing, another one the streams.
//!
//! The control plane makes them in its data directory, readable by its own user only. Whoever may read that file may
//! call; nothing else proves anything here.

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

/// Random bytes in a token: as many as a key has.
const RANDOM_BYTES: usize = 32;
/// Shortest token that is taken: half of the characters of one that was made here.
const MIN_CHARACTERS: usize = 32;
/// Longest token that is taken: it travels in a header.
const MAX_CHARACTERS: usize = 512;
/// Most bytes of a token's file that are read: a longer one holds no token.
const MOST_BYTES: u64 = 4096;
/// Permissions of a token's file: only its owner reads it.
const MODE: u32 = 0o600;
/// The scheme of the header that carries it (RFC 6750).
const SCHEME: &str = "Bearer ";

/// A secret that opens something. Its text is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Arc<str>);

/// There is no token to be had.
#[derive(Debug, Error)]
pub enum TokenError {
    /// Its file cannot be read or written.
    #[error("token file {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Its file holds something else.
    #[error("token file {} must hold {MIN_CHARACTERS} to {MAX_CHARACTERS} visible ASCII characters", path.display())]
    Content {
        /// Which.
        path: PathBuf,
    },
    /// Others may read it, so it proves nothing.
    #[error("token file {} can be read by others: chmod 600 it, or remove it for a new one to be made", path.display())]
    Open {
        /// Which.
        path: PathBuf,
    },
}

impl Token {
    /// The token in the file at `path`.
    ///
    /// # Errors
    /// When it cannot be read, or holds no token.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let failed = |source| TokenError::File { path: path.to_owned(), source };
        // No more than holds a token and what is trimmed: what is named may have no end.
        let mut text = String::new();
        let file = fs::File::open(path).map_err(failed)?;
        file.take(MOST_BYTES).read_to_string(&mut text).map_err(failed)?;
        let text = text.trim();
        let is_token = (MIN_CHARACTERS..=MAX_CHARACTERS).contains(&text.len());
        if !is_token || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::Content { path: path.to_owned() });
        }
        Ok(Self(text.into()))
    }

    /// The token in the file at `path`, made at random when there is no such file.
    ///
    /// # Errors
    /// As [`Token::read`]; when it cannot be written; when others may read it.
    pub fn obtain(path: &Path) -> Result<Self, TokenError> {
        let failed = |source| TokenError::File { path: path.to_owned(), source };
        match fs::metadata(path) {
            Ok(found) if found.permissions().mode() & 0o077 != 0 => {
                return Err(TokenError::Open { path: path.to_owned() });
            }
            Ok(_) => return Self::read(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        make(path).map_err(failed)?;
        Self::read(path)
    }

    /// Whether a header's value shows this token. Takes as long whatever the value is, so that nobody finds the token
    /// character by character.
    #[must_use]
    pub fn is_shown_by(&self, header: &[u8]) -> bool {
        let Some(shown) = header.strip_prefix(SCHEME.as_bytes()) else { return false };
        let own = self.0.as_bytes();
        let differences = own.iter().zip(shown).fold(0, |all, (one, other)| all | (one ^ other));
        std::hint::black_box(differences) == 0 && own.len() == shown.len()
    }

    /// The value of the header `authorization` that shows it.
    #[must_use]
    pub fn header(&self) -> String {
        format!("{SCHEME}{}", self.0)
    }

    /// A message for a stream port, with the token if there is one.
    pub fn sign<T>(token: Option<&Self>, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = token {
            let value = AsciiMetadataValue::try_from(token.header()).expect("its characters are visible ASCII");
            request.metadata_mut().insert("authorization", value);
        }
        request
    }

    /// Lets in who shows `token`; everybody when there is none.
    pub fn require(token: Option<Self>) -> impl Fn(Request<()>) -> Result<Request<()>, Status> + Clone + Send + Sync {
        move |request| {
            let shown = request.metadata().get("authorization");
            let is_shown = |token: &Self| shown.is_some_and(|value| token.is_shown_by(value.as_bytes()));
            if token.as_ref().is_none_or(is_shown) {
                if let Some(connection) = request.extensions().get::<PeerInfo>() {
                    connection.prove();
                }
                return Ok(request);
            }
            let what = if shown.is_some() { "shows another token" } else { "shows no token" };
            Err(Status::unauthenticated(format!(
                "the peer {what}: set token_file (--token-file) to a copy of `cluster-token` in the control plane's data directory"
            )))
        }
    }
}

/// Name of the file with the cluster's token in a control plane's data directory.
pub const CLUSTER_TOKEN_FILE: &str = "cluster-token";

/// Where a part finds the cluster's token: in a file that is named, or in the folder `control-plane` beside its own data
/// directory, where a control plane on the same machine leaves it by default. The default one has none.
#[derive(Clone, Debug, Default)]
pub struct TokenSource {
    file: Option<PathBuf>,
    beside: PathBuf,
}

impl TokenSource {
    /// For a part that keeps its data in `data_dir`; `file` is what it was told, if it was.
    #[must_use]
    pub fn new(file: Option<PathBuf>, data_dir: &Path) -> Self {
        let beside = data_dir.join("..").join("control-plane").join(CLUSTER_TOKEN_FILE);
        Self { file, beside }
    }

    /// The token to show at `control_plane` (`host:port`), read anew each time: it may be made after this part has
    /// started. `None` where none was named and none is found: the control plane may want none. What is found on this
    /// machine is not shown to another one.
    ///
    /// # Errors
    /// When the file that was named holds none.
    pub fn token(&self, control_plane: &str) -> Result<Option<Token>, TokenError> {
        match &self.file {
            Some(file) => Token::read(file).map(Some),
            None if crate::is_loopback(control_plane) => Ok(Token::read(&self.beside).ok()),
            None => Ok(None),
        }
    }
}

/// Never the text: a log line must not open a cluster.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Writes a new token beside its place and moves it there, so that nobody reads half of one.
fn make(path: &Path) -> io::Result<()> {
    let mut random = [0; RANDOM_BYTES];
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
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(MODE).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("dirigent-token-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn a_token_is_made_once_for_its_owner_only_and_found_again() {
        let directory = folder("made");
        let path = directory.join("token");
        let made = Token::obtain(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        assert!(Token::obtain(&path).unwrap() == made && Token::read(&path).unwrap() == made);
        assert_eq!(format!("{made:?}"), "Token(…)");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Token::obtain(&path), Err(TokenError::Open { .. })));
        assert!(Token::obtain(&directory.join("other")).unwrap() != made);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let directory = folder("refused");
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
    fn the_token_is_in_the_file_that_is_named_or_beside() {
        let directory = folder("source");
        let (own, other) = (directory.join("worker"), directory.join("other"));
        fs::create_dir_all(&own).unwrap();
        let beside = TokenSource::new(None, &own);
        assert!(beside.token("127.0.0.1:1").unwrap().is_none(), "nobody has made one yet");
        let made = Token::obtain(&directory.join("control-plane").join(CLUSTER_TOKEN_FILE)).unwrap();
        assert!(beside.token("127.0.0.1:1").unwrap() == Some(made));
        assert!(beside.token("192.0.2.1:1").unwrap().is_none(), "it is not shown to another machine");
        let named = TokenSource::new(Some(other.clone()), &own);
        assert!(named.token("192.0.2.1:1").is_err());
        let made = Token::obtain(&other).unwrap();
        assert!(named.token("192.0.2.1:1").unwrap() == Some(made));
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn only_the_whole_token_opens() {
        let token = Token("0123456789abcdef0123456789abcdef".into());
        assert!(token.is_shown_by(token.header().as_bytes()));
        for header in ["", "Bearer ", "Bearer 0", "0123456789abcdef0123456789abcdef", "Basic 0123456789abcdef"] {
            assert!(!token.is_shown_by(header.as_bytes()), "{header:?}");
        }
        assert!(!token.is_shown_by(format!("{}0", token.header()).as_bytes()), "longer");
        let require = Token::require(Some(token.clone()));
        assert!(require(Token::sign(Some(&token), ())).is_ok());
        let said = require(Token::sign(None, ())).unwrap_err();
        assert!(said.code() == tonic::Code::Unauthenticated && said.message().contains("token_file"), "{said:?}");
        assert!(Token::require(None)(Request::new(())).is_ok(), "without a token everybody is let in");
    }
}
