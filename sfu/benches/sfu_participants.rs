//! What participants cost before they say anything: memory of an idle one, and processor time of letting one in.
//!
//! The unit is a process of its own on processor 0 (this program again), whose allocator counts; the clients, with real ICE, DTLS
//! and SRTP over loopback, are in this one on processor 1. Rooms have ten participants, each with microphone and camera to
//! send and twelve slots to receive in. Memory is what the unit's allocator holds more than before, and the resident set
//! beside it. Joining is counted in the unit's processor time of all threads, from the join to the end of the handshake. Its
//! reference is the server's half of a DTLS handshake alone, in the same program.
//!
//! `SFU_PARTICIPANTS` changes how many there are.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot measure stops")]
#![allow(unreachable_pub, missing_docs, reason = "a program")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    fs,
    io::{BufRead, BufReader, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::sync_channel,
    },
    time::{Duration, Instant},
};

use halloo_sfu::{
    JoinRequest, Sfu, SfuConfig,
    client::{Client, Server},
    dtls::{Certificate, Endpoint, Output, POLL_BUFFER, Peer as Dtls},
    ice::Credentials,
    net::{Clock, Filled, Receiver, Socket, SocketConfig},
    room::{
        Encoding, Grants, Limits, ParticipantConfig, PublishedSection, ReceiveSlot, RoomConfig, Rtx, SlotKind,
        SourceKind,
    },
    rtp::ExtensionIds,
    sdp::RemoteTransport,
    srtp::DtlsRole,
};
use halloo_transport::{Mid, PayloadType, Ssrc, Timestamp};
use rustix::thread::{CpuSet, sched_setaffinity};

const UNIT: &str = "as-the-unit";
const PER_ROOM: usize = 10;
/// Handshakes under way at once.
const AT_ONCE: usize = 20;
const PATIENCE: Duration = Duration::from_secs(60);
const REACH_KB: f64 = 64.0;
const REACH_JOINS: f64 = 500.0;

/// Counts what is held.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    if arguments.get(1).is_some_and(|argument| argument == UNIT) {
        return unit(&arguments[2]);
    }
    let measures = arguments.iter().any(|argument| argument == "--bench");
    let count = std::env::var("SFU_PARTICIPANTS").ok().and_then(|text| text.parse().ok());
    let count = count.unwrap_or(if measures { 1_000 } else { 20 });
    pin(1);
    let clock = Clock::start();
    let endpoint = Endpoint::new(Certificate::generate().unwrap(), clock.origin()).unwrap();
    let handshake = handshake_alone(&endpoint, if measures { 300 } else { 3 });
    let mut unit = Unit::start(&endpoint);
    // What is allocated once for all.
    let warm: Vec<_> = (0..PER_ROOM).map(|n| unit.join("warm", n, &endpoint, clock)).collect();
    let mut clients = Clients { all: warm, clock, receiver: Receiver::new() };
    clients.connect(0);
    let before = unit.measure();
    for first in (0..count).step_by(AT_ONCE) {
        let from = clients.all.len();
        for n in first..(first + AT_ONCE).min(count) {
            let one = unit.join(&format!("room{}", n / PER_ROOM), n % PER_ROOM, &endpoint, clock);
            clients.all.push(one);
        }
        clients.connect(from);
    }
    let after = unit.measure();
    let per = |bytes: usize| bytes as f64 / count as f64 / 1_000.0;
    let held = per(after.held - before.held);
    let resident = per(after.resident.saturating_sub(before.resident));
    eprintln!("{count} idle participants: {held:.1} kB each held, {resident:.1} kB of resident set");
    row(
        "sfu_idle_participant",
        held,
        "kB of the unit's heap",
        "resident set of the unit (kB)",
        resident,
        Reach::Most(REACH_KB),
    );
    let cost = (after.time - before.time).as_secs_f64() / count as f64;
    eprintln!("{:.0} us of processor time a join, {:.0} us the handshake alone", 1e6 * cost, 1e6 * handshake);
    row(
        "sfu_joins_per_cpu_second",
        1.0 / cost,
        "participants",
        "DTLS handshakes alone, server's half",
        1.0 / handshake,
        Reach::Least(REACH_JOINS),
    );
}

fn pin(processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor);
    sched_setaffinity(None, &set).expect("two processors");
}

