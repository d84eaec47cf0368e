//! The HTTP side: `/ws`, `/healthz`, `/readyz`, `/metrics`; everything else is the caller's.

use crate::{
    connection,
    limits::OverLimit,
    metrics,
    shared::{Shared, count},
};
use axum::{
    Router,
    extract::{ConnectInfo, State, WebSocketUpgrade},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use halloo_protocol::{MAX_MESSAGE_BYTES, SUBPROTOCOL};
use std::{net::SocketAddr, sync::Arc};

/// A message up to this size is read whole, so that its sender reads the refusal before the connection goes.
const MAX_READ_BYTES: usize = 4 * MAX_MESSAGE_BYTES;
/// Buffers of one connection while it is idle. Larger messages grow them for as long as they last.
const READ_BUFFER_BYTES: usize = 1024;
/// Bytes that are gathered before they are written; each flush writes what there is.
const WRITE_BUFFER_BYTES: usize = 4 * 1024;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

pub(crate) fn router(shared: Arc<Shared>, pages: Router) -> Router {
    let own = Router::new()
        .route("/ws", get(websocket))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(show_metrics))
        .with_state(shared);
    own.merge(pages)
}

async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    if shared.is_draining() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response()
    } else {
        "ready\n".into_response()
    }
}

async fn show_metrics(State(shared): State<Arc<Shared>>) -> Response {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::render(&shared)).into_response()
}

async fn websocket(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let header = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if headers.contains_key(header::ORIGIN)
        && let Err(reason) = shared.origins.check(header(header::HOST), Some(header(header::ORIGIN).unwrap_or("null")))
    {
        count(&shared.stats.refused_by_origin);
        return (StatusCode::FORBIDDEN, format!("{reason}\n")).into_response();
    }
    let upgrade = upgrade
        .protocols([SUBPROTOCOL])
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_message_size(MAX_READ_BYTES)
        .max_frame_size(MAX_READ_BYTES);
    if upgrade.selected_protocol().is_none() {
        let message = format!("offer the WebSocket subprotocol {SUBPROTOCOL}\n");
        return (StatusCode::BAD_REQUEST, message).into_response();
    }
    // The last header counts: a proxy adds its own behind what the client sent.
    let forwarded = headers.get_all(FORWARDED_FOR).iter().next_back().and_then(|value| value.to_str().ok());
    let address = shared.address_of(peer.ip(), forwarded);
    match shared.admit_address(address) {
        Ok(place) => upgrade.on_upgrade(move |socket| connection::run(socket, shared, place)),
        Err(over) => {
            count(&shared.stats.refused_by_limit);
            match over {
                OverLimit::Address => {
                    let message = "there are as many connections from your address as there may be: close some\n";
                    (StatusCode::TOO_MANY_REQUESTS, message).into_response()
                }
                OverLimit::Server => {
                    let message = "the server has as many connections as it may have: try again later\n";
                    (StatusCode::SERVICE_UNAVAILABLE, message).into_response()
                }
            }
        }
    }
}
