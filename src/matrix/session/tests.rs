use super::is_damage;

#[test]
fn advice_that_destroys_keys_is_only_for_certain_damage() {
    for (words, expected) in [
        ("database disk image is malformed", true),
        ("cannot open: file is not a database", true),
        (
            "the account in the store doesn't match the account in the constructor: expected",
            true,
        ),
        ("database or disk is full", false),
        ("disk I/O error", false),
        ("unable to open database file", false),
        ("attempt to write a readonly database", false),
        ("database is locked", false),
        ("No space left on device (os error 28)", false),
    ] {
        assert_eq!(is_damage(words), expected, "{words}");
    }
}
