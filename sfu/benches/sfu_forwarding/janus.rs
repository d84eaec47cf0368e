//! A peer for comparison: Debian's Janus with its VideoRoom plugin, as a process of its own on processor 0.
//!
//! Participants are made over its HTTP API as a web page makes them. One that sends and receives has two connections, as is
//! Janus' way. It offers candidates on real interfaces only, so it runs in a network namespace that has one: see
//! [`enter_namespace`].

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use halloo_sfu::{
    client::{Client, Server},
    dtls::Endpoint,
    ice::Credentials,
    net::Clock,
};
use serde_json::{Value, json};
use stun_rs::{
    HMACKey, MessageClass, MessageEncoder, StunMessageBuilder, TransactionId,
    attributes::stun::{Fingerprint, MessageIntegrity, XorMappedAddress},
    methods::BINDING,
};

const PROGRAM: &str = "/usr/bin/janus";
const LIBRARIES: &str = "/usr/lib/x86_64-linux-gnu/janus";
/// The interface's; clients are there too.
pub(crate) const ADDRESS: &str = "10.77.0.1";
const HTTP: &str = "127.0.0.1:18088";
const PASSWORD: &str = "passwordpasswordpassword";
const ROOM: u64 = 1_234;
const PATIENCE: Duration = Duration::from_secs(20);
/// Says that this process is the one within the namespace.
const WITHIN: &str = "SFU_FORWARDING_NAMESPACE";

/// Whether Janus is installed, and this process where it can run.
pub(crate) fn is_available() -> bool {
    Path::new(PROGRAM).exists() && std::env::var_os(WITHIN).is_some()
}

/// Goes on in a network namespace with an interface that Janus takes for one to the world, where that is possible: traffic to
/// it stays within this machine's memory like that of loopback.
pub(crate) fn enter_namespace() {
    if !Path::new(PROGRAM).exists() || std::env::var_os(WITHIN).is_some() {
        return;
    }
    let set_up = format!(
        "ip link set lo up && ip link add v0 type veth peer name v1 && ip addr add {ADDRESS}/24 dev v0 \
         && ip link set v0 up && ip link set v1 up && exec \"$0\" \"$@\""
    );
    let namespace = || {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net", "sh", "-c"]);
        command
    };
    let works = namespace().arg("ip link set lo up && ip link add v0 type veth peer name v1").output();
    if !works.is_ok_and(|output| output.status.success()) {
        eprintln!("no network namespaces here: Janus is left out");
        return;
    }
    let own = std::env::current_exe().expect("this program");
    let error = namespace().arg(set_up).arg(own).args(std::env::args_os().skip(1)).env(WITHIN, "1").exec();
    panic!("entering a network namespace: {error}");
}

/// A client's own end.
pub(crate) struct Own<'a> {
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) clock: Clock,
    /// Of its socket.
    pub(crate) address: SocketAddr,
}

/// Answers Janus' own checks: its ICE library makes some in its lite mode too.
#[derive(Debug)]
pub(crate) struct Responder(HMACKey);

impl Responder {
    /// The answer to a check from `from`.
    pub(crate) fn answer(&self, check: &[u8], from: SocketAddr) -> Option<Vec<u8>> {
        let id: [u8; 12] = check.get(8..20)?.try_into().ok()?;
        let message = StunMessageBuilder::new(BINDING, MessageClass::SuccessResponse)
            .with_transaction_id(TransactionId::from(id))
            .with_attribute(XorMappedAddress::from(from))
            .with_attribute(MessageIntegrity::new(self.0.clone()))
            .with_attribute(Fingerprint::default())
            .build();
        let mut bytes = vec![0; 256];
        let len = MessageEncoder::default().encode(&mut bytes, &message).ok()?;
        bytes.truncate(len);
        Some(bytes)
    }
}

/// A client that Janus knows of.
pub(crate) struct Connection {
    pub(crate) client: Client,
    pub(crate) responder: Responder,
    /// Janus' end.
    pub(crate) address: SocketAddr,
}

/// A running Janus with a room.
pub(crate) struct Janus {
    process: Child,
    folder: PathBuf,
    feeds: Vec<u64>,
}

