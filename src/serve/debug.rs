//! Rooms as they are, as JSON, for whoever runs the server: `/debug/rooms` and `/debug/rooms/NAME`.
//!
//! On a listener of its own, which exists only where `--debug-listen` asks for it and only on a loopback address: no proxy in
//! front passes it on by mistake, and no header decides who may look. A browser on this machine that some page sends here
//! under another name (DNS rebinding) is refused by its `Host`.

use super::media::SfuPlane;
use anyhow::{Context, bail};
use axum::{
    Json, Router,
    extract::{Path, Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};
use tokio::{net::TcpListener, task::JoinHandle};

/// A listener at work.
#[derive(Debug)]
pub(super) struct Debugging {
    pub(super) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Debugging {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Refuses what others could reach.
///
/// # Errors
/// In words.
pub(super) fn check(address: SocketAddr) -> anyhow::Result<()> {
    if address.ip().is_loopback() {
        return Ok(());
    }
    bail!(
        "--debug-listen {address}: it shows rooms to whoever reaches it, so it must be on this machine alone, like \
         127.0.0.1:6060. From elsewhere go through ssh -L or kubectl port-forward"
    )
}

/// Listens and answers until dropped.
///
/// # Errors
/// Where the address cannot be had.
pub(super) async fn start(address: SocketAddr, plane: Arc<SfuPlane>) -> anyhow::Result<Debugging> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("--debug-listen {address}"))?;
    let address = listener.local_addr().context("the debug listener has no address")?;
    let router = router(plane);
    let task = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::warn!(%error, "the debug listener ended");
        }
    });
    Ok(Debugging { address, task })
}

fn router(plane: Arc<SfuPlane>) -> Router {
    Router::new()
        .route("/debug/rooms", get(rooms))
        .route("/debug/rooms/{room}", get(room))
        .layer(middleware::from_fn(local_names_only))
        .with_state(plane)
}

async fn rooms(State(plane): State<Arc<SfuPlane>>) -> Response {
    let Some(mut rooms) = plane.rooms().await else { return busy() };
    rooms.sort_by(|a, b| a.room.cmp(&b.room));
    let entry = |entry: &halloo_sfu::shard::RoomEntry| {
        serde_json::json!({
            "room": &*entry.room,
            "shard": plane.shard_of(&entry.room),
            "participants": entry.participants,
        })
    };
    Json(serde_json::json!({ "rooms": rooms.iter().map(entry).collect::<Vec<_>>() })).into_response()
}

async fn room(State(plane): State<Arc<SfuPlane>>, Path(room): Path<String>) -> Response {
    match plane.snapshot(&room).await {
        Some(Some(snapshot)) => {
            let shard = plane.shard_of(&room);
            Json(serde_json::json!({ "room": room, "shard": shard, "state": snapshot })).into_response()
        }
        Some(None) => (StatusCode::NOT_FOUND, "no such room is open\n").into_response(),
        None => busy(),
    }
}

fn busy() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "the forwarding unit is busy: try again\n").into_response()
}

async fn local_names_only(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !is_local(host) {
        return (StatusCode::FORBIDDEN, "this is for the machine itself, by 127.0.0.1 or localhost\n").into_response();
    }
    next.run(request).await
}

/// Whether a `Host` names this machine itself, whatever the port.
fn is_local(host: &str) -> bool {
    if let Ok(address) = host.parse::<SocketAddr>() {
        return address.ip().is_loopback();
    }
    let name = host.rsplit_once(':').map_or(host, |(name, port)| if port.parse::<u16>().is_ok() { name } else { host });
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_answered() {
        for host in ["127.0.0.1:6060", "127.0.0.1", "localhost:6060", "LOCALHOST", "[::1]:6060", "[::1]"] {
            assert!(is_local(host), "{host}");
        }
        for host in ["", "example.org", "localhost.example.org:6060", "10.0.0.1:6060", "127.0.0.1.example.org"] {
            assert!(!is_local(host), "{host}");
        }
    }

    #[test]
    fn an_address_that_others_reach_is_refused() {
        assert!(check("127.0.0.1:6060".parse().unwrap()).is_ok());
        assert!(check("[::1]:0".parse().unwrap()).is_ok());
        for open in ["0.0.0.0:6060", "192.0.2.1:6060", "[::]:6060"] {
            assert!(check(open.parse().unwrap()).unwrap_err().to_string().contains("ssh -L"));
        }
    }
}
