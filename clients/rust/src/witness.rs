//! Whether a driver has begun TLS.
//!
//! Both drivers return an error that the server sent in the place of its greeting, in plaintext, exactly like one that came
//! inside TLS, and an attacker on the network can send the former. But they read the file of the certificate authority
//! after the greeting, when TLS begins, and not before. So for one attempt that file is a pipe: if it was read, the error came
//! inside TLS, because both drivers fail if TLS cannot be established.

use std::io::{self, PipeReader, Write};
use std::path::{Path, PathBuf};
use std::thread;

/// For drivers that verify no certificate, and so were given no authority. Its key was thrown away.
pub(crate) const NO_AUTHORITY: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBhDCCASmgAwIBAgIUHbfEwCtKFTLbxM2yGDsUoojRKagwCgYIKoZIzj0EAwIw\n\
FzEVMBMGA1UEAwwMbm8gYXV0aG9yaXR5MB4XDTI2MTEyNjIyMTkxMloXDTI2MTEy\n\
NzIyMTkxMlowFzEVMBMGA1UEAwwMbm8gYXV0aG9yaXR5MFkwEwYHKoZIzj0CAQYI\n\
KoZIzj0DAQcDQgAEL74nJCEbCqY35jPVOzQdw/Jplomw8RiFpPzqoOBgQ23IxgB6\n\
cyBc14FtQSy/y02I6iFL4KPlkcKwPIdokJBcKKNTMFEwHQYDVR0OBBYEFI3Ois7n\n\
876V+n9AQsUApRoC05/xMB8GA1UdIwQYMBaAFI3Ois7n876V+n9AQsUApRoC05/x\n\
MA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSQAwRgIhAOC0+uLu/UHDwJRM\n\
1qm7rGgNuHPJq6kIWpRIfnU+nz8gAiEAyJnq7SLx5S/kIhdOGApKZLXYUBHZeDqH\n\
FbNEoTMc7p4=\n\
-----END CERTIFICATE-----\n\
";

/// The file of a certificate authority that can be read once.
pub(crate) struct Witness {
    pipe: PipeReader,
    path: PathBuf,
}

impl Witness {
    /// A file with this content.
    pub(crate) fn new(content: Vec<u8>) -> io::Result<Self> {
        if content.is_empty() {
            // Nobody could tell whether it was read.
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the file of the certificate authority is empty"));
        }
        let (pipe, mut writer) = io::pipe()?;
        let path = path_of(&pipe)?;
        // A pipe does not hold much.
        thread::Builder::new().spawn(move || writer.write_all(&content))?;
        Ok(Self { pipe, path })
    }

    /// Valid as long as this value.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file was read to its end.
    pub(crate) fn was_read(mut self) -> bool {
        // Reading it to the end here ends the thread, too.
        io::copy(&mut self.pipe, &mut io::sink()).is_ok_and(|left| left == 0)
    }
}

#[cfg(unix)]
fn path_of(pipe: &PipeReader) -> io::Result<PathBuf> {
    use std::os::fd::AsRawFd;
    let path = PathBuf::from(format!("/dev/fd/{}", pipe.as_raw_fd()));
    path.try_exists()?.then_some(path).ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "there is no /dev/fd"))
}

#[cfg(not(unix))]
fn path_of(_: &PipeReader) -> io::Result<PathBuf> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this system has no /dev/fd"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::Witness;

    #[test]
    fn a_file_of_any_length_is_read_or_not() {
        for length in [1, 1000, 1 << 20] {
            let content = vec![b'x'; length];
            let unread = Witness::new(content.clone()).unwrap();
            assert!(!unread.was_read(), "{length}");
            let read = Witness::new(content.clone()).unwrap();
            assert_eq!(fs::read(read.path()).unwrap(), content);
            assert!(read.was_read(), "{length}");
        }
        assert!(Witness::new(Vec::new()).is_err());
    }
}
