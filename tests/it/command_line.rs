//! What the program does without a configuration: help for shells and people.

use std::process::Command;

/// Every command that the program has; a new one has to appear in scripts and manual by itself.
const COMMANDS: [&str; 8] = [
    "run",
    "check",
    "init",
    "doctor",
    "health",
    "backup",
    "restore",
    "completions",
];

fn printed(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_roomlift"))
        .args(arguments)
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn shells_complete_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = printed(&["completions", shell]);
        for command in COMMANDS {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
    // What bash itself says of it: the script is loaded, and completes a beginning.
    let script = printed(&["completions", "bash"]);
    let ask = "source /dev/stdin; COMP_WORDS=(roomlift ba); COMP_CWORD=1; \
               _roomlift roomlift ba roomlift; echo \"${COMPREPLY[@]}\"";
    let mut bash = Command::new("bash")
        .args(["--norc", "-c", ask])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("bash");
    let mut words = bash.stdin.take().expect("its input");
    std::io::Write::write_all(&mut words, script.as_bytes()).expect("the script is read");
    drop(words);
    let output = bash.wait_with_output().expect("bash ends");
    let completed = String::from_utf8(output.stdout).expect("text");
    assert_eq!(
        completed.trim(),
        "backup",
        "{output:?}",
        output = output.stderr
    );
}

#[test]
fn the_manual_names_every_command() {
    let page = printed(&["man"]);
    assert!(page.contains(".TH roomlift 1"), "{page}");
    for command in COMMANDS {
        assert!(
            page.contains(&format!("roomlift\\-{command}")),
            "{command}: {page}"
        );
    }
}
