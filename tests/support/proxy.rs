//! A WebSocket proxy before the signaling server that puts a [`Relay`]'s addresses in the place of every ICE candidate.

use super::relay::Relay;
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    accept_hdr_async, connect_async,
    tungstenite::{
        Message,
        client::IntoClientRequest,
        handshake::server::{Request, Response},
        http::HeaderValue,
    },
};

const SUBPROTOCOL: &str = "halloo.v1";

/// Listens before the server at `port`; gives the address to sign in at.
pub(crate) async fn start(port: u16, relay: Relay) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(forward(stream, port, relay.clone()));
        }
    });
    url
}

async fn forward(stream: TcpStream, port: u16, relay: Relay) {
    #[expect(clippy::result_large_err, reason = "the library's signature")]
    let accept = |_: &Request, mut response: Response| {
        response.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(SUBPROTOCOL));
        Ok(response)
    };
    let Ok(client) = accept_hdr_async(stream, accept).await else { return };
    let mut request = format!("ws://127.0.0.1:{port}/ws").into_client_request().unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(SUBPROTOCOL));
    let Ok((server, _)) = connect_async(request).await else { return };
    let (mut to_client, mut from_client) = client.split();
    let (mut to_server, mut from_server) = server.split();
    let up = async {
        while let Some(Ok(message)) = from_client.next().await {
            let message = match message {
                Message::Text(text) => Message::Text(rewrite_message(&text, &relay).into()),
                other => other,
            };
            if to_server.send(message).await.is_err() {
                return;
            }
        }
    };
    let down = async {
        while let Some(Ok(message)) = from_server.next().await {
            if to_client.send(message).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}

fn rewrite_message(text: &str, relay: &Relay) -> String {
    let mut message: Value = serde_json::from_str(text).unwrap();
    walk(&mut message, relay);
    message.to_string()
}

fn walk(value: &mut Value, relay: &Relay) {
    match value {
        Value::String(text) if text.contains("candidate:") => {
            let ending = if text.contains("\r\n") { "\r\n" } else { "\n" };
            let lines: Vec<String> = text.split(ending).map(|line| rewrite_line(line, relay)).collect();
            *text = lines.join(ending);
        }
        Value::Array(items) => items.iter_mut().for_each(|item| walk(item, relay)),
        Value::Object(fields) => fields.values_mut().for_each(|field| walk(field, relay)),
        _ => {}
    }
}

/// `candidate:FOUNDATION COMPONENT udp PRIORITY ADDRESS PORT typ ...` (RFC 8839, section 5.1)
fn rewrite_line(line: &str, relay: &Relay) -> String {
    if !line.starts_with("candidate:") && !line.starts_with("a=candidate:") {
        return line.to_owned();
    }
    let mut fields: Vec<String> = line.split(' ').map(str::to_owned).collect();
    let real = fields
        .get(4)
        .zip(fields.get(5))
        .and_then(|(ip, port)| Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?)));
    if let Some(real) = real {
        let stand_in = relay.stand_in(real);
        fields[4] = stand_in.ip().to_string();
        fields[5] = stand_in.port().to_string();
    }
    fields.join(" ")
}
