//! The control socket: local, owner-only, and whoever connects is looked at by the kernel's word (SO_PEERCRED). Here
//! are both its ends. A request is read whole into one buffer that is wiped; nothing of it is ever logged.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::Porter;
use super::words::{REQUEST_BYTES_MAX, Reply, Request};

/// People who may talk to the porter at once.
const TALKS_MAX: usize = 8;
/// Time for a whole request.
const REQUEST_TIME: Duration = Duration::from_secs(10);
const REPLY_BYTES_MAX: u64 = 64 * 1024;

/// Why the other end of the socket gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum TalkError {
    /// There is no such socket, or nobody listens.
    #[error(
        "nobody listens on the control socket ({0}): is the gateway running, and with this config?"
    )]
    Nobody(io::Error),
    /// It may not be used by this user.
    #[error("only the gateway's own user, or root, may use the control socket: sudo -u its user")]
    NotYours,
    /// It broke off.
    #[error("the gateway gave no answer ({0}); look at its log")]
    Broken(io::Error),
    /// It said something else than a porter does.
    #[error("what answers on the control socket is not a gateway")]
    Foreign,
}

/// Asks the porter of a running gateway: these words, and what is given with them.
///
/// # Errors
/// [`TalkError`].
pub async fn talk(path: &Path, words: &str, given: &[u8]) -> Result<Reply, TalkError> {
    let stream = UnixStream::connect(path)
        .await
        .map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => TalkError::NotYours,
            _ => TalkError::Nobody(error),
        });
    let mut stream = stream?;
    let mut reply = Vec::new();
    let said = async {
        stream.write_all(words.as_bytes()).await?;
        stream.write_all(b"\n").await?;
        stream.write_all(given).await?;
        stream.shutdown().await?;
        let mut limited = stream.take(REPLY_BYTES_MAX);
        limited.read_to_end(&mut reply).await
    };
    said.await.map_err(TalkError::Broken)?;
    if reply.is_empty() {
        return Err(TalkError::NotYours);
    }
    serde_json::from_slice(&reply).map_err(|_| TalkError::Foreign)
}

/// Takes the socket's place, owner-only. One that a crash left behind is removed; one that somebody serves is not.
pub(super) async fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(about) if !about.file_type().is_socket() => {
            let why = "something else than a socket stands there";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
        }
        Ok(_) if UnixStream::connect(path).await.is_ok() => {
            let why = "another gateway listens there";
            return Err(io::Error::new(io::ErrorKind::AddrInUse, why));
        }
        Ok(_) => std::fs::remove_file(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    // Why enough: whoever came before this is asked for its user like everybody.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers whoever may ask, until it is dropped.
pub(super) async fn listen(listener: UnixListener, porter: Arc<Porter>) {
    let talks = Arc::new(Semaphore::new(TALKS_MAX));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "nobody could be let in on the control socket");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(turn) = Arc::clone(&talks).try_acquire_owned() else {
            tracing::warn!("too many talk on the control socket; one more was turned away");
            continue;
        };
        let porter = Arc::clone(&porter);
        tokio::spawn(async move {
            if let Err(error) = answer(stream, &porter).await {
                tracing::warn!(%error, "a talk on the control socket ended early");
            }
            drop(turn);
        });
    }
}

/// Whether this user may open and seal the gateway: its own, or root, who can become it.
fn may_talk(uid: u32) -> bool {
    uid == rustix::process::geteuid().as_raw() || uid == 0
}

async fn answer(mut stream: UnixStream, porter: &Porter) -> io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    if !may_talk(uid) {
        tracing::warn!(
            uid,
            "another user tried the control socket and was turned away"
        );
        return Ok(());
    }
    // INVARIANT: the buffer never grows, so no part of a secret is left behind in a smaller one.
    let mut buffer = Zeroizing::new(Vec::with_capacity(REQUEST_BYTES_MAX + 1));
    let mut limited = (&mut stream).take(REQUEST_BYTES_MAX as u64 + 1);
    let read = async {
        while limited.read_buf(&mut *buffer).await? > 0 && buffer.len() <= REQUEST_BYTES_MAX {}
        Ok::<_, io::Error>(())
    };
    let timed_out = |_| io::Error::from(io::ErrorKind::TimedOut);
    tokio::time::timeout(REQUEST_TIME, read)
        .await
        .map_err(timed_out)??;
    let reply = match Request::parse(&buffer) {
        Ok(request) => porter.answer(request, uid).await,
        Err(error) => porter.say(false, error.to_string()).await,
    };
    drop(buffer);
    let mut text = serde_json::to_vec(&reply).unwrap_or_default();
    text.push(b'\n');
    stream.write_all(&text).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_one_in_use_or_a_file_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let first = bind(&path).await.unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            bind(&path).await.err().unwrap().kind(),
            io::ErrorKind::AddrInUse
        );
        drop(first);
        bind(&path).await.unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, b"mine").unwrap();
        assert_eq!(
            bind(&path).await.err().unwrap().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert!(may_talk(rustix::process::geteuid().as_raw()) && may_talk(0));
        assert!(!may_talk(rustix::process::geteuid().as_raw() + 17));
    }
}
