//! The text of `zoo.cfg`, of its dynamic file and of `myid`, and `-D` flags, to one [`Config`].
//!
//! Java spreads its settings over a parser, system properties and the static fields of whoever reads them,
//! and keeps silent about a key that nobody reads. Here everything is read once, by a function without files,
//! environment or clock: so the whole behaviour, the messages and exit codes included, is tested in
//! memory, and a key that cannot act is named. The rules for what wins are Java's: a line of the file replaces
//! a flag, a flag replaces the default.
//!
//! Which files there are to read depends on the first one. So parsing has two steps: [`Draft::parse`] takes
//! the config file, [`Draft::wants`] says what else the caller must look for, [`Draft::finish`] takes what it
//! found.
//!
//! ```
//! use zooid::config::{Draft, Flags, Found};
//!
//! let draft = Draft::parse("/etc/zoo.cfg", b"dataDir=/data\nclientPort=2181\n", &Flags::default()).unwrap();
//! assert_eq!(draft.wants().myid, std::path::Path::new("/data/myid"));
//! let (config, notices) = draft.finish(&Found::default()).unwrap();
//! assert_eq!(config.node.client.unwrap().to_string(), "0.0.0.0:2181");
//! assert!(notices.iter().any(|notice| notice.text == "clientPortAddress is 0.0.0.0:2181"));
//! ```
//!
//! Java: `QuorumPeerConfig`, `ServerConfig`, and the `System.getProperty` calls of all classes.

#[cfg(test)]
mod checks;
mod conf;
mod dynamic;
mod ensemble;
mod error;
mod file;
mod flags;
mod keys;
mod membership;
mod node;
mod own;
mod properties;
mod value;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use conf::Figures;
pub use dynamic::{Rewritten, parse_members, rewrite};
pub use ensemble::{Ensemble, Mode};
pub use error::{ConfigError, ErrorKind, Level, Notice};
pub use flags::Flags;
pub use membership::{Endpoint, Member, MemberAddress, Membership, MultiAddress, QuorumRule, Role};
pub use node::{
    Admin, ConnectionFactory, ConnectionThrottle, DigestAlg, FourLetterWords, LargeRequests, Metrics, Node,
    RequestThrottle, SnapshotCompression, WatchManager,
};
pub use properties::{MalformedEscape, parse_properties};

use file::{ANY_ADDRESS, FileKeys, check_path, is_membership, normalized_path, parse_lines};
use membership::{not_a_number, parse_port};
use node::Properties;
use own::{OwnMember, check_own_id, multi_address};
use value::parse_int;

/// Everything that was configured. It does not change while the server runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub ensemble: Ensemble,
    pub node: Node,
    /// The file it came from; `None` for the command line form without a file.
    pub path: Option<String>,
    /// The text of that file, as the AdminServer shows it.
    pub initial_text: Option<String>,
    /// All system properties as Java would have them, the unknown ones included.
    pub system_properties: BTreeMap<String, String>,
}

/// A config file that has been read, while the files it points to have not.
#[derive(Clone, Debug)]
pub struct Draft {
    path: String,
    text: String,
    lines: BTreeMap<String, String>,
    properties: BTreeMap<String, String>,
    file: FileKeys,
    notices: Vec<Notice>,
}

/// The files to look for. Each of them may be missing; only some of them must not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wants {
    pub myid: PathBuf,
    pub dynamic: Option<PathBuf>,
    pub dynamic_next: Option<PathBuf>,
    /// The host of `clientPortAddress`, which must have an address by now.
    pub client: Option<Endpoint>,
}

/// The bytes of the files that [`Draft::wants`] named; `None` for one that is not there, or is no file.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub myid: Option<Vec<u8>>,
    pub dynamic: Option<Vec<u8>>,
    pub dynamic_next: Option<Vec<u8>>,
}

impl Draft {
    /// Parses the config file. `path` is the path as it was given; messages name it.
    pub fn parse(path: &str, bytes: &[u8], flags: &Flags) -> Result<Self, ConfigError> {
        let mut notices = vec![Notice::info(format!("Reading configuration from: {path}"))];
        check_path(path, &mut notices);
        let parsed = parse_lines(bytes).and_then(|lines| {
            notices.extend(keys::notices(&lines, flags));
            let file = FileKeys::parse(&lines, &mut notices)?;
            Ok((lines, file))
        });
        let (lines, file) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => return Err(ConfigError { notices, ..error.in_file(path) }),
        };
        let mut properties = flags.properties.clone();
        for (key, value) in &lines {
            // Java sets no property for the keys that its parser knows, except for the membership.
            let is_members = is_membership(key);
            if is_members || !matches!(keys::look_up(key), Some((keys::Place::File, _))) {
                properties.insert(format!("zookeeper.{key}"), value.clone());
            }
        }
        let text = String::from_utf8_lossy(bytes).into_owned();
        Ok(Self { path: path.to_owned(), text, lines, properties, file, notices })
    }

    /// What somebody who reaches files and name servers has to look at: the contents are for [`Draft::finish`].
    pub fn wants(&self) -> Wants {
        let dynamic = self.file.dynamic_file.as_ref().map(PathBuf::from);
        let dynamic_next = dynamic.as_ref().map(|_| PathBuf::from(format!("{}.dynamic.next", self.path)));
        let client = self.file.client.clone().filter(|client| !client.is_any_address());
        Wants { myid: self.file.data_dir.join("myid"), dynamic, dynamic_next, client }
    }

    /// Parses what the other files held and puts everything together.
    pub fn finish(mut self, found: &Found) -> Result<(Config, Vec<Notice>), ConfigError> {
        let mut notices = std::mem::take(&mut self.notices);
        match self.assemble(found, &mut notices) {
            Ok(config) => Ok((config, notices)),
            Err(error) => Err(ConfigError { notices, ..error }),
        }
    }

    fn assemble(self, found: &Found, notices: &mut Vec<Notice>) -> Result<Config, ConfigError> {
        let multi = multi_address(&self.properties);
        // The membership may stand in a file of its own, and then that is the file to blame.
        let blamed = self.file.dynamic_file.clone().unwrap_or_else(|| self.path.clone());
        let own = OwnMember::parse(&self, found, multi, notices).map_err(|error| error.in_file(&blamed))?;
        let Self { path, text, properties: all, file, .. } = self;
        refuse(&file, &all)?;
        let mut properties = Properties { all: &all, notices };
        let node = Node::new(&file, own.client.clone(), &mut properties)?;
        // For the links between members, unlike for the lines, the file has the last word.
        let ensemble = Ensemble::new(&file, own, file.multi_address.unwrap_or(multi), &mut properties);
        check_own_id(&ensemble, &node)?;
        Ok(Config { ensemble, node, path: Some(path), initial_text: Some(text), system_properties: all })
    }
}

