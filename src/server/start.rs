//! From a configuration to a serving process, and back to an exit code.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::image::{ImageTask, Learners, Upkeep};
use super::log::{LogQueue, Storage};
use super::peer::Peers;
use super::rounds::{Hands, Rounds, run_node};
use super::{Shared, image, log};
use crate::acl::AclRules;
use crate::admin::environment;
use crate::auth::AuthRules;
use crate::clock::{self, Clock};
use crate::config::{self, Config, Level, Mode, SnapshotCompression, version_dir};
use crate::disk::{self, FileDisk, Lock};
use crate::election::ElectionRules;
use crate::id::Zxid;
use crate::journal;
use crate::net::listen;
use crate::net::quorum::LinkRules;
use crate::node::local::LocalRules;
use crate::node::member::{Found, LAST_COUNTER, MemberRules};
use crate::node::reaper::ReaperRules;
use crate::node::{Node, NodeRules};
use crate::prepare::PrepareRules;
use crate::storage::image::{Image, Keeper, Progress};
use crate::storage::member::{MemberStore, OpenedMember};
use crate::storage::schedule::SnapshotSchedule;
use crate::storage::{
    self, Disks, ForceSync, ImageState, LogOptions, LogWriter, Options, Pace, Recovered, Replay, SnapshotId,
    StorageError, check_directories, recover, write_tree,
};
use crate::tree::snapshot::Compression;
use crate::tree::{Tree, TreeRules};
use crate::zab::leader::LeaderRules;
use crate::zab::learner::LearnerRules;
use crate::zab::packet::FeatureLevel;

/// What a process ends with when its storage fails, as Java's does.
pub const EXIT_STORAGE: i32 = 10;
/// Java: `ExitCode.UNEXPECTED_ERROR`.
pub const EXIT_UNEXPECTED: i32 = 1;
/// Java: `ExitCode.UNABLE_TO_ACCESS_DATADIR`.
const EXIT_DATA_DIRECTORY: i32 = 3;
/// Java: `ExitCode.INVALID_INVOCATION`.
pub const EXIT_INVALID: i32 = 2;

/// What this version can do beyond Java (design.md D16).
const FEATURE_LEVEL: FeatureLevel = FeatureLevel::AHEAD;

/// Why nobody could use the server. A member without a client port still votes.
fn has_no_use(config: &Config) -> Option<&'static str> {
    let is_alone = config.ensemble.mode == Mode::Standalone;
    (is_alone && config.node.client.is_none()).then_some("clientPort is not set: nobody could reach this server")
}

const HOUR: Duration = Duration::from_secs(3600);

/// Writes what parsing the configuration found to the log.
pub fn log_notices(notices: &[config::Notice]) {
    for notice in notices {
        match notice.level {
            Level::Info => info!("{}", notice.text),
            Level::Warn => warn!("{}", notice.text),
            Level::Error => error!("{}", notice.text),
        }
    }
}

