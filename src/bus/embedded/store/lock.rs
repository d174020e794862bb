//! One process per data directory.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::Path;

use crate::error::{Error, Result};

/// Holds the directory while it lives. The operating system lets go of it when the process dies, however it dies.
#[derive(Debug)]
pub(super) struct DirectoryLock {
    file: File,
}

impl DirectoryLock {
    pub(super) fn take(directory: &Path) -> Result<Self> {
        let place = directory.display();
        let unusable = |error: std::io::Error| {
            Error::Unavailable(format!("cannot use the data directory {place}: {error}"))
        };
        create(directory).map_err(unusable)?;
        let path = directory.join("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Unavailable(format!(
                    "the data directory {place} is in use by another process"
                )));
            }
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        // For a human who looks; nothing reads it.
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(unusable)?;
        Ok(Self { file })
    }
}

impl Drop for DirectoryLock {
    /// Closing the file is not enough: a child process that is just being started shares it until it has begun.
    fn drop(&mut self) {
        if let Err(error) = self.file.unlock() {
            tracing::warn!(%error, "the data directory was not unlocked");
        }
    }
}

/// Values may be private: only the owner gets in.
fn create(directory: &Path) -> std::io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}