impl Config {
    /// `globalOutstandingLimit` of this server: voters share it (data-model 11.3).
    pub fn outstanding_limit(&self) -> usize {
        let limit = self.node.global_outstanding_limit as usize;
        let Ensemble { mode, role, membership, .. } = &self.ensemble;
        let voters = membership.members.keys().filter(|id| membership.is_voter(**id)).count();
        let shares = *mode == Mode::Quorum && *role == Role::Participant && voters > 2;
        if shares { limit / (voters - 1) } else { limit }
    }

    /// The command line form without a file: `PORT DATADIR [TICKTIME] [MAXCNXNS]`. A single argument is the
    /// path of a config file and does not belong here.
    pub fn from_arguments(arguments: &[String], flags: &Flags) -> Result<(Self, Vec<Notice>), ConfigError> {
        let mut notices = keys::notices(&BTreeMap::new(), flags);
        match Self::parse_arguments(arguments, flags, &mut notices) {
            Ok(config) => Ok((config, notices)),
            Err(error) => Err(ConfigError { notices, ..error }),
        }
    }

    fn parse_arguments(arguments: &[String], flags: &Flags, notices: &mut Vec<Notice>) -> Result<Self, ConfigError> {
        if !(2..=4).contains(&arguments.len()) {
            return Err(ConfigError::usage(format!("Invalid number of arguments:[{}]", arguments.join(", "))));
        }
        let number = |name: &str, at: usize, default: i32| match arguments.get(at) {
            None => Ok(default),
            Some(text) => parse_int(text).ok_or_else(|| ConfigError::usage(not_a_number(name, text).message)),
        };
        let port = parse_port("port", number("port", 0, 0)?).map_err(|error| ConfigError::usage(error.message))?;
        let lines = BTreeMap::from([("dataDir".to_owned(), "/".to_owned())]);
        let mut file = FileKeys::parse(&lines, &mut Vec::new())?;
        file.data_dir = PathBuf::from(normalized_path(&arguments[1]));
        file.data_log_dir = file.data_dir.clone();
        file.tick_time_ms = number("ticktime", 2, 3000)?;
        file.max_client_cnxns = number("maxcnxns", 3, 0)?;
        file.min_session_timeout_ms = file.tick_time_ms.wrapping_mul(2);
        file.max_session_timeout_ms = file.tick_time_ms.wrapping_mul(20);
        // Unlike in a file, port 0 is any free one here.
        file.client = Some(Endpoint { host: ANY_ADDRESS.to_owned(), port });
        let draft = Draft {
            path: String::new(),
            text: String::new(),
            lines,
            properties: flags.properties.clone(),
            file,
            notices: Vec::new(),
        };
        let config = draft.assemble(&Found::default(), notices)?;
        Ok(Self { path: None, initial_text: None, ..config })
    }
}

/// Refuses settings that protect something and are not built: who wrote them must not find out later.
fn refuse(file: &FileKeys, properties: &BTreeMap<String, String>) -> Result<(), ConfigError> {
    let property = |key: &str| properties.get(&format!("zookeeper.{key}")).map(String::as_str);
    if let Some(port) = file.secure_client_port {
        return Err(ConfigError::invalid(format!(
            "secureClientPort={}: TLS is not built yet; remove the line to serve without TLS",
            port
        )));
    }
    let mut refused = file.refused.clone();
    for key in ["sessionRequireClientSASLAuth", "client.portUnification", "audit.enable"] {
        if property(key).is_some_and(|text| text.eq_ignore_ascii_case("true")) {
            refused.push(format!("{key}=true"));
        }
    }
    if refused.is_empty() {
        return Ok(());
    }
    Err(ConfigError::invalid(format!(
        "{}: not built yet, and the server would run without what this protects; remove it to start all the same",
        refused.join(", ")
    )))
}

/// Where the data of a directory from the configuration lie.
pub fn version_dir(directory: &Path) -> PathBuf {
    directory.join("version-2")
}
