//! Health and metrics, in plain HTTP on loopback only, and the heartbeat that shows a silent ledger. Nothing
//! here names anybody.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::Shared;
use super::answer::{json_response, text_response};
use super::gate::{Gate, SEALED};
use crate::ledger::Event;

/// How often the ledger says that the gateway is there.
const HEARTBEAT: Duration = Duration::from_secs(300);

/// Serves `/health` and `/metrics` on this address, which the config has checked to be loopback.
///
/// # Errors
/// If the address cannot be had.
pub async fn operations(address: SocketAddr, gate: Arc<Gate>) -> std::io::Result<JoinHandle<()>> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    let router = Router::new()
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .with_state(gate);
    Ok(tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "health and metrics stopped");
        }
    }))
}

/// 503 takes the gateway out of a balancer's list, so it says so only when nothing can be served: on a full disk
/// emergencies still come here.
async fn health(State(gate): State<Arc<Gate>>) -> Response {
    let Some(app) = gate.app() else {
        let body = json!({ "status": "sealed", "why": SEALED });
        return json_response(StatusCode::SERVICE_UNAVAILABLE, &body);
    };
    let (status, word, why) = serving(&app);
    let mut body = json!({ "status": word, "alerts": alerts(&app), "feeds": feeds(&app) });
    if let (Some(why), Some(body)) = (why, body.as_object_mut()) {
        body.insert("why".to_owned(), why.into());
    }
    if let (Some(witnesses), Some(body)) = (witnesses(&app), body.as_object_mut()) {
        body.insert("witnesses".to_owned(), witnesses);
    }
    json_response(status, &body)
}

/// Whether the gateway serves: as a status, in a word, and where it does not serve all, why and what to do.
pub(super) fn serving(app: &Shared) -> (StatusCode, &'static str, Option<&'static str>) {
    let (ledger, store) = (app.gateway.ledger().health(), app.gateway.store());
    let (status, word, why) = if ledger.is_stopped {
        let why = "the ledger stopped after a disk error; look at the disk, then start again";
        (StatusCode::SERVICE_UNAVAILABLE, "stopped", why)
    } else if store.is_stopped() {
        let why = "the store stopped after a disk error; look at the disk, then start again";
        (StatusCode::SERVICE_UNAVAILABLE, "stopped", why)
    } else if !ledger.has_room {
        let why = "the disk has no room for another journal segment; when the present one is full, only emergencies \
                   (ETREAT, BTG) are served and recorded: free 128 MiB on the disk of the journal";
        (StatusCode::OK, "limited", why)
    } else if !store.has_room() {
        let why = "less than 1 GiB is free on the disk of the store: deposits, withdrawals and objections get 503, \
                   reads are served: free some space";
        (StatusCode::OK, "limited", why)
    } else if app.gateway.witnesses().stops().is_some() {
        let why = "too few witnesses have cosigned the log for longer than witness.lag_max_s: only emergencies (ETREAT, BTG) \
                   are served; `witnesses` says what each of them answers";
        (StatusCode::OK, "limited", why)
    } else {
        return (StatusCode::OK, "serving", None);
    };
    (status, word, Some(why))
}

/// Which alarms stand, how many items are open, and whether anybody is told.
pub(super) fn alerts(app: &Shared) -> Value {
    let (board, now_ms) = (app.gateway.post().board(), app.gateway.clock().now_ms());
    let targets = board.targets();
    let standing = board.standing();
    let standing = standing.iter().map(
        |it| json!({ "alert": it.code, "of": it.of, "since_ms": it.ts_ms, "entry": it.entry }),
    );
    let told = targets.iter().map(|it| {
        json!({
            "target": it.target, "undelivered": it.undelivered, "oldest_s": age_s(it.oldest_ms, now_ms), "failure": it.failure,
        })
    });
    let mut body = json!({
        "standing": standing.collect::<Vec<_>>(), "targets": told.collect::<Vec<_>>(), "open_items": board.open_items(),
    });
    if let (true, Some(body)) = (targets.is_empty(), body.as_object_mut()) {
        let text =
            "no target is configured: nobody is told, and only the worklist shows what happened";
        body.insert("warning".to_owned(), text.into());
    }
    body
}

