//! `halloo serve` and `halloo token` as processes: what a person and a program see.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use futures_util::{SinkExt, StreamExt};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Output, Stdio},
};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Message, client::IntoClientRequest},
};

fn halloo(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_halloo"));
    command.env_remove("HALLOO_DATA").env("XDG_DATA_HOME", data).env("HOME", data);
    command
}

struct Serving {
    process: Child,
    line: serde_json::Value,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn serve(data: &Path, args: &[&str]) -> Serving {
    let mut command = halloo(data);
    command.args(["serve", "--json", "--port", "0"]).args(args).stdout(Stdio::piped());
    let mut process = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    Serving { process, line: serde_json::from_str(&line).unwrap() }
}

impl Serving {
    fn authority(&self) -> String {
        self.line["url"].as_str().unwrap().split("://").nth(1).unwrap().to_owned()
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.authority()).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.authority()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    /// From the debug listener, under this `Host`.
    fn look(&self, path: &str, host: &str) -> String {
        let mut stream = TcpStream::connect(self.line["debug"].as_str().unwrap()).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    async fn hello(&self, credential: serde_json::Value) -> serde_json::Value {
        let mut request = format!("ws://{}/ws", self.authority()).into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", "halloo.v1".parse().unwrap());
        let (mut socket, _) = connect_async(request).await.unwrap();
        let hello = serde_json::json!({"id": 1, "request": {"type": "hello", "credential": credential, "device": "d",
            "client": {"name": "test", "version": "0"}}});
        socket.send(Message::Text(hello.to_string().into())).await.unwrap();
        let Some(Ok(Message::Text(reply))) = socket.next().await else { panic!("no reply") };
        serde_json::from_str(&reply).unwrap()
    }
}

fn failure(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test]
async fn it_serves_with_nothing_set_up_and_takes_its_own_tokens() {
    let data = tempfile::tempdir().unwrap();
    let server = serve(data.path(), &[]);
    assert!(server.line["url"].as_str().unwrap().starts_with("http://127.0.0.1:"));
    assert_eq!(server.line["pid"], server.process.id());
    assert!(server.get("/healthz").starts_with("HTTP/1.1 200"));
    assert!(server.get("/metrics").contains("halloo_connections 0"));
    let page = server.get("/");
    assert!(page.contains("content-security-policy:") && page.contains("<html"), "{page}");
    let guest = server.hello(serde_json::json!({"type": "guest", "name": "bob"})).await;
    assert_eq!(guest["result"]["user"], "bob");
    let minted = halloo(data.path()).args(["token", "--user", "alice", "--name", "Alice A."]).output().unwrap();
    let token = String::from_utf8(minted.stdout).unwrap();
    let welcome = server.hello(serde_json::json!({"type": "token", "token": token.trim()})).await;
    assert_eq!(welcome["result"]["display_name"], "Alice A.");
    let secret = std::fs::metadata(data.path().join("halloo/token.secret")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&secret.permissions()) & 0o777, 0o600);
}

#[tokio::test]
async fn an_ed25519_pair_made_by_the_command_signs_in() {
    let data = tempfile::tempdir().unwrap();
    let pair = halloo(data.path()).args(["token", "--new-key", "ed25519"]).output().unwrap();
    let pair = String::from_utf8(pair.stdout).unwrap();
    let (private, public) = pair.split_at(pair.find("-----BEGIN PUBLIC").unwrap());
    let (private_path, public_path) = (data.path().join("private.pem"), data.path().join("public.pem"));
    std::fs::write(&private_path, private).unwrap();
    std::fs::write(&public_path, public).unwrap();
    let key = format!("k1={}", public_path.display());
    let server = serve(data.path(), &["--no-guests", "--audience", "here", "--key", &key]);
    let mint = |audience: &str| {
        let mut command = halloo(data.path());
        command.args(["token", "--user", "alice", "--kid", "k1", "--audience", audience, "--key"]).arg(&private_path);
        String::from_utf8(command.output().unwrap().stdout).unwrap().trim().to_owned()
    };
    let token = |text: String| serde_json::json!({"type": "token", "token": text});
    assert_eq!(server.hello(token(mint("here"))).await["result"]["user"], "alice");
    assert_eq!(server.hello(token(mint("there"))).await["error"]["code"], "token_audience");
    let guest = server.hello(serde_json::json!({"type": "guest", "name": "bob"})).await;
    assert_eq!(guest["error"]["code"], "guests_not_allowed");
}

/// What a token claims of rooms.
fn room_claim(data: &Path, args: &[&str]) -> serde_json::Value {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let minted = halloo(data).args(["token", "--user", "alice"]).args(args).output().unwrap();
    let token = String::from_utf8(minted.stdout).unwrap();
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice::<serde_json::Value>(&claims).unwrap()["room"].clone()
}

#[test]
fn a_token_opens_the_rooms_it_was_minted_for() {
    let data = tempfile::tempdir().unwrap();
    assert!(room_claim(data.path(), &[]).is_null());
    let claim = room_claim(data.path(), &["--room", "standup"]);
    assert_eq!((&claim["name"], &claim["moderate"]), (&serde_json::json!(["standup"]), &false.into()));
    assert_eq!(claim["publish"], serde_json::json!(["microphone", "camera", "screen"]));
    let claim = room_claim(data.path(), &["--room", "*", "--can", "microphone,moderate"]);
    let wanted = serde_json::json!({"name": "*", "publish": ["microphone"], "subscribe": false, "moderate": true});
    assert_eq!(claim, wanted);
    let output = halloo(data.path()).args(["token", "--user", "a", "--room", "two words"]).output().unwrap();
    assert!(failure(&output).contains("two words"));
}

#[test]
fn rooms_have_ports_that_are_told_unless_there_are_to_be_none() {
    let data = tempfile::tempdir().unwrap();
    let server = serve(data.path(), &["--media-shards", "2"]);
    let media = server.line["media"].as_array().unwrap();
    assert_eq!(media.len(), 2);
    assert!(media.iter().all(|address| address.as_str().unwrap().starts_with("127.0.0.1:")), "{media:?}");
    assert!(server.get("/metrics").contains("halloo_sfu_rtp_sent_total{shard=\"1\"} 0"));
    let over_tcp = |address: &serde_json::Value| std::net::TcpStream::connect(address.as_str().unwrap());
    media.iter().for_each(|address| assert!(over_tcp(address).is_ok(), "{address}"));
    let udp_only = serve(data.path(), &["--no-media-tcp"]);
    assert!(over_tcp(&udp_only.line["media"][0]).is_err());

    let taken = media[0].as_str().unwrap().rsplit(':').next().unwrap();
    let second = halloo(data.path()).args(["serve", "--port", "0", "--media-port", taken]).output().unwrap();
    assert!(failure(&second).contains("--media-port"));
    let without = serve(data.path(), &["--no-rooms"]);
    assert_eq!(without.line["media"], serde_json::json!([]));
    assert!(!without.get("/metrics").contains("halloo_sfu"));
}

#[test]
fn a_port_in_use_is_named_with_what_to_do() {
    let data = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let output = halloo(data.path()).args(["serve", "--port", &port.to_string()]).output().unwrap();
    let text = failure(&output);
    assert!(text.contains(&format!("port {port} is in use")) && text.contains("--port"), "{text}");
}

#[test]
fn an_open_address_without_protection_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let output = halloo(data.path()).args(["serve", "--bind", "0.0.0.0", "--port", "0"]).output().unwrap();
    let text = failure(&output);
    assert!(text.contains("--tls-cert") && text.contains("--behind-proxy") && text.contains("--key"), "{text}");
}

