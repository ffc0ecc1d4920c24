//! What parsing a configuration says: notices for the log, or the one error that stops the start, with the
//! exit code and the line on stderr that operators and scripts know from Java.

use std::fmt;

/// A line for the log. Parsing is pure, so the caller writes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Notice {
    pub level: Level,
    /// The whole message; in Java's words where people search for them.
    pub text: String,
}

/// What a notice promises: see the conventions on log levels.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Level {
    Info,
    Warn,
    Error,
}

impl Notice {
    pub(super) fn info(text: impl Into<String>) -> Self {
        Self { level: Level::Info, text: text.into() }
    }

    pub(super) fn warn(text: impl Into<String>) -> Self {
        Self { level: Level::Warn, text: text.into() }
    }

    /// Says that the operator's setting, or a part of the server, has no effect yet.
    pub(super) fn unbuilt(what: impl fmt::Display) -> Self {
        Self::warn(format!("not built yet, the server starts without: {what}"))
    }

    pub(super) fn error(text: impl Into<String>) -> Self {
        Self { level: Level::Error, text: text.into() }
    }
}

/// Why the server does not start.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigError {
    pub kind: ErrorKind,
    /// For the log: the file or key, what was found, and Java's message where Java has one.
    pub message: String,
    /// What was worth saying before the error was found; to be logged first.
    pub notices: Vec<Notice>,
}

/// The kinds of start errors that differ for a script: by exit code and by the line on stderr.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ErrorKind {
    /// Wrong arguments of the standalone form, or a bad value that Java meets only while starting.
    Usage,
    /// Anything wrong in the file, the dynamic file or `myid`.
    Invalid,
    /// A data directory that is missing, unusable or mixed up.
    DataDirectory,
    /// Everything that Java does not foresee.
    Unexpected,
}

impl ConfigError {
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    pub(super) fn unexpected(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unexpected, message)
    }

    fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), notices: Vec::new() }
    }

    /// The config file is not there or cannot be read; `reason` is the operating system's word.
    pub fn unreadable_file(path: &str, reason: &std::io::Error) -> Self {
        Self::invalid(match reason.kind() {
            std::io::ErrorKind::NotFound => format!("Error processing {path}: {path} file is missing"),
            _ => format!("Error processing {path}: {reason}"),
        })
    }

    /// `clientPortAddress` names a host that no resolver knows.
    pub fn unresolvable_client_address(path: &str, host: &str) -> Self {
        Self::invalid(format!("Error processing {path}: clientPortAddress={host}: unknown host"))
    }

    /// `datadir.autocreate=false` and the directory does not exist.
    pub fn missing_data_directory(directory: &std::path::Path) -> Self {
        let directory = directory.display();
        Self::new(
            ErrorKind::DataDirectory,
            format!(
                "Missing data directory {directory}, automatic data directory creation is disabled \
                 (zookeeper.datadir.autocreate is false). Please create this directory manually."
            ),
        )
    }

    /// A data directory that cannot be used; `reason` names the directory and what is wrong with it.
    pub fn data_directory(reason: impl Into<String>) -> Self {
        Self::new(ErrorKind::DataDirectory, reason)
    }

    /// Names the file in which the error was found, as Java's outermost exception does.
    pub(super) fn in_file(mut self, path: &str) -> Self {
        self.message = format!("Error processing {path}: {}", self.message);
        self
    }

    pub fn exit_code(&self) -> u8 {
        match self.kind {
            ErrorKind::Usage | ErrorKind::Invalid => 2,
            ErrorKind::DataDirectory => 3,
            ErrorKind::Unexpected => 1,
        }
    }

    /// The line that goes to stderr besides the log; Java prints none for what it does not foresee.
    pub fn stderr_line(&self) -> Option<&'static str> {
        match self.kind {
            ErrorKind::Usage => Some("Usage: ZooKeeperServerMain configfile | port datadir [ticktime] [maxcnxns]"),
            ErrorKind::Invalid => Some("Invalid config, exiting abnormally"),
            ErrorKind::DataDirectory => Some("Unable to access datadir, exiting abnormally"),
            ErrorKind::Unexpected => None,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConfigError {}
