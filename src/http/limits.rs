//! Every limit of the network side, in one place, until someone needs a knob.

use std::time::Duration;

/// Connections at once that have shown a certificate; one more waits for a place as long as a handshake may take.
pub const CONNECTIONS_MAX: usize = 12_000;
/// Connections that the kernel has accepted and we have not; more must knock again after a second.
pub const BACKLOG: u32 = 4_096;
/// A handshake that takes longer is dropped.
pub const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// A request's head must arrive within this, the first as any other; an idle HTTP/1.1 connection is closed after it,
/// and an idle HTTP/2 one that does not answer a ping.
pub const HEAD_TIME: Duration = Duration::from_secs(30);
/// A request's body must arrive within this.
pub const BODY_TIME: Duration = Duration::from_secs(60);
/// Bytes of a request's head.
pub const HEAD_BYTES: usize = 32 * 1024;
/// Bytes of a deposited resource or Bundle.
pub const DEPOSIT_BYTES: usize = 16 * 1024 * 1024;
/// Bytes of one batch of objections.
pub const FEED_BYTES: usize = 1024 * 1024;
/// Bytes of a file of training, with the JSON around it.
pub const TRAINING_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of any other body.
pub const FORM_BYTES: usize = 64 * 1024;
/// Bytes of a body that is refused which are taken in all the same, so that the refusal arrives.
pub const PASSED_OVER_BYTES: usize = 1024 * 1024;
/// How long a body that is refused is waited for.
pub const PASSED_OVER_TIME: Duration = Duration::from_secs(2);
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
/// Handshakes at once, of all strangers together; one more, and the oldest goes.
pub const HANDSHAKES_MAX: usize = 4_096;
/// Handshakes at once from one address; one more, and its own oldest goes.
pub const HANDSHAKES_OF_ONE_MAX: usize = 512;
/// Bytes that an HTTP/2 client may send ahead on one stream; what no handler has read waits in memory.
pub const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// Bytes that an HTTP/2 client may send ahead on all streams of one connection.
pub const CONNECTION_WINDOW_BYTES: u32 = 512 * 1024;
/// Bytes of an answer that stand ready to be sent on one HTTP/2 stream.
pub const SEND_BYTES: usize = 64 * 1024;
/// Bytes of answers to reads that wait to be taken, of all clients.
pub const ANSWERS_BYTES: usize = 1024 * 1024 * 1024;
/// Bytes of answers to reads that wait to be taken, of one client.
pub const ANSWERS_BYTES_OF_ONE: usize = 256 * 1024 * 1024;
/// A peer that takes nothing of its answer for this long is dropped.
pub const STALL_TIME: Duration = Duration::from_secs(60);
/// File descriptors kept for the store, the ledger and the rest of the process.
pub const DESCRIPTORS_KEPT: usize = 256;