#[test]
fn it_stops_with_code_zero_when_told_to() {
    let data = tempfile::tempdir().unwrap();
    let mut server = serve(data.path(), &[]);
    let pid = rustix::process::Pid::from_child(&server.process);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(server.process.wait().unwrap().code(), Some(0));
}

#[test]
fn on_the_local_network_it_speaks_tls_with_the_printed_fingerprint() {
    let data = tempfile::tempdir().unwrap();
    let lan = ["--lan", "--media-port", "0"];
    let server = serve(data.path(), &lan);
    let fingerprint = server.line["fingerprint"].as_str().unwrap().to_owned();
    assert!(server.line["url"].as_str().unwrap().starts_with("https://"));
    let port = server.authority().rsplit(':').next().unwrap().to_owned();
    let (seen, page) = tls_get(&format!("127.0.0.1:{port}"));
    assert_eq!(seen, fingerprint);
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    drop(server);
    assert_eq!(serve(data.path(), &lan).line["fingerprint"].as_str(), Some(fingerprint.as_str()));
}

/// `/healthz` over TLS from a server with any certificate, and that certificate's fingerprint.
fn tls_get(addr: &str) -> (String, String) {
    use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(std::sync::Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(std::sync::Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let client = ClientConnection::new(std::sync::Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(client, TcpStream::connect(addr).unwrap());
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = Vec::new();
    // A server may close TCP without a TLS alert.
    let _ = stream.read_to_end(&mut text);
    let certificate = &stream.conn.peer_certificates().unwrap()[0];
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
    let fingerprint = digest.as_ref().iter().map(|b| format!("{b:02X}")).collect::<Vec<_>>().join(":");
    (fingerprint, String::from_utf8(text).unwrap())
}

/// Takes any certificate: the fingerprint is what is looked at.
#[derive(Debug)]
struct AnyCertificate(std::sync::Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[test]
fn rooms_can_be_looked_into_from_this_machine_where_that_was_asked_for() {
    let data = tempfile::tempdir().unwrap();
    let closed = serve(data.path(), &[]);
    assert!(closed.line["debug"].is_null());
    drop(closed);
    let server = serve(data.path(), &["--debug-listen", "127.0.0.1:0"]);
    let answer = server.look("/debug/rooms", "localhost");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("{\"rooms\":[]}"), "{answer}");
    assert!(server.look("/debug/rooms/none", "127.0.0.1:1").starts_with("HTTP/1.1 404"));
    assert!(server.look("/debug/rooms", "rebound.example.org").starts_with("HTTP/1.1 403"));
    assert!(!server.get("/debug/rooms").contains("\"rooms\""), "not on the public listener");
    let open = halloo(data.path()).args(["serve", "--debug-listen", "0.0.0.0:0"]).output().unwrap();
    assert!(failure(&open).contains("ssh -L"));
}
