//! The floor: the simplest loop that forwards. Receive a batch, open each packet once, seal it for each receiver, send each
//! receiver what it got with one call per burst. Keys are given, addresses known, nothing is checked, remembered or answered.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Sender, channel},
    },
    thread::JoinHandle,
};

use halloo_sfu::net::{Filled, Receiver, Socket, SocketConfig};
use ring::aead;
use rustix::{
    event::{PollFd, PollFlags, poll},
    time::Timespec,
};

use crate::cpu;

pub(crate) const TAG: usize = 16;
const ROOM: usize = 1 << 16;
/// As much padding as the forwarding unit gives, so that a frame is one send.
const MAX_PADDING: usize = 32;
const MIN_PADDED: usize = 400;
const MAX_SEGMENTS: usize = 64;

/// AES-256-GCM, which is what clients and unit negotiate, with a nonce made of SSRC and sequence number: what SRTP does, without rollover counter and replay window.
#[derive(Debug)]
pub(crate) struct Key(aead::LessSafeKey);

impl Key {
    /// A key for one direction between a participant and the floor.
    pub(crate) fn new(participant: u16, direction: u8) -> Self {
        let mut key = [0; 32];
        let [high, low] = participant.to_be_bytes();
        key[..3].copy_from_slice(&[high, low, direction]);
        Self(aead::LessSafeKey::new(aead::UnboundKey::new(&aead::AES_256_GCM, &key).expect("a key")))
    }

    fn nonce(packet: &[u8]) -> aead::Nonce {
        let mut nonce = [0; 12];
        nonce[2..6].copy_from_slice(&packet[8..12]);
        nonce[10..].copy_from_slice(&packet[2..4]);
        aead::Nonce::assume_unique_for_key(nonce)
    }

    /// Seals the first `len` bytes, whose header has `header` bytes; there is room for the tag behind them.
    pub(crate) fn seal(&self, packet: &mut [u8], header: usize, len: usize) {
        let nonce = Self::nonce(packet);
        let (clear, rest) = packet.split_at_mut(header);
        let (secret, tag) = rest.split_at_mut(len - header);
        let sealed = self.0.seal_in_place_separate_tag(nonce, aead::Aad::from(&clear[..]), secret).expect("sealed");
        tag[..TAG].copy_from_slice(sealed.as_ref());
    }

    /// Opens a packet; whether it was genuine.
    pub(crate) fn open(&self, packet: &mut [u8], header: usize) -> bool {
        let nonce = Self::nonce(packet);
        let (clear, secret) = packet.split_at_mut(header);
        self.0.open_in_place(nonce, aead::Aad::from(&clear[..]), secret).is_ok()
    }
}

/// Length of an RTP header without CSRCs.
pub(crate) fn header_len(packet: &[u8]) -> usize {
    12 + if packet[0] & 0x10 == 0 { 0 } else { 4 + 4 * usize::from(u16::from_be_bytes([packet[14], packet[15]])) }
}

struct Participant {
    address: SocketAddr,
    from: Key,
    to: Key,
    bytes: Box<[u8]>,
    used: usize,
    /// Length of each packet of the burst.
    segment: usize,
    count: usize,
}

/// A running floor.
#[derive(Debug)]
pub(crate) struct Floor {
    pub(crate) address: SocketAddr,
    pub(crate) thread: cpu::Thread,
    stop: Arc<AtomicBool>,
    running: Option<JoinHandle<()>>,
}

impl Floor {
    /// Starts the loop on processor 0; what one participant sends goes to all of its `listeners`.
    pub(crate) fn start(participants: &[(SocketAddr, Vec<usize>)]) -> Self {
        let socket = Socket::open(SocketConfig {
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            receive_buffer: 8 << 20,
            send_buffer: 8 << 20,
        })
        .expect("a socket");
        let address = socket.local_addr().expect("an address");
        let participants = participants.to_vec();
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, thread) = channel();
        let stopped = Arc::clone(&stop);
        let running = std::thread::spawn(move || run(&socket, &participants, &stopped, &sender));
        Self { address, thread: thread.recv().expect("the thread"), stop, running: Some(running) }
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(running) = self.running.take() {
            running.join().expect("no panic");
        }
    }
}

fn run(socket: &Socket, participants: &[(SocketAddr, Vec<usize>)], stop: &AtomicBool, started: &Sender<cpu::Thread>) {
    cpu::pin(0);
    started.send(cpu::Thread::current()).expect("somebody waits");
    let by_address: HashMap<SocketAddr, usize> =
        participants.iter().enumerate().map(|(index, (address, _))| (*address, index)).collect();
    let listeners: Vec<_> = participants.iter().map(|(_, listeners)| listeners.clone()).collect();
    let mut participants: Vec<_> = participants
        .iter()
        .enumerate()
        .map(|(index, (address, _))| Participant {
            address: *address,
            from: Key::new(index as u16, 0),
            to: Key::new(index as u16, 1),
            bytes: vec![0; ROOM].into_boxed_slice(),
            used: 0,
            segment: 0,
            count: 0,
        })
        .collect();
    let mut receiver = Receiver::new();
    let timeout = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    while !stop.load(Ordering::Relaxed) {
        let _ = poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&timeout));
        if receiver.receive(socket).expect("a socket that works") == Filled::Nothing {
            continue;
        }
        for batch in receiver.batches() {
            let Some(from) = by_address.get(&batch.from) else { continue };
            for packet in batch.bytes.chunks_mut(batch.segment) {
                // RTCP is not looked at.
                if (192..=223).contains(&packet[1]) {
                    continue;
                }
                let header = header_len(packet);
                if !participants[*from].from.open(packet, header) {
                    continue;
                }
                let plain = packet.len() - TAG;
                for to in &listeners[*from] {
                    put(socket, &mut participants[*to], &packet[..plain], header);
                }
            }
        }
        for participant in &mut participants {
            flush(socket, participant);
        }
    }
}

fn put(socket: &Socket, to: &mut Participant, packet: &[u8], header: usize) {
    let len = packet.len() + TAG;
    let missing = to.segment.saturating_sub(len);
    let padding = if missing <= MAX_PADDING && len >= MIN_PADDED { missing } else { 0 };
    // A longer one, or one behind a shorter one, needs a send of its own.
    if to.used > 0
        && (len > to.segment
            || to.used != to.count * to.segment
            || to.count == MAX_SEGMENTS
            || to.used + 2 * len > ROOM)
    {
        flush(socket, to);
    }
    if to.used == 0 {
        to.segment = len + padding;
    }
    let room = &mut to.bytes[to.used..];
    room[..packet.len()].copy_from_slice(packet);
    room[packet.len()..packet.len() + padding].fill(0);
    to.to.seal(room, header, packet.len() + padding);
    to.used += len + padding;
    to.count += 1;
}

fn flush(socket: &Socket, to: &mut Participant) {
    if to.used > 0 {
        socket.send(to.address, None, &to.bytes[..to.used], to.segment);
        (to.used, to.count, to.segment) = (0, 0, 0);
    }
}