/// How the log's witnesses stand, where there are any.
fn witnesses(app: &Shared) -> Option<Value> {
    let witnesses = app.gateway.witnesses();
    let lag_s = witnesses.lag_s()?;
    let standing = witnesses.standing();
    let by = standing.iter().map(|it| {
        json!({
            "witness": it.witness, "size": it.size, "age_s": it.age_s, "failure": it.failure,
            "holds_another_history": it.is_refused,
        })
    });
    let lag_s = Some(lag_s).filter(|lag_s| *lag_s < u64::MAX);
    Some(json!({ "lag_s": lag_s, "by": by.collect::<Vec<_>>() }))
}

fn witness_metrics(app: &Shared) -> String {
    let witnesses = app.gateway.witnesses();
    let Some(lag_s) = witnesses.lag_s() else {
        return String::new();
    };
    // Why not the largest number for "never": a graph of it shows nothing else.
    let seconds = |age_s: u64| {
        if age_s == u64::MAX {
            "+Inf".to_owned()
        } else {
            age_s.to_string()
        }
    };
    let mut text = format!(
        "# TYPE sallyport_witness_lag_seconds gauge\nsallyport_witness_lag_seconds {}\n\
         # TYPE sallyport_witness_age_seconds gauge\n",
        seconds(lag_s)
    );
    let standing = witnesses.standing();
    for it in &standing {
        let age = seconds(it.age_s.unwrap_or(u64::MAX));
        let name = &it.witness;
        text.push_str(&format!(
            "sallyport_witness_age_seconds{{witness=\"{name}\"}} {age}\n"
        ));
    }
    text.push_str("# TYPE sallyport_witness_failing gauge\n");
    for it in &standing {
        let (name, failing) = (&it.witness, u8::from(it.failure.is_some()));
        text.push_str(&format!(
            "sallyport_witness_failing{{witness=\"{name}\"}} {failing}\n"
        ));
    }
    text
}

/// How the feeds of objections stand.
pub(super) fn feeds(app: &Shared) -> Vec<Value> {
    let feeds = app.gateway.feeds();
    let one = feeds.iter().map(|(owner, standing)| {
        let row = standing.row.as_ref();
        json!({
            "of": owner,
            "state": standing.code(),
            "missing": row.map_or(0, |row| row.count.saturating_sub(row.held)),
            "unsound_s": row.map_or(0, |_| standing.unsound_s()),
            "refuses_care": standing.stops_care(),
        })
    });
    one.collect()
}

fn feed_metrics(app: &Shared) -> String {
    let feeds = app.gateway.feeds();
    let mut text = String::new();
    let mut add = |name: &str, value: &dyn Fn(&crate::facts::FeedStanding) -> u64| {
        text.push_str(&format!("# TYPE sallyport_feed_{name} gauge\n"));
        for (owner, standing) in &feeds {
            let value = value(standing);
            text.push_str(&format!(
                "sallyport_feed_{name}{{practice=\"{owner}\"}} {value}\n"
            ));
        }
    };
    add("sound", &|it| u64::from(it.code() == "sound"));
    add("objections_counted", &|it| {
        it.row.as_ref().map_or(0, |row| row.count)
    });
    add("objections_held", &|it| {
        it.row.as_ref().map_or(0, |row| row.held)
    });
    add("unsound_seconds", &|it| {
        it.row.as_ref().map_or(0, |_| it.unsound_s())
    });
    add("refuses_care", &|it| u64::from(it.stops_care()));
    text
}

fn age_s(oldest_ms: Option<u64>, now_ms: u64) -> u64 {
    oldest_ms.map_or(0, |oldest| now_ms.saturating_sub(oldest) / 1000)
}

