//! No new kind of act outside this crate: it would need guards first.
use policy::Act;

struct Export;

impl Act for Export {
    type Facts = ();
    type Granted = ();
    const PERMITTED: &'static str = "record.export";
    const REFUSED: &'static str = "export.refuse";
}

fn main() {}
