//! Incident: March 2017, SystmOne enhanced data sharing: a GP switched sharing on for the local hospital, and 6,600 NHS organisations could look; practices could not say which (digitalhealth.net, March 2017).
//! Here it would mean: one statement or one rule of a practice lets anyone but the named organisation read.
//! Stopped by: an agreement names one organisation (guard `never-without-agreement`); there is no switch to write a rule with.

use serde_json::json;

use crate::common::*;
use policy::{LoadError, Rules};
use sallyport::dev::MEMBERS;
use sallyport::facts::{AgreementRow, Statement};

const SWITCH: &str = r#"
@id("sharing-on") @says("Sharing is switched on: anyone may look.")
permit (principal, action, resource);
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_lets_anyone_look_lets_nobody_else_look() {
    let stage = Stage::new().await;
    let nhs = hale().nhs;
    let (dir, _) = stage.stop().await;
    // What happened: somebody made the rule as wide as a rule can be.
    let served = Served::open(dir.path(), Some(SWITCH)).await.unwrap();
    let mut let_in = Vec::new();
    for member in MEMBERS {
        let party = party_at(dir.path(), member.name);
        for person in [
            "dr-okafor",
            "nurse-lind",
            "dr-hart",
            "r-quill",
            "dr-late",
            "dr-stopped",
            "clerk-moss",
        ] {
            let details = with(treat(nhs), &[("practitioner", json!({ "id": person }))]);
            let reply = party.ask(&details, now_s()).await.unwrap();
            if reply.status.is_success() {
                let_in.push((member.name, person));
            } else {
                denied(&reply);
            }
        }
    }
    // The hospital that the practice agreed with, its trained people, and nobody else.
    assert_eq!(
        let_in,
        [
            ("hospital-a", "dr-okafor"),
            ("hospital-a", "nurse-lind"),
            ("hospital-a", "clerk-moss")
        ]
    );
    served.stop().await;
}

#[test]
fn the_switch_itself_cannot_be_written() {
    let switch = r#"@id("switch") @says("On.") permit (principal, action == Action::"read", resource)
        when { resource.practice.sharingOn };"#;
    assert!(matches!(Rules::parse(switch), Err(LoadError::Invalid(_))));
    for anyone in ["*", "", "ALL", "NHS ENGLAND", "RJ1,RM3", "R%"] {
        let agreement = AgreementRow {
            reference: "everyone".to_owned(),
            practice: PRACTICE_A.to_owned(),
            organisation: anyone.to_owned(),
            purposes: vec!["TREAT".to_owned()],
            categories: vec!["problems".to_owned()],
            labels: Vec::new(),
            accepts_asserted: true,
            emergency_overrides_objection: false,
            from_ms: 0,
            until_ms: u64::MAX,
        };
        let checked = Statement::Agreement(agreement).check();
        // "ALL" has the form of a code: then it names one organisation of that code, which does not exist.
        assert!(checked.is_err() || anyone == "ALL", "{anyone}");
    }
}
