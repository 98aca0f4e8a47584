//! Files that the options name.
//!
//! A file may be a pipe, a directory, or an endless device. None of these may keep the program from serving, or from exiting
//! on a signal.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use zeroize::Zeroizing;

/// The maximum size of a file: enough for more than a hundred thousand accounts.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// How files are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At startup. Waiting for a pipe is fine: a signal ends the program.
    Starting,
    /// Later. Only regular files are read again: a pipe may be at its end, or have none.
    Reloading,
}

/// Reads a file.
///
/// # Errors
/// I/O errors; `FileTooLarge`; while reloading, `Unsupported` if it is not a regular file.
pub(super) fn read(file: &Path, when: When) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = open(file, when)?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("the file is larger than {MAX_BYTES} bytes")));
    }
    Ok(bytes)
}

/// The same for text.
///
/// # Errors
/// Those of [`read`]; if it is not UTF-8.
pub(super) fn read_text(file: &Path, when: When) -> io::Result<Zeroizing<String>> {
    let bytes = read(file, when)?;
    let text = str::from_utf8(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Whether the file exists but cannot be read again.
pub(super) fn is_read_once(file: &Path) -> bool {
    matches!(open(file, When::Reloading), Err(error) if error.kind() == io::ErrorKind::Unsupported)
}

fn open(file: &Path, when: When) -> io::Result<File> {
    if when == When::Starting {
        return File::open(file);
    }
    // Without O_NONBLOCK, opening a pipe waits until something writes to it.
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(file)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::Unsupported, "not a regular file"))
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::path::Path;
    use std::process::Command;

    use super::{MAX_BYTES, When, is_read_once, read};

    #[test]
    fn files_without_an_end_are_refused() {
        for when in [When::Starting, When::Reloading] {
            assert!(read(Path::new("/dev/zero"), when).is_err());
            assert!(read(Path::new("/"), when).is_err());
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(MAX_BYTES).unwrap();
        assert!(read(file.path(), When::Reloading).is_ok());
        file.as_file().set_len(MAX_BYTES + 1).unwrap();
        assert_eq!(read(file.path(), When::Reloading).unwrap_err().kind(), ErrorKind::FileTooLarge);
    }

    #[test]
    fn only_regular_files_are_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        // Nothing writes to it: this does not wait.
        assert_eq!(read(&pipe, When::Reloading).unwrap_err().kind(), ErrorKind::Unsupported);
        for (file, once) in [
            (pipe.as_path(), true),
            (Path::new("/dev/zero"), true),
            (directory.path(), true),
            (Path::new("/none"), false),
            (Path::new("/etc/passwd"), false),
        ] {
            assert_eq!(is_read_once(file), once, "{}", file.display());
        }
    }
}