/// Serves until a signal ends it; the value is the exit code.
pub fn serve(config: Config) -> i32 {
    let started = Instant::now();
    if let Some(why) = has_no_use(&config) {
        error!("{why}");
        return EXIT_INVALID;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            error!("no threads to run on: {error}");
            return EXIT_UNEXPECTED;
        }
    };
    let signals = Signals::hear(&runtime);
    log_settings(&config);
    let opened = match Opened::open(&config, STOP_PATIENCE) {
        Ok(opened) => opened,
        Err(failure) => {
            error!("Unexpected exception, exiting abnormally: {}", failure.message);
            if failure.exit_code == EXIT_DATA_DIRECTORY {
                // As Java, beside what is logged.
                eprintln!("Unable to access datadir, exiting abnormally");
            }
            return failure.exit_code;
        }
    };
    signals.is_loading.store(false, Ordering::Release);
    let entered = runtime.enter();
    let (backlog, keep_alive) = (config.node.client_port_listen_backlog, config.node.client_tcp_keep_alive);
    let bind = |endpoint| listen::bind(endpoint, backlog, keep_alive);
    let listener = match config.node.client.as_ref().map(bind).transpose() {
        Ok(listener) => listener,
        Err(error) => {
            error!("Unexpected exception, exiting abnormally: {error:#}");
            return EXIT_UNEXPECTED;
        }
    };
    let port = listener.as_ref().and_then(|listener| listener.local_addr().ok()).map(|address| address.port());
    let Opened { lock, recovered, load_ms, image, no_image, snapshots, logs, storage, found } = opened;
    let queue = Arc::new(LogQueue::default());
    let clock = Clock::new(config.node.tick_time_ms.into());
    let seed = random_seed();
    let size_limit = config.node.snap_size_limit_kb.map(|kb| kb.saturating_mul(1024));
    let owner = config.ensemble.image_owner();
    let schedule = SnapshotSchedule::new(owner, config.node.snap_count.into(), size_limit, &recovered);
    let keeper = Keeper::new(owner, &recovered, 0);
    let Recovered { tree, digest_check, replayed, .. } = recovered;
    let (rules, now, millis) = (node_rules(&config), clock.mono(), clock::wall_ms());
    let node = match found {
        None => Node::new(rules, &tree, digest_check, now, millis),
        Some(found) => Node::new_member(rules, member_rules(&config), &tree, found, digest_check, now, millis),
    };
    let last_zxid = tree.last_zxid();
    let shared = Arc::new(Shared::new(config, clock, tree, seed, port));
    shared.serve(node.duty());
    {
        let mut measures = shared.counters.measures.lock();
        measures.load_time_ms.add(load_ms);
        measures.replayed.add(replayed as i64);
    }
    let compression = compression(shared.config.node.snapshot_compression);
    let peers = match &storage {
        Storage::Alone(_) => None,
        Storage::Member(_) => Some(Peers::start(&shared, &queue, &logs, runtime.handle())),
    };

    let log_thread = spawn("zooid-log", {
        let (shared, queue) = (shared.clone(), queue.clone());
        move || log::run(&shared, &queue, storage)
    });
    let image_thread = cfg!(feature = "io").then(|| {
        let (shared, queue) = (shared.clone(), queue.clone());
        let retain = shared.config.node.autopurge_retain_count as usize;
        let purge_every = shared.config.node.autopurge_interval_hours.map(|hours| HOUR * hours);
        let upkeep = Upkeep { snapshots, logs, compression, schedule, retain, purge_every };
        let learners = peers.as_ref().map(|peers| Box::new(peers.learners()) as Box<dyn Learners<_> + Send>);
        let task = ImageTask::new(image, keeper, upkeep, learners);
        shared.image.open();
        spawn("zooid-image", move || image::run(&shared, &queue, task, no_image))
    });
    let rounds =
        Rounds::new(node, Hands { log: queue.clone(), peers, runtime: runtime.handle().clone() }, &shared.clock);
    let node_thread = spawn("zooid-node", {
        let shared = shared.clone();
        move || run_node(&shared, rounds)
    });
    let accepting = listener.map(|listener| runtime.spawn(listen::accept(shared.clone(), listener)));
    let role = match shared.config.ensemble.mode {
        Mode::Standalone => "standalone".to_owned(),
        Mode::Quorum => format!("member {}", shared.config.ensemble.server_id.unwrap_or_default()),
    };
    info!(
        zxid = %last_zxid, start_ms = started.elapsed().as_millis() as u64,
        "zooid {} serves on {}, {role}", env!("CARGO_PKG_VERSION"),
        port.map_or("no port".to_owned(), |port| format!("port {port}"))
    );

    let signal_name = signals.wait(&runtime);
    info!("Shutting down: {signal_name} received");
    accepting.inspect(|task| task.abort());
    shared.stop_node();
    node_thread.join().expect("the Node's thread does not panic");
    // Clients go to another server now, not when the image is written.
    shared.stop_serving();
    queue.stop();
    log_thread.join().expect("the log's thread does not panic");
    shared.stopped.store(true, Ordering::Release);
    shared.wake_stopped();
    if let Some(thread) = image_thread {
        thread.join().expect("the image's thread does not panic");
    }
    // The next server may wait for it, and need not until all memory is given back.
    drop(lock);
    info!("stopped");
    drop(entered);
    // Somebody may wait for a name server that does not answer.
    runtime.shutdown_background();
    0
}

