//! The checks of the specification on configuration, by their numbers, and the rules around them.

use std::path::Path;

use super::*;

const QUORUM: &str = "dataDir=/d\nclientPort=2181\ninitLimit=10\nsyncLimit=5\n\
                      server.1=a:2888:3888\nserver.2=b:2888:3888\nserver.3=c:2888:3888\n";

fn flags(words: &str) -> Flags {
    Flags::from_variables(Some(words), None)
}

fn parse_with(text: &str, flag_words: &str, found: &Found) -> Result<(Config, Vec<Notice>), ConfigError> {
    Draft::parse("/c/zoo.cfg", text.as_bytes(), &flags(flag_words))?.finish(found)
}

#[track_caller]
fn accept(text: &str) -> Config {
    accept_with(text, "")
}

#[track_caller]
fn accept_with(text: &str, flag_words: &str) -> Config {
    parse_with(&format!("dataDir=/d\n{text}"), flag_words, &Found::default()).unwrap().0
}

/// The text of every notice that the configuration gives rise to.
#[track_caller]
fn notices(text: &str, flag_words: &str) -> Vec<Notice> {
    parse_with(&format!("dataDir=/d\n{text}"), flag_words, &Found::default()).unwrap().1
}

#[track_caller]
fn notes(text: &str, flag_words: &str, level: Level, expected: &str) {
    let notices = notices(text, flag_words);
    let said = notices.iter().any(|notice| notice.level == level && notice.text.contains(expected));
    assert!(said, "no {level:?} with {expected:?} in {notices:#?}");
}

#[track_caller]
fn refuse_with(text: &str, flag_words: &str, found: &Found, exit_code: u8, expected: &str) -> ConfigError {
    let error = parse_with(text, flag_words, found).unwrap_err();
    assert!(error.message.contains(expected), "{error}");
    assert_eq!(error.exit_code(), exit_code, "{error}");
    error
}

#[track_caller]
fn refuse(text: &str, exit_code: u8, expected: &str) -> ConfigError {
    refuse_with(&format!("dataDir=/d\n{text}"), "", &Found::default(), exit_code, expected)
}

fn myid(text: &str) -> Found {
    Found { myid: Some(text.as_bytes().to_vec()), ..Found::default() }
}

fn dynamic(text: &str) -> Found {
    Found { dynamic: Some(text.as_bytes().to_vec()), ..myid("1") }
}

fn figures() -> Figures<'static> {
    Figures { client_port: 2181, working_dir: Path::new("/"), data_dir_bytes: 7, data_log_dir_bytes: 7 }
}

// config 8.1 #1
#[test]
fn every_separator_gives_the_same_tick_time() {
    for line in ["tickTime 3000", "tickTime:3000", "tickTime = 3000", "tickTime=30\\\n00"] {
        assert!(accept(line).conf_standalone(figures()).contains("\ntickTime=3000\n"), "{line}");
    }
}

// config 8.1 #2
#[test]
fn a_comment_is_a_whole_line() {
    assert_eq!(accept("!tickTime=2000").node.tick_time_ms, 3000);
    let error = refuse("tickTime=2000 # x", 2, "For input string: \"2000 # x\"");
    assert!(error.message.starts_with("Error processing /c/zoo.cfg: tickTime: "), "{error}");
}

// config 8.1 #3
#[test]
fn the_last_of_two_lines_counts() {
    assert!(accept("tickTime=1000\ntickTime=2000").conf_standalone(figures()).contains("tickTime=2000\n"));
}

// config 8.1 #4
#[test]
fn an_unknown_key_becomes_a_property_and_is_named() {
    assert_eq!(accept("foo.bar=1").system_properties["zookeeper.foo.bar"], "1");
    notes("foo.bar=1", "", Level::Warn, "foo.bar in the file is a key that this server does not know");
    notes("", "-Dzookeeper.foo=1", Level::Warn, "-Dzookeeper.foo is a flag that this server does not know");
}

// config 8.1 #5
#[test]
fn a_prefixed_key_has_no_effect_in_the_file() {
    assert_eq!(accept("snapCount=5").node.snap_count, 5);
    assert_eq!(accept("zookeeper.snapCount=5").node.snap_count, 100_000);
    notes(
        "zookeeper.snapCount=5",
        "",
        Level::Warn,
        "zookeeper.snapCount has no effect in the file: write it as snapCount",
    );
}

// config 8.1 #6
#[test]
fn the_file_wins_over_a_flag() {
    assert_eq!(accept_with("", "-Dzookeeper.snapCount=5").node.snap_count, 5);
    assert_eq!(accept_with("snapCount=100000", "-Dzookeeper.snapCount=5").node.snap_count, 100_000);
}

