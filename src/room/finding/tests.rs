use super::*;

#[test]
fn weights_and_stored_form() {
    let user: OwnedUserId = "@a:x".parse().unwrap();
    let holders = vec![
        Holder {
            user: user.clone(),
            power: Power::Creator,
        },
        Holder {
            user: user.clone(),
            power: Power::Level(50),
        },
    ];
    for (finding, weight, stored) in [
        (Finding::NotJoined, Weight::Blocker, r#""not_joined""#),
        (
            Finding::NoPower {
                what: Permission::SendTombstone,
                needed: 100,
                have: 50,
                holders,
            },
            Weight::Blocker,
            r#"{"no_power":{"what":"send_tombstone","needed":100,"have":50,"holders":[{"user":"@a:x","power":"creator"},{"user":"@a:x","power":{"level":50}}]}}"#,
        ),
        (
            Finding::NotCarried {
                kind: "k".to_owned(),
                state_key: String::new(),
                why: LeftBehind::TooLarge { bytes: 7 },
            },
            Weight::Loss,
            r#"{"not_carried":{"kind":"k","state_key":"","why":{"too_large":{"bytes":7}}}}"#,
        ),
        (
            Finding::Creators { users: vec![user] },
            Weight::Note,
            r#"{"creators":{"users":["@a:x"]}}"#,
        ),
    ] {
        assert_eq!(finding.weight(), weight);
        assert_eq!(serde_json::to_string(&finding).unwrap(), stored);
        assert_eq!(serde_json::from_str::<Finding>(stored).unwrap(), finding);
    }
    assert!(Weight::Blocker < Weight::Loss && Weight::Loss < Weight::Note);
}
