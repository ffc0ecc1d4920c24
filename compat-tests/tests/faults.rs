//! Full, failing and hanging disks, damaged logs, a stopped process, and clients that mean harm: each ends in
//! a clear error or a closed connection, and never in the loss of something acknowledged.
//!
//! The disk is filled on a tmpfs that the test mounts, which needs root; without it, that test fails.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use compat_tests::random::Random;
use compat_tests::raw::{ANSWER, Client, Connect, Connection, Next, Received, Reply, frame, request};
use compat_tests::request::{OPEN, create, multi, node, op, set_data, unwatched, versioned};
use compat_tests::shim::{Failing, Shim, Syncs};
use compat_tests::{Server, Setup, zooid};

const MIB: u64 = 1 << 20;

/// The error of a request that asks for too much.
const MARSHALLING: i32 = -5;

/// The error of a write for which there is no room.
const OPERATION_TIMEOUT: i32 = -7;

mod disk {
    use super::*;

    #[test]
    fn a_failed_sync_of_the_first_log_ends_the_process() {
        ends_the_process(Failing::Sync, 1);
    }

    #[test]
    fn a_failed_sync_of_a_batch_ends_the_process() {
        ends_the_process(Failing::Sync, 4);
    }

    #[test]
    fn a_failed_write_ends_the_process() {
        ends_the_process(Failing::Write, 4);
    }

    #[test]
    fn a_failed_sync_of_the_directory_ends_the_process() {
        ends_the_process(Failing::DirectorySync, 1);
    }

    /// The `nth` such act fails; then nothing more is acknowledged, and the next start has all that was.
    fn ends_the_process(what: Failing, nth: u32) {
        let shim = Shim::new();
        let mut server = Server::zooid(&shim.watch(&Setup::standalone()));
        shim.fail(what, nth);
        let mut connection = Connection::open(server.address());
        connection.send(&Connect::default().payload());
        let mut answers = 0;
        let mut closed_at = None;
        // One at a time, so that each is a batch of its own; until the server is gone.
        for xid in 1..1000 {
            match connection.receive(ANSWER) {
                Received::Frame(_) => answers += 1,
                Received::Closed(_) => {
                    closed_at = Some(Instant::now());
                    break;
                }
                Received::Silence => panic!("neither an answer nor the end\n{}", server.log()),
            }
            connection.send(&request(xid, op::CREATE, &Vec::from(node(&format!("/n{xid}")))));
        }
        let closed_at = closed_at.expect("the failure was not noticed");
        let ended = server.wait_for_end(Duration::from_secs(1));
        assert_ne!(ended.code.unwrap_or(0), 0, "{}", ended.log);
        assert!(closed_at.elapsed() < Duration::from_secs(1), "it took {:?} to end", closed_at.elapsed());
        assert!(ended.log.contains("Severe unrecoverable error"), "{}", ended.log);
        let trace = shim.trace();
        assert!(trace.has_failed(), "nothing failed");
        assert_eq!(trace.judge().violations, [""; 0]);

        server.restart_with(&Setup::standalone());
        let mut client = Client::connect(&server);
        for xid in 1..answers {
            assert!(client.exists(&format!("/n{xid}")), "/n{xid} was acknowledged and is lost");
        }
        client.create("/and-on");
    }

    #[test]
    fn reads_are_served_while_a_sync_hangs() {
        let shim = Shim::new();
        let server = Server::zooid(&shim.watch(&Setup::standalone()));
        let mut writer = Client::connect(&server);
        let mut reader = Client::connect(&server);
        writer.create("/before");
        shim.hang(Syncs::Data);
        writer.send(op::CREATE, node("/hung"));
        writer.send(op::EXISTS, unwatched("/before"));
        assert!(shim.wait_for_hung(ANSWER), "no sync");
        for _ in 0..100 {
            assert!(reader.exists("/before"));
            assert!(!reader.exists("/hung"), "what is not durable is shown");
            reader.ping();
        }
        assert!(server.word("srvr").is_ok_and(|answer| answer.contains("Zxid:")));
        // Neither the write nor the read behind it may be answered; what could have come has come by now.
        assert_eq!(writer.receive(Duration::from_millis(50)), Received::Silence);
        shim.let_go();
        assert_eq!([writer.reply().err, writer.reply().err], [0, 0]);
        assert!(reader.exists("/hung"));
        assert_eq!(shim.trace().judge().violations, [""; 0]);
    }

