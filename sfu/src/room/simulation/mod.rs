//! Publishers, a room and subscribers on virtual time, over links that lose, reorder and are narrow. What must hold always is
//! checked for every packet: nothing goes to who may not have it, and each slot stays one stream.
//!
//! [`seeds`] runs meetings of people who act at random, one a seed; [`narrow`] says what a subscriber behind a narrow or a
//! bad link gets, [`repair`] what is repeated, padded and paced.

mod link;
mod narrow;
mod receiver;
mod repair;
mod seeds;
mod sender;

pub(in crate::room) use link::{Link, Wire};
pub(in crate::room) use receiver::Receiver;
pub(in crate::room) use sender::{IDS, Sender};

use super::{
    Command, Egress, Event, Grants, Limits, ParticipantConfig, ParticipantId, Room, RoomConfig, SourceId, SourceKind,
    subscriber::TRANSPORT_OVERHEAD,
};
use crate::{
    av1::synthetic::Mode,
    rtp::{OutgoingHeader, RtpHeader},
};
use halloo_transport::{Bitrate, Ssrc, Timestamp, random::Random};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

/// What the room sent in one call.
#[derive(Debug, Default)]
pub(in crate::room) struct Outbox {
    pub(in crate::room) rtp: Vec<(ParticipantId, Vec<u8>)>,
    pub(in crate::room) rtcp: Vec<(ParticipantId, Vec<u8>)>,
}

impl Egress for Outbox {
    fn rtp(&mut self, to: ParticipantId, header: &OutgoingHeader<'_>, payload: &[u8]) {
        let mut out = vec![0; 4_000];
        let layout = header.write_packet(payload, &mut out).unwrap();
        out.truncate(layout.len);
        self.rtp.push((to, out));
    }

    fn rtcp(&mut self, to: ParticipantId, packet: &[u8]) {
        assert!(!packet.is_empty());
        self.rtcp.push((to, packet.to_vec()));
    }
}

#[derive(Debug)]
enum Message {
    RtpToRoom(usize, Vec<u8>),
    RtcpToRoom(usize, Vec<u8>),
    RtpToClient(usize, Vec<u8>),
    RtcpToClient(usize, Vec<u8>),
}

/// A client: both halves, and whether it is there.
#[derive(Debug)]
pub(in crate::room) struct Client {
    pub(in crate::room) id: ParticipantId,
    pub(in crate::room) sender: Sender,
    pub(in crate::room) receiver: Receiver,
    pub(in crate::room) present: bool,
    pub(in crate::room) camera: bool,
    /// No sound comes from it.
    pub(in crate::room) silent: bool,
    pub(in crate::room) up: Wire,
    pub(in crate::room) down: Wire,
    pub(in crate::room) grants: Grants,
    /// What the room sent it, by when: bytes on the network.
    pub(in crate::room) sent: Vec<(Timestamp, usize)>,
    /// What of it was media for the first time, and what retransmission or padding.
    pub(in crate::room) media_bytes: usize,
    pub(in crate::room) other_bytes: usize,
    /// Which of its sources nobody may have, since when.
    withheld: HashMap<SourceKind, Timestamp>,
    /// Packets that waited to go to it were dropped.
    cut: bool,
    /// What the room got of each stream, by SSRC: extended numbers.
    delivered: HashMap<u32, HashMap<u64, Timestamp>>,
}

/// A media packet that the room sent: its number on the wire, the source's SSRC and number, and when.
type Sent = (u16, Option<(u32, u64)>, Timestamp);

/// A meeting on virtual time.
pub(in crate::room) struct Meeting {
    pub(in crate::room) room: Room,
    pub(in crate::room) now: Timestamp,
    pub(in crate::room) clients: Vec<Client>,
    pub(in crate::room) events: Vec<Event>,
    random: Random,
    link: Link,
    wire: BTreeMap<(Timestamp, u64), Message>,
    count: u64,
    /// Media that the room sent, by SSRC: the numbers on the wire, and which source packet each carries.
    sent: HashMap<u32, Vec<Sent>>,
    /// When slots were given another source, by SSRC.
    changes: HashMap<u32, Vec<Timestamp>>,
    /// Slots that pictures go out in.
    streaming: HashSet<u32>,
    pub(in crate::room) limits: Limits,
}

