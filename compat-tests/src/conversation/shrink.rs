use std::time::Instant;

use super::script::{Script, Step};

/// Leaves out of `script` what the difference does not need, until `deadline`. `shows` holds a conversation
/// and tells whether it still shows that difference.
pub fn shrink(script: &Script, deadline: Instant, mut shows: impl FnMut(&Script) -> bool) -> Script {
    let mut best = script.clone();
    let mut chunk = units(&best).div_ceil(2).max(1);
    while Instant::now() < deadline {
        let mut from = 0;
        let mut smaller = false;
        while from < units(&best) && Instant::now() < deadline {
            let candidate = without(&best, from, chunk);
            if shows(&candidate) {
                best = candidate;
                smaller = true;
            } else {
                from += chunk;
            }
        }
        if chunk == 1 && !smaller {
            break;
        }
        chunk = chunk.div_ceil(2);
    }
    best
}

/// What can be left out by itself: a request of a batch, or a whole other step.
fn units(script: &Script) -> usize {
    script.operations()
}

fn without(script: &Script, from: usize, count: usize) -> Script {
    let mut at = 0;
    let mut keep = || {
        at += 1;
        at <= from || at > from + count
    };
    let mut steps = Vec::new();
    for step in &script.0 {
        match step {
            Step::Batch { slot, requests } => {
                let requests: Vec<_> = requests.iter().filter(|_| keep()).cloned().collect();
                if !requests.is_empty() {
                    steps.push(Step::Batch { slot: *slot, requests });
                }
            }
            step if keep() => steps.push(step.clone()),
            _ => {}
        }
    }
    Script(steps)
}
