//! Failures that are known, each with its case and a seed that shows it. One that is not in the list is
//! an error, and so is one in the list that does not happen any more.

use crate::oracle::Broken;
use crate::seeds::{Seeded, seeded};

/// Case, promise, seed, kind of failure; one a line.
const KNOWN: &str = include_str!("known.txt");

struct Known {
    case: &'static str,
    promise: u8,
    seed: u64,
    kind: &'static str,
}

fn all() -> Vec<Known> {
    let lines = KNOWN
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let mut parts = line.split(" | ");
            let mut part = || parts.next().expect("case | promise | seed | kind").trim();
            Known {
                case: part(),
                promise: part().trim_start_matches('P').parse().expect("a promise"),
                seed: part().parse().expect("a seed"),
                kind: part(),
            }
        })
        .collect()
}

/// What is broken and not known.
pub(crate) fn new(broken: &[Broken]) -> Vec<Broken> {
    let known = all();
    let is_known = |broken: &&Broken| {
        known
            .iter()
            .any(|known| known.promise == broken.promise && known.kind == broken.kind)
    };
    broken
        .iter()
        .filter(|broken| !is_known(broken))
        .cloned()
        .collect()
}

#[test]
fn known_failures_still_fail() {
    for known in all() {
        let Seeded { mut sim, .. } = seeded(known.seed);
        sim.run();
        let happens = sim
            .oracle
            .broken()
            .iter()
            .any(|broken| broken.promise == known.promise && broken.kind == known.kind);
        assert!(
            happens,
            "case {} ({}) does not happen any more with seed {}: take it off the list, or give it another seed",
            known.case, known.kind, known.seed
        );
    }
}
