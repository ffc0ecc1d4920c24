use std::time::Instant;

use super::script::{Script, Step};

/// Leaves out of `script` what the difference does not need, until `deadline`. `shows` holds a conversation
/// and tells whether it still shows that difference.
pub fn shrink(script: &Script, deadline: Instant, mut shows: impl FnMut(&Script) -> bool) -> Script {
    let mut best = script.clone();
    // Most differences need little of what came before.
    for length in [1, 4, 16, 64] {
        let candidate = tail(script, length);
        if candidate.0.len() < script.0.len() && Instant::now() < deadline && shows(&candidate) {
            best = candidate;
            break;
        }
    }
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

/// The last steps, and the connections that they use.
fn tail(script: &Script, length: usize) -> Script {
    let (before, last) = script.0.split_at(script.0.len().saturating_sub(length));
    let mut steps: Vec<Step> = Vec::new();
    for step in before {
        if let Step::Open { slot, .. } = step {
            steps.retain(|s| !matches!(s, Step::Open { slot: other, .. } if other == slot));
            steps.push(step.clone());
        }
    }
    steps.extend_from_slice(last);
    Script(steps)
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