/// What operators look for in the log of a start, in Java's words.
fn log_settings(config: &Config) {
    let node = &config.node;
    for (key, value) in environment::environment() {
        info!("Server environment:{key}={value}");
    }
    info!("zookeeper.snapshot.trust.empty : {}", node.snapshot_trust_empty);
    info!("zookeeper.enforce.auth.enabled = {}", node.enforce_auth_schemes.is_some());
    info!("tickTime set to {} ms", node.tick_time_ms);
    info!("minSessionTimeout set to {} ms", node.min_session_timeout_ms);
    info!("maxSessionTimeout set to {} ms", node.max_session_timeout_ms);
    info!("clientPortListenBacklog set to {}", node.client_port_listen_backlog);
    if node.autopurge_interval_hours.is_none() {
        info!("Purge task is not scheduled.");
    }
    match config.ensemble.mode {
        Mode::Standalone => info!("Starting server"),
        Mode::Quorum => {
            info!("initLimit set to {}", node.init_limit_ticks);
            info!("syncLimit set to {}", node.sync_limit_ticks);
            info!("Starting quorum peer, myid={}", config.ensemble.server_id.unwrap_or_default());
        }
    }
}

/// Writes a snapshot of what the directories of a stopped server hold; the value is the exit code.
pub fn snapshot(config: &Config) -> i32 {
    let failed = |error: &dyn std::fmt::Display, code| {
        error!("no snapshot was written: {error}");
        code
    };
    let Opened { lock: _lock, mut recovered, image, no_image, snapshots, .. } =
        match Opened::open(config, Duration::ZERO) {
            Ok(opened) => opened,
            Err(failure) => return failed(&failure.message, failure.exit_code),
        };
    let compression = compression(config.node.snapshot_compression);
    let written = match no_image {
        None => {
            let keeper = Keeper::new(config.ensemble.image_owner(), &recovered, 0);
            snapshot_of_image(&mut recovered.tree, keeper, &image, &snapshots, compression)
        }
        Some(_) => write_tree(&snapshots, &recovered.tree, compression).map(Some).map_err(Into::into),
    };
    match written {
        Ok(Some(id)) => info!("{} written, {} bytes", id.name, id.len),
        Ok(None) => info!("there is a snapshot of 0x{:x} already", recovered.tree.last_zxid()),
        Err(error) => return failed(&error, EXIT_STORAGE),
    }
    0
}

/// Says what [`serve`] would serve; the value is the exit code.
pub fn check(config: &Config) -> i32 {
    if let Some(why) = has_no_use(config) {
        error!("{why}");
        return EXIT_INVALID;
    }
    info!("the configuration is accepted; neither ports nor data were looked at");
    0
}

/// The image must hold what the snapshot holds, and know of it: else the next start would not believe it.
fn snapshot_of_image(
    tree: &mut Tree,
    mut keeper: Keeper,
    image: &ServerImage,
    disk: &FileDisk,
    compression: Compression,
) -> anyhow::Result<Option<SnapshotId>> {
    let mut capture = keeper.begin();
    while capture.take(tree) == Progress::More {
        if let Some(part) = capture.take_part() {
            image.write(&part)?;
        }
    }
    let Ok(batch) = keeper.finish(capture, tree) else {
        anyhow::bail!("where the last transaction stands in the log is not known");
    };
    image.write(&batch)?;
    let Some(job) = keeper.begin_snapshot(image, compression)? else { return Ok(None) };
    let id = job.write(disk, Pace::Hurried)?;
    keeper.finish_snapshot(image, disk, id)?;
    Ok(Some(id))
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> thread::JoinHandle<()> {
    thread::Builder::new().name(name.to_owned()).spawn(run).expect("a thread can be started")
}

/// What ends the server. It is heard from the first moment on, because the kernel keeps from process 1 of a container
/// what that does not handle.
struct Signals {
    is_loading: Arc<AtomicBool>,
    ended: oneshot::Receiver<&'static str>,
}

impl Signals {
    fn hear(runtime: &Runtime) -> Self {
        let _entered = runtime.enter();
        let [mut terminate, mut interrupt, mut quit] =
            [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::quit()]
                .map(|kind| signal(kind).expect("a signal can be awaited"));
        let (tell, ended) = oneshot::channel();
        let is_loading = Arc::new(AtomicBool::new(true));
        let loads = is_loading.clone();
        runtime.spawn(async move {
            let name = loop {
                tokio::select! {
                    _ = terminate.recv() => break "SIGTERM",
                    _ = interrupt.recv() => break "SIGINT",
                    // A JVM prints its threads and goes on.
                    _ = quit.recv() => warn!("SIGQUIT received: there are no threads of a JVM to print; the server goes on"),
                }
            };
            if loads.load(Ordering::Acquire) {
                info!("Shutting down: {name} received while the data directories were read");
                end_process(0);
            }
            let _ = tell.send(name);
        });
        Self { is_loading, ended }
    }

    /// Everything is loaded: from now on it ends in order.
    fn wait(self, runtime: &Runtime) -> &'static str {
        runtime.block_on(self.ended).expect("the task that hears signals does not end before")
    }
}

