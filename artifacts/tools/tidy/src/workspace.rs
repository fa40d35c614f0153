//! The workspace on disk: its root, its members, its files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use cargo_metadata::{Metadata, MetadataCommand};

/// Directories that hold no source: build output, version control, what runs leave behind.
const SKIPPED: [&str; 4] = ["target", ".git", ".repro", "artifacts/runs"];

/// The workspace this crate was built from.
#[derive(Debug)]
pub struct Workspace {
    /// The directory of the workspace's `Cargo.toml`.
    pub root: PathBuf,
    /// Every file in it, sorted, except those in [`SKIPPED`] directories.
    pub files: Vec<PathBuf>,
}

impl Workspace {
    /// Lists the workspace.
    ///
    /// # Panics
    /// If it cannot be read: no rule can be judged then.
    #[must_use]
    pub fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3).expect("this crate is three levels down");
        let mut files = Vec::new();
        collect(root, root, &mut files);
        files.sort();
        Self { root: root.to_owned(), files }
    }

    /// The files whose name ends in `.extension`.
    pub fn with_extension<'a>(&'a self, extension: &'a str) -> impl Iterator<Item = &'a Path> {
        self.files.iter().map(PathBuf::as_path).filter(move |path| path.extension().is_some_and(|e| e == extension))
    }

    /// Every file that is text, with its text.
    pub fn texts(&self) -> impl Iterator<Item = (&Path, String)> {
        self.files.iter().filter_map(|path| Some((path.as_path(), fs::read_to_string(path).ok()?)))
    }

    /// `path` relative to the root of the workspace, as findings show it.
    #[must_use]
    pub fn name(&self, path: &Path) -> String {
        relative(&self.root, path)
    }

    /// Cargo's metadata of the workspace's members.
    ///
    /// # Panics
    /// If `cargo metadata` fails.
    #[must_use]
    pub fn metadata(&self) -> Metadata {
        let mut command = MetadataCommand::new();
        command.manifest_path(self.root.join("Cargo.toml")).no_deps();
        command.exec().expect("cargo metadata reads the workspace it was started from")
    }
}

/// `path` relative to `root`.
#[must_use]
pub fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}

fn collect(root: &Path, directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory of the workspace can be listed") {
        let path = entry.expect("a directory entry can be read").path();
        if SKIPPED.iter().any(|skipped| path == root.join(skipped)) {
            continue;
        }
        if path.is_dir() && !path.is_symlink() {
            collect(root, &path, files);
        } else {
            files.push(path);
        }
    }
}
