//! Every limit of the network side, in one place, until someone needs a knob.

use std::time::Duration;

/// Connections at once; more wait in the kernel's queue.
pub const CONNECTIONS_MAX: usize = 12_000;
/// A handshake that takes longer is dropped.
pub const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// A request's head must arrive within this; an idle connection is closed after it.
pub const HEAD_TIME: Duration = Duration::from_secs(30);
/// A request's body must arrive within this.
pub const BODY_TIME: Duration = Duration::from_secs(60);
/// Bytes of a request's head.
pub const HEAD_BYTES: usize = 32 * 1024;
/// Bytes of a deposited resource or Bundle.
pub const DEPOSIT_BYTES: usize = 16 * 1024 * 1024;
/// Bytes of any other body.
pub const FORM_BYTES: usize = 64 * 1024;
/// Bytes of a path with its query.
pub const TARGET_BYTES: usize = 4 * 1024;
/// HTTP/2 streams at once on one connection.
pub const STREAMS_MAX: u32 = 128;
/// Streams that a client may reset before they were served (CVE-2023-44487).
pub const RESETS_MAX: usize = 32;
/// Requests a second that one client may make, over a longer time.
pub const REQUESTS_PER_SECOND: u32 = 8_000;
/// Requests that one client may make at once after a pause.
pub const REQUESTS_BURST: u32 = 16_000;
/// Requests of one client under way at once: its share of the queue.
pub const UNDER_WAY_MAX: usize = 256;
/// Bytes of deposits that are in memory at once, of all clients.
pub const BODIES_BYTES: usize = 512 * 1024 * 1024;
/// Bytes of deposits that are in memory at once, of one client.
pub const BODIES_BYTES_OF_ONE: usize = 128 * 1024 * 1024;
/// Connections at once with one certificate.
pub const CONNECTIONS_OF_ONE_MAX: usize = 1_024;
/// Handshakes at once: before a certificate is known nobody has a share.
pub const HANDSHAKES_MAX: usize = 512;
/// A peer that takes nothing of its answer for this long is dropped.
pub const STALL_TIME: Duration = Duration::from_secs(60);
/// File descriptors kept for the store, the ledger and the rest of the process.
pub const DESCRIPTORS_KEPT: usize = 256;
