//! What the process does for its own memory.
//!
//! Never here: a promise about swap; keep swap off or encrypted on a gateway. A failure means the kernel refused.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// No core dumps and no tracing by other processes of the same user, from here on.
///
/// # Errors
/// The kernel's answer; a gateway should say so and go on, or stop, as its operator chose.
pub fn harden_process() -> io::Result<()> {
    setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    )?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}