    // data-model 2.8. What Curator and others do when they don't know whether a create has succeeded.
    #[test]
    fn a_session_s_next_connection_sees_what_its_former_one_has_written() {
        let shim = Shim::new();
        let server = Server::zooid(&shim.watch(&Setup::standalone()));
        let (mut first, mut other) = (Client::connect(&server), Client::connect(&server));
        let session = first.session.clone();
        shim.hang(Syncs::Data);
        first.send(op::CREATE, node("/hung"));
        assert!(shim.wait_for_hung(ANSWER), "no sync");
        first.leave();
        let mut next = Connection::open(server.address());
        next.send(&Connect::attach(&session).payload());
        next.send(&request(1, op::EXISTS, &Vec::from(unwatched("/hung"))));
        // Nobody else waits, and what is not durable is not shown.
        assert!(!other.exists("/hung"));
        shim.let_go();
        assert!(matches!(next.receive(ANSWER), Received::Frame(_)), "the session is there");
        let Received::Frame(answer) = next.receive(ANSWER) else { panic!("no answer\n{}", server.log()) };
        assert_eq!(Reply::parse(answer).err, 0, "it had been created before");
    }

    #[test]
    fn a_full_disk_of_the_log_refuses_writes_and_nothing_else() {
        fills_up("dataLogDir");
    }

    #[test]
    fn a_full_disk_of_everything_refuses_writes_and_nothing_else() {
        fills_up("dataDir");
    }

    /// The directory that `key` names is on a disk that fills up, and then has room again.
    fn fills_up(key: &str) {
        let disk = SmallDisk::mount(key, 96 * MIB);
        let path = disk.0.join("here");
        let setup = Setup::standalone()
            .line(key, path.to_str().expect("a path in UTF-8"))
            .line("preAllocSize", "256")
            .line("snapCount", "50");
        let mut server = Server::zooid(&setup);
        let mut client = Client::connect(&server);
        let filler = disk.fill(4 * MIB);
        let mut books = Books::default();
        while books.refused.is_empty() {
            books.write(&mut client);
            assert!(books.acknowledged.len() < 1000, "the disk never fills");
        }
        for _ in 0..20 {
            books.write(&mut client);
        }
        books.check(&mut client);
        client.ping();
        let mut newcomer = Connection::open(server.address());
        newcomer.send(&Connect::default().payload());
        assert_eq!(newcomer.receive(ANSWER), Received::Closed(vec![]), "a new session on a full disk");

        // A start on the full disk serves as before.
        let session = client.session.clone();
        server.kill9();
        drop(client);
        server.restart();
        let mut client = Client::connect_as(&server, &Connect::attach(&session));
        books.check(&mut client);
        let refused = books.refused.len();
        while books.refused.len() == refused {
            books.write(&mut client);
        }
        books.check(&mut client);

        let version_2 = if key == "dataDir" { path } else { server.data_dir() }.join("version-2");
        let before = snapshots(&version_2);
        fs::remove_file(filler).expect("the filler can be removed");
        let acknowledged = books.acknowledged.len();
        let deadline = Instant::now() + ANSWER;
        while books.acknowledged.len() == acknowledged {
            assert!(Instant::now() < deadline, "there is room, and writes are refused\n{}", server.log());
            books.write(&mut client);
        }
        drop(Client::connect(&server));
        books.check(&mut client);

        // Snapshots, too, come again: the image that they are written from had no room either.
        for _ in 0..150 {
            books.write(&mut client);
        }
        let deadline = Instant::now() + REGAIN;
        while snapshots(&version_2).is_subset(&before) {
            assert!(Instant::now() < deadline, "there is room, and no snapshot is written\n{}", server.log());
            assert_eq!(client.receive(Duration::from_millis(20)), Received::Silence);
            client.ping();
        }
        server.kill9();
        drop(client);
        server.restart();
        assert!(server.log().contains("image=Used"), "the image is not what the log is\n{}", server.log());
        let mut client = Client::connect_as(&server, &Connect::attach(&session));
        books.check(&mut client);
    }

    /// An image that could not be written is left alone for so long at most, and its snapshot takes its time.
    const REGAIN: Duration = Duration::from_secs(75);

