//! Alerts by syslog: RFC 5424 messages over UDP (RFC 5426), TCP (RFC 6587, octet counting), TLS (RFC 5425) or a
//! local datagram socket. Nothing comes back but the transport's own word: TCP and TLS say that the peer's machine
//! has it, UDP and the socket only that it was sent.

use std::path::PathBuf;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket, UnixDatagram};
use tokio_rustls::TlsConnector;

use super::Level;
use super::post::Letter;

const SEND_TIME: Duration = Duration::from_secs(10);
/// "Log audit" (RFC 5424 §6.2.1).
const FACILITY: u8 = 13;
/// The number is reserved for documents (RFC 5612): there is no enterprise number of our own yet.
const ELEMENT: &str = "alert@32473";

/// What carries the messages.
pub(super) enum Carrier {
    Udp(String),
    Tcp(String),
    Tls(String, ServerName<'static>, TlsConnector),
    Socket(PathBuf),
}

pub(super) struct Syslog(Carrier);

impl Syslog {
    pub(super) fn new(carrier: Carrier) -> Self {
        Self(carrier)
    }

    pub(super) async fn send(&self, message: &str) -> Result<(), String> {
        match tokio::time::timeout(SEND_TIME, self.carry(message)).await {
            Ok(sent) => sent.map_err(|error| error.to_string()),
            Err(_) => Err("not sent within 10 seconds".to_owned()),
        }
    }

    // Why a connection each time: alerts are rare, and one that was idle for days is found dead only by losing one.
    async fn carry(&self, message: &str) -> std::io::Result<()> {
        let counted = || format!("{} {message}", message.len());
        match &self.0 {
            Carrier::Udp(to) => {
                let to = tokio::net::lookup_host(to).await?.next();
                let to = to.ok_or(std::io::ErrorKind::NotFound)?;
                let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let socket = UdpSocket::bind(any).await?;
                socket.connect(to).await?;
                socket.send(message.as_bytes()).await.map(drop)
            }
            Carrier::Tcp(to) => write(TcpStream::connect(to).await?, &counted()).await,
            Carrier::Tls(to, host, tls) => {
                let stream = TcpStream::connect(to).await?;
                write(tls.connect(host.clone(), stream).await?, &counted()).await
            }
            Carrier::Socket(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                socket.send(message.as_bytes()).await.map(drop)
            }
        }
    }
}

async fn write(mut stream: impl AsyncWrite + Unpin, text: &str) -> std::io::Result<()> {
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}

/// The message of a letter: `<PRI>1 TIME HOST APP PROC MSGID [SD] text` (RFC 5424 §6).
pub(super) fn message(letter: &Letter) -> String {
    let severity = match letter.level() {
        Level::Alert => 1,
        Level::Notification => 5,
    };
    let list: Vec<String> = letter.entries.iter().map(ToString::to_string).collect();
    format!(
        "<{}>1 {} - sallyport {} {} [{ELEMENT} id=\"{}\" of=\"{}\" event=\"{}\" count=\"{}\" entries=\"{}\"] {}",
        u16::from(FACILITY) * 8 + severity,
        rfc3339(letter.first_ms),
        std::process::id(),
        letter.code,
        letter.id(),
        letter.of,
        letter.event,
        letter.count,
        list.join(","),
        letter.says(),
    )
}

/// A time as RFC 3339 writes it: UTC, milliseconds.
#[must_use]
pub fn rfc3339(ms: u64) -> String {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| "-".to_owned(), |it| format!("{it:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_rfc_5424() {
        let letter = Letter {
            code: "break-glass".to_owned(),
            event: "token.issue".to_owned(),
            of: "RJ1".to_owned(),
            count: 2,
            first_ms: 1_790_000_000_123,
            entries: vec![7, 9],
            contacts: Vec::new(),
        };
        let pid = std::process::id();
        let text = message(&letter);
        let begins = format!("<105>1 2026-09-21T14:13:20.123Z - sallyport {pid} break-glass ");
        assert!(text.starts_with(&begins), "{text}");
        let data = "[alert@32473 id=\"7.9.2\" of=\"RJ1\" event=\"token.issue\" count=\"2\" entries=\"7,9\"] 2 times: somebody";
        assert!(text.contains(data), "{text}");
    }
}
