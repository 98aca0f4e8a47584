//! The file with the record of a switchover.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::plan::record::Record;
use crate::plan::rolling;

/// Where the records are.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
}

impl Store {
    /// `$XDG_STATE_HOME/instant-failover`, by default in `~/.local/state`.
    ///
    /// # Errors
    /// If there is no home directory.
    pub fn new() -> Result<Self, String> {
        let home = || {
            std::env::var_os("HOME")
                .filter(|home| !home.is_empty())
                .map(|home| PathBuf::from(home).join(".local/state"))
        };
        let state =
            std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute()).or_else(home);
        let state = state.ok_or("HOME is not set: set it, or XDG_STATE_HOME, to say where the state is kept")?;
        Ok(Self { directory: state.join("instant-failover") })
    }

    /// In another directory.
    #[must_use]
    pub fn at(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// The file of a pair.
    #[must_use]
    pub fn file(&self, old: &str, new: &str) -> PathBuf {
        self.directory.join(format!("{old}+{new}.json"))
    }

    /// Writes a record, so that it survives a crash.
    ///
    /// # Errors
    /// I/O errors.
    pub fn save(&self, record: &Record) -> io::Result<()> {
        self.write(&self.file(&record.old.name, &record.new.name), record)
    }

    fn create(&self) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)
    }

    fn write(&self, file: &Path, record: &impl serde::Serialize) -> io::Result<()> {
        self.create()?;
        let new = file.with_extension("new");
        let mut writer = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        writer.write_all(&serde_json::to_vec_pretty(record)?)?;
        writer.sync_all()?;
        fs::rename(&new, file)?;
        File::open(&self.directory)?.sync_all()
    }

    /// Reads the record of a pair.
    ///
    /// # Errors
    /// I/O errors; a file that is not a record.
    pub fn read(&self, old: &str, new: &str) -> io::Result<Option<Record>> {
        let file = self.file(old, new);
        match read_file(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }

    /// Removes the record of a pair.
    ///
    /// # Errors
    /// I/O errors.
    pub fn remove(&self, old: &str, new: &str) -> io::Result<()> {
        remove(&self.file(old, new))
    }

    /// Every record.
    ///
    /// # Errors
    /// I/O errors; a file that is not a record.
    pub fn all(&self) -> io::Result<Vec<Record>> {
        self.read_all("json")
    }

    fn rolling(&self, record: &rolling::Record) -> PathBuf {
        self.directory.join(format!("{}.rolling", record.id))
    }

    /// Says that this process works on a rolling restart, for as long as the value lives. `None` if another one on this machine
    /// does.
    ///
    /// # Errors
    /// I/O errors.
    pub fn lock_rolling(&self, record: &rolling::Record) -> io::Result<Option<File>> {
        self.create()?;
        let path = self.rolling(record).with_extension("lock");
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Whether a process on this machine works on a rolling restart.
    #[must_use]
    pub fn is_rolling(&self, record: &rolling::Record) -> bool {
        let Ok(file) = File::open(self.rolling(record).with_extension("lock")) else { return false };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }

    /// Writes the record of a rolling restart, so that it survives a crash.
    ///
    /// # Errors
    /// I/O errors.
    pub fn save_rolling(&self, record: &rolling::Record) -> io::Result<()> {
        self.write(&self.rolling(record), record)
    }

    /// Removes the record of a rolling restart.
    ///
    /// # Errors
    /// I/O errors.
    pub fn remove_rolling(&self, record: &rolling::Record) -> io::Result<()> {
        let file = self.rolling(record);
        remove(&file)?;
        remove(&file.with_extension("lock"))
    }

    /// Every record of a rolling restart.
    ///
    /// # Errors
    /// I/O errors; a file that is not a record.
    pub fn all_rolling(&self) -> io::Result<Vec<rolling::Record>> {
        self.read_all("rolling")
    }

    fn read_all<T: serde::de::DeserializeOwned>(&self, extension: &str) -> io::Result<Vec<T>> {
        let files = match fs::read_dir(&self.directory) {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut records = Vec::new();
        for file in files {
            let path = file?.path();
            if path.extension().is_some_and(|found| found == extension) {
                records.push(read_file(&path)?);
            }
        }
        Ok(records)
    }
}

/// Reads a record. An error names the file, and says what to do.
fn read_file<T: serde::de::DeserializeOwned>(file: &Path) -> io::Result<T> {
    let unreadable = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", file.display()));
    let unusable = |error| {
        let name = file.display();
        let cure = "if it is damaged, remove it: the notes on the servers have what is needed, unless a server has restarted since";
        io::Error::other(format!("{name}: this version cannot read it: {error}; {cure}"))
    };
    serde_json::from_slice(&fs::read(file).map_err(unreadable)?).map_err(unusable)
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
