//! An HTTP listener for few clients, in an untrusted network.
//!
//! Invariant kept here: however many connections others open and however slowly they send, there are at most
//! [`CONNECTIONS`]. Each connection ends after a timeout. A new connection is served immediately, because the oldest
//! one is closed for it.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::io::Errno;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// The largest number of concurrent connections.
const CONNECTIONS: usize = 64;
/// The timeout for the head of a request.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// The longest lifetime of a connection, whatever its requests are.
const CONNECTION_WITHIN: Duration = Duration::from_mins(2);
/// The pause after a connection could not be accepted, for example because there are too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves these routes until `stop`. Fails immediately if the address cannot be bound.
pub async fn serve(addr: SocketAddr, routes: Router, stop: CancellationToken) -> io::Result<()> {
    let listener = bind(addr).await?;
    tokio::spawn(async move {
        let mut connections: VecDeque<AbortHandle> = VecDeque::new();
        while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
            match accepted {
                Ok((stream, _)) => {
                    connections.retain(|connection| !connection.is_finished());
                    if connections.len() >= CONNECTIONS
                        && let Some(oldest) = connections.pop_front()
                    {
                        oldest.abort();
                    }
                    connections.push_back(tokio::spawn(answer(stream, routes.clone())).abort_handle());
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection could not be accepted");
                    sleep(PAUSE).await;
                }
            }
        }
        for connection in connections {
            connection.abort();
        }
    });
    Ok(())
}

async fn answer(stream: TcpStream, routes: Router) {
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
    let connection = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    // A client that disconnects or sends no data is not an error of the operator.
    let _ = timeout(CONNECTION_WITHIN, connection).await;
}

/// Binds the address. `[::]` means all addresses of the machine. On a machine without IPv6 it means all IPv4
/// addresses.
async fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(addr).await {
        Err(error) => match without_ipv6(addr, &error) {
            Some(addr) => TcpListener::bind(addr).await,
            None => Err(error),
        },
        listener => listener,
    }
}

/// The address to bind instead on a machine without IPv6.
fn without_ipv6(addr: SocketAddr, error: &io::Error) -> Option<SocketAddr> {
    let missing = [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL].map(|errno| Some(errno.raw_os_error()));
    let all = addr.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    (all && missing.contains(&error.raw_os_error()))
        .then(|| SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), addr.port()))
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::TcpStream as Client;

    use axum::routing::get;

    use super::*;

    async fn serving() -> (SocketAddr, CancellationToken) {
        let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let addr = free.local_addr().unwrap();
        drop(free);
        let stop = CancellationToken::new();
        serve(addr, Router::new().route("/", get(|| async { "here" })), stop.clone()).await.unwrap();
        (addr, stop)
    }

    /// Runs a blocking client.
    async fn client<T: Send + 'static>(does: impl FnOnce() -> T + Send + 'static) -> T {
        tokio::task::spawn_blocking(does).await.unwrap()
    }

    fn asks(addr: SocketAddr) -> String {
        let mut stream = Client::connect(addr).unwrap();
        stream.set_read_timeout(Some(HEAD_WITHIN)).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Whether the server ends the connection within this time.
    fn is_ended(connection: &mut Client, within: Duration) -> bool {
        connection.set_read_timeout(Some(within)).unwrap();
        let ended = connection.read_to_end(&mut Vec::new());
        !ended.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }

    // S10.
    #[tokio::test]
    async fn silent_connections_are_bounded_and_do_not_block_an_answer() {
        let (addr, _stop) = serving().await;
        let silent = move || (0..CONNECTIONS + 10).map(|_| Client::connect(addr).unwrap()).collect();
        let mut silent: Vec<Client> = client(silent).await;
        assert!(client(move || asks(addr)).await.ends_with("here"));
        // The oldest connections were closed before their timeout.
        let within = HEAD_WITHIN / 2;
        assert!(client(move || silent[..10].iter_mut().all(|oldest| is_ended(oldest, within))).await);
    }

    // S10.
    #[tokio::test]
    async fn connection_is_closed_when_its_request_head_is_incomplete() {
        let (addr, _stop) = serving().await;
        let slow = move || {
            let mut slow = Client::connect(addr).unwrap();
            slow.write_all(b"GET / HTTP/1.1\r\nHost:").unwrap();
            is_ended(&mut slow, HEAD_WITHIN * 3)
        };
        assert!(client(slow).await, "it is still open");
    }

    // C2.
    #[test]
    fn wildcard_address_falls_back_to_ipv4_without_ipv6() {
        let error = |errno: Errno| io::Error::from_raw_os_error(errno.raw_os_error());
        let instead = |addr: &str, errno| without_ipv6(addr.parse().unwrap(), &error(errno));
        let all = Some("0.0.0.0:8080".parse().unwrap());
        assert_eq!(instead("[::]:8080", Errno::AFNOSUPPORT), all);
        assert_eq!(instead("[::]:8080", Errno::ADDRNOTAVAIL), all);
        assert_eq!(instead("[::]:8080", Errno::ADDRINUSE), None, "somebody else listens there");
        assert_eq!(instead("[::1]:8080", Errno::AFNOSUPPORT), None, "a certain address was asked for");
        assert_eq!(instead("10.0.0.1:8080", Errno::ADDRNOTAVAIL), None);
    }
}
