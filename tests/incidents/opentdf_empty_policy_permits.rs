//! Incident: OpenTDF: a policy object without attributes is satisfied by anybody, so that a file with an empty policy opens for everyone who asks (its own documentation of data attributes).
//! Here it would mean: a site's rules are empty, lost or say nothing about an act, and everything is permitted.
//! Stopped by: `Rules::parse` refuses a text without rules; what no rule permits is refused (`not-permitted`).

use crate::common::*;
use sallyport::assembly::AssemblyError;

#[tokio::test(flavor = "multi_thread")]
async fn no_rules_means_no_gateway_and_rules_that_permit_nothing_refuse_everything() {
    let stage = Stage::new().await;
    let nhs = hale().nhs;
    let read = token(&stage.party("hospital-a"), &treat(nhs)).await;
    let (dir, _) = stage.stop().await;
    // What happened: the policy is empty.
    for empty in [
        "",
        "\n\n",
        "// all rules were moved elsewhere\n",
        "@id(\"x\")",
    ] {
        let error = Served::open(dir.path(), Some(empty)).await.err();
        assert!(matches!(error, Some(AssemblyError::Rules(_))), "{empty:?}");
    }
    // A policy that permits nothing, and one that permits only something else.
    for local in [
        r#"@id("never") @says("Never.") forbid (principal, action, resource) when { context.now < 0 };"#,
        r#"@id("log-only") @says("Only the log.") permit (principal, action == Action::"readLog", resource);"#,
    ] {
        let served = Served::open(dir.path(), Some(local)).await.unwrap();
        let hospital = party_at(dir.path(), "hospital-a");
        refused(&get(&hospital, &read, &everything(nhs)).await);
        refused(&get(&hospital, &read, "/fhir/Observation/hale-obs-4").await);
        denied(&hospital.ask(&treat(nhs), now_s()).await.unwrap());
        let practice = party_at(dir.path(), "practice-a");
        for details in [deposit_for(PRACTICE_A, nhs), consent_for(PRACTICE_A, nhs)] {
            denied(&practice.ask(&details, now_s()).await.unwrap());
        }
        let admin = party_at(dir.path(), "admin-1");
        let path = format!("/admin/keys/{PRACTICE_A}/rotate");
        denied(
            &admin
                .http
                .send(hyper::Method::POST, &path, &[], "")
                .await
                .unwrap(),
        );
        served.stop().await;
    }
}