    fn snapshots(version_2: &Path) -> BTreeSet<String> {
        let files = fs::read_dir(version_2).expect("there is a version-2").flatten();
        let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with("snapshot.")).collect()
    }

    /// What was written, and what was refused.
    #[derive(Default)]
    struct Books {
        acknowledged: Vec<String>,
        refused: Vec<String>,
    }

    impl Books {
        fn write(&mut self, client: &mut Client) {
            let path = format!("/n{}", self.acknowledged.len() + self.refused.len());
            match client.err(op::CREATE, create(&path, &vec![b'x'; 50_000], OPEN, 0)) {
                0 => self.acknowledged.push(path),
                OPERATION_TIMEOUT => self.refused.push(path),
                err => panic!("create {path}: error {err}"),
            }
        }

        fn check(&self, client: &mut Client) {
            for path in &self.acknowledged {
                assert!(client.exists(path), "{path} was acknowledged and is lost");
            }
            for path in &self.refused {
                assert!(!client.exists(path), "{path} was refused and is there");
            }
        }
    }
}

mod damage {
    use super::*;

    #[test]
    fn a_record_cut_short_is_left_out() {
        // As a write that the end of the process cut short: there is more behind what was acknowledged.
        let mut server = server_with_log(10);
        server.kill9();
        let log = log_file(&server);
        let records = records(&log);
        let bytes = fs::read(&log).expect("a log can be read");
        let last = records.last().expect("it has records").clone();
        let whole = last.len();
        let file = OpenOptions::new().write(true).open(&log).expect("a log can be written");
        file.write_all_at(&bytes[last.start..last.start + whole / 2], last.end as u64).expect("half a record");
        server.restart();
        assert!(server.log().contains("torn") || server.log().contains("cut short"), "{}", server.log());
        expect_nodes(&server, 10);
    }

    #[test]
    fn a_log_that_ends_within_its_last_record_is_opened_without_it() {
        // Without our own files, as Java leaves a directory, nothing says that the last one was durable.
        let mut server = server_with_log(10);
        server.kill9();
        fs::remove_dir_all(server.data_dir().join("zooid")).expect("there is a directory zooid");
        fs::remove_file(server.data_dir().join("version-2/durable.zooid")).expect("there is a mark");
        let log = log_file(&server);
        let last = records(&log).pop().expect("it has records");
        let file = OpenOptions::new().write(true).open(&log).expect("a log can be written");
        file.set_len((last.start + last.len() / 2) as u64).expect("it can be cut");
        server.restart();
        expect_nodes(&server, 9);
    }

    #[test]
    fn a_log_that_ends_below_what_was_durable_is_refused() {
        let mut server = server_with_log(10);
        server.stop();
        let log = log_file(&server);
        // The last is the end of the client's session.
        let last = records(&log).pop().expect("it has records");
        let file = OpenOptions::new().write(true).open(&log).expect("a log can be written");
        file.set_len((last.start + last.len() / 2) as u64).expect("it can be cut");
        let image = server.data_dir().join("zooid/image");
        fs::remove_dir_all(image).expect("there is an image");
        expect_refusal(&mut server, &log, last.start);
    }

    #[test]
    fn a_flipped_byte_among_good_records_is_refused() {
        for keep_own in [true, false] {
            let mut server = server_with_log(10);
            server.kill9();
            let log = log_file(&server);
            let records = records(&log);
            let middle = records[records.len() / 2].clone();
            let file = OpenOptions::new().read(true).write(true).open(&log).expect("a log can be opened");
            let at = (middle.start + middle.len() / 2) as u64;
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).expect("it has that byte");
            file.write_all_at(&[byte[0] ^ 0x10], at).expect("and it can be changed");
            let own = server.data_dir().join(if keep_own { "zooid/image" } else { "zooid" });
            fs::remove_dir_all(own).expect("there is such a directory");
            expect_refusal(&mut server, &log, middle.start);
        }
    }

    /// A server with so many nodes, each of which took one record.
    fn server_with_log(nodes: usize) -> Server {
        let server = Server::zooid(&Setup::standalone());
        let mut client = Client::connect(&server);
        for n in 0..nodes {
            client.ok(op::CREATE, create(&format!("/n{n}"), b"something to damage", OPEN, 0));
        }
        // Its end would be another record.
        std::mem::forget(client);
        server
    }

    fn expect_nodes(server: &Server, nodes: usize) {
        let mut client = Client::connect(server);
        for n in 0..10 {
            assert_eq!(client.exists(&format!("/n{n}")), n < nodes, "/n{n}");
        }
        client.create("/and-on");
    }

    /// The start must fail and say where, and what can be done.
    fn expect_refusal(server: &mut Server, log: &Path, offset: usize) {
        let before = fs::read(log).expect("a log can be read");
        let ended = server.try_restart().expect_err("it starts");
        assert_ne!(ended.code.unwrap_or(0), 0, "{}", ended.log);
        let name = log.file_name().and_then(|name| name.to_str()).expect("a log has a name");
        for part in [name, &format!("offset {offset}"), "zooid.giveUpAfter"] {
            assert!(ended.log.contains(part), "no `{part}` in\n{}", ended.log);
        }
        assert!(before == fs::read(log).expect("a log can be read"), "a refused start changed {name}");
    }

    /// The newest log.
    fn log_file(server: &Server) -> PathBuf {
        let names = fs::read_dir(server.data_dir().join("version-2")).expect("there is a version-2");
        let paths = names.map(|entry| entry.expect("it can be listed").path());
        let zxid = |path: &PathBuf| {
            let name = path.file_name()?.to_str()?.strip_prefix("log.")?;
            u64::from_str_radix(name, 16).ok()
        };
        let newest = paths.filter_map(|path| Some((zxid(&path)?, path))).max();
        newest.expect("there is a log").1
    }

    /// Where the records of a log stand.
    fn records(log: &Path) -> Vec<Range<usize>> {
        let bytes = fs::read(log).expect("a log can be read");
        let mut records = Vec::new();
        let mut at = 16;
        while let Some(length) = bytes.get(at + 8..at + 12) {
            let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
            if length == 0 {
                break;
            }
            records.push(at..at + 13 + length);
            at += 13 + length;
        }
        records
    }
}

