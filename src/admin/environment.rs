//! What the server says about its surroundings: the version line, the word `envi`, its files and its memory.

use std::path::Path;

/// Java's answer for a property that is not set, and so for all that only a JVM has.
const NOT_AVAILABLE: &str = "<NA>";

/// The version of ZooKeeper that this server replaces, and its own. Clients look for three numbers, a hyphen,
/// and anything up to the comma; the strictest take letters, digits, dots and hyphens there, and no more.
///
/// The package sets `ZOOID_COMMIT` and `ZOOID_BUILT` (`2026-11-24 12:00 UTC`) when it is built.
pub fn version() -> String {
    let commit = option_env!("ZOOID_COMMIT").map(|commit| format!("-{commit}")).unwrap_or_default();
    let built = option_env!("ZOOID_BUILT").unwrap_or("1970-01-01 00:00 UTC");
    format!("3.9.5-zooid-{}{commit}, built on {built}", env!("CARGO_PKG_VERSION"))
}

/// The pairs of the word `envi`, which the log also shows at the start.
pub fn environment() -> Vec<(&'static str, String)> {
    let first_line = |path: &str| read(path).lines().next().map(str::to_owned).filter(|line| !line.is_empty());
    let variable = |names: &[&str]| names.iter().find_map(|name| std::env::var(name).ok());
    let or = |value: Option<String>, other: &str| value.unwrap_or_else(|| other.to_owned());
    let megabytes = |kilobytes: Option<u64>| format!("{}MB", kilobytes.unwrap_or_default() / 1024);
    let (memory, status) = (read("/proc/meminfo"), read("/proc/self/status"));
    vec![
        ("zookeeper.version", version()),
        ("host.name", or(first_line("/proc/sys/kernel/hostname"), NOT_AVAILABLE)),
        ("java.version", NOT_AVAILABLE.to_owned()),
        ("java.vendor", NOT_AVAILABLE.to_owned()),
        ("java.home", NOT_AVAILABLE.to_owned()),
        ("java.class.path", NOT_AVAILABLE.to_owned()),
        ("java.library.path", NOT_AVAILABLE.to_owned()),
        ("java.io.tmpdir", std::env::temp_dir().display().to_string()),
        ("java.compiler", NOT_AVAILABLE.to_owned()),
        ("os.name", "Linux".to_owned()),
        ("os.arch", if cfg!(target_arch = "x86_64") { "amd64" } else { std::env::consts::ARCH }.to_owned()),
        ("os.version", or(first_line("/proc/sys/kernel/osrelease"), NOT_AVAILABLE)),
        ("user.name", or(variable(&["USER", "LOGNAME"]), "?")),
        ("user.home", or(variable(&["HOME"]), "?")),
        ("user.dir", std::env::current_dir().map_or("?".to_owned(), |dir| dir.display().to_string())),
        ("os.memory.free", megabytes(kilobytes(&memory, "MemAvailable:"))),
        ("os.memory.max", megabytes(kilobytes(&memory, "MemTotal:"))),
        ("os.memory.total", megabytes(kilobytes(&status, "VmRSS:"))),
    ]
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The number behind a key of the kernel's tables.
fn kilobytes(table: &str, key: &str) -> Option<u64> {
    table.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}

/// Files that this process has open.
pub fn open_files() -> Option<i64> {
    // The directory that is being read is one of them, and closed again.
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count() as i64 - 1)
}

/// Files that this process may have open.
pub fn max_files() -> Option<i64> {
    soft_limit(&read("/proc/self/limits"), "Max open files")
}

fn soft_limit(limits: &str, name: &str) -> Option<i64> {
    let value = limits.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?;
    if value == "unlimited" { Some(i64::MAX) } else { value.parse().ok() }
}

/// The sizes of the files in a directory, as Java adds them up; 0 if it is not there.
pub fn directory_bytes(path: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else { return 0 };
    let sizes = entries.flatten().filter_map(|entry| entry.metadata().ok());
    sizes.map(|metadata| if metadata.is_file() { metadata.len() } else { 0 }).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_take_the_version_for_3_9_5() {
        let version = version();
        let (number, built) = version.split_once(", built on ").unwrap();
        // kazoo, aiozk: `(\d+)\.(\d+)\.(\d+)-.*`; go-zookeeper: `[A-Za-z0-9\.\-]+`; semver: what follows is a
        // prerelease.
        assert!(number.starts_with("3.9.5-zooid-"), "{number}");
        assert!(number.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-'), "{number}");
        assert!(built.ends_with(" UTC") && built.len() == "2026-02-11 20:15 UTC".len(), "{built}");
    }

    #[test]
    fn limits_are_read_from_the_kernel_s_table() {
        let table = "Limit                     Soft Limit           Hard Limit           Units     \n\
                     Max processes             unlimited            unlimited            processes \n\
                     Max open files            20000                1048576              files     \n";
        assert_eq!(soft_limit(table, "Max open files"), Some(20000));
        assert_eq!(soft_limit(table, "Max processes"), Some(i64::MAX));
        assert_eq!(soft_limit(table, "Max nothing"), None);
        assert_eq!(kilobytes("MemTotal:       1024 kB\nMemFree: 7 kB\n", "MemFree:"), Some(7));
        assert!(open_files().unwrap() > 0 && max_files().unwrap() > 0);
    }
}
