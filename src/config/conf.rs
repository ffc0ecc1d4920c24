//! What the `conf` word prints: the settings by Java's names, which scripts read.

use std::fmt::Write;
use std::path::Path;

use super::{Config, MemberAddress, Mode, Role, version_dir};

/// What `conf` shows and the configuration does not know.
#[derive(Clone, Copy, Debug)]
pub struct Figures<'a> {
    /// The port that is really open for clients; -1 if none.
    pub client_port: i32,
    /// Relative directories are shown from here.
    pub working_dir: &'a Path,
    pub data_dir_bytes: u64,
    pub data_log_dir_bytes: u64,
}

impl Config {
    /// The answer of a standalone server.
    pub fn conf_standalone(&self, figures: Figures<'_>) -> String {
        let node = &self.node;
        let dir = |path: &Path| version_dir(&figures.working_dir.join(path)).display().to_string();
        // A standalone server is number 0, whatever its myid holds.
        let server_id = match self.ensemble.mode {
            Mode::Standalone => 0,
            Mode::Quorum => self.ensemble.server_id.unwrap_or(0),
        };
        format!(
            "clientPort={}\nsecureClientPort=-1\ndataDir={}\ndataDirSize={}\ndataLogDir={}\ndataLogSize={}\n\
             tickTime={}\nmaxClientCnxns={}\nminSessionTimeout={}\nmaxSessionTimeout={}\n\
             clientPortListenBacklog={}\nserverId={server_id}\n",
            figures.client_port,
            dir(&node.data_dir),
            figures.data_dir_bytes,
            dir(&node.data_log_dir),
            figures.data_log_dir_bytes,
            node.tick_time_ms,
            node.max_client_cnxns,
            node.min_session_timeout_ms,
            node.max_session_timeout_ms,
            node.client_port_listen_backlog,
        )
    }

    /// The answer of a read-only member: as a standalone server, and the own place in the ensemble.
    pub fn conf_read_only(&self, figures: Figures<'_>) -> String {
        let own = self.ensemble.server_id.and_then(|id| self.ensemble.membership.members.get(&id));
        let ports = |port: fn(&MemberAddress) -> u16| {
            let mut ports: Vec<String> = Vec::new();
            for address in own.iter().flat_map(|member| &member.addresses) {
                let port = port(address).to_string();
                if !ports.contains(&port) {
                    ports.push(port);
                }
            }
            if ports.is_empty() { "0".to_owned() } else { ports.join("|") }
        };
        let peer_type = match self.ensemble.role {
            Role::Participant => 0,
            Role::Observer => 1,
        };
        let mut text = self.conf_standalone(figures);
        let _ = write!(
            text,
            "initLimit={}\nsyncLimit={}\nelectionAlg=3\nelectionPort={}\nquorumPort={}\npeerType={peer_type}\n",
            self.node.init_limit_ticks,
            self.node.sync_limit_ticks,
            ports(|address| address.election_port),
            ports(|address| address.quorum_port),
        );
        text
    }

    /// The answer of a member that serves, with the current membership: a reconfiguration changes it. The
    /// blank is Java's, and so is the missing newline at the end.
    pub fn conf_member(&self, figures: Figures<'_>, membership: &super::Membership) -> String {
        let mut text = self.conf_read_only(figures);
        let _ = write!(text, "membership: \n{membership}");
        text
    }
}