mod process {
    use super::*;

    #[test]
    fn a_second_process_on_the_directory_is_refused() {
        let server = Server::zooid(&Setup::standalone());
        let config = server.data_dir().join("second.cfg");
        let port = server.address().port() + 1;
        let text = format!("dataDir={}\nclientPort={port}\n", server.data_dir().display());
        fs::write(&config, text).expect("a configuration can be written");
        let second = zooid::command(&[], &config).output().expect("the server can be run");
        let log = String::from_utf8_lossy(&second.stderr);
        assert_ne!(second.status.code().unwrap_or(0), 0, "{log}");
        assert!(log.contains("locked by another process"), "{log}");
        Client::connect(&server).create("/still-served");
    }

    #[test]
    fn pauses_under_load_expire_nobody() {
        let setup = Setup::standalone().line("tickTime", "100");
        let server = Server::zooid(&setup);
        // It runs on, and so tells how long it takes until a session like theirs expires.
        let other = Server::zooid(&setup);
        let brief = Connect { time_out: 1000, ..Connect::default() };
        let mut clients: Vec<Client> = (0..4).map(|_| Client::connect_as(&server, &brief)).collect();
        for (n, client) in clients.iter_mut().enumerate() {
            client.ok(op::CREATE, create(&format!("/e{n}"), b"", OPEN, 1));
        }
        let mut busy = Client::connect(&server);
        for round in 0..6 {
            for client in &mut clients {
                client.ping();
            }
            std::thread::scope(|scope| {
                let pause = scope.spawn(|| {
                    server.freeze();
                    Client::connect_as(&other, &brief).expect_closed_within(ANSWER);
                    server.signal("CONT");
                });
                while !pause.is_finished() {
                    for _ in 0..500 {
                        busy.send(op::SET_DATA, set_data("/", b"", -1));
                    }
                    for _ in 0..500 {
                        assert_eq!(busy.reply().err, 0);
                    }
                }
                pause.join().expect("a signal can be sent");
            });
            for (n, client) in clients.iter_mut().enumerate() {
                client.send_as(-2, op::PING, []);
                let answer = client.receive(ANSWER);
                assert!(
                    matches!(answer, Received::Frame(_)),
                    "round {round}, session {n}: {answer:?}\n{}",
                    server.log()
                );
            }
        }
        drop(clients);
    }