impl Janus {
    /// Starts it on processor 0.
    pub(crate) fn start() -> Self {
        let folder = std::env::temp_dir().join(format!("halloo-janus-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let write = |name: &str, text: String| fs::write(folder.join(name), text).expect("a configuration");
        write("janus.jcfg", configuration(&folder));
        write("janus.plugin.videoroom.jcfg", "general: {}\n".to_owned());
        let (ip, port) = HTTP.split_once(':').expect("an address");
        write(
            "janus.transport.http.jcfg",
            format!(
                "general: {{ json = \"compact\" base_path = \"/janus\" http = true port = {port} ip = \"{ip}\" }}\n"
            ),
        );
        let mut command = Command::new("taskset");
        command.args(["-c", "0", PROGRAM, "-F"]).arg(&folder).stdin(Stdio::null()).stdout(Stdio::null());
        let process = command.stderr(Stdio::null()).spawn().expect("taskset");
        let own = Self { process, folder, feeds: Vec::new() };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(HTTP).is_err() {
            assert!(Instant::now() < deadline, "Janus does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        let mut first = Handle::attach();
        let body = json!({ "request": "create", "room": ROOM, "publishers": 100, "bitrate": 50_000_000,
            "audiocodec": "opus", "videocodec": "av1" });
        let reply = first.message(&body, None);
        assert_eq!(reply["plugindata"]["data"]["videoroom"], "created", "{reply}");
        own
    }

    /// Processor time of all its threads so far.
    pub(crate) fn time(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.id())).expect("procfs");
        let time = |task: fs::DirEntry| {
            let counters = fs::read_to_string(task.path().join("schedstat")).ok()?;
            counters.split(' ').next()?.parse().ok().map(Duration::from_nanos)
        };
        tasks.filter_map(|task| time(task.ok()?)).sum()
    }

    /// A participant who sends under these SSRCs (sound, pictures).
    pub(crate) fn publish(&mut self, own: &Own<'_>, ssrcs: [u32; 2]) -> Connection {
        let mut handle = Handle::attach();
        let ufrag = format!("publisher{}", self.feeds.len());
        let offer = description(own, &ufrag, "sendonly", &[0, 1], Some(ssrcs));
        let body = json!({ "request": "joinandconfigure", "room": ROOM, "ptype": "publisher",
            "audiocodec": "opus", "videocodec": "av1", "bitrate": 50_000_000 });
        handle.message(&body, Some(json!({ "type": "offer", "sdp": offer })));
        let event = handle.event();
        let id = event["plugindata"]["data"]["id"].as_u64();
        self.feeds.push(id.unwrap_or_else(|| panic!("no publisher: {event}")));
        client(own, &ufrag, &event)
    }

    /// A receiver of what `feeds`, in order of publishing, send. They have to be connected.
    pub(crate) fn subscribe(&self, own: &Own<'_>, feeds: &[usize]) -> Connection {
        let mut handle = Handle::attach();
        let streams: Vec<_> = feeds.iter().map(|feed| json!({ "feed": self.feeds[*feed] })).collect();
        let body = json!({ "request": "join", "room": ROOM, "ptype": "subscriber", "streams": streams });
        let deadline = Instant::now() + PATIENCE;
        let event = loop {
            handle.message(&body, None);
            let event = handle.event();
            if event["jsep"].is_object() {
                break event;
            }
            // The publisher's connection is up only a moment after its own end says so.
            assert!(Instant::now() < deadline, "no subscription: {event}");
            std::thread::sleep(Duration::from_millis(20));
        };
        let ufrag = format!("subscriber{}", handle.session % 1_000_000);
        let offered = event["jsep"]["sdp"].as_str().expect("an offer");
        let kinds: Vec<_> = offered
            .lines()
            .filter_map(|line| line.strip_prefix("m="))
            .map(|m| usize::from(m.starts_with("video")))
            .collect();
        let answer = description(own, &ufrag, "recvonly", &kinds, None);
        handle.message(&json!({ "request": "start" }), Some(json!({ "type": "answer", "sdp": answer })));
        handle.event();
        client(own, &ufrag, &event)
    }
}

impl Drop for Janus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn configuration(folder: &Path) -> String {
    let others = |kind: &str, kept: &str| {
        let files = fs::read_dir(Path::new(LIBRARIES).join(kind)).expect("Janus' libraries");
        let names = files.filter_map(|file| file.ok()?.file_name().into_string().ok());
        names.filter(|name| name.ends_with(".so") && name != kept).collect::<Vec<_>>().join(",")
    };
    format!(
        r#"general: {{
    configs_folder = "{}"
    plugins_folder = "{LIBRARIES}/plugins"
    transports_folder = "{LIBRARIES}/transports"
    events_folder = "{LIBRARIES}/events"
    loggers_folder = "{LIBRARIES}/loggers"
    debug_level = 2
}}
nat: {{ ice_lite = true ice_enforce_list = "{ADDRESS}" }}
plugins: {{ disable = "{}" }}
transports: {{ disable = "{}" }}
loggers: {{ disable = "{}" }}
"#,
        folder.display(),
        others("plugins", "libjanus_videoroom.so"),
        others("transports", "libjanus_http.so"),
        others("loggers", ""),
    )
}