impl Meeting {
    pub(in crate::room) fn new(seed: u64, link: Link) -> Self {
        Self {
            room: Room::new(RoomConfig::default()),
            now: Timestamp::from_millis(1),
            clients: Vec::new(),
            events: Vec::new(),
            random: Random::new(seed),
            link,
            wire: BTreeMap::new(),
            count: 0,
            sent: HashMap::new(),
            changes: HashMap::new(),
            streaming: HashSet::new(),
            limits: Limits {
                start_receive: Bitrate::from_kbps(8_000),
                publish: Bitrate::from_kbps(50_000),
                ..Limits::default()
            },
        }
    }

    pub(in crate::room) fn join(&mut self, mode: Mode, audio: u32, video: u32) -> usize {
        self.join_with(mode, audio, video, Grants::ALL)
    }

    pub(in crate::room) fn join_with(&mut self, mode: Mode, audio: u32, video: u32, grants: Grants) -> usize {
        let index = self.clients.len();
        let sender = Sender::new(index as u32, mode, self.random.next_u64());
        let receiver = Receiver::new(index as u32, audio, video);
        let config = ParticipantConfig {
            published: sender.sections(),
            slots: receiver.slots.iter().map(|s| s.config.clone()).collect(),
            incoming_extensions: IDS,
            outgoing_extensions: IDS,
            grants,
            limits: self.limits,
            feedback_ssrc: Ssrc(7),
            cname: "room".into(),
            seed: self.random.next_u64(),
        };
        let id = self.room.join(self.now, config).unwrap();
        self.clients.push(Client {
            id,
            sender,
            receiver,
            present: true,
            camera: true,
            silent: false,
            up: Wire::new(self.link),
            down: Wire::new(self.link),
            grants,
            sent: Vec::new(),
            media_bytes: 0,
            other_bytes: 0,
            withheld: HashMap::new(),
            cut: false,
            delivered: HashMap::new(),
        });
        self.command(Command::Connected(id));
        index
    }

    pub(in crate::room) fn command(&mut self, command: Command) {
        self.note_withheld(&command);
        let mut out = Outbox::default();
        self.room.command(self.now, command, &mut out);
        self.carry(out);
    }

    pub(in crate::room) fn leave(&mut self, index: usize) {
        let mut out = Outbox::default();
        self.clients[index].present = false;
        self.disturbed(index);
        self.room.leave(self.now, self.clients[index].id, &mut out);
        self.carry(out);
    }

    /// Gives a client's path in both directions these properties: its narrow place is towards it.
    pub(in crate::room) fn set_links(&mut self, index: usize, down: Link) {
        self.clients[index].down.link = down;
        self.clients[index].up.link = Link { kbps: 0, ..down };
    }

    /// All slots of a client start anew: what came before is not to be repaired.
    pub(in crate::room) fn disturbed(&mut self, index: usize) {
        for slot in &self.clients[index].receiver.slots {
            self.changes.entry(slot.config.ssrc.0).or_default().push(self.now);
        }
    }

    pub(in crate::room) fn source(&self, index: usize, kind: SourceKind) -> SourceId {
        SourceId::new(self.clients[index].id, kind)
    }

