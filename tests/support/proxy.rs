//! A WebSocket proxy before the signaling server that changes every ICE candidate: a [`Relay`]'s address in its place, or one
//! where nobody is in the place of those over UDP.

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
/// A port where nothing answers.
const NOWHERE: &str = "9";

/// What candidates are turned into.
#[derive(Clone)]
enum Network {
    Relayed(Relay),
    /// UDP does not get through.
    TcpAlone,
}

/// Listens before the server at `port`; gives the address to sign in at.
pub(crate) async fn start(port: u16, relay: Relay) -> String {
    listen(port, Network::Relayed(relay)).await
}

/// The same, for a network that blocks UDP.
pub(crate) async fn start_tcp_alone(port: u16) -> String {
    listen(port, Network::TcpAlone).await
}

async fn listen(port: u16, network: Network) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(forward(stream, port, network.clone()));
        }
    });
    url
}

async fn forward(stream: TcpStream, port: u16, network: Network) {
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
                Message::Text(text) => Message::Text(rewrite_message(&text, &network).into()),
                other => other,
            };
            if to_server.send(message).await.is_err() {
                return;
            }
        }
    };
    let down = async {
        while let Some(Ok(message)) = from_server.next().await {
            // Between two clients everything was changed on its way up; the forwarding unit's answer was not.
            let message = match (message, &network) {
                (Message::Text(text), Network::TcpAlone) => Message::Text(rewrite_message(&text, &network).into()),
                (other, _) => other,
            };
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

fn rewrite_message(text: &str, network: &Network) -> String {
    let mut message: Value = serde_json::from_str(text).unwrap();
    walk(&mut message, network);
    message.to_string()
}

fn walk(value: &mut Value, network: &Network) {
    match value {
        Value::String(text) if text.contains("candidate:") => {
            let ending = if text.contains("\r\n") { "\r\n" } else { "\n" };
            let lines: Vec<String> = text.split(ending).map(|line| rewrite_line(line, network)).collect();
            *text = lines.join(ending);
        }
        Value::Array(items) => items.iter_mut().for_each(|item| walk(item, network)),
        Value::Object(fields) => fields.values_mut().for_each(|field| walk(field, network)),
        _ => {}
    }
}

/// `candidate:FOUNDATION COMPONENT udp PRIORITY ADDRESS PORT typ ...` (RFC 8839, section 5.1)
fn rewrite_line(line: &str, network: &Network) -> String {
    if !line.starts_with("candidate:") && !line.starts_with("a=candidate:") {
        return line.to_owned();
    }
    let mut fields: Vec<String> = line.split(' ').map(str::to_owned).collect();
    let real = fields
        .get(4)
        .zip(fields.get(5))
        .and_then(|(ip, port)| Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?)));
    match (real, network) {
        (Some(real), Network::Relayed(relay)) => {
            let stand_in = relay.stand_in(real);
            fields[4] = stand_in.ip().to_string();
            fields[5] = stand_in.port().to_string();
        }
        (Some(_), Network::TcpAlone) if fields[2] == "udp" => NOWHERE.clone_into(&mut fields[5]),
        _ => {}
    }
    fields.join(" ")
}