// config 8.1 #7
#[test]
fn jute_maxbuffer_is_a_flag_and_not_a_line() {
    assert_eq!(accept("jute.maxbuffer=4194304").node.jute_max_buffer_bytes, 0xf_ffff);
    notes(
        "jute.maxbuffer=4194304",
        "",
        Level::Warn,
        "jute.maxbuffer has no effect in the file: pass it as -Djute.maxbuffer",
    );
    let node = accept_with("", "-Djute.maxbuffer=0x400000").node;
    assert_eq!((node.jute_max_buffer_bytes, node.jute_extra_bytes), (0x40_0000, 0x40_0000));
    assert_eq!(accept_with("", "-Dzookeeper.jute.maxbuffer=1").node.jute_max_buffer_bytes, 0xf_ffff);
}

// config 8.1 #8
#[test]
fn a_data_dir_is_required() {
    let error = refuse_with("clientPort=2181", "", &Found::default(), 2, "dataDir is not set");
    assert_eq!(error.stderr_line(), Some("Invalid config, exiting abnormally"));
}

// config 8.1 #9
#[test]
fn a_missing_file_is_an_invalid_config() {
    let error = ConfigError::unreadable_file("/c/zoo.cfg", &std::io::ErrorKind::NotFound.into());
    assert_eq!(error.message, "Error processing /c/zoo.cfg: /c/zoo.cfg file is missing");
    assert_eq!(error.exit_code(), 2);
}

// config 8.1 #10
#[test]
fn a_switch_of_the_file_is_true_or_false() {
    refuse("standaloneEnabled=yes", 2, "Invalid option yes for standaloneEnabled. Choose 'true' or 'false.'");
    assert!(!accept("localSessionsEnabled=FALSE").node.local_sessions_enabled);
}

// config 8.1 #11
#[test]
fn a_bad_number_stops_a_key_and_resets_a_property() {
    refuse("tickTime=abc", 2, "For input string: \"abc\"");
    assert_eq!(accept("admin.serverPort=abc").node.admin.port, 8080);
    notes(
        "admin.serverPort=abc",
        "",
        Level::Warn,
        "admin.serverPort=abc is not a number in range, using the default 8080",
    );
}

// config 8.1 #12
#[test]
fn the_least_session_timeout_is_not_above_the_largest() {
    let node = accept("minSessionTimeout=50000").node;
    assert_eq!((node.min_session_timeout_ms, node.max_session_timeout_ms), (50_000, 60_000));
    let text = "minSessionTimeout=50000\ntickTime=2000";
    refuse(text, 2, "minSessionTimeout must not be larger than maxSessionTimeout");
}

// config 8.1 #13
#[test]
fn fewer_than_three_snapshots_are_never_retained() {
    assert_eq!(accept("autopurge.snapRetainCount=1").node.autopurge_retain_count, 3);
    notes("autopurge.snapRetainCount=1", "", Level::Warn, "Invalid autopurge.snapRetainCount: 1. Defaulting to 3");
}

// config 8.1 #14
#[test]
fn there_is_one_election_algorithm() {
    refuse("electionAlg=1", 2, "Invalid electionAlg value. Only 3 is supported.");
    accept("electionAlg=3");
}

// config 8.1 #15
#[test]
fn a_member_needs_a_myid_that_is_a_number() {
    refuse_with(QUORUM, "", &Found::default(), 2, "myid file is missing");
    refuse_with(QUORUM, "", &myid("1 "), 2, "serverid 1  is not a number");
    refuse_with(QUORUM, "", &myid(""), 2, "serverid null is not a number");
    // A standalone server fails over a bad one too.
    refuse_with("dataDir=/d", "", &myid("x"), 2, "serverid x is not a number");
    // Java reads a line, whichever way it ends.
    for text in ["1", "1\n", "1\r\n", "1\rx"] {
        assert_eq!(parse_with(QUORUM, "", &myid(text)).unwrap().0.ensemble.server_id, Some(1), "{text:?}");
    }
}

// config 8.1 #16
#[test]
fn a_member_stands_in_the_list() {
    let error = refuse_with(QUORUM, "", &myid("9"), 1, "My id 9 not in the peer list");
    assert_eq!(error.stderr_line(), None);
}

// config 8.1 #17
#[test]
fn a_member_needs_its_limits() {
    for key in ["initLimit", "syncLimit"] {
        let text: String =
            QUORUM.lines().filter(|line| !line.starts_with(key)).map(|line| format!("{line}\n")).collect();
        refuse_with(&text, "", &myid("1"), 2, &format!("{key} is not set"));
    }
}

