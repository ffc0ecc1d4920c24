//! zoo.cfg with the files that it points to, which follow it behind zero bytes: the dynamic file, myid, the
//! dynamic file that a reconfiguration has left, and flags.

use zooid::config::{Config, Draft, Flags, Found};

use crate::bounded;

pub fn config(input: &[u8]) {
    let mut files = input.split(|byte| *byte == 0);
    let text = files.next().unwrap_or_default();
    let mut next = || files.next().map(<[u8]>::to_vec);
    let found = Found { dynamic: next(), myid: next(), dynamic_next: next() };
    let variables = next().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    // Every member is held several times, as text and parsed.
    bounded((256 << 10) + 256 * input.len(), || {
        let flags = Flags::from_variables(variables.as_deref(), None);
        check(Draft::parse("/etc/zoo.cfg", text, &flags).and_then(|draft| {
            let wants = draft.wants();
            assert_eq!(wants.dynamic.is_some(), wants.dynamic_next.is_some());
            draft.finish(&found)
        }));
        let arguments: Vec<String> = String::from_utf8_lossy(text).split(' ').map(str::to_owned).collect();
        check(Config::from_arguments(&arguments, &flags));
    });
}

fn check<N>(result: Result<(Config, N), zooid::config::ConfigError>) {
    match result {
        Ok((config, _)) => assert!(config == config.clone()),
        Err(error) => assert_ne!(error.exit_code(), 0, "{error}"),
    }
}
