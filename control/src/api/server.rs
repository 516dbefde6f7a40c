//! Listening for the API: a Unix socket and a TCP port, both bounded.

use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::Problem;
use crate::limits::{API_CONNECTIONS_MAX, API_HEADER_TIMEOUT, API_REQUEST_DEADLINE};

/// Where to listen.
#[derive(Clone, Debug)]
pub struct Binding {
    /// Unix socket.
    pub socket: PathBuf,
    /// TCP address, if any.
    pub listen: Option<SocketAddr>,
    /// Whether names other than this machine's own may stand in the `Host` header of the TCP port.
    pub allow_remote: bool,
}

/// Where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Unix socket.
    pub socket: PathBuf,
    /// TCP address with the real port.
    pub listen: Option<SocketAddr>,
}

/// Why it cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The socket's path is taken by something that is not a socket, or cannot be used.
    #[error("cannot listen on the API socket {path}: {source}; choose another with api.socket")]
    Socket {
        /// The path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A socket with somebody behind it.
    #[error(
        "the API socket {path} is served by another process; stop that one, or choose another with api.socket"
    )]
    SocketInUse {
        /// The path.
        path: PathBuf,
    },
    /// The address cannot be used.
    #[error("cannot listen on {address}: {source}; choose another address with api.listen, or \"\" for none")]
    Address {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// The listeners of the API, bound and not served yet.
pub struct ApiServer {
    unix: UnixListener,
    tcp: Option<TcpListener>,
    bound: Bound,
    allow_remote: bool,
}

impl ApiServer {
    /// Binds everything, or nothing.
    pub async fn bind(binding: &Binding) -> Result<Self, BindError> {
        let tcp = match binding.listen {
            None => None,
            Some(address) => {
                let listener = TcpListener::bind(address).await;
                Some(listener.map_err(|source| BindError::Address { address, source })?)
            }
        };
        let unix = bind_unix(&binding.socket).await?;
        let listen = tcp.as_ref().and_then(|listener| listener.local_addr().ok());
        let bound = Bound { socket: binding.socket.clone(), listen };
        Ok(Self { unix, tcp, bound, allow_remote: binding.allow_remote })
    }

    /// Where it listens.
    pub fn bound(&self) -> &Bound {
        &self.bound
    }

    /// Serves until `stop` says true; then requests in progress are finished, at most for `grace`.
    pub async fn serve(self, router: Router, mut stop: watch::Receiver<bool>, grace: Duration) {
        let Self { unix, tcp, bound, allow_remote } = self;
        let local = router.clone();
        let remote = match allow_remote {
            true => router,
            false => router.layer(middleware::from_fn(own_host_only)),
        };
        let places = Arc::new(Semaphore::new(API_CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        let stopping = stop.clone();
        loop {
            while connections.try_join_next().is_some() {}
            tokio::select! {
                () = stopped(&mut stop) => break,
                accepted = unix.accept() => match accepted {
                    Ok((stream, _)) => begin(&mut connections, &places, stream, local.clone(), stopping.clone()),
                    Err(error) => after_accept_error(&error).await,
                },
                accepted = accept_tcp(tcp.as_ref()) => match accepted {
                    Ok(stream) => begin(&mut connections, &places, stream, remote.clone(), stopping.clone()),
                    Err(error) => after_accept_error(&error).await,
                },
            }
        }
        let finished = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, finished).await.is_err() {
            tracing::warn!("API requests were cut off");
        }
        // A socket file without a listener only confuses; another process may have replaced it already.
        let _ = std::fs::remove_file(&bound.socket);
    }
}

/// Waits until it is said to stop; a sender that is gone says so, too.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stopped| *stopped).await;
}

async fn accept_tcp(listener: Option<&TcpListener>) -> std::io::Result<tokio::net::TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

/// Out of descriptors, most likely: the listener stays, and a moment passes instead of a busy loop.
async fn after_accept_error(error: &std::io::Error) {
    tracing::warn!(%error, "cannot accept an API connection");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// Replaces a socket that nobody serves; refuses anything else that is in the way.
async fn bind_unix(path: &Path) -> Result<UnixListener, BindError> {
    let failed = |source| BindError::Socket { path: path.to_owned(), source };
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {
            // A node that is busy refuses nothing: only where nobody listens any more is the socket a leftover.
            match tokio::net::UnixStream::connect(path).await {
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
                _ => return Err(BindError::SocketInUse { path: path.to_owned() }),
            }
            std::fs::remove_file(path).map_err(failed)?;
        }
        Ok(_) => {
            let source =
                std::io::Error::new(std::io::ErrorKind::AlreadyExists, "it exists and is not a socket");
            return Err(failed(source));
        }
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

fn begin<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    connections: &mut JoinSet<()>,
    places: &Arc<Semaphore>,
    stream: S,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let Ok(place) = places.clone().try_acquire_owned() else {
        return; // Closed at once: a client that floods must not take the memory of the node.
    };
    connections.spawn(async move {
        let _place = place;
        let service = TowerToHyperService::new(router);
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(API_HEADER_TIMEOUT);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        tokio::select! {
            // What goes wrong on one connection is the client's business.
            _ = connection.as_mut() => return,
            () = stopped(&mut stop) => {}
        }
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    });
}

/// Answers within the deadline. The operation behind goes on; asking again is safe.
pub(super) async fn within_deadline(request: Request, next: Next) -> Response {
    let late = || {
        let detail = "the request took too long; it may still take effect, and repeating it is safe";
        Problem::new(StatusCode::GATEWAY_TIMEOUT, "deadline-exceeded", detail).into_response()
    };
    tokio::time::timeout(API_REQUEST_DEADLINE, next.run(request)).await.unwrap_or_else(|_| late())
}

/// A web page may send requests to a loopback port under a name of its own ("DNS rebinding"); it cannot choose the
/// `Host` header, so that only this machine's own names are answered.
async fn own_host_only(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    let name = host.parse::<SocketAddr>().map(|address| address.ip().to_string());
    let name = name.unwrap_or_else(|_| host.rsplit_once(':').map_or(host, |(name, _)| name).to_owned());
    let address = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    let own = name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|ip| ip.is_loopback());
    if own {
        return next.run(request).await;
    }
    let detail = format!("the host {host:?} is not this machine; use http://127.0.0.1 or the Unix socket");
    Problem::new(StatusCode::MISDIRECTED_REQUEST, "wrong-host", detail).into_response()
}