// config 8.1 #18
#[test]
fn one_server_line_is_a_standalone_server_on_its_port() {
    let text = "dataDir=/d\nserver.1=localhost:2888:3888;2181";
    let (config, notices) = parse_with(text, "", &myid("1")).unwrap();
    assert_eq!(config.ensemble.mode, Mode::Standalone);
    assert_eq!(config.node.client.map(|client| client.port), Some(2181));
    assert!(notices.contains(&Notice::error("Invalid configuration, only one server specified (ignoring)")));
    // Whose line it is, myid says.
    assert_eq!(parse_with(text, "", &Found::default()).unwrap().0.node.client, None);
}

// config 8.1 #19
#[test]
fn one_server_can_be_a_quorum() {
    let text = "dataDir=/d\nserver.1=localhost:2888:3888;2181\nstandaloneEnabled=false\ninitLimit=5\nsyncLimit=2";
    assert_eq!(parse_with(text, "", &myid("1")).unwrap().0.ensemble.mode, Mode::Quorum);
}

// config 8.1 #20
#[test]
fn observers_need_a_quorum() {
    let observer = "server.2=b:2888:3888:observer";
    refuse(&format!("server.1=a:2888:3888\n{observer}"), 2, "Observers w/o quorum is an invalid configuration");
    refuse(observer, 2, "Observers w/o participants is an invalid configuration");
    refuse("standaloneEnabled=false", 2, "standaloneEnabled = false then number of participants should be >0");
}

// config 8.1 #21
#[test]
fn an_unwise_number_of_servers_is_named() {
    let warnings = |count: i64| {
        let mut text = String::from("dataDir=/d\ninitLimit=5\nsyncLimit=2\n");
        for id in 1..=count {
            text.push_str(&format!("server.{id}=h{id}:2888:3888\n"));
        }
        let (_, notices) = parse_with(&text, "", &myid("1")).unwrap();
        let texts: Vec<String> = notices.into_iter().map(|notice| notice.text).collect();
        (
            texts.iter().any(|text| text == "No server failure will be tolerated. You need at least 3 servers."),
            texts.iter().any(|text| text == "Non-optimal configuration, consider an odd number of servers."),
        )
    };
    assert_eq!([2, 3, 4, 5].map(warnings), [(true, false), (false, false), (false, true), (false, false)]);
}

// config 8.1 #22
#[test]
fn a_bad_server_line_is_refused() {
    refuse("server.1=a:1:1", 2, "Client and election port must be different!");
    refuse("server.1=a:1", 2, "does not have the form server_config or server_config;client_config");
}

// config 8.1 #23
#[test]
fn a_membership_stands_in_one_file() {
    let text = "dynamicConfigFile=/c/dyn\nserver.1=a:1:2";
    refuse(text, 2, "parameter: server.1 must be in a separate dynamic config file");
}

// config 8.1 #24
#[test]
fn a_dynamic_file_holds_the_membership_alone() {
    let text = "dataDir=/d\ndynamicConfigFile=/c/zoo.cfg.dynamic.1a\ninitLimit=5\nsyncLimit=2";
    let servers = "server.1=a:1:2;2181\nserver.2=b:1:2\nserver.3=c:1:2";
    refuse_with(text, "", &dynamic("tickTime=2000"), 2, "Unrecognised parameter: tickTime");
    refuse_with(text, "", &dynamic("version=1"), 2, "dynamic file shouldn't have version inside");
    let missing = refuse_with(text, "", &myid("1"), 2, "(No such file or directory)");
    assert!(missing.message.starts_with("Error processing /c/zoo.cfg.dynamic.1a: "), "{missing}");

    let next = Found { dynamic_next: Some(b"server.1=a:1:2\nversion=1b".to_vec()), ..dynamic(servers) };
    let ensemble = parse_with(text, "", &next).unwrap().0.ensemble;
    assert_eq!((ensemble.mode, ensemble.membership.version), (Mode::Quorum, 0x1a));
    assert_eq!(ensemble.last_seen.unwrap().version, 0x1b);

    let unnumbered = text.replace(".1a", "");
    assert_eq!(parse_with(&unnumbered, "", &dynamic(servers)).unwrap().0.ensemble.membership.version, 0);
}

