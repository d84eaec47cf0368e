//! `halloo serve`: the signaling server, the forwarding unit for rooms and the web client from one process.

mod banner;
mod debug;
mod media;
mod settings;
mod tls;
mod web;

use anyhow::{Context, bail};
use banner::Listening;
use halloo_signaling::{Redactor, Server};
use media::SfuPlane;
use settings::Transport;
pub use settings::{ServeArgs, Settings};
use std::{io, net::SocketAddr, process::ExitCode, sync::Arc};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

/// Runs the server until it is told to stop.
///
/// # Errors
/// Where the settings do not hold together, a key or certificate cannot be used, or the port cannot be had. The text says
/// what to do.
pub async fn run(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let plan = settings::plan(&args)?;
    let tls = match &plan.transport {
        Transport::Plain => None,
        Transport::SelfSigned => Some(tls::self_signed(&plan.data)?),
        Transport::Pem { cert, key } => Some(tls::from_pem(cert, key)?),
    };
    raise_file_limit();
    let listener = listen(plan.listen).await?;
    let mut listening = Listening {
        local: listener.local_addr().context("the listener has no address")?,
        lan: plan.lan,
        behind_proxy: plan.server.behind_proxy,
        guests: plan.server.authenticator.guests,
        fingerprint: tls.as_ref().map(|tls| tls.fingerprint.clone()),
        media: Vec::new(),
        debug: None,
        media_tcp: false,
    };
    let mut server = Server::new(plan.server)?;
    // Listens until the server has ended.
    let mut debugging = None;
    if let Some(media) = &plan.media {
        let plane = Arc::new(SfuPlane::start(media)?);
        listening.media = plane.addresses();
        if let Some(address) = plan.debug {
            let started = debug::start(address, Arc::clone(&plane)).await?;
            listening.debug = Some(started.address);
            debugging = Some(started);
        }
        listening.media_tcp = media.has_tcp();
        server = server.with_media(plane);
    }
    // Handlers stand before the address is told, so that whoever reads it may signal at once.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    if args.json {
        listening.print_json()
    } else {
        listening.print()
    }
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    server.serve(listener, tls.map(|tls| tls.config), web::router(), shutdown).await;
    drop(debugging);
    Ok(ExitCode::SUCCESS)
}

async fn listen(addr: SocketAddr) -> anyhow::Result<TcpListener> {
    match TcpListener::bind(addr).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let port = addr.port();
            let next = port.checked_add(1).unwrap_or(8080);
            bail!(
                "port {port} is in use: another `halloo serve` or another program listens there. \
                 Find it with `ss -ltnp 'sport = :{port}'`, or take another port: --port {next}"
            )
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            bail!("port {} is reserved for the system: take one above 1023, like --port 8080", addr.port())
        }
        Err(error) => Err(error).with_context(|| format!("{addr} cannot be listened on")),
    }
}

/// Each connection is a file descriptor; the usual soft limit of 1,024 would end it early.
pub(crate) fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if setrlimit(Resource::Nofile, limit).is_err() {
        tracing::warn!("the limit of open files could not be raised");
    }
}

/// How identities appear in this run's logs.
fn redactor(show: bool) -> anyhow::Result<Redactor> {
    if show {
        return Ok(Redactor::showing());
    }
    let mut key = [0; 16];
    match ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut key) {
        Ok(()) => Ok(Redactor::hiding(key)),
        Err(_) => bail!("the operating system gave no random bytes"),
    }
}