/// Processor time in seconds of the server's half of a handshake.
fn handshake_alone(endpoint: &Endpoint, times: u32) -> f64 {
    let time = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let expected = || vec![halloo_sfu::dtls::Fingerprint::Sha256(endpoint.sha256())];
    let mut buffer = vec![0; POLL_BUFFER];
    let mut servers = Duration::ZERO;
    for _ in 0..times {
        let now = Timestamp::ZERO;
        let mut client = endpoint.peer(now, DtlsRole::Client, expected());
        let began = time();
        let mut server = endpoint.peer(now, DtlsRole::Server, expected());
        servers += time() - began;
        client.handle_timeout(now).unwrap();
        let mut complete = 0;
        while complete < 2 {
            let (to_server, done) = drain(&mut client, &mut buffer);
            complete += done;
            let began = time();
            to_server.iter().for_each(|datagram| server.handle_datagram(now, datagram).unwrap());
            let (to_client, done) = drain(&mut server, &mut buffer);
            servers += time() - began;
            complete += done;
            to_client.iter().for_each(|datagram| client.handle_datagram(now, datagram).unwrap());
        }
    }
    servers.as_secs_f64() / f64::from(times)
}

fn drain(peer: &mut Dtls, buffer: &mut [u8]) -> (Vec<Vec<u8>>, usize) {
    let (mut datagrams, mut connected) = (Vec::new(), 0);
    while let Some(output) = peer.poll(buffer).unwrap() {
        match output {
            Output::Datagram(len) => datagrams.push(buffer[..len].to_vec()),
            Output::Connected(_) => connected += 1,
            Output::Closed => {}
        }
    }
    (datagrams, connected)
}

/// The unit's side: obeys lines of standard input.
fn unit(fingerprint: &str) {
    pin(0);
    let mut client_fingerprint = [0; 32];
    for (byte, hex) in client_fingerprint.iter_mut().zip(fingerprint.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(hex).unwrap(), 16).unwrap();
    }
    let (sender, events) = sync_channel(1 << 16);
    let handle = Sfu::start(&SfuConfig::default(), sender).expect("a unit");
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        while events.try_recv().is_ok() {}
        if line == "measure" {
            println!("{} {} {}", HELD.load(Ordering::Relaxed), resident(), processor_time().as_nanos());
            continue;
        }
        let fields: Vec<_> = line.split(' ').collect();
        let [room, number, ufrag] = fields[..] else { panic!("{line}") };
        let room: Arc<str> = Arc::from(room);
        let local = handle.local_transport(&room).unwrap();
        let remote = RemoteTransport {
            ufrag: ufrag.to_owned(),
            pwd: "passwordpasswordpassword".to_owned(),
            fingerprints: vec![client_fingerprint],
        };
        let (reply, answer) = sync_channel(1);
        let participant = participant(number.parse().unwrap());
        let request =
            JoinRequest { room, room_config: RoomConfig::default(), participant, remote, local: local.clone() };
        handle.join(request, move |result| reply.send(result).unwrap()).unwrap();
        answer.recv_timeout(PATIENCE).unwrap().unwrap();
        let fingerprint: String = local.fingerprint.iter().map(|byte| format!("{byte:02x}")).collect();
        println!("{} {} {} {fingerprint}", local.ufrag, local.pwd, local.candidates[0].address);
    }
}

fn resident() -> usize {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap();
    1_024 * line.trim().trim_end_matches(" kB").parse::<usize>().unwrap()
}

/// Of all threads so far.
fn processor_time() -> Duration {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let time = |task: fs::DirEntry| {
        let counters = fs::read_to_string(task.path().join("schedstat")).ok()?;
        counters.split(' ').next()?.parse().ok().map(Duration::from_nanos)
    };
    tasks.filter_map(|task| time(task.unwrap())).sum()
}

fn participant(number: u32) -> ParticipantConfig {
    const OPUS: PayloadType = PayloadType(111);
    const AV1: PayloadType = PayloadType(45);
    const RTX: PayloadType = PayloadType(46);
    let section = |mid: &str, kind, payload_type, rtx_payload_type, ssrc| PublishedSection {
        mid: Mid(mid.to_owned()),
        kind,
        payload_type,
        rtx_payload_type,
        nack: true,
        encodings: vec![Encoding { ssrc: Some(Ssrc(ssrc)), ..Encoding::default() }],
    };
    let slot = |n: u32| {
        let (kind, payload_type) = if n < 3 { (SlotKind::Audio, OPUS) } else { (SlotKind::Video, AV1) };
        let ssrc = 0x2000_0000 + 0x1_0000 * number + 2 * n;
        let rtx = (kind == SlotKind::Video).then_some(Rtx { ssrc: Ssrc(ssrc + 1), payload_type: RTX });
        ReceiveSlot { mid: Mid((n + 3).to_string()), kind, ssrc: Ssrc(ssrc), payload_type, rtx }
    };
    let ids = ExtensionIds {
        mid: Some(4),
        rid: None,
        repaired_rid: None,
        transport_cc: Some(3),
        abs_send_time: Some(2),
        audio_level: Some(1),
        dependency_descriptor: Some(5),
        video_orientation: None,
    };
    ParticipantConfig {
        published: vec![
            section("0", SourceKind::Microphone, OPUS, None, 0x1000 + 2 * number),
            section("1", SourceKind::Camera, AV1, Some(RTX), 0x1001 + 2 * number),
        ],
        slots: (0..12).map(slot).collect(),
        incoming_extensions: ids,
        outgoing_extensions: ids,
        grants: Grants::ALL,
        limits: Limits::default(),
        feedback_ssrc: Ssrc(0x3000_0000 + number),
        cname: format!("cname{number}"),
        seed: u64::from(number) + 1,
    }
}