#[test]
fn the_first_file_names_the_others() {
    let draft = Draft::parse("/c/zoo.cfg", b"dataDir=/d/\ndynamicConfigFile=/c/dyn", &Flags::default()).unwrap();
    let wants = Wants {
        myid: "/d/myid".into(),
        dynamic: Some("/c/dyn".into()),
        dynamic_next: Some("/c/zoo.cfg.dynamic.next".into()),
        client: None,
    };
    assert_eq!(draft.wants(), wants);
    let named = |text: &str| Draft::parse("/c/zoo.cfg", text.as_bytes(), &Flags::default()).unwrap().wants().client;
    assert_eq!(named("dataDir=/d\nclientPort=2181\nclientPortAddress=h").unwrap().to_string(), "h:2181");
    assert_eq!(named("dataDir=/d\nclientPort=2181"), None);
    assert_eq!(Draft::parse("zoo.cfg", b"dataDir=/d", &Flags::default()).unwrap().wants().dynamic_next, None);
}

// config 8.1 #27
#[test]
fn a_missing_data_directory_may_be_fatal() {
    assert!(accept("").node.data_dir_autocreate);
    assert!(!accept("datadir.autocreate=false").node.data_dir_autocreate);
    let error = ConfigError::missing_data_directory(Path::new("/d/version-2"));
    assert_eq!((error.exit_code(), error.stderr_line()), (3, Some("Unable to access datadir, exiting abnormally")));
    assert!(error.message.starts_with("Missing data directory /d/version-2, automatic data directory creation"));
}

// config 8.1 #29
#[test]
fn a_secure_port_is_refused() {
    refuse("secureClientPort=2281", 2, "secureClientPort=2281: TLS is not built yet");
    let netty = "secureClientPort=2281\nserverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory";
    refuse(netty, 2, "secureClientPort=2281: TLS is not built yet");
}

// config 8.1 #30
#[test]
fn a_key_of_the_file_is_no_flag() {
    accept_with("", "-Dzookeeper.sslQuorum=true");
    notes(
        "",
        "-Dzookeeper.sslQuorum=true",
        Level::Warn,
        "-Dzookeeper.sslQuorum has no effect: write sslQuorum into the file",
    );
    refuse("sslQuorum=true", 2, "sslQuorum=true: not built yet");
}

// config 8.1 #31
#[test]
fn read_only_mode_is_a_flag_without_prefix() {
    assert!(!accept("readonlymode.enabled=true").node.read_only_mode_enabled);
    assert!(!accept_with("", "-Dzookeeper.readonlymode.enabled=true").node.read_only_mode_enabled);
    let node = accept_with("", "-Dreadonlymode.enabled=true").node;
    assert!(node.read_only_mode_enabled && node.four_letter_words.allows("isro"));
}

#[test]
fn what_protects_and_is_not_built_is_refused_by_name() {
    for line in [
        "sslQuorum=true",
        "portUnification=true",
        "quorum.auth.enableSasl=true",
        "sessionRequireClientSASLAuth=true",
        "client.portUnification=true",
        "audit.enable=true",
        "observerMasterPort=2191",
        "oraclePath=/o",
    ] {
        refuse(line, 2, line);
    }
    for class in ["SASLAuthenticationProvider", "X509AuthenticationProvider", "a.b.C"] {
        let class = format!("org.apache.zookeeper.server.auth.{class}");
        refuse(&format!("authProvider.1={class}"), 2, &format!("authProvider.1={class}: this authentication provider"));
    }
    for scheme in ["sasl", "x509"] {
        let text = format!("enforce.auth.enabled=true\nenforce.auth.schemes=digest, {scheme}");
        refuse(&text, 2, &format!("enforce.auth.schemes={scheme}"));
    }
    accept(
        "sslQuorum=false\naudit.enable=false\nobserverMasterPort=0\nauthProvider.1=org.apache.zookeeper.server.auth.DigestAuthenticationProvider",
    );
}

#[test]
fn sasl_between_members_needs_its_switch() {
    let disabled = "is disabled, so cannot enable quorum.auth.";
    refuse("quorum.auth.serverRequireSasl=true", 2, &format!("quorum.auth.enableSasl {disabled}serverRequireSasl"));
    refuse("quorum.auth.learnerRequireSasl=true", 2, &format!("quorum.auth.enableSasl {disabled}learnerRequireSasl"));
    let text = "quorum.auth.enableSasl=true\nquorum.auth.serverRequireSasl=true";
    refuse(text, 2, &format!("quorum.auth.learnerRequireSasl {disabled}serverRequireSasl"));
}

