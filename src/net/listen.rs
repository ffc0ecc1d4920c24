//! The client port: who may connect at all.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tracing::{error, info, warn};

use super::client;
use super::conn::Conn;
use super::names::{Names, in_java_s_order};
use crate::clock;
use crate::config::Endpoint;
use crate::server::Shared;

/// What Java asks for when nothing is configured.
const DEFAULT_BACKLOG: i32 = 50;
/// With Java's 50, clients that come back all at once are left to TCP, which tries again after 1, 3 and 7 seconds. The
/// system has a limit of its own (`net.core.somaxconn`).
const DEFAULT_CLIENT_BACKLOG: i32 = 4096;

/// Binds the client port. Without an address, one socket serves IPv4 and IPv6 where the system has both. Connections
/// have the options of the socket that they are accepted from, so those cost nothing for each.
pub fn bind(endpoint: &Endpoint, backlog: i32, keep_alive: bool) -> Result<TcpListener> {
    // As in Java, less than one is no number of its own.
    let backlog = if backlog < 1 { DEFAULT_CLIENT_BACKLOG } else { backlog };
    let addresses: Vec<SocketAddr> = if endpoint.is_any_address() {
        any_address(endpoint.port).into()
    } else {
        in_java_s_order(
            addresses(endpoint).with_context(|| format!("clientPortAddress={}: unknown host", endpoint.host))?,
        )
    };
    let mut last = None;
    for address in addresses {
        let bound = bind_one(address, backlog).and_then(|listener| {
            let socket = SockRef::from(&listener);
            socket.set_tcp_nodelay(true)?;
            socket.set_keepalive(keep_alive)?;
            Ok(listener)
        });
        match bound {
            Ok(listener) => {
                info!("binding to port {address}");
                return Ok(listener);
            }
            Err(error) => last = Some(anyhow::Error::new(error).context(format!("cannot listen on {address}"))),
        }
    }
    Err(last.unwrap_or_else(|| anyhow::anyhow!("{endpoint} has no address")))
}

/// The addresses of a name, or the address that it is.
pub fn addresses(endpoint: &Endpoint) -> io::Result<std::vec::IntoIter<SocketAddr>> {
    let host = endpoint.host.as_str();
    (host, endpoint.port).to_socket_addrs().or_else(|error| match host.split_once('%') {
        // The system knows a zone only with link-local addresses; Java takes one with any, as in ::1%lo.
        Some((address, _)) => (address, endpoint.port).to_socket_addrs(),
        None => Err(error),
    })
}

/// What stands for every address of the machine, best first.
fn any_address(port: u16) -> [SocketAddr; 2] {
    let any: [IpAddr; 2] = [std::net::Ipv6Addr::UNSPECIFIED.into(), std::net::Ipv4Addr::UNSPECIFIED.into()];
    any.map(|ip| SocketAddr::new(ip, port))
}

/// Binds a port for other members: on the first address of the name that is this machine's. The name is looked up
/// each time, because the machine may have another address than before.
pub(super) async fn bind_peer_port(endpoint: &Endpoint, names: &Names) -> io::Result<TcpListener> {
    let addresses: Vec<SocketAddr> =
        if endpoint.is_any_address() { any_address(endpoint.port).into() } else { names.addresses(endpoint).await? };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match bind_one(address, DEFAULT_BACKLOG) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn bind_one(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    TcpListener::from_std(socket.into())
}

/// What is left for logs, snapshots, the image and other members, when clients take all they can.
const RESERVED_FILES: usize = 64 + 256;

/// Lets this process open as many files as it is permitted to, and says how many that are.
pub fn raise_open_files() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for all calls. If they fail, opening files will say so.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) != 0 {
            return usize::MAX;
        }
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
    }
    usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX)
}

/// How many connections of clients there may be, so that the log can still begin a file.
pub fn room_for_clients() -> usize {
    let files = raise_open_files();
    files.saturating_sub(RESERVED_FILES).max(files / 2)
}

/// Accepts until the task is dropped.
pub async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => admit(&shared, stream, peer),
            Err(error) => {
                // Out of descriptors, or the client gave up before it was accepted: neither is for ever.
                error!("Error accepting new connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn admit(shared: &Arc<Shared>, stream: TcpStream, peer: SocketAddr) {
    let node = &shared.config.node;
    let ip = peer.ip().to_canonical();
    let from_there = shared.registry.count_from(ip);
    if node.max_client_cnxns > 0 && from_there >= node.max_client_cnxns as usize {
        warn!("Error accepting new connection: Too many connections from /{ip} - max is {}", node.max_client_cnxns);
        return reject(shared);
    }
    if node.max_cnxns.is_some_and(|max| shared.registry.len() >= max as usize) {
        warn!("Too many connections, this connection from /{ip} is refused: maxCnxns is {:?}", node.max_cnxns);
        return reject(shared);
    }
    if shared.registry.len() >= shared.room_for_clients {
        warn!(
            "Too many connections, this connection from /{ip} is refused: {} are open, and the rest of the files that this \
             process may open is for its data; raise ulimit -n (LimitNOFILE)",
            shared.room_for_clients
        );
        return reject(shared);
    }
    let conn = Arc::new(Conn::new(shared.registry.next_id(), ip, peer.port(), clock::wall_ms(), shared.clock.mono()));
    shared.registry.insert(conn.clone());
    tokio::spawn(client::serve(shared.clone(), conn, stream));
}

fn reject(shared: &Shared) {
    shared.counters.measures.lock().connections_rejected += 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_has_the_options_of_the_client_port() {
        let any_port = Endpoint { host: "127.0.0.1".into(), port: 0 };
        for keep_alive in [true, false] {
            let listener = bind(&any_port, -1, keep_alive).unwrap();
            let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (accepted, _) = listener.accept().await.unwrap();
            let socket = SockRef::from(&accepted);
            assert!(socket.tcp_nodelay().unwrap());
            assert_eq!(socket.keepalive().unwrap(), keep_alive);
        }
    }
}