    #[test]
    fn a_pause_longer_than_the_sessions_expires_nobody() {
        let setup = Setup::standalone().line("tickTime", "100").line("maxSessionTimeout", "60000");
        let mut server = Server::zooid(&setup);
        let mut watcher = Client::connect(&server);
        let mut clients: Vec<Client> = [2000, 3000, 4000]
            .map(|time_out| Client::connect_as(&server, &Connect { time_out, ..Connect::default() }))
            .into();
        let detached = Client::connect_as(&server, &Connect { time_out: 4000, ..Connect::default() });
        let session = detached.session.clone();
        clients.push(detached);
        for (n, client) in clients.iter_mut().enumerate() {
            client.ok(op::CREATE, create(&format!("/e{n}"), b"", OPEN, 1));
        }
        let mut detached = clients.pop().expect("just pushed");
        detached.leave();
        std::mem::forget(detached);
        for client in &mut clients {
            client.ping();
        }
        server.freeze();
        // The time itself is what is tested.
        assert_eq!(watcher.receive(Duration::from_secs(8)), Received::Silence);
        server.signal("CONT");
        for client in &mut clients {
            client.ping();
        }
        let mut detached = Client::connect_as(&server, &Connect { time_out: 4000, ..Connect::attach(&session) });
        for n in 0..4 {
            assert!(detached.exists(&format!("/e{n}")), "/e{n} is gone with its session\n{}", server.log());
        }
        // And who is silent from now on does expire; touches may count from the end of the pause.
        watcher.ok(op::EXISTS, compat_tests::request::watched("/e0"));
        assert_eq!(watcher.event(), (2, "/e0".into()));
        std::mem::forget(clients);
        assert!(server.is_alive());
    }
}

mod clients {
    use super::*;

    #[test]
    fn a_handshake_that_drips_is_cut_off() {
        let server = Server::zooid(&Setup::standalone().line("nio.sessionlessCnxnTimeout", "1000"));
        let whole = frame(&Connect::default().payload());
        let claimed = [&4000_i32.to_be_bytes()[..], &[0; 100]].concat();
        for bytes in [whole, claimed] {
            let mut connection = Connection::open(server.address());
            let began = Instant::now();
            let closed = bytes.iter().any(|byte| {
                connection.send_bytes(&[*byte]);
                connection.receive(Duration::from_millis(100)) == Received::Closed(vec![])
            });
            let took = began.elapsed();
            assert!(closed, "it may drip for ever");
            assert!((900..3000).contains(&took.as_millis()), "closed after {took:?}");
        }
        // No ConnectRequest is so long, and nobody waits for the rest of it.
        let mut connection = Connection::open(server.address());
        connection.send_bytes(&5000_i32.to_be_bytes());
        assert_eq!(connection.receive(Duration::from_millis(900)), Received::Closed(vec![]));
    }

    #[test]
    fn a_thousand_connections_without_a_session_cost_8_kib_each() {
        const COUNT: usize = 1000;
        let server = Server::zooid(&Setup::standalone().line("nio.sessionlessCnxnTimeout", "60000"));
        let whole = frame(&Connect::default().payload());
        let before = warm(&server);
        for (sent, what) in [(0, "silent"), (3, "with a part of a length"), (whole.len() - 1, "almost connected")] {
            let mut connections: Vec<_> = (0..COUNT).map(|_| Connection::open(server.address())).collect();
            for connection in &mut connections {
                connection.send_bytes(&whole[..sent]);
            }
            // Their bytes have been read when those of a later one have.
            until("all are accepted", || connection_count(&server) > COUNT);
            Client::connect(&server).ping();
            let each = server.resident().saturating_sub(before) / COUNT as u64;
            println!("{what}: {each} bytes each");
            assert!(each <= 8 << 10, "{each} bytes for each connection, {what}");
            drop(connections);
            until("all are gone", || connection_count(&server) < 5);
        }
    }

    #[test]
    fn a_frame_that_claims_1_gib_costs_nothing() {
        for setup in [Setup::standalone(), Setup::standalone().flag("jute.maxbuffer", "2147483647")] {
            let server = Server::zooid(&setup.line("nio.sessionlessCnxnTimeout", "1000"));
            let before = warm(&server);
            let mut connections: Vec<Connection> = (0..20)
                .map(|n| {
                    let mut connection = Connection::open(server.address());
                    if n % 2 == 0 {
                        connection.send(&Connect { time_out: 4000, ..Connect::default() }.payload());
                        assert!(matches!(connection.receive(ANSWER), Received::Frame(_)));
                    }
                    connection.send_bytes(&0x4000_0000_i32.to_be_bytes());
                    connection.send_bytes(&[0; 4096]);
                    connection
                })
                .collect();
            Client::connect(&server).ping();
            let grown = server.resident().saturating_sub(before);
            assert!(grown < 4 * MIB, "{grown} bytes for 20 connections");
            for connection in &mut connections {
                assert_eq!(connection.receive_to_end(ANSWER), Some(vec![]), "an answer to a part of a frame");
            }
        }
    }