#[test]
fn an_enforced_scheme_must_be_available() {
    let enabled = "enforce.auth.enabled=true";
    let error = refuse(enabled, 2, "zookeeper.enforce.auth.schemes must be  configured.");
    assert_eq!(error.stderr_line(), Some("Usage: ZooKeeperServerMain configfile | port datadir [ticktime] [maxcnxns]"));
    refuse(&format!("{enabled}\nenforce.auth.schemes=foo"), 2, "Authentication scheme foo is not available.");
    let off = format!("{enabled}\nenforce.auth.schemes=digest\nDigestAuthenticationProvider.enabled=false");
    refuse(&off, 2, "Authentication scheme digest is not available.");
    let node = accept(&format!("{enabled}\nenforce.auth.schemes=digest,ip")).node;
    assert_eq!(node.enforce_auth_schemes, Some(["digest", "ip"].map(str::to_owned).into()));
    assert_eq!(accept("enforce.auth.schemes=digest").node.enforce_auth_schemes, None);
    let ensemble = "authProvider.e=org.apache.zookeeper.server.auth.EnsembleAuthenticationProvider";
    assert!(accept(&format!("{enabled}\nenforce.auth.schemes=ensemble\n{ensemble}")).node.ensemble_provider);
}

#[test]
fn client_addresses_must_not_contradict() {
    refuse("clientPortAddress=1.2.3.4", 2, "clientPortAddress is set but clientPort is not set");
    refuse("secureClientPortAddress=::1", 2, "secureClientPortAddress is set but secureClientPort is not set");
    refuse("clientPort=70000", 2, "clientPort: port out of range:70000");
    assert_eq!(accept("clientPort=0").node.client.expect("any free port").port, 0);
    assert_eq!(accept("").node.client, None);
    notes("", "", Level::Info, "clientPort is not set");
    let one = "dataDir=/d\nserver.1=a:2888:3888;10.0.0.1:2181\n";
    let clash = "client address for this server (id = 1) in static config file is";
    refuse_with(&format!("{one}clientPort=2182"), "", &myid("1"), 2, clash);
    refuse_with(&format!("{one}clientPort=2181\nclientPortAddress=10.0.0.2"), "", &myid("1"), 2, clash);
    // Who asks for one address is not to be reachable at all of them.
    let all = "dataDir=/d\nserver.1=a:2888:3888;2181\nclientPort=2181\nclientPortAddress=";
    for host in ["localhost", "10.0.0.1"] {
        refuse_with(&format!("{all}{host}"), "", &myid("1"), 2, clash);
    }
    for same in
        ["clientPort=2181", "clientPort=2181\nclientPortAddress=10.0.0.1", "clientPort=2181\nclientPortAddress=h"]
    {
        let (config, _) = parse_with(&format!("{one}{same}"), "", &myid("1")).unwrap();
        assert_eq!(config.node.client.unwrap().to_string(), "10.0.0.1:2181", "{same}");
    }
}

#[test]
fn an_observer_is_one_by_its_line() {
    let text = format!("{QUORUM}server.4=d:2888:3888:observer\n");
    let (config, notices) = parse_with(&text, "", &myid("4")).unwrap();
    assert_eq!(config.ensemble.role, Role::Observer);
    let warning =
        "Peer type from servers list (OBSERVER) doesn't match peerType (PARTICIPANT). Defaulting to servers list.";
    assert!(notices.contains(&Notice::warn(warning)));
    refuse("peerType=voter", 2, "Unrecognised peertype: voter");
}

#[test]
fn several_addresses_need_the_flag() {
    let text = format!("{QUORUM}multiAddress.enabled=true\nserver.1=a:2888:3888|b:2889:3889\n");
    refuse_with(
        &text,
        "",
        &myid("2"),
        2,
        "Multiple address feature is disabled, but multiple addresses were specified for sid 1",
    );
    let (config, _) = parse_with(&text, "-Dzookeeper.multiAddress.enabled=true", &myid("2")).unwrap();
    assert_eq!(config.ensemble.membership.members[&1].addresses.len(), 2);
}

#[test]
fn extended_types_limit_the_id() {
    let text = format!("{QUORUM}server.255=z:2888:3888:observer\nextendedTypesEnabled=true\n");
    refuse_with(&text, "", &myid("255"), 1, "extendedTypesEnabled is true but Server ID is too large");
}

#[test]
fn paths_are_kept_as_java_keeps_them() {
    assert_eq!(accept("dataDir=/a//b/").node.data_dir, Path::new("/a/b"));
    notes("dataLogDir=logs", "", Level::Warn, "logs is relative. Prepend ./ to indicate that you're sure!");
    for text in ["", "d", "."] {
        refuse(&format!("dataLogDir={text}"), 1, "dataLogDir=");
    }
    let config = accept("dataDir=./data");
    let shown = config.conf_standalone(Figures { working_dir: Path::new("/home/z"), ..figures() });
    assert!(shown.contains("\ndataDir=/home/z/./data/version-2\n"), "{shown}");
}

