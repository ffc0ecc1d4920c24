//! The file system behind [`Disk`]: one call per method.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::storage::{Disk, DiskError, DiskErrorKind};

/// A directory.
pub struct FileDisk {
    dir: PathBuf,
    /// Open files: the log's writing end comes back to one of them for each batch.
    files: Mutex<HashMap<String, Arc<File>>>,
}

/// No more files than this stay open; more than a writer of each kind needs.
const OPEN_MAX: usize = 8;

impl FileDisk {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), files: Mutex::default() }
    }

    fn error(&self, operation: &'static str, name: &str, error: &io::Error) -> DiskError {
        let full = matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT));
        let kind = match (full, is_denied(error)) {
            (true, _) => DiskErrorKind::Full,
            (_, true) => DiskErrorKind::Denied,
            _ => DiskErrorKind::Other,
        };
        DiskError { kind, operation, path: self.dir.join(name).display().to_string(), message: error.to_string() }
    }

    fn open(&self, name: &str) -> io::Result<Arc<File>> {
        let mut files = self.files.lock().expect("no holder panics");
        if let Some(file) = files.get(name) {
            return Ok(file.clone());
        }
        let path = self.dir.join(name);
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            // A backup that root has put back is read all the same.
            Err(error) if is_denied(&error) => return File::open(&path).map(Arc::new).map_err(|_| error),
            opened => Arc::new(opened?),
        };
        if files.len() >= OPEN_MAX {
            files.clear();
        }
        files.insert(name.to_owned(), file.clone());
        Ok(file)
    }

    fn forget(&self, name: &str) {
        self.files.lock().expect("no holder panics").remove(name);
    }

    fn with<T>(
        &self,
        operation: &'static str,
        name: &str,
        act: impl FnOnce(&File) -> io::Result<T>,
    ) -> Result<T, DiskError> {
        self.open(name).and_then(|file| act(&file)).map_err(|error| self.error(operation, name, &error))
    }
}

impl Disk for FileDisk {
    fn path(&self) -> String {
        self.dir.display().to_string()
    }

    fn exists(&self) -> Result<bool, DiskError> {
        self.dir.try_exists().map_err(|error| self.error("look-up", "", &error))
    }

    fn make(&self) -> Result<(), DiskError> {
        let made: Vec<&Path> = self.dir.ancestors().take_while(|dir| !dir.exists()).collect();
        let make = || {
            fs::create_dir_all(&self.dir)?;
            made.iter().filter_map(|dir| dir.parent()).try_for_each(sync_directory)
        };
        make().map_err(|error| self.error("creation", "", &error))
    }

    fn is_writable(&self) -> bool {
        use std::os::unix::ffi::OsStrExt;
        let Ok(path) = std::ffi::CString::new(self.dir.as_os_str().as_bytes()) else { return false };
        // SAFETY: the path is a C string that outlives the call.
        unsafe { libc::access(path.as_ptr(), libc::W_OK) == 0 }
    }

    fn list(&self) -> Result<Vec<String>, DiskError> {
        let list = || -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in fs::read_dir(&self.dir)? {
                // A name that is not UTF-8 is none of ours, nor is a directory.
                let entry = entry?;
                if let Ok(name) = entry.file_name().into_string()
                    && !entry.file_type()?.is_dir()
                {
                    names.push(name);
                }
            }
            Ok(names)
        };
        list().map_err(|error| self.error("listing", "", &error))
    }

    fn len(&self, name: &str) -> Result<Option<u64>, DiskError> {
        match fs::metadata(self.dir.join(name)) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.error("look-up", name, &error)),
        }
    }

    fn read(&self, name: &str, offset: u64, len: usize) -> Result<Bytes, DiskError> {
        self.with("reading", name, |file| {
            // A caller may ask for more than there is, but no memory is taken for that.
            let len = len.min(file.metadata()?.len().saturating_sub(offset) as usize);
            let mut bytes = BytesMut::zeroed(len);
            let mut done = 0;
            while done < len {
                match file.read_at(&mut bytes[done..], offset + done as u64) {
                    Ok(0) => break,
                    Ok(read) => done += read,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            bytes.truncate(done);
            Ok(bytes.freeze())
        })
    }

    fn create(&self, name: &str) -> Result<(), DiskError> {
        self.forget(name);
        let created = File::create(self.dir.join(name));
        created.map(|_| ()).map_err(|error| self.error("creation", name, &error))
    }

    fn write_at(&self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.with("writing", name, |file| file.write_all_at(bytes, offset).map_err(denied))
    }

    fn preallocate(&self, name: &str, len: u64) -> Result<(), DiskError> {
        self.with("preallocation", name, |file| {
            let error = loop {
                // SAFETY: the descriptor is open for the whole call.
                if unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, len as libc::off_t) } == 0 {
                    return Ok(());
                }
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    break error;
                }
            };
            // Some file systems cannot; there, as in Java, a full disk shows when it is written to.
            if error.raw_os_error() == Some(libc::EOPNOTSUPP) && file.metadata()?.len() < len {
                return file.set_len(len);
            }
            Err(error)
        })
    }

    fn set_len(&self, name: &str, len: u64) -> Result<(), DiskError> {
        self.with("truncation", name, |file| file.set_len(len))
    }

    fn sync(&self, name: &str) -> Result<(), DiskError> {
        self.with("fdatasync", name, File::sync_data)
    }

    fn sync_dir(&self) -> Result<(), DiskError> {
        sync_directory(&self.dir).map_err(|error| self.error("fsync", "", &error))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.forget(from);
        self.forget(to);
        fs::rename(self.dir.join(from), self.dir.join(to)).map_err(|error| self.error("renaming", from, &error))
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        self.forget(name);
        fs::remove_file(self.dir.join(name)).map_err(|error| self.error("removal", name, &error))
    }
}

fn is_denied(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// What a write to a file that could only be opened for reading says.
fn denied(error: io::Error) -> io::Error {
    if error.raw_os_error() == Some(libc::EBADF) { io::ErrorKind::PermissionDenied.into() } else { error }
}

fn sync_directory(dir: &Path) -> io::Result<()> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    File::open(dir)?.sync_all()
}

/// Held by the one process that may use a directory, until it ends.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code)] File);

/// Takes the lock file `dir/lock`. The directory must exist. `None` if another process has it.
pub fn lock(dir: &Path) -> io::Result<Option<Lock>> {
    match flock(dir, libc::LOCK_NB) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        taken => taken.map(Some),
    }
}

/// The same, when the other process gives it back, which may be soon. `None` if it has not `within` that time.
pub fn await_lock(dir: &Path, within: Duration) -> io::Result<Option<Lock>> {
    let (tell, taken) = mpsc::channel();
    let dir = dir.to_owned();
    // Nothing can end its wait but the lock, or the end of the process, which is what a caller does that gives up.
    std::thread::spawn(move || tell.send(flock(&dir, 0)));
    taken.recv_timeout(within).map_or(Ok(None), |taken| taken.map(Some))
}

fn flock(dir: &Path, flags: i32) -> io::Result<Lock> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(dir.join("lock"))?;
    loop {
        // SAFETY: the descriptor is open for the whole call.
        if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | flags) } == 0 {
            return Ok(Lock(file));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Replaces a file as a whole, durably: a crash leaves the old one or the new one.
pub fn replace_file(path: &str, bytes: &[u8]) -> io::Result<()> {
    let (path, tmp) = (Path::new(path), format!("{path}.tmp"));
    fs::write(&tmp, bytes)?;
    File::open(&tmp)?.sync_all()?;
    fs::rename(&tmp, path)?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}
