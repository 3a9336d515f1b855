//! Incident: March 2017, SystmOne enhanced data sharing: a GP switched sharing on for the local hospital, and 6,600 NHS organisations could look; practices could not say which (digitalhealth.net, March 2017).
//! Here it would mean: one statement or one rule of a practice lets anyone but the named organisation read.
//! Stopped by: an agreement names one organisation (guard `never-without-agreement`); there is no switch to write a rule with, and guards with one are not proven (`policy check`), so no gateway loads them.

use std::path::Path;

use serde_json::json;

use crate::common::*;
use policy::{LoadError, Rules, Texts};
use sallyport::assembly;
use sallyport::clock::Clock;
use sallyport::config::Config;
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
            signer: "Dr Ada Prior".to_owned(),
            hand: None,
            proposed_ms: 0,
            cooling_ms: 0,
            withdrawn_ms: None,
            register: None,
        };
        let checked = Statement::Agreement(agreement).check();
        // "ALL" has the form of a code: then it names one organisation of that code, which does not exist.
        assert!(checked.is_err() || anyone == "ALL", "{anyone}");
    }
}

/// The built-in set with the switch of 2017 in schema, guard and rule.
fn switched() -> Texts {
    let mut texts = Texts::built_in();
    let with_switch = |text: &str, before: &str, after: &str| {
        assert!(text.contains(before), "{before}");
        text.replacen(before, after, 1)
    };
    texts.schema = with_switch(
        &texts.schema,
        "entity Organisation;",
        "entity Organisation { sharingOn: Bool };",
    );
    for family in &mut texts.guards {
        let guard = "@id(\"never-without-agreement\")";
        if let Some((before, rest)) = family.text.split_once(guard) {
            let rest = with_switch(
                rest,
                "unless {",
                "unless {\n  resource.practice.sharingOn ||",
            );
            family.text = format!("{before}{guard}{rest}");
        }
    }
    texts.rules.push(policy::texts::Family {
        name: "switch".to_owned(),
        text: r#"@id("enhanced-sharing") @says("Sharing is switched on: anyone may look.")
            permit (principal, action == Action::"read", resource) when { resource.practice.sharingOn };"#
            .to_owned(),
    });
    texts
}

fn lay_out(folder: &Path, texts: &Texts) {
    for (kind, families) in [
        ("guards", &texts.guards),
        ("rules", &texts.rules),
        ("invariants", &texts.invariants),
    ] {
        std::fs::create_dir_all(folder.join(kind)).unwrap();
        for family in families {
            let path = folder.join(kind).join(format!("{}.cedar", family.name));
            std::fs::write(path, &family.text).unwrap();
        }
    }
    std::fs::write(folder.join("schema.cedarschema"), &texts.schema).unwrap();
}

/// Whoever wants the switch would have to write it into the guards. Then there is no proof of them, and the gateway
/// does not start: neither without one nor with the proof of the guards as they were.
#[tokio::test(flavor = "multi_thread")]
async fn guards_with_a_switch_start_no_gateway() {
    let stage = Stage::new().await;
    let (dir, _) = stage.stop().await;
    let folder = dir.path().join("switched");
    let texts = switched();
    lay_out(&folder, &texts);
    let open = async || {
        let mut config = Config::load(&dir.path().join("sallyport.toml")).unwrap();
        config.policy = Some(folder.clone());
        let passphrase = std::fs::read(dir.path().join("passphrase")).unwrap();
        assembly::open(&config, &passphrase, Clock::system()).await
    };
    let error = open().await.err().unwrap().to_string();
    assert!(error.contains("proof.json"), "{error}");
    let stale = policy::Proof::built_in().unwrap();
    std::fs::write(folder.join("proof.json"), stale.to_string()).unwrap();
    let error = open().await.err().unwrap().to_string();
    assert!(error.contains("not those that were proven"), "{error}");
    // The guards as they were, with their proof, and a local rule as wide as a rule can be: that starts.
    let mut proven = Texts::built_in();
    proven.rules.push(policy::texts::Family {
        name: "switch".to_owned(),
        text: SWITCH.to_owned(),
    });
    lay_out(&folder, &proven);
    open().await.unwrap().close().await.unwrap();
    // And nobody gets a proof of it: there is an example of what it would let happen. (A proof waits for its solver.)
    #[cfg(feature = "prove")]
    let checked =
        tokio::task::spawn_blocking(move || policy::prove::check(&texts, &mut |_| ())).await;
    #[cfg(feature = "prove")]
    match checked.unwrap() {
        Err(policy::prove::CheckError::Solver(error)) => println!("SKIPPED: {error}"),
        Err(error) => panic!("{error}"),
        Ok(report) => {
            assert!(report.proof().is_none());
            let [breach] = report.breaches.as_slice() else {
                panic!("{report:#?}");
            };
            assert_eq!(breach.rule.id, "i31-agreement-of-that-practice");
            assert!(breach.also.is_empty() && breach.by.contains(&"enhanced-sharing".to_owned()));
            let sentence = &breach.story.sentence;
            assert!(sentence.contains("could read"), "{sentence}");
            assert!(sentence.contains("the agreement"), "{sentence}");
        }
    }
}
