//! The way in to a gateway that can be sealed: open it passes every request on, shut it answers 503 to everybody with a
//! certificate, whoever that is. It keeps no key and opens nothing; `porter` does, and hands in what is open.
//!
//! What is under way when it is shut has a moment to finish and is then dropped, which is safe at every await: the
//! ledger may over-report, never under-report.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};
use tower::ServiceExt as _;

use super::answer::Problem;
use super::{App, Shared, router};

/// What a client is told while the gateway is sealed.
pub(super) const SEALED: &str =
    "the gateway is sealed: nothing is answered until those who hold its root key unseal it";

/// A gate that can be shut.
#[derive(Default)]
pub struct Gate(RwLock<Option<Inside>>);

/// What stands behind an open gate.
struct Inside {
    app: Shared,
    router: Router,
    cut: watch::Sender<bool>,
}

impl Gate {
    /// From here on every request goes to this gateway.
    pub fn open(&self, app: Shared) {
        let inside = Inside {
            router: router(Arc::clone(&app)),
            app,
            cut: watch::Sender::new(false),
        };
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(inside);
    }

    /// From here on every request gets 503. Gives what stood behind the gate, if it was open.
    pub fn shut(&self) -> Option<Leaving> {
        let inside = self
            .0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        inside.map(|Inside { app, cut, .. }| Leaving { app, cut })
    }

    /// The routes of whatever stands behind the gate.
    pub fn routes(self: &Arc<Self>) -> Router {
        Router::new().fallback(pass).with_state(Arc::clone(self))
    }

    /// What stands behind the gate, for one short look.
    pub(super) fn app(&self) -> Option<Shared> {
        let inside = self.0.read().unwrap_or_else(PoisonError::into_inner);
        inside.as_ref().map(|inside| Arc::clone(&inside.app))
    }

    fn inside(&self) -> Option<(Router, watch::Receiver<bool>)> {
        let inside = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let inside = inside.as_ref()?;
        Some((inside.router.clone(), inside.cut.subscribe()))
    }
}

async fn pass(State(gate): State<Arc<Gate>>, request: Request) -> Response {
    let is_fhir = request.uri().path().starts_with("/fhir");
    let sealed = || match (Problem::Unavailable(SEALED), is_fhir) {
        (problem, true) => problem.fhir(),
        (problem, false) => problem.oauth(),
    };
    let Some((router, mut cut)) = gate.inside() else {
        return sealed();
    };
    tokio::select! {
        answer = router.oneshot(request) => answer.into_response(),
        _ = cut.wait_for(|is_cut| *is_cut) => sealed(),
    }
}

/// A gateway whose gate was shut, and what is still under way in it.
pub struct Leaving {
    app: Shared,
    cut: watch::Sender<bool>,
}

impl Leaving {
    /// The gateway, to be closed.
    #[must_use]
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Lets what is under way finish, for so long at most; what has not is dropped.
    pub async fn hurry(&self, grace: Duration) {
        self.alone(grace).await;
        let _ = self.cut.send(true);
    }

    /// The gateway itself, once nobody else has it.
    ///
    /// # Errors
    /// This again, if somebody still has it after so long.
    pub async fn last(self, limit: Duration) -> Result<App, Leaving> {
        self.alone(limit).await;
        let Leaving { app, cut } = self;
        Arc::try_unwrap(app).map_err(|app| Leaving { app, cut })
    }

    async fn alone(&self, limit: Duration) {
        let until = Instant::now() + limit;
        while Arc::strong_count(&self.app) > 1 && Instant::now() < until {
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Rung by an administrator who seals the gateway; whoever holds the other end does it.
pub struct Bell(mpsc::UnboundedSender<()>);

impl Bell {
    /// A bell, and the end where it is heard.
    #[must_use]
    pub fn hung() -> (Bell, mpsc::UnboundedReceiver<()>) {
        let (bell, heard) = mpsc::unbounded_channel();
        (Bell(bell), heard)
    }

    /// Another pull for the same bell.
    #[must_use]
    pub fn pull(&self) -> Bell {
        Bell(self.0.clone())
    }

    /// Whether anybody hears it.
    pub(super) fn ring(&self) -> bool {
        self.0.send(()).is_ok()
    }
}