    #[test]
    fn a_vector_that_claims_to_be_huge_costs_nothing() {
        let server = Server::zooid(&Setup::standalone());
        let before = warm(&server);
        let mut client = Client::connect(&server);
        let count = 0x7fff_fff0;
        let acls = compat_tests::request::Body::new().text("/a").null().int(count);
        let watches = compat_tests::request::Body::new().long(0).int(count);
        for (op, body) in [(op::CREATE, acls), (op::SET_WATCHES, watches.clone()), (op::SET_WATCHES2, watches)] {
            assert_eq!(client.err(op, body), -5, "op {op}");
        }
        let grown = server.resident().saturating_sub(before);
        assert!(grown < 4 * MIB, "{grown} bytes");
    }

    #[test]
    fn random_bytes_end_in_a_close_or_an_error() {
        let mut server = Server::zooid(&Setup::standalone().line("nio.sessionlessCnxnTimeout", "2000"));
        let pid = server.pid();
        for seed in 0..1000 {
            let mut random = Random(seed);
            let mut connection = Connection::open(server.address());
            let bytes = noise(&mut random);
            let with_session = random.percent(50);
            if with_session {
                connection.send(&Connect { time_out: 4000, ..Connect::default() }.payload());
                assert!(matches!(connection.receive(ANSWER), Received::Frame(_)), "seed {seed}: no session");
            }
            connection.send_bytes(&bytes);
            connection.half_close();
            let end = connection.receive_to_end(ANSWER);
            assert!(end.is_some(), "seed {seed}: not closed after {} bytes", bytes.len());
            assert!(server.is_alive(), "seed {seed}: the server is gone\n{}", server.log());
        }
        assert_eq!(server.pid(), pid);
        assert!(!server.log().contains("panicked"), "{}", server.log());
        let mut client = Client::connect(&server);
        client.create("/still-served");
        assert!(client.exists("/still-served"));
    }