/// Ends the process as it is. A C++ library that tidies up after itself takes its locks away from its own threads, and from
/// those that still read a snapshot: then the process aborts, whatever it wanted to say with its exit code.
pub fn end_process(code: i32) -> ! {
    // SAFETY: it takes no pointers, and what is to last is on disk, or is lost as in a power cut.
    unsafe { libc::_exit(code) }
}

/// Keys the hashes of paths; no two starts have the same.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

#[cfg(feature = "io")]
pub type ServerImage = crate::image_rocksdb::RocksImage;
#[cfg(not(feature = "io"))]
pub type ServerImage = crate::image_none::NoImage;

/// The directories of a server, read and locked.
pub struct Opened {
    lock: Lock,
    recovered: Recovered,
    load_ms: i64,
    image: Arc<ServerImage>,
    /// Why it is not there.
    no_image: Option<String>,
    snapshots: Arc<FileDisk>,
    logs: Arc<FileDisk>,
    storage: Storage,
    /// What only a member needs to know.
    found: Option<Found>,
}

/// Why the directories can't be used.
pub struct OpenFailure {
    pub message: String,
    pub exit_code: i32,
}

impl Opened {
    /// Waits so long for another process to leave them.
    pub fn open(config: &Config, patience: Duration) -> Result<Self, OpenFailure> {
        let node = &config.node;
        let own_dir = node.data_dir.join("zooid");
        let failure =
            |exit_code| move |error: &dyn std::fmt::Display| OpenFailure { message: error.to_string(), exit_code };
        // Whoever uses a directory does so through the same value: a name may come to stand for another file.
        let snap = Arc::new(FileDisk::new(version_dir(&node.data_dir)));
        let log = match node.data_dir == node.data_log_dir {
            true => snap.clone(),
            false => Arc::new(FileDisk::new(version_dir(&node.data_log_dir))),
        };
        let log_home = Arc::new(FileDisk::new(&node.data_log_dir));
        let disks = Disks { log: log.clone(), snap: snap.clone(), log_home, own: Arc::new(FileDisk::new(&own_dir)) };
        let image = Arc::new(ServerImage::new(own_dir.join("image")));
        let is_member = config.ensemble.mode == Mode::Quorum;
        let options = Options {
            rules: tree_rules(config),
            replay: if is_member { Replay::Nothing } else { Replay::All },
            server: config.ensemble.image_owner(),
            trust_empty: node.snapshot_trust_empty,
            make_directories: node.data_dir_autocreate,
            db_autocreate: node.db_autocreate,
            compression: compression(node.snapshot_compression),
            give_up_after: node.give_up_after.map(Zxid),
            force_sync: if node.force_sync { ForceSync::Yes } else { ForceSync::No },
        };
        let log_options = LogOptions {
            preallocate: node.pre_alloc_size_kb * 1024,
            size_limit: node.txn_log_size_limit_kb.map(|kb| kb * 1024),
            force_sync: options.force_sync,
        };
        let started = Instant::now();
        let refused = |error: StorageError| failure(error.exit_code())(&error);
        // Nothing is made where nothing may be made.
        check_directories(&disks, &options).map_err(refused)?;
        let lock = take_lock(&own_dir, patience)?;
        let (recovered, storage, found) = if is_member {
            let (store, opened) = MemberStore::open(disks, image.clone(), options, log_options).map_err(refused)?;
            let OpenedMember { recovered, epochs } = opened;
            let found = Found { is_blank: recovered.last_zxid == Zxid(-1), tail: recovered.tail.clone(), epochs };
            (recovered, Storage::Member(Box::new(store)), Some(found))
        } else {
            let recovered = recover(&disks, &image, &options).map_err(refused)?;
            let writer = LogWriter::new(log.clone(), &recovered.log, log_options);
            (recovered, Storage::Alone(Box::new(writer)), None)
        };
        for notice in &recovered.notices {
            match notice {
                // As every first start does.
                storage::Notice::SnapshotWritten { .. } => info!("{notice}"),
                _ => warn!("{notice}"),
            }
        }
        let load_ms = started.elapsed().as_millis() as i64;
        info!(
            replayed = recovered.replayed, nodes = recovered.tree.node_count(), image = ?recovered.image,
            "Snapshot loaded in {load_ms} ms, highest zxid is 0x{:x}, digest is {}",
            recovered.last_zxid,
            recovered.tree.digest() as i64
        );
        let no_image = match &recovered.image {
            ImageState::Unavailable { why } => {
                warn!("serving without an image; without one a start reads snapshot and log: {why}");
                Some(why.clone())
            }
            _ => None,
        };
        Ok(Self { lock, recovered, load_ms, image, no_image, snapshots: snap, logs: log, storage, found })
    }
}

