//! The server under test: a release build, found by `ZOOID_BIN` or in the target directory.

use std::path::{Path, PathBuf};
use std::process::Command;

/// `zooid server` with its `-D` flags and the configuration file.
pub fn command(flags: &[(String, String)], config: &Path) -> Command {
    let mut zooid = Command::new(binary());
    zooid.arg("server");
    zooid.args(flags.iter().map(|(key, value)| format!("-D{key}={value}")));
    zooid.arg(config);
    zooid
}

fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("ZOOID_BIN") {
        return path.into();
    }
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
    let binary = target.join("release/zooid");
    assert!(binary.is_file(), "no server at {}: `cargo build --release`, or set ZOOID_BIN", binary.display());
    binary
}