    /// Bytes of one of several kinds, from pure chance to requests with a bit flipped.
    fn noise(random: &mut Random) -> Vec<u8> {
        let some = |random: &mut Random, most: usize| -> Vec<u8> {
            let length = random.below(most);
            (0..length).map(|_| random.below(256) as u8).collect()
        };
        let op = random.pick(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 100]);
        let op = if random.percent(50) { op } else { random.pick(&[101, 102, 103, 104, 105, 106, 107, -10, 23]) };
        match random.below(6) {
            0 => some(random, 5000),
            1 => frame(&some(random, 200)),
            2 => (0..20).flat_map(|xid| frame(&request(xid, op, &some(random, 60)))).collect(),
            3 => {
                let letters = some(random, 20);
                letters.iter().map(|byte| b'a' + byte % 26).collect()
            }
            4 => {
                let parts = [(op::CREATE, node("/x")), (op::SET_DATA, set_data("/x", b"y", -1))];
                let mut bytes = frame(&request(1, op::MULTI, &Vec::from(multi(parts))));
                for _ in 0..=random.below(3) {
                    // Not the length: what follows would only be waited for.
                    let at = 4 + random.below(bytes.len() - 4);
                    bytes[at] ^= 1 << random.below(8);
                }
                bytes
            }
            _ => {
                let mut bytes = frame(&Connect::default().payload());
                let at = 4 + random.below(bytes.len() - 4);
                bytes[at] ^= 1 << random.below(8);
                bytes
            }
        }
    }

    /// What a client that leaves replies unread may cost: 1 MiB, a reply of 1 MB, and room for the buffers.
    const UNREAD_REPLIES: u64 = 64 * MIB;

    /// And events: 16 MiB queued, as much being sent, in buffers that have doubled.
    const UNREAD_EVENTS: u64 = 96 * MIB;

    #[test]
    fn a_client_that_does_not_read_replies_costs_a_bounded_amount() {
        let server = Server::zooid(&Setup::standalone());
        let mut other = Client::connect(&server);
        other.ok(op::CREATE, create("/big", &vec![b'x'; 1_000_000], OPEN, 0));
        let before = server.resident();
        let mut deaf = Client::connect(&server);
        let asked: Vec<u8> =
            (1..5000).flat_map(|xid| frame(&request(xid, op::GET_DATA, &Vec::from(unwatched("/big"))))).collect();
        deaf.send_bytes(&asked);
        expect_bounded(&server, &mut other, before);
        // What it asked for is still answered, when it reads.
        for xid in 1..50 {
            let Received::Frame(payload) = deaf.receive(ANSWER) else { panic!("no reply to request {xid}") };
            assert_eq!(Reply::parse(payload).xid, xid);
        }
        std::mem::forget(deaf);
    }

    #[test]
    fn reads_that_waited_for_a_write_cost_a_bounded_amount() {
        let shim = Shim::new();
        let server = Server::zooid(&shim.watch(&Setup::standalone()));
        let mut other = Client::connect(&server);
        other.ok(op::CREATE, create("/big", &vec![b'x'; 1_000_000], OPEN, 0));
        let mut deaf = Client::connect(&server);
        let before = server.resident();
        shim.hang(Syncs::Data);
        deaf.send(op::CREATE, node("/first"));
        assert!(shim.wait_for_hung(ANSWER), "no sync");
        let asked: Vec<u8> =
            (2..4000).flat_map(|xid| frame(&request(xid, op::GET_DATA, &Vec::from(unwatched("/big"))))).collect();
        deaf.send_bytes(&asked);
        shim.let_go();
        expect_bounded(&server, &mut other, before);
        // What only waits for the deaf one is nothing that others should make way for.
        let srvr = server.word("srvr").expect("it answers");
        let outstanding = srvr.lines().find_map(|line| line.strip_prefix("Outstanding: ")?.parse::<u32>().ok());
        assert!(outstanding.is_some_and(|requests| requests < 10), "{srvr}");
        std::mem::forget(deaf);
    }

    #[test]
    fn a_few_bytes_that_ask_for_gigabytes_are_refused() {
        let server = Server::zooid(&Setup::standalone());
        let mut other = Client::connect(&server);
        other.ok(op::CREATE, create("/big", &vec![b'x'; 1_000_000], OPEN, 0));
        let before = server.resident();
        let mut greedy = Client::connect(&server);
        let reads = |count| multi((0..count).map(|_| (op::GET_DATA, unwatched("/big"))));
        assert_eq!(greedy.err(op::MULTI_READ, reads(3000)), MARSHALLING);
        let grown = server.resident().saturating_sub(before);
        assert!(grown < 400 * MIB, "{} MiB more", grown / MIB);
        assert_eq!(greedy.ok(op::MULTI_READ, reads(20)).outcomes().len(), 20);
        other.ping();
    }

    /// With 20 MB to read at 3 MB/s, a client's pings lie unread for longer than its session may be silent.
    #[test]
    fn a_client_that_reads_slowly_keeps_its_session() {
        const REPLIES: i32 = 200;
        let server = Server::zooid(&Setup::standalone().line("tickTime", "200"));
        let brief = Connect { time_out: 1000, ..Connect::default() };
        let mut slow = Client::connect_as(&server, &brief);
        slow.ok(op::CREATE, create("/big", &vec![b'x'; 100_000], OPEN, 0));
        slow.ok(op::CREATE, create("/mine", b"", OPEN, 1));
        let asked: Vec<u8> =
            (0..REPLIES).flat_map(|n| frame(&request(100 + n, op::GET_DATA, &Vec::from(unwatched("/big"))))).collect();
        slow.send_bytes(&asked);
        for n in 0..REPLIES {
            let Received::Frame(payload) = slow.receive(ANSWER) else { panic!("no reply {n}\n{}", server.log()) };
            assert_eq!(Reply::parse(payload).xid, 100 + n);
            // The pace is what is tested.
            std::thread::sleep(Duration::from_millis(30));
            if n % 10 == 0 {
                slow.send_as(-2, op::PING, []);
            }
        }
        (0..REPLIES).step_by(10).for_each(|_| assert_eq!(slow.reply().xid, -2));
        assert!(slow.exists("/mine"), "its session has expired\n{}", server.log());
    }

    /// Others are served at once, and memory stays within the bound, while somebody is deaf.
    fn expect_bounded(server: &Server, other: &mut Client, before: u64) {
        let mut slowest = Duration::ZERO;
        let mut grown = 0;
        let until = Instant::now() + Duration::from_secs(2);
        let mut version = 0;
        while Instant::now() < until {
            let began = Instant::now();
            other.ok(op::SET_DATA, set_data("/", version.to_string().as_bytes(), -1));
            other.ok(op::GET_DATA, unwatched("/"));
            version += 1;
            slowest = slowest.max(began.elapsed());
            grown = server.resident().saturating_sub(before).max(grown);
            assert!(grown < 3 << 30, "{} MiB, and growing", grown / MIB);
        }
        println!("{} MiB more, the others waited {slowest:?} at most", grown / MIB);
        assert!(grown <= UNREAD_REPLIES, "{} MiB for one client that does not read", grown / MIB);
        assert!(slowest < Duration::from_secs(2), "others waited {slowest:?}");
    }

    #[test]
    fn a_client_that_does_not_read_events_costs_a_bounded_amount() {
        let server = Server::zooid(&Setup::standalone());
        let mut other = Client::connect(&server);
        let long = format!("/{}", "n".repeat(900));
        other.create(&long);
        let mut deaf = Client::connect(&server);
        // Persistent, recursive.
        deaf.ok(op::ADD_WATCH, compat_tests::request::watch_kind("/", 1));
        let before = server.resident();
        // The watcher's socket takes a few MiB, its queue 16 more.
        for n in 0..60_000 {
            other.send(op::SET_DATA, set_data(&long, b"", -1));
            if n % 100 == 99 {
                for _ in 0..100 {
                    assert!(matches!(other.next_frame(), Next::Reply(Reply { err: 0, .. })));
                }
            }
        }
        let grown = server.resident().saturating_sub(before);
        println!("{} MiB more", grown / MIB);
        assert!(grown <= UNREAD_EVENTS, "{} MiB for one client that does not read", grown / MIB);
        until("it is closed", || connection_count(&server) <= 2);
        std::mem::forget(deaf);
    }

    #[test]
    fn a_hundred_thousand_children_are_listed() {
        const COUNT: usize = 100_000;
        let server = Server::zooid(&Setup::standalone());
        let mut client = Client::connect(&server);
        client.create("/many");
        let name = |n: usize| format!("child-with-a-rather-long-name-{n:010}");
        for start in (0..COUNT).step_by(1000) {
            let parts = (start..start + 1000).map(|n| (op::CREATE, node(&format!("/many/{}", name(n)))));
            let reply = client.ok(op::MULTI, multi(parts));
            assert!(reply.outcomes().iter().all(|outcome| *outcome == (op::CREATE, 0)));
        }
        let reply = client.ok(op::GET_CHILDREN, unwatched("/many"));
        assert!(reply.body.len() > 4 << 20, "a reply of {} bytes", reply.body.len());
        let children = jute::Reader::new(reply.body).vector::<Option<jute::Text>>("children");
        let children = children.expect("a list").expect("that is not null");
        let mut children: Vec<String> = children.into_iter().flatten().map(|child| child.to_string()).collect();
        children.sort_unstable();
        assert!(children.into_iter().eq((0..COUNT).map(name)), "not all children, or others");
        client.ok(op::DELETE, versioned(&format!("/many/{}", name(0)), -1));
    }
}