/// A server that was told to stop writes its log and its image first; `zkServer.sh restart` does not wait for that.
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// One process at a time: two would write over each other. The other one may be about to end.
fn take_lock(own_dir: &Path, patience: Duration) -> Result<Lock, OpenFailure> {
    let own = own_dir.display();
    let taken = match disk::lock(own_dir) {
        Ok(None) if !patience.is_zero() => {
            warn!("{own} is locked by another process, which serves it: waiting up to {patience:?} for its end");
            disk::await_lock(own_dir, patience)
        }
        taken => taken,
    };
    match taken {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => Err(OpenFailure {
            message: format!("{own} is locked by another process, which serves it: stop that first"),
            exit_code: EXIT_UNEXPECTED,
        }),
        Err(error) => {
            Err(OpenFailure { message: format!("cannot lock {own}: {error:#}"), exit_code: EXIT_DATA_DIRECTORY })
        }
    }
}

pub fn tree_rules(config: &Config) -> TreeRules {
    TreeRules {
        seed: random_seed(),
        digest: config.node.digest_enabled,
        emulate_353_ttl: config.node.extended_types_enabled && config.node.emulate_353_ttl_nodes,
    }
}

pub fn acl_rules(config: &Config) -> AclRules {
    AclRules { skip: config.node.skip_acl, digest: config.node.digest_enabled_provider }
}

pub fn auth_rules(config: &Config) -> AuthRules {
    let node = &config.node;
    AuthRules {
        digest: node.digest_enabled_provider,
        digest_alg: node.digest_alg,
        super_digest: node.super_digest.clone(),
        ensemble: node.ensemble_provider.then(|| node.ensemble_auth_names.clone()),
        enforced: node.enforce_auth_schemes.clone(),
    }
}

fn node_rules(config: &Config) -> NodeRules {
    let node = &config.node;
    let most = node.jute_max_buffer_bytes as usize + node.jute_extra_bytes as usize;
    // Followers read no packet that is larger. Alone, nobody has to be sent it.
    let is_member = config.ensemble.mode == Mode::Quorum;
    let record_most = if is_member { most } else { most.max(journal::PAYLOAD_MAX) };
    NodeRules {
        server_id: config.ensemble.server_id.filter(|_| config.ensemble.mode == Mode::Quorum).unwrap_or(1) as u8,
        tick_ms: node.tick_time_ms.into(),
        record_most,
        prepare: PrepareRules {
            acl: acl_rules(config),
            extended_types: node.extended_types_enabled,
            enforce_quota: node.enforce_quota,
            reconfig: config.ensemble.reconfig_enabled,
            close_list_bytes: (1 << 20).min(record_most / 2),
        },
        reaper: ReaperRules {
            interval_ms: node.container_check_interval_ms.into(),
            max_per_minute: node.container_max_per_minute.into(),
            max_never_used_ms: node.container_max_never_used_interval_ms as i64,
        },
    }
}