async fn metrics(State(gate): State<Arc<Gate>>) -> Response {
    let text = match gate.app() {
        Some(app) => figures(&app),
        None => "# TYPE sallyport_serving gauge\nsallyport_serving 0\n\
                 # TYPE sallyport_sealed gauge\nsallyport_sealed 1\n"
            .to_owned(),
    };
    text_response(
        StatusCode::OK,
        "text/plain; version=0.0.4; charset=utf-8",
        &text,
    )
}

fn figures(app: &Shared) -> String {
    let health = app.gateway.ledger().health();
    let (size, up) = (
        health.size,
        u8::from(!health.is_stopped && !app.gateway.store().is_stopped()),
    );
    let (board, now_ms) = (app.gateway.post().board(), app.gateway.clock().now_ms());
    let mut text = format!(
        "# TYPE sallyport_ledger_entries counter\nsallyport_ledger_entries {size}\n\
         # TYPE sallyport_serving gauge\nsallyport_serving {up}\n\
         # TYPE sallyport_sealed gauge\nsallyport_sealed 0\n\
         # TYPE sallyport_review_items_open gauge\nsallyport_review_items_open {}\n\
         # TYPE sallyport_alarms_standing gauge\nsallyport_alarms_standing {}\n",
        board.open_items(),
        board.standing().len(),
    );
    let targets = board.targets();
    text.push_str("# TYPE sallyport_alerts_undelivered gauge\n");
    for it in &targets {
        let (name, count) = (&it.target, it.undelivered);
        text.push_str(&format!(
            "sallyport_alerts_undelivered{{target=\"{name}\"}} {count}\n"
        ));
    }
    text.push_str("# TYPE sallyport_alerts_oldest_undelivered_seconds gauge\n");
    for it in &targets {
        let (name, age) = (&it.target, age_s(it.oldest_ms, now_ms));
        text.push_str(&format!(
            "sallyport_alerts_oldest_undelivered_seconds{{target=\"{name}\"}} {age}\n"
        ));
    }
    text.push_str(&rotations(app));
    text.push_str(&feed_metrics(app));
    text.push_str(&witness_metrics(app));
    text
}

/// How far each rotation since the start has come; an owner is a practice's code, never a patient.
fn rotations(app: &Shared) -> String {
    let rotations = app.gateway.vault().rotations();
    let mut text = String::new();
    for (name, of) in [
        ("sallyport_rotation_keys_rewrapped", 0),
        ("sallyport_rotation_keys_left", 1),
        ("sallyport_rotation_version", 2),
    ] {
        text.push_str(&format!("# TYPE {name} gauge\n"));
        for rotation in &rotations {
            let version = u64::from(rotation.version);
            let value = [rotation.rewrapped, rotation.left, version];
            let value = value.get(of).copied().unwrap_or_default();
            text.push_str(&format!("{name}{{owner=\"{}\"}} {value}\n", rotation.owner));
        }
    }
    text
}

/// What goes on beside the requests: alerts are delivered, rotations that were left half done are taken up, then a
/// heartbeat is recorded every five minutes, with what was counted but not recorded since the last.
pub async fn beside(app: Shared) {
    let work = async {
        if let Err(fault) = app.gateway.resume().await {
            tracing::error!(%fault, "a rotation that was left half done could not be taken up");
        }
        heartbeats(Arc::clone(&app)).await;
    };
    tokio::join!(app.gateway.keep_watch(), work);
}

/// Records a heartbeat every five minutes, with what was counted but not recorded since the last.
async fn heartbeats(app: Shared) {
    let mut beat = tokio::time::interval(HEARTBEAT);
    loop {
        beat.tick().await;
        if let Err(fault) = app.gateway.resume().await {
            tracing::error!(%fault, "a rotation stopped and could not be taken up");
        }
        let (over, strangers) = app.budgets.counted();
        let event = Event::new("heartbeat")
            .with("st", app.gateway.store().seq().0)
            .with("kr", app.gateway.vault().keyring_epoch())
            .with("over_budget", over)
            .with("strangers", strangers);
        if let Err(error) = app.gateway.ledger().note(event).await {
            tracing::error!(%error, "no heartbeat could be recorded");
        }
    }
}