/// What the server has in use once it has served a few clients.
fn warm(server: &Server) -> u64 {
    let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(server)).collect();
    for client in &mut clients {
        client.ping();
    }
    drop(clients);
    until("the first clients are gone", || connection_count(server) == 1);
    server.resident()
}

/// Connections that the server counts, the one that asks among them.
fn connection_count(server: &Server) -> usize {
    let answer = server.word("srvr").expect("srvr is answered");
    let count = answer.lines().find_map(|line| line.strip_prefix("Connections: "));
    count.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("no connections in {answer}"))
}

/// Waits for something that only asking shows.
fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + ANSWER;
    while !is_true() {
        assert!(Instant::now() < deadline, "not within {ANSWER:?}: {what}");
    }
}

/// A file system of a few MiB, gone with the value.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(name: &str, bytes: u64) -> Self {
        let directory = std::env::temp_dir().join(format!("zooid-disk-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).expect("cannot create the mount point");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(&directory)
            .output()
            .expect("cannot run mount");
        let why = String::from_utf8_lossy(&mount.stderr);
        assert!(mount.status.success(), "this test mounts a tmpfs, for which it must be root: {why}");
        Self(directory)
    }

    /// Leaves no more than `left` bytes of room.
    fn fill(&self, left: u64) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = File::create(&path).expect("the filler can be made");
        let block = vec![1; MIB as usize];
        while file.write_all(&block).is_ok() {}
        let length = file.metadata().expect("the filler has a length").len();
        file.set_len(length.saturating_sub(left)).expect("the filler can be cut");
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        let _ = fs::remove_dir(&self.0);
    }
}