#[test]
fn the_switches_look_for_their_own_words() {
    let node = accept("forceSync=NO\nskipACL=true\nadmin.enableServer=False\ndigest.enabled=1").node;
    assert!(node.force_sync && !node.skip_acl && node.admin.enabled && !node.digest_enabled);
    let node = accept("forceSync=no\nskipACL=yes\nadmin.enableServer=false\ndigest.enabled=TRUE").node;
    assert!(!node.force_sync && node.skip_acl && !node.admin.enabled && node.digest_enabled);
}

#[test]
fn limits_that_are_off_are_none() {
    let node = accept("snapSizeLimitInKb=0\ntxnLogSizeLimitInKb=-5\nmaxCnxns=0\nlargeRequestThreshold=0").node;
    assert_eq!((node.snap_size_limit_kb, node.txn_log_size_limit_kb, node.max_cnxns), (None, None, None));
    assert_eq!(node.large_requests.threshold_bytes, None);
    assert_eq!(accept("largeRequestMaxBytes=0").node.large_requests.max_bytes, 104_857_600);
    let node = accept("").node;
    assert_eq!((node.snap_size_limit_kb, node.autopurge_interval_hours), (Some(4_194_304), None));
    assert_eq!((node.commit_log_count, node.fsync_warning_threshold_ms), (500, 1000));
    assert_eq!((node.container_check_interval_ms, node.container_max_per_minute), (60_000, 10_000));
}

#[test]
fn weights_of_sessions_that_make_no_sense_are_replaced() {
    let weights = |text: &str| {
        let throttle = accept(text).node.connection_throttle;
        [throttle.global_session_weight, throttle.local_session_weight, throttle.renew_session_weight]
    };
    assert_eq!(weights(""), [3, 1, 2]);
    let weight = |session: &str, value: i32| format!("connection_throttle_{session}_session_weight={value}\n");
    assert_eq!(weights(&(weight("global", 0) + &weight("local", -2) + &weight("renew", 0))), [3, 1, 2]);
    assert_eq!(weights(&weight("local", 7)), [7, 7, 7]);
    assert_eq!(weights(&(weight("local", 4) + &weight("global", 5))), [5, 4, 4]);
}

#[test]
fn the_bare_fsync_threshold_counts_where_no_prefixed_one_stands() {
    assert_eq!(accept_with("", "-Dfsync.warningthresholdms=5").node.fsync_warning_threshold_ms, 5);
    assert_eq!(
        accept_with("fsync.warningthresholdms=7", "-Dfsync.warningthresholdms=5").node.fsync_warning_threshold_ms,
        7
    );
}

#[test]
fn the_whitelist_always_has_srvr() {
    assert_eq!(accept("4lw.commands.whitelist=*").node.four_letter_words, FourLetterWords::All);
    let words = accept("4lw.commands.whitelist=mntr, ruok,").node.four_letter_words;
    assert_eq!(words, FourLetterWords::Some(["mntr", "ruok", "srvr"].map(str::to_owned).into()));
    assert!(!accept("").node.four_letter_words.allows("ruok"));
}

#[test]
fn names_of_classes_must_be_known() {
    refuse("watchManagerName=x", 1, "Couldn't instantiate x");
    refuse("serverCnxnFactory=x", 1, "Couldn't instantiate x");
    refuse("DigestAuthenticationProvider.digestAlg=MD7", 1, "digestAlg=MD7");
    assert_eq!(accept("DigestAuthenticationProvider.digestAlg=sha-256").node.digest_alg, DigestAlg::Sha256);
    refuse("metricsProvider.className=x", 2, "metrics provider class was not found");
    let prometheus = "metricsProvider.className=org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider";
    refuse(&format!("{prometheus}\nmetricsProvider.httpPort=abc"), 2, "For input string: \"abc\"");
    let metrics = accept(prometheus).node.metrics;
    assert_eq!(metrics, Metrics::Prometheus { host: "0.0.0.0".to_owned(), port: 7000, export_jvm_info: true });
}

