//! Compares two transcripts, and shows where they differ.

use std::fmt::Write as _;

use super::stage::Transcript;

/// How far waits may be apart: they shrink while requests are on their way.
const WAIT_TOLERANCE: f64 = 0.1;

/// Insists that a scene went alike.
pub(super) fn assert_equal(scene: &str, simulated: &Transcript, real: &Transcript) {
    let shown = difference(&simulated.lines, &real.lines);
    assert!(
        shown.is_empty(),
        "{scene}: the simulated server (-) and Synapse (+) differ:\n{shown}"
    );
    let counts = (simulated.waits.len(), real.waits.len());
    assert_eq!(
        counts.0, counts.1,
        "{scene}: how often it says how long to wait"
    );
    for (number, (simulated, real)) in simulated.waits.iter().zip(&real.waits).enumerate() {
        let apart = (simulated - real).abs() / real.max(1.0);
        assert!(
            apart <= WAIT_TOLERANCE,
            "{scene}: wait {number} is {simulated} ms on the simulated server and {real} ms on Synapse"
        );
    }
}

/// The lines that are not in both, in their order, each run of them below the last line that is.
fn difference(ours: &[String], theirs: &[String]) -> String {
    // Lengths of the longest common part of what is left from there on.
    let mut common = vec![vec![0_usize; theirs.len() + 1]; ours.len() + 1];
    for (i, our) in ours.iter().enumerate().rev() {
        for (j, their) in theirs.iter().enumerate().rev() {
            common[i][j] = if our == their {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut shown) = (0, 0, String::new());
    let mut last = None;
    while i < ours.len() || j < theirs.len() {
        if i < ours.len() && j < theirs.len() && ours[i] == theirs[j] {
            last = Some(&ours[i]);
            (i, j) = (i + 1, j + 1);
            continue;
        }
        if let Some(before) = last.take() {
            writeln!(shown, "  {before}").expect("write to memory");
        }
        let is_ours = j == theirs.len() || (i < ours.len() && common[i + 1][j] >= common[i][j + 1]);
        let line = if is_ours {
            i += 1;
            format!("- {}", ours[i - 1])
        } else {
            j += 1;
            format!("+ {}", theirs[j - 1])
        };
        writeln!(shown, "{line}").expect("write to memory");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_shows_what_is_not_in_both() {
        let lines = |text: &str| -> Vec<String> { text.chars().map(String::from).collect() };
        assert_eq!(difference(&lines("abcd"), &lines("abcd")), "");
        assert_eq!(
            difference(&lines("abcd"), &lines("axcde")),
            "  a\n- b\n+ x\n  d\n+ e\n"
        );
    }

    #[test]
    fn waits_may_differ_a_little() {
        let transcript = |wait| Transcript {
            lines: Vec::new(),
            waits: vec![wait],
        };
        assert_equal("a", &transcript(1000.0), &transcript(950.0));
        let far = || assert_equal("a", &transcript(1000.0), &transcript(700.0));
        assert!(std::panic::catch_unwind(far).is_err());
    }
}