/// What the unit measured of itself.
#[derive(Clone, Copy, Debug)]
struct Measured {
    held: usize,
    resident: usize,
    time: Duration,
}

/// The unit's process as the clients see it.
struct Unit {
    process: Child,
    replies: BufReader<std::process::ChildStdout>,
    joins: usize,
}

impl Unit {
    fn start(endpoint: &Endpoint) -> Self {
        let fingerprint: String = endpoint.sha256().iter().map(|byte| format!("{byte:02x}")).collect();
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args([UNIT, &fingerprint])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let replies = BufReader::new(process.stdout.take().unwrap());
        Self { process, replies, joins: 0 }
    }

    fn ask(&mut self, line: &str) -> Vec<String> {
        writeln!(self.process.stdin.as_mut().unwrap(), "{line}").unwrap();
        let mut reply = String::new();
        self.replies.read_line(&mut reply).unwrap();
        reply.split_whitespace().map(str::to_owned).collect()
    }

    fn measure(&mut self) -> Measured {
        let reply = self.ask("measure");
        let number = |n: usize| reply[n].parse::<u64>().unwrap();
        Measured { held: number(0) as usize, resident: number(1) as usize, time: Duration::from_nanos(number(2)) }
    }

    fn join(&mut self, room: &str, number: usize, endpoint: &Endpoint, clock: Clock) -> Connection {
        self.joins += 1;
        let ufrag = format!("client{}", self.joins);
        let reply = self.ask(&format!("{room} {number} {ufrag}"));
        let credentials = Credentials::new(reply[0].clone(), reply[1].clone()).unwrap();
        let mut fingerprint = [0; 32];
        for (byte, hex) in fingerprint.iter_mut().zip(reply[3].as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(hex).unwrap(), 16).unwrap();
        }
        let bind = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let socket = Socket::open(SocketConfig { bind, receive_buffer: 1 << 17, send_buffer: 1 << 17 }).unwrap();
        let client = Client::new(clock.now(), endpoint, &ufrag, Server { credentials, fingerprint }).unwrap();
        Connection { client, socket, server: reply[2].parse().unwrap() }
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Connection {
    client: Client,
    socket: Socket,
    server: SocketAddr,
}

struct Clients {
    all: Vec<Connection>,
    clock: Clock,
    receiver: Receiver,
}

impl Clients {
    /// Runs those from `first` on until all are connected, and answers for the others.
    fn connect(&mut self, first: usize) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut idle = true;
            let mut waits = 0;
            // Consent is to be renewed.
            self.all[..first].iter_mut().for_each(|connection| {
                connection.turn(self.clock, &mut self.receiver);
            });
            for connection in &mut self.all[first..] {
                idle &= !connection.turn(self.clock, &mut self.receiver);
                assert!(connection.client.failure().is_none(), "{:?}", connection.client.failure());
                waits += usize::from(!connection.client.is_connected());
            }
            if waits == 0 {
                return;
            }
            assert!(Instant::now() < deadline, "{waits} did not connect in time");
            if idle {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
    }
}

impl Connection {
    /// Receives, and does what is due; whether anything came.
    fn turn(&mut self, clock: Clock, receiver: &mut Receiver) -> bool {
        let now = clock.now();
        let mut came = false;
        while receiver.receive(&self.socket).unwrap() != Filled::Nothing {
            came = true;
            for batch in receiver.batches() {
                for datagram in batch.bytes.chunks_mut(batch.segment) {
                    self.client.handle_datagram(now, datagram);
                }
            }
        }
        if self.client.next_timeout() <= now {
            self.client.handle_timeout(now);
        }
        while let Some(datagram) = self.client.poll_transmit() {
            self.socket.send(self.server, None, &datagram, datagram.len());
        }
        came
    }
}

#[derive(Clone, Copy)]
enum Reach {
    Most(f64),
    Least(f64),
}

fn row(name: &str, value: f64, unit: &str, reference: &str, reference_value: f64, reach: Reach) {
    let (reach, reached, at_least) = match reach {
        Reach::Most(most) => (most, value <= most, false),
        Reach::Least(least) => (least, value >= least, true),
    };
    println!(
        r#"{{"name":"{name}","value":{value:.2},"unit":"{unit}","reference":"{reference}","reference_value":{reference_value:.2},"reach":{reach},"at_least":{at_least},"reached":{reached}}}"#
    );
}