fn member_rules(config: &Config) -> MemberRules {
    let (node, ensemble) = (&config.node, &config.ensemble);
    let me = ensemble.server_id.expect("a member has a myid");
    let membership = Arc::new(ensemble.membership.clone());
    let tick_ms = i64::from(node.tick_time_ms);
    let init_limit_ticks = i64::from(node.init_limit_ticks);
    let sync_limit_ticks = i64::from(node.sync_limit_ticks);
    let config_version = membership.version;
    let level = Some(FEATURE_LEVEL);
    MemberRules {
        me,
        role: ensemble.role,
        election: ElectionRules {
            me,
            role: ensemble.role,
            membership: membership.clone(),
            min_interval_ms: ensemble.min_notification_interval_ms.into(),
            max_interval_ms: ensemble.max_notification_interval_ms.into(),
        },
        leader: LeaderRules {
            me,
            tick_ms,
            init_limit_ticks,
            sync_limit_ticks,
            config_text: Bytes::from(membership.to_string()),
            membership,
            level,
            force_snapshot: ensemble.force_snapshot_sync,
            sync_from_log: node.snapshot_size_factor.is_some(),
            max_concurrent_snap_syncs: ensemble.max_concurrent_snap_syncs.max(0) as usize,
            max_concurrent_diff_syncs: ensemble.max_concurrent_diff_syncs.max(0) as usize,
            // The rest is for what is new meanwhile.
            max_diff_bytes: LinkRules::USUAL_QUEUED / 2,
        },
        learner: LearnerRules {
            me,
            role: ensemble.role,
            tick_ms,
            init_limit_ticks,
            sync_limit_ticks,
            connect_limit_ticks: ensemble.connect_limit_ticks(node.init_limit_ticks).into(),
            config_version,
            level,
        },
        last_counter: LAST_COUNTER,
        commit_log_count: node.commit_log_count as usize,
        follows_config: ensemble.reconfig_enabled,
        multi_address: ensemble.multi_address,
        ack_logging_frequency: ensemble.ack_logging_frequency,
        leader_serves: ensemble.leader_serves,
        local_sessions: node
            .local_sessions_enabled
            .then_some(LocalRules { upgrade: node.local_sessions_upgrading_enabled }),
        read_only_after_ms: node.read_only_mode_enabled.then(|| tick_ms.max(2000)),
    }
}

fn compression(configured: SnapshotCompression) -> Compression {
    match configured {
        SnapshotCompression::None => Compression::Plain,
        SnapshotCompression::Gzip => Compression::Gz,
        SnapshotCompression::Snappy => Compression::Snappy,
    }
}

/// Sets up logging: to stderr, by the level in `RUST_LOG` (info if it is not set).
pub fn init_logging(format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).init(),
        LogFormat::Json => builder.json().init(),
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    Text,
    Json,
}

/// Reads the configuration that `arguments` name: one file, or PORT DATADIR and so on.
pub fn read_config(
    arguments: &[String],
    flags: &config::Flags,
) -> Result<(Config, Vec<config::Notice>), config::ConfigError> {
    let [path] = arguments else { return Config::from_arguments(arguments, flags) };
    let bytes = std::fs::read(path).map_err(|error| config::ConfigError::unreadable_file(path, &error))?;
    let draft = config::Draft::parse(path, &bytes, flags)?;
    let wants = draft.wants();
    if let Some(client) = wants.client.as_ref().filter(|client| listen::addresses(client).is_err()) {
        return Err(config::ConfigError::unresolvable_client_address(path, &client.host));
    }
    // One that is there and can't be read is not missing.
    let read = |path: &Path| {
        let name = path.display().to_string();
        let read = || std::fs::read(path).map_err(|error| config::ConfigError::unreadable_file(&name, &error));
        path.is_file().then(read).transpose()
    };
    draft.finish(&config::Found {
        myid: read(&wants.myid)?,
        dynamic: wants.dynamic.as_deref().map_or(Ok(None), read)?,
        // Only looked at: what it says is not in force.
        dynamic_next: wants.dynamic_next.as_deref().and_then(|path| read(path).unwrap_or_default()),
    })
}