#[test]
fn what_has_no_effect_is_named_in_one_line_each() {
    let text = "nio.numWorkerThreads=4\nadmin.serverPort=9990\nmetricsProvider.httpPort=8000";
    let unbuilt = "not built yet, the server starts without: admin.serverPort, metricsProvider.httpPort";
    notes(text, "", Level::Warn, unbuilt);
    let ignored = "ignored, because it has no meaning in this server: \
                   nio.numWorkerThreads, -Djava.net.preferIPv4Stack, -Dzookeeper.log.dir, -Xmx1g";
    notes(text, "-Xmx1g -Djava.net.preferIPv4Stack=true -Dzookeeper.log.dir=/l", Level::Info, ignored);
    // Java takes it without a look at its value.
    for value in ["50", "x"] {
        let text = format!("request_throttle_stall_time={value}");
        notes(&text, "", Level::Info, "no meaning in this server: request_throttle_stall_time");
    }
    let admin = "not built yet, the server starts without: AdminServer; nothing listens on its port";
    notes("", "", Level::Info, admin);
    notes("admin.enableServer=true", "", Level::Warn, admin);
    notes(
        "leader.maxTimeToWaitForEpoch=100",
        "",
        Level::Warn,
        "the server starts without: leader.maxTimeToWaitForEpoch",
    );
    notes("observer.reconnectDelayMs=5", "", Level::Info, "no meaning in this server: observer.reconnectDelayMs");
    // A file as most people have it gives no warning about its keys.
    let plain = "clientPort=2181\ntickTime=2000\ninitLimit=10\nsyncLimit=5\nautopurge.purgeInterval=1\n\
                 autopurge.snapRetainCount=3\nmaxClientCnxns=60\nadmin.enableServer=false\nmaxCnxns=0\n\
                 4lw.commands.whitelist=*\nstandaloneEnabled=true\nreconfigEnabled=false";
    let warnings: Vec<Notice> = notices(plain, "").into_iter().filter(|notice| notice.level > Level::Info).collect();
    assert_eq!(warnings, [Notice::warn("Either no config or no quorum defined in config, running in standalone mode")]);
}

/// What the warnings of a start say, but for the two that Java gives at nearly every start.
fn warnings_of(text: &str, flag_words: &str, found: &Found) -> Vec<String> {
    let usual = [
        "Either no config or no quorum defined in config, running in standalone mode",
        "maxCnxns is not configured, using default value 0.",
    ];
    let (_, notices) = parse_with(text, flag_words, found).unwrap();
    let warnings = notices.into_iter().filter(|notice| notice.level > Level::Info);
    warnings.map(|notice| notice.text).filter(|text| !usual.contains(&text.as_str())).collect()
}

// config 8.5 #74
#[test]
fn the_files_of_common_images_start() {
    let official = "dataDir=/data\ndataLogDir=/datalog\ntickTime=2000\ninitLimit=5\nsyncLimit=2\n\
                    autopurge.snapRetainCount=3\nautopurge.purgeInterval=0\nmaxClientCnxns=60\n\
                    standaloneEnabled=true\nadmin.enableServer=true\nserver.1=localhost:2888:3888;2181\n";
    let only_one = "Invalid configuration, only one server specified (ignoring)";
    let admin =
        "not built yet, the server starts without: AdminServer; nothing listens on its port (admin.enableServer)";
    assert_eq!(warnings_of(official, "-Xmx1000m", &myid("1")), [admin, only_one]);

    let bitnami = "tickTime=2000\ninitLimit=10\nsyncLimit=5\npreAllocSize=65536\nsnapCount=100000\n\
                   dataDir=/bitnami/zookeeper/data\nclientPort=2181\nmaxCnxns=0\nmaxClientCnxns=60\n\
                   reconfigEnabled=false\nquorumListenOnAllIPs=false\nautopurge.purgeInterval=0\n\
                   autopurge.snapRetainCount=3\n4lw.commands.whitelist=srvr, mntr\nmaxSessionTimeout=40000\n\
                   admin.serverAddress=127.0.0.1\nadmin.serverPort=8080\nadmin.idleTimeout=30000\n\
                   admin.enableServer=false\nserver.1=z0:2888:3888;2181\nserver.2=z1:2888:3888;2181\n\
                   server.3=z2:2888:3888;2181\n";
    let jvm = "-Xmx1024m -Xms1024m -Dzookeeper.electionPortBindRetry=0 -Dzookeeper.fips-mode=true";
    assert_eq!(warnings_of(bitnami, jvm, &myid("3")), [""; 0]);
    let (config, _) = parse_with(bitnami, jvm, &myid("3")).unwrap();
    assert_eq!(config.ensemble.election_port_bind_attempts, None);

    let kafka = "dataDir=/tmp/zookeeper\nclientPort=2181\nmaxClientCnxns=0\nadmin.enableServer=false\n";
    assert_eq!(warnings_of(kafka, "", &Found::default()), [""; 0]);
}

