//! The server around the hub: a listener with or without TLS, HTTP/1.1, and an orderly end.
//!
//! A deadline stands over each step before the WebSocket: the TLS handshake and the request's head.

use crate::{
    admission::{Authenticator, OriginPolicy},
    http,
    hub::{Hub, HubConfig},
    ice::IceConfig,
    limits::ConnectionLimits,
    media::{self, MediaPlane},
    shared::{Shared, count},
};
use axum::{Extension, Router, extract::ConnectInfo};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

/// How long a TLS handshake or a request's head may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest request head.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Everything there is to decide.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The rules.
    pub hub: HubConfig,
    /// Of one connection.
    pub limits: ConnectionLimits,
    /// Who may sign in.
    pub authenticator: Authenticator,
    /// Which pages may connect.
    pub origins: OriginPolicy,
    /// Whether a proxy in front writes `X-Forwarded-For`.
    pub behind_proxy: bool,
    /// WebSocket connections from one address.
    pub connections_per_address: usize,
    /// WebSocket connections in all.
    pub max_connections: usize,
    /// What clients are given for ICE.
    pub ice: Vec<IceConfig>,
    /// How long clients have to go elsewhere once the server drains.
    pub drain_grace: Duration,
}

/// A signaling server that is not listening yet.
pub struct Server {
    shared: Arc<Shared>,
    drain_grace: Duration,
}

impl Server {
    /// A server with this configuration.
    ///
    /// # Errors
    /// Where the operating system gives no randomness.
    pub fn new(config: ServerConfig) -> io::Result<Self> {
        let mut seed = [0; 32];
        let random = ring::rand::SystemRandom::new();
        ring::rand::SecureRandom::fill(&random, &mut seed)
            .map_err(|_| io::Error::other("the operating system gave no random bytes"))?;
        let drain_grace = config.drain_grace;
        Ok(Self { shared: Arc::new(Shared::new(config, seed)), drain_grace })
    }

    /// The same server, with rooms, whose media this media plane forwards.
    #[must_use]
    pub fn with_media(self, plane: Arc<dyn MediaPlane>) -> Self {
        if self.shared.plane.set(plane).is_ok() {
            self.shared.with_hub(Hub::use_media_plane);
        }
        self
    }

    /// Serves until `shutdown` is done, then drains: clients are told, and after the grace their connections are closed.
    /// Paths other than the server's own are served from `pages`.
    pub async fn serve(
        self,
        listener: TcpListener,
        tls: Option<Arc<rustls::ServerConfig>>,
        pages: Router,
        shutdown: impl Future<Output = ()>,
    ) {
        let timers = tokio::spawn({
            let shared = Arc::clone(&self.shared);
            async move { shared.drive_timers().await }
        });
        let media = self
            .shared
            .plane
            .get()
            .map(|plane| tokio::spawn(media::drive(Arc::clone(&self.shared), Arc::clone(plane))));
        let front = Front {
            router: http::router(Arc::clone(&self.shared), pages),
            tls: tls.map(TlsAcceptor::from),
            shared: Arc::clone(&self.shared),
        };
        let accepting = tokio::spawn(accept(listener, Arc::new(front)));
        shutdown.await;
        tracing::info!("draining: clients are told to go elsewhere");
        self.shared.start_drain();
        // `/readyz` answers, and new sign-ins are refused in words, until the end.
        wait_until(self.drain_grace, || self.shared.connections() == 0).await;
        self.shared.close_all();
        wait_until(self.shared.limits.close_grace, || self.shared.connections() == 0).await;
        accepting.abort();
        timers.abort();
        if let Some(media) = media {
            media.abort();
        }
    }
}

/// Waits for the condition, at most this long.
async fn wait_until(limit: Duration, done: impl Fn() -> bool) {
    let poll = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let _ = timeout(limit, poll).await;
}

struct Front {
    router: Router,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
}

async fn accept(listener: TcpListener, front: Arc<Front>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                tokio::spawn(handle(stream, peer, Arc::clone(&front)));
            }
            Err(error) => {
                // Out of file descriptors or a client that went away at once: others must still be let in.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn handle(stream: TcpStream, peer: SocketAddr, front: Arc<Front>) {
    // Small messages must not wait for each other (RFC 1122, section 4.2.3.4).
    let _ = stream.set_nodelay(true);
    let Some(acceptor) = &front.tls else { return serve_http(stream, peer, &front).await };
    match timeout(HEAD_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => serve_http(stream, peer, &front).await,
        Ok(Err(error)) => {
            count(&front.shared.stats.tls_failures);
            tracing::debug!(%error, "a TLS handshake failed");
        }
        Err(_) => count(&front.shared.stats.tls_failures),
    }
}

async fn serve_http<S>(stream: S, peer: SocketAddr, front: &Front)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = TowerToHyperService::new(front.router.clone().layer(Extension(ConnectInfo(peer))));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%error, "an HTTP connection broke");
    }
}
