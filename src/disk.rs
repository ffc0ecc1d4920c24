//! Directories of the file system, behind `trait Disk`: one call per method, and no decisions.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use crate::storage::{Disk, DiskError, DiskErrorKind};

pub struct FsDisk {
    dir: PathBuf,
    /// Files that were written to, open: the log writes the same one again and again.
    open: Mutex<HashMap<String, Arc<File>>>,
}

/// Files kept open; the log needs one, a snapshot another.
const MAX_OPEN: usize = 8;

impl FsDisk {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), open: Mutex::new(HashMap::new()) }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn result<T>(&self, operation: &'static str, path: &Path, result: io::Result<T>) -> Result<T, DiskError> {
        result.map_err(|error| {
            let full = matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT));
            let kind = if full { DiskErrorKind::Full } else { DiskErrorKind::Other };
            DiskError { kind, operation, path: path.display().to_string(), message: error.to_string() }
        })
    }

    fn file(&self, name: &str) -> io::Result<Arc<File>> {
        let mut open = self.open.lock();
        if let Some(file) = open.get(name) {
            return Ok(file.clone());
        }
        let file = Arc::new(OpenOptions::new().read(true).write(true).open(self.at(name))?);
        if open.len() >= MAX_OPEN {
            open.clear();
        }
        open.insert(name.to_owned(), file.clone());
        Ok(file)
    }

    fn forget(&self, name: &str) {
        self.open.lock().remove(name);
    }
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

impl Disk for FsDisk {
    fn path(&self) -> String {
        self.dir.display().to_string()
    }

    fn exists(&self) -> Result<bool, DiskError> {
        self.result("look-up", &self.dir, self.dir.try_exists())
    }

    fn make(&self) -> Result<(), DiskError> {
        let missing: Vec<&Path> = self.dir.ancestors().take_while(|dir| !dir.exists()).collect();
        self.result("creation", &self.dir, fs::create_dir_all(&self.dir))?;
        for made in missing {
            let above = made.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
            self.result("fsync", above, File::open(above).and_then(|dir| dir.sync_all()))?;
        }
        Ok(())
    }

    fn is_writable(&self) -> bool {
        use std::os::unix::ffi::OsStrExt;
        let Ok(path) = std::ffi::CString::new(self.dir.as_os_str().as_bytes()) else { return false };
        // SAFETY: the path is a C string that lives through the call.
        unsafe { libc::access(path.as_ptr(), libc::W_OK) == 0 }
    }

    fn list(&self) -> Result<Vec<String>, DiskError> {
        let names = fs::read_dir(&self.dir).and_then(|entries| {
            entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect::<io::Result<Vec<_>>>()
        });
        self.result("listing", &self.dir, names)
    }

    fn len(&self, name: &str) -> Result<Option<u64>, DiskError> {
        let path = self.at(name);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => self.result("look-up", &path, Err(error)),
        }
    }

    fn read(&self, name: &str, offset: u64, len: usize) -> Result<Bytes, DiskError> {
        let path = self.at(name);
        let read = || {
            let file = File::open(&path)?;
            let there = file.metadata()?.len().saturating_sub(offset);
            let mut bytes = BytesMut::zeroed(len.min(usize::try_from(there).unwrap_or(usize::MAX)));
            let mut got = 0;
            while got < bytes.len() {
                match file.read_at(&mut bytes[got..], offset + got as u64)? {
                    0 => break,
                    n => got += n,
                }
            }
            bytes.truncate(got);
            Ok(bytes.freeze())
        };
        self.result("read", &path, read())
    }

    fn create(&self, name: &str) -> Result<(), DiskError> {
        let path = self.at(name);
        self.forget(name);
        self.result("creation", &path, File::create(&path).map(drop))
    }

    fn write_at(&self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let written = self.file(name).and_then(|file| file.write_all_at(bytes, offset));
        self.result("write", &self.at(name), written)
    }

    fn preallocate(&self, name: &str, len: u64) -> Result<(), DiskError> {
        let allocate = || {
            let file = self.file(name)?;
            let have = file.metadata()?.len();
            if len <= have {
                return Ok(());
            }
            // SAFETY: the descriptor is open for the call.
            checked(unsafe { libc::fallocate(file.as_raw_fd(), 0, have as i64, (len - have) as i64) })
        };
        let path = self.at(name);
        match allocate() {
            // Not every file system can; then room is a promise that only writing keeps.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => self.set_len(name, len),
            other => self.result("preallocation", &path, other),
        }
    }

    fn set_len(&self, name: &str, len: u64) -> Result<(), DiskError> {
        self.result("truncation", &self.at(name), self.file(name).and_then(|file| file.set_len(len)))
    }

    fn sync(&self, name: &str) -> Result<(), DiskError> {
        self.result("fdatasync", &self.at(name), self.file(name).and_then(|file| file.sync_data()))
    }

    fn sync_dir(&self) -> Result<(), DiskError> {
        self.result("fsync", &self.dir, File::open(&self.dir).and_then(|dir| dir.sync_all()))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.forget(from);
        self.forget(to);
        self.result("renaming", &self.at(from), fs::rename(self.at(from), self.at(to)))
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        self.forget(name);
        self.result("removal", &self.at(name), fs::remove_file(self.at(name)))
    }
}

/// Refuses a second process on the same directories, for as long as it lives.
pub struct Lock(#[expect(dead_code, reason = "held, not used")] File);

impl Lock {
    pub fn take(own_dir: &Path, data_dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(own_dir)?;
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(own_dir.join("lock"))?;
        // SAFETY: the descriptor is open for the call.
        checked(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }).map_err(|error| {
            let message = format!("{} is in use by another process ({error}): stop that first", data_dir.display());
            io::Error::new(io::ErrorKind::AlreadyExists, message)
        })?;
        Ok(Self(file))
    }
}