#[test]
fn a_limit_of_replies_is_ours() {
    assert_eq!(accept("").node.max_reply_bytes, None);
    assert_eq!(accept("zooid.maxReplyBytes=1048576").node.max_reply_bytes, Some(1 << 20));
    assert_eq!(accept_with("", "-Dzooid.maxReplyBytes=7").node.max_reply_bytes, Some(7));
    refuse("zooid.maxReplyBytes=no", 2, "zooid.maxReplyBytes=no: expected a positive number of bytes");
}

#[test]
fn an_error_keeps_what_was_said_before_it() {
    let error = refuse("autopurge.snapRetainCount=1\ntickTime=0", 2, "tickTime is not set");
    assert!(error.notices.contains(&Notice::warn("Invalid autopurge.snapRetainCount: 1. Defaulting to 3")));
}

#[test]
fn arguments_make_a_standalone_server() {
    let arguments = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let (config, _) = Config::from_arguments(&arguments("0 d"), &flags("-Dzookeeper.snapCount=9")).unwrap();
    assert_eq!(config.node.client, Some(Endpoint { host: "0.0.0.0".to_owned(), port: 0 }));
    assert_eq!((config.node.data_dir.as_path(), config.node.data_log_dir.as_path()), (Path::new("d"), Path::new("d")));
    assert_eq!((config.node.tick_time_ms, config.node.max_client_cnxns, config.node.snap_count), (3000, 0, 9));
    let (config, _) = Config::from_arguments(&arguments("2181 /d 1000 5"), &Flags::default()).unwrap();
    assert_eq!((config.node.max_session_timeout_ms, config.node.max_client_cnxns), (20_000, 5));
    for (words, expected) in [
        ("1 /d 3 4 5", "Invalid number of arguments:[1, /d, 3, 4, 5]"),
        ("zoo /d", "port: For input string: \"zoo\""),
        ("1 /d x", "ticktime: For input string: \"x\""),
    ] {
        let error = Config::from_arguments(&arguments(words), &Flags::default()).unwrap_err();
        assert!(error.message.contains(expected), "{error}");
        assert_eq!((error.kind, error.exit_code()), (ErrorKind::Usage, 2));
    }
    assert_eq!(Config::from_arguments(&[], &Flags::default()).unwrap_err().message, "Invalid number of arguments:[]");
}

#[test]
fn conf_is_printed_as_java_prints_it() {
    // Captured from a leader, a read-only member and a standalone server.
    let text = "dataDir=/data-s2\ntickTime=2000\ninitLimit=10\nsyncLimit=5\n\
                server.1=127.0.0.1:23281:23282;127.0.0.1:23280\nserver.2=127.0.0.1:23285:23286;127.0.0.1:23284\n\
                server.3=127.0.0.1:23281:23289:observer;127.0.0.1:23288";
    let config = parse_with(text, "", &myid("2")).unwrap().0;
    let figures =
        Figures { client_port: 23284, data_dir_bytes: 67_109_543, data_log_dir_bytes: 67_109_543, ..figures() };
    let own = "clientPort=23284\nsecureClientPort=-1\ndataDir=/data-s2/version-2\ndataDirSize=67109543\n\
               dataLogDir=/data-s2/version-2\ndataLogSize=67109543\ntickTime=2000\nmaxClientCnxns=60\n\
               minSessionTimeout=4000\nmaxSessionTimeout=40000\nclientPortListenBacklog=-1\nserverId=2\n\
               initLimit=10\nsyncLimit=5\nelectionAlg=3\nelectionPort=23286\nquorumPort=23285\npeerType=0\n";
    assert_eq!(config.conf_read_only(figures), own);
    let committed = Membership { version: 0x1_0000_0000, ..config.ensemble.membership.clone() };
    let membership = "membership: \nserver.1=127.0.0.1:23281:23282:participant;127.0.0.1:23280\n\
                      server.2=127.0.0.1:23285:23286:participant;127.0.0.1:23284\n\
                      server.3=127.0.0.1:23281:23289:observer;127.0.0.1:23288\nversion=100000000";
    assert_eq!(config.conf_member(figures, &committed), format!("{own}{membership}"));

    let standalone = parse_with("dataDir=/data-s2\ntickTime=2000", "", &myid("2")).unwrap().0;
    let twelve: String = own.lines().take(11).map(|line| format!("{line}\n")).collect();
    assert_eq!(standalone.conf_standalone(figures), format!("{twelve}serverId=0\n"));
}