/// Our end: media sections of the `kinds` (0 sound, 1 pictures) with mids in order.
fn description(own: &Own<'_>, ufrag: &str, direction: &str, kinds: &[usize], ssrcs: Option<[u32; 2]>) -> String {
    let fingerprint = own.endpoint.sha256().map(|byte| format!("{byte:02X}")).join(":");
    let mids: Vec<_> = (0..kinds.len()).map(|mid| mid.to_string()).collect();
    let mut lines = vec![
        "v=0".to_owned(),
        "o=- 1 1 IN IP4 127.0.0.1".to_owned(),
        "s=-".to_owned(),
        "t=0 0".to_owned(),
        format!("a=group:BUNDLE {}", mids.join(" ")),
        "a=msid-semantic: WMS *".to_owned(),
    ];
    const TRANSPORT_CC: &str = "a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
    for (mid, kind) in kinds.iter().enumerate() {
        let of_kind: &[&str] = match kind {
            0 => &[
                "m=audio 9 UDP/TLS/RTP/SAVPF 111",
                "a=rtpmap:111 opus/48000/2",
                "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level",
            ],
            _ => &[
                "m=video 9 UDP/TLS/RTP/SAVPF 45",
                "a=rtpmap:45 AV1/90000",
                "a=rtcp-fb:45 nack",
                "a=rtcp-fb:45 nack pli",
                "a=rtcp-fb:45 transport-cc",
                "a=extmap:5 https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension",
            ],
        };
        let mut of_kind = of_kind.iter().map(|line| (*line).to_owned());
        lines.extend(of_kind.next());
        lines.extend([
            "c=IN IP4 127.0.0.1".to_owned(),
            "a=rtcp-mux".to_owned(),
            format!("a=mid:{mid}"),
            format!("a=candidate:1 1 udp 2130706431 {} {} typ host", own.address.ip(), own.address.port()),
            "a=end-of-candidates".to_owned(),
            format!("a={direction}"),
            format!("a=ice-ufrag:{ufrag}"),
            format!("a=ice-pwd:{PASSWORD}"),
            format!("a=fingerprint:sha-256 {fingerprint}"),
            "a=setup:active".to_owned(),
            TRANSPORT_CC.to_owned(),
            "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid".to_owned(),
        ]);
        lines.extend(of_kind);
        if let Some(ssrcs) = ssrcs {
            lines.push(format!("a=msid:m t{mid}"));
            lines.push(format!("a=ssrc:{} cname:generator", ssrcs[*kind]));
        }
    }
    lines.join("\r\n") + "\r\n"
}

/// The client that Janus' end in an event's description asks for.
fn client(own: &Own<'_>, ufrag: &str, event: &Value) -> Connection {
    let sdp = event["jsep"]["sdp"].as_str().unwrap_or_else(|| panic!("no description: {event}"));
    let value = |name: &str| {
        let value =
            sdp.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name} in {sdp}"));
        value.trim().to_owned()
    };
    let credentials = Credentials::new(value("a=ice-ufrag:"), value("a=ice-pwd:")).expect("credentials");
    let mut fingerprint = [0; 32];
    for (byte, hex) in fingerprint.iter_mut().zip(value("a=fingerprint:sha-256 ").split(':')) {
        *byte = u8::from_str_radix(hex, 16).expect("a fingerprint");
    }
    let candidate = sdp.lines().find(|line| line.starts_with("a=candidate:") && line.contains(ADDRESS));
    let fields: Vec<_> = candidate.expect("a candidate").split(' ').collect();
    let address = format!("{}:{}", fields[4], fields[5]).parse().expect("an address");
    let now = own.clock.now();
    let responder = Responder(HMACKey::new_short_term(PASSWORD).expect("a key"));
    let client = Client::new(now, own.endpoint, ufrag, Server { credentials, fingerprint }).expect("a client");
    Connection { client, responder, address }
}

/// A session of the HTTP API with one plugin handle.
struct Handle {
    session: u64,
    handle: u64,
    transaction: u64,
}

impl Handle {
    fn attach() -> Self {
        let mut own = Self { session: 0, handle: 0, transaction: 0 };
        own.session = own.post("/janus", json!({ "janus": "create" }))["data"]["id"].as_u64().expect("a session");
        let attach = json!({ "janus": "attach", "plugin": "janus.plugin.videoroom" });
        let reply = own.post(&format!("/janus/{}", own.session), attach);
        own.handle = reply["data"]["id"].as_u64().unwrap_or_else(|| panic!("no handle: {reply}"));
        own
    }

    /// Sends a request to the plugin; its reply, which for some is only that it was taken.
    fn message(&mut self, body: &Value, jsep: Option<Value>) -> Value {
        let mut message = json!({ "janus": "message", "body": body });
        if let Some(jsep) = jsep {
            message["jsep"] = jsep;
        }
        self.post(&format!("/janus/{}/{}", self.session, self.handle), message)
    }

    /// The next event of the plugin.
    fn event(&self) -> Value {
        loop {
            let event = http("GET", &format!("/janus/{}?maxev=1", self.session), "");
            let event = if event.is_array() { event[0].clone() } else { event };
            if event["janus"] == "event" {
                return event;
            }
        }
    }

    fn post(&mut self, path: &str, mut body: Value) -> Value {
        self.transaction += 1;
        body["transaction"] = json!(self.transaction.to_string());
        http("POST", path, &body.to_string())
    }
}

/// One request over HTTP.
fn http(method: &str, path: &str, body: &str) -> Value {
    let mut stream = TcpStream::connect(HTTP).expect("Janus listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let head = format!("{method} {path} HTTP/1.0\r\nHost: {HTTP}\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).expect("Janus reads");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("Janus answers");
    let (_, body) = reply.split_once("\r\n\r\n").expect("an answer of HTTP");
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"))
}
