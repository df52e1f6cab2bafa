//! Emission: bytes to disk, whole or not at all.
//!
//! The file is written beside its destination and renamed over it, so an interrupted run leaves what was there before.

use std::io::Write;
use std::path::Path;

use miette::{Result, miette};

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Refuses a destination that cannot be written: to be asked before minutes are spent.
pub fn check(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Err(miette!(help = "name a file", "{}: the destination is a folder", path.display()));
    }
    let folder = folder_of(path);
    if !folder.is_dir() {
        return Err(miette!(help = "make the folder first", "{}: no such folder", folder.display()));
    }
    Ok(())
}

/// Writes `bytes` to `path` by rename.
pub fn emit(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = folder_of(path);
    let failed = |error: std::io::Error| {
        miette!(
            help = "check that the folder exists, is writable and has room",
            "{}: cannot be written: {}",
            path.display(),
            error.kind()
        )
    };
    let mut file = tempfile::Builder::new().prefix(".mote-").tempfile_in(folder).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    // Temporary files are private; a result has the permissions that a new file would have had.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644)).map_err(failed)?;
    }
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_file_is_replaced_whole() -> miette::Result<()> {
        let folder = tempfile::tempdir().map_err(|error| miette::miette!("{error}"))?;
        let path = folder.path().join("a.mote");
        for bytes in [&b"first"[..], b"second, longer"] {
            super::emit(&path, bytes)?;
            assert_eq!(std::fs::read(&path).ok().as_deref(), Some(bytes));
        }
        assert_eq!(std::fs::read_dir(folder.path()).map(Iterator::count).ok(), Some(1));
        let nowhere = folder.path().join("no/such/folder/a.mote");
        assert!(super::emit(&nowhere, b"x").is_err() && super::check(&nowhere).is_err());
        assert!(super::check(folder.path()).is_err() && super::check(&path).is_ok());
        Ok(())
    }
}
