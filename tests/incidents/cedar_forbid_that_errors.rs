//! Incident: documented behaviour of the Cedar engine (cedar issue 2428, 2026): a `forbid` whose evaluation errors is skipped, and a skipped forbid forbids nothing.
//! Here it would mean: a rule that must stop something errs on one odd value, and the record is released.
//! Stopped by: `Rules::judge`: any evaluation error refuses, whatever the engine decided; `policy/src/release/traps.rs` plays the engine's own answers.

use crate::common::*;
use hyper::StatusCode;
use policy::rules::LOCAL;

/// The shipped local rules and one more, which forbids reading under this condition.
fn forbids(condition: &str) -> String {
    let more = format!(
        "@id(\"stop-list\") @says(\"A site's own stop list.\") forbid (principal, action == Action::\"read\", resource) when {{ {condition} }};"
    );
    let shipped: Vec<&str> = LOCAL.iter().map(|(_, text)| *text).collect();
    format!("{}\n{more}", shipped.join("\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forbid_that_errors_refuses() {
    let stage = Stage::new().await;
    let nhs = hale().nhs;
    let (dir, _) = stage.stop().await;
    let cases = [
        // It does not apply: the record is released, as without it.
        ("context.now < 0", true),
        // It applies.
        ("context.now > 0", false),
        // What happened: it validates strictly, and overflows only when it is evaluated.
        ("context.now * 9223372036854775807 > 0", false),
        (
            "context.now < 0 || context.token.expires + 9223372036854775807 < 0",
            false,
        ),
    ];
    for (condition, may) in cases {
        let served = Served::open(dir.path(), Some(&forbids(condition)))
            .await
            .unwrap();
        let hospital = party_at(dir.path(), "hospital-a");
        let read = token(&hospital, &treat(nhs)).await;
        for path in [everything(nhs), "/fhir/Observation/hale-obs-4".to_owned()] {
            let reply = get(&hospital, &read, &path).await;
            if may {
                assert_eq!(reply.status, StatusCode::OK, "{condition}");
                assert!(!open(&hospital, &reply, nhs).await.records.is_empty());
            } else if reply.status == StatusCode::OK {
                // A search that is permitted as such may still withhold every record.
                assert!(
                    open(&hospital, &reply, nhs).await.records.is_empty(),
                    "{condition}"
                );
            } else {
                refused(&reply);
            }
        }
        served.stop().await;
    }
}