    /// Lets `ms` milliseconds pass, in steps of one.
    pub(in crate::room) fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now += Duration::from_millis(1);
            self.step();
        }
    }

    fn step(&mut self) {
        let ms = self.now.as_micros() / 1_000;
        for index in 0..self.clients.len() {
            let now = self.now;
            let client = &mut self.clients[index];
            if !client.present {
                continue;
            }
            let mut packets = Vec::new();
            if !client.silent && (ms + 3 * index as u64).is_multiple_of(20) {
                packets.push(client.sender.sound(now));
            }
            if client.camera && (ms + 7 * index as u64).is_multiple_of(33) {
                packets.extend(client.sender.picture(now));
            }
            let feedback = if ms.is_multiple_of(10) { client.receiver.feedback(now) } else { Vec::new() };
            packets.into_iter().for_each(|packet| self.post(Message::RtpToRoom(index, packet)));
            feedback.into_iter().for_each(|packet| self.post(Message::RtcpToRoom(index, packet)));
        }
        while let Some(entry) = self.wire.first_entry().filter(|e| e.key().0 <= self.now) {
            let message = entry.remove();
            self.deliver(message);
        }
        let mut out = Outbox::default();
        self.room.forward(self.now, &mut out);
        self.carry(out);
        if self.room.next_timeout().is_some_and(|due| due <= self.now) {
            let mut out = Outbox::default();
            self.room.handle_timeout(self.now, &mut out);
            self.carry(out);
        }
        for client in &mut self.clients {
            let subscriber = self.room.subscribers.get(client.id.index()).and_then(Option::as_ref);
            let Some(subscriber) = subscriber.filter(|s| s.id == client.id) else { continue };
            client.cut |= subscriber.counts.cut > 0;
            // A picture that is given up, since there is no bandwidth for it, is not repaired either.
            for slot in &subscriber.slots {
                let ssrc = slot.config.ssrc.0;
                if slot.stream.selected().encoding().is_some() {
                    self.streaming.insert(ssrc);
                } else if self.streaming.remove(&ssrc) {
                    self.changes.entry(ssrc).or_default().push(self.now);
                }
            }
        }
        while let Some(event) = self.room.poll_event() {
            self.note_change(&event);
            self.events.push(event);
        }
    }

    fn note_change(&mut self, event: &Event) {
        let Event::SlotsChanged { subscriber, changes } = event else { return };
        let Some(client) = self.clients.iter().find(|c| c.id == *subscriber) else { return };
        for change in changes {
            let ssrc = client.receiver.slots[usize::from(change.slot.0)].config.ssrc.0;
            self.changes.entry(ssrc).or_default().push(self.now);
        }
    }

    fn post(&mut self, message: Message) {
        let (wire, size) = match &message {
            Message::RtpToRoom(index, packet) | Message::RtcpToRoom(index, packet) => {
                (&mut self.clients[*index].up, packet.len())
            }
            Message::RtpToClient(index, packet) | Message::RtcpToClient(index, packet) => {
                (&mut self.clients[*index].down, packet.len())
            }
        };
        if let Some(at) = wire.send(self.now, size + TRANSPORT_OVERHEAD, &mut self.random) {
            self.count += 1;
            self.wire.insert((at, self.count), message);
        }
    }

    /// Follows what nobody may have any more: what reaches the room from now on.
    fn note_withheld(&mut self, command: &Command) {
        let (source, withheld) = match command {
            Command::Mute { source, muted } => (source, *muted),
            Command::Publish { source, published } => (source, !published),
            _ => return,
        };
        let now = self.now;
        let Some(client) = self.clients.iter_mut().find(|c| c.id == source.participant()) else { return };
        if withheld {
            client.withheld.entry(source.kind()).or_insert(now);
        } else {
            client.withheld.remove(&source.kind());
        }
    }

    /// A packet of `source` that goes to a client is one that it may have.
    fn check_allowed(&self, to: usize, source: SourceId, stamp: Option<(u32, u64)>) {
        let client = &self.clients[to];
        assert!(client.grants.subscribe, "{:?} may receive nothing", client.id);
        assert_ne!(source.participant(), client.id, "its own");
        let Some(owner) = self.clients.iter().find(|c| c.id == source.participant()) else {
            panic!("a packet of nobody: {source:?}");
        };
        assert!(owner.present, "a packet of somebody who left");
        assert!(owner.grants.publish(source.kind()), "{source:?} was not granted");
        let since = owner.withheld.get(&source.kind());
        let came = stamp.and_then(|(ssrc, seq)| owner.delivered.get(&ssrc)?.get(&seq));
        if let (Some(since), Some(came)) = (since, came) {
            assert!(came <= since, "{source:?} is withheld since {since:?}, and this came at {came:?}");
        }
    }

    fn deliver(&mut self, message: Message) {
        let mut out = Outbox::default();
        match message {
            Message::RtpToRoom(index, packet) => {
                let client = &mut self.clients[index];
                if client.present {
                    let header = RtpHeader::parse(&packet).unwrap();
                    let payload = header.payload().unwrap();
                    // A retransmission has two bytes in front.
                    let payload = if header.payload_type() == 46 { &payload[2..] } else { payload };
                    let stamp = sender::Stamp::read(payload).unwrap();
                    client.delivered.entry(stamp.ssrc).or_default().entry(stamp.seq).or_insert(self.now);
                }
                self.room.handle_rtp(self.now, client.id, &packet, &mut out);
            }
            Message::RtcpToRoom(index, packet) => {
                self.room.handle_rtcp(self.now, self.clients[index].id, &packet, &mut out);
            }
            Message::RtpToClient(index, packet) => self.clients[index].receiver.on_packet(self.now, &packet),
            Message::RtcpToClient(index, packet) => {
                let again = self.clients[index].sender.on_rtcp(&packet);
                again.into_iter().for_each(|packet| self.post(Message::RtpToRoom(index, packet)));
            }
        }
        self.carry(out);
    }

    fn carry(&mut self, out: Outbox) {
        let index = |clients: &[Client], id| clients.iter().position(|c| c.id == id).filter(|i| clients[*i].present);
        for (to, packet) in out.rtp {
            let Some(index) = index(&self.clients, to) else { panic!("a packet for somebody who left") };
            let header = RtpHeader::parse(&packet).unwrap();
            let size = packet.len() + TRANSPORT_OVERHEAD;
            self.clients[index].sent.push((self.now, size));
            let payload = header.payload().unwrap();
            if header.payload_type() == 98 {
                self.clients[index].other_bytes += size;
                if let Some(csrc) = header.csrcs().next() {
                    let stamp = payload.get(2..).and_then(sender::Stamp::read).map(|s| (s.ssrc, s.seq));
                    self.check_allowed(index, SourceId::from_csrc(csrc), stamp);
                }
            } else {
                let stamp = sender::Stamp::read(payload).map(|s| (s.ssrc, s.seq));
                self.clients[index].media_bytes += size;
                self.sent.entry(header.ssrc()).or_default().push((header.seq(), stamp, self.now));
                self.check_allowed(index, SourceId::from_csrc(header.csrcs().next().unwrap()), stamp);
            }
            self.post(Message::RtpToClient(index, packet));
        }
        for (to, packet) in out.rtcp {
            if let Some(index) = index(&self.clients, to) {
                self.post(Message::RtcpToClient(index, packet));
            }
        }
    }

    /// What the room sent has no number twice, and a gap only where the source's packet never reached the room.
    pub(in crate::room) fn check_sent(&self) {
        for (ssrc, packets) in &self.sent {
            let mut seqs = halloo_transport::units::SeqUnwrapper::new();
            let mut by_seq = BTreeMap::new();
            for (wire, stamp, at) in packets {
                let seq = seqs.unwrap(u64::from(*wire));
                assert!(by_seq.insert(seq, (*stamp, *at)).is_none(), "{ssrc} sent {seq} twice");
            }
            // What was cut from a queue is missing on purpose: the receiver takes it for lost.
            let of_it = |c: &&Client| c.receiver.slots.iter().any(|s| s.config.ssrc.0 == *ssrc);
            if self.clients.iter().find(of_it).is_some_and(|c| c.cut) {
                continue;
            }
            let changes = self.changes.get(ssrc).map(Vec::as_slice).unwrap_or_default();
            for ((a, (from, at)), (b, (to, _))) in by_seq.iter().zip(by_seq.iter().skip(1)) {
                if a + 1 == *b {
                    continue;
                }
                let (Some((source, from)), Some((other, to))) = (from, to) else { continue };
                assert_eq!(source, other, "a gap at a switch: {a} to {b} of {ssrc}");
                let got = self.clients.iter().find_map(|c| c.delivered.get(source)).unwrap();
                // What comes after the slot went over to something else is too late; what came just now waits to leave.
                let goes_on = |came: &Timestamp| {
                    let of_it = |(stamp, at): &&(Option<(u32, u64)>, Timestamp)| {
                        at > came && stamp.is_some_and(|(ssrc, seq)| ssrc == *source && seq < to + 200)
                    };
                    let early = self.now.since(*came) > Duration::from_millis(200);
                    early && by_seq.range(b..).map(|(_, sent)| sent).any(|sent| of_it(&sent))
                };
                let in_time =
                    |came: &Timestamp| goes_on(came) && !changes.iter().any(|change| (at..=&came).contains(&change));
                let lost = (from + 1..*to).filter(|seq| !got.get(seq).is_some_and(in_time)).count() as u64;
                assert!(
                    b - a - 1 <= lost,
                    "{ssrc}: {} numbers between {a} and {b}, {lost} lost; after {source}'s {from}, sent at {at:?}, came {:?}; the slot \
                     changed at {changes:?}",
                    b - a - 1,
                    (from + 1..=*to).map(|seq| (seq, got.get(&seq))).collect::<Vec<_>>(),
                );
            }
        }
    }
}
