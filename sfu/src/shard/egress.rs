//! A room's packets on their way out: written, sealed in the receiver's arena, sent once some receivers have theirs, or at
//! the end of the batch.
//!
//! Where a packet is just short of the segments before it, padding makes it equal, so that one send carries the whole frame
//! (RFC 3550, 5.1: the padding bit).

use super::{
    rooms::Members,
    session::{Session, Sessions},
    stats::Stats,
    wire::{Path, Wire},
};
use crate::{
    ice::Protocol,
    net::{Arena, Arenas, Lease, SEGMENT_ROOM},
    prefetch,
    room::{Egress, ParticipantId},
    rtp::OutgoingHeader,
    srtp::{MAX_RTCP_OVERHEAD, MAX_RTP_OVERHEAD},
};

/// Most padding that a packet gets to match its neighbours.
const MAX_PADDING: usize = 32;
/// Smaller packets are not padded: the cost in bytes would show.
const MIN_PADDED: usize = 400;

/// Receivers whose packets leave together before all others have theirs: a call to the kernel costs little among so many, what
/// was written is in a cache still, and the first need not wait for the last.
const TOGETHER: usize = 16;

/// What a room's packets pass through.
pub(super) struct RoomEgress<'a, H, W> {
    pub(super) members: Members<'a>,
    pub(super) sessions: &'a mut Sessions<H>,
    pub(super) arenas: &'a mut Arenas<Path>,
    pub(super) wire: &'a mut W,
    pub(super) stats: &'a mut Stats,
}

impl<H, W: Wire> Egress for RoomEgress<'_, H, W> {
    fn prepare(&mut self, to: ParticipantId) {
        let session = self.members.session(to).and_then(|key| self.sessions.get_mut(key));
        let Some(session) = session else { return };
        prefetch::value(&session.lease);
        prefetch::value(&session.agent);
        if let Some(srtp) = &session.srtp {
            prefetch::value(&srtp.outbound);
            srtp.outbound.prefetch();
        }
        self.arenas.prefetch_free();
    }

    fn turn_ends(&mut self) {
        if self.arenas.lent_count() >= TOGETHER {
            send_all(self.wire, self.stats, self.arenas);
            self.arenas.take_all();
        }
    }

    fn rtp(&mut self, to: ParticipantId, header: &OutgoingHeader<'_>, payload: &[u8]) {
        if self.try_rtp(to, header, payload).is_some() {
            self.stats.rtp_sent += 1;
            self.stats.rtx_sent += u64::from(header.original_seq.is_some());
            self.stats.padding_sent += u64::from(header.padding > 0 && payload.is_empty());
        } else {
            self.stats.not_sent += 1;
        }
    }

    fn rtcp(&mut self, to: ParticipantId, packet: &[u8]) {
        if self.try_rtcp(to, packet).is_some() {
            self.stats.rtcp_sent += 1;
            self.count_request(packet);
        } else {
            self.stats.not_sent += 1;
        }
    }
}

impl<H, W: Wire> RoomEgress<'_, H, W> {
    /// Counts what is asked of publishers (RFC 4585, sections 6.2.1 and 6.3.1).
    const fn count_request(&mut self, packet: &[u8]) {
        match packet {
            [0x81, 205, ..] => self.stats.nacks_sent += 1,
            [0x81, 206, ..] => self.stats.key_frames_requested += 1,
            _ => {}
        }
    }

    fn try_rtp(&mut self, to: ParticipantId, header: &OutgoingHeader<'_>, payload: &[u8]) -> Option<()> {
        let session = self.sessions.get_mut(self.members.session(to)?)?;
        let arena = arena(session, self.arenas, self.wire, self.stats)?;
        let srtp = session.srtp.as_mut()?;
        let overhead = srtp.outbound.rtp_overhead();
        let padding = arena.open_segment().map_or(0, |segment| padding(header, payload.len(), overhead, segment));
        let header = OutgoingHeader { padding: header.padding + padding, ..*header };
        let room = arena.room()?;
        let layout = header.write_packet(payload, &mut room[..SEGMENT_ROOM - MAX_RTP_OVERHEAD]).ok()?;
        let len = srtp.outbound.protect_rtp(room, layout.len).ok()?;
        arena.commit(len);
        Some(())
    }

    fn try_rtcp(&mut self, to: ParticipantId, packet: &[u8]) -> Option<()> {
        let session = self.sessions.get_mut(self.members.session(to)?)?;
        let arena = arena(session, self.arenas, self.wire, self.stats)?;
        let srtp = session.srtp.as_mut()?;
        let room = arena.room()?;
        room[..SEGMENT_ROOM - MAX_RTCP_OVERHEAD].get_mut(..packet.len())?.copy_from_slice(packet);
        let len = srtp.outbound.protect_rtcp(room, packet.len()).ok()?;
        arena.commit(len);
        Some(())
    }
}

/// The session's arena with room for a packet; makes room by sending where there is none. `None` where the session cannot
/// take packets.
fn arena<'a, H, W: Wire>(
    session: &mut Session<H>,
    arenas: &'a mut Arenas<Path>,
    wire: &mut W,
    stats: &mut Stats,
) -> Option<&'a mut Arena> {
    session.srtp.as_ref()?;
    let path = session.path()?;
    match arenas.get_mut(session.lease).map(|arena| arena.room().is_some()) {
        Some(true) => {}
        Some(false) => arenas.empty(session.lease, |path, arena| send(wire, stats, path, arena)),
        None => session.lease = lend(path, arenas, wire, stats)?,
    }
    arenas.get_mut(session.lease)
}

fn lend<W: Wire>(path: Path, arenas: &mut Arenas<Path>, wire: &mut W, stats: &mut Stats) -> Option<Lease> {
    if let Some(lease) = arenas.lend(path) {
        return Some(lease);
    }
    arenas.take_oldest(|path, arena| send(wire, stats, path, arena));
    arenas.lend(path)
}

/// Sends what all arenas hold.
pub(super) fn send_all<W: Wire>(wire: &mut W, stats: &mut Stats, arenas: &Arenas<Path>) {
    let of_udp = |path: &Path| path.remote.protocol == Protocol::Udp;
    for (path, arena) in arenas.lent().filter(|(path, _)| !of_udp(path)) {
        send(wire, stats, path, arena);
    }
    let max_segments = wire.max_segments();
    let lent = arenas.lent().filter(|(path, _)| of_udp(path));
    let runs = lent.flat_map(|(path, arena)| arena.runs(max_segments).map(move |run| (path, run)));
    wire.send_all(runs.inspect(|(_, run)| {
        stats.sends += 1;
        stats.bytes_sent += run.bytes.len() as u64;
    }));
}

/// Sends what an arena holds.
pub(super) fn send<W: Wire>(wire: &mut W, stats: &mut Stats, path: Path, arena: &Arena) {
    for run in arena.runs(wire.max_segments()) {
        wire.send(path, run.bytes, run.segment);
        stats.sends += 1;
        stats.bytes_sent += run.bytes.len() as u64;
    }
}

/// How much padding makes the packet as long as `segment` once `overhead` is added; zero where it is no length that pays.
fn padding(header: &OutgoingHeader<'_>, payload: usize, overhead: usize, segment: usize) -> u8 {
    let len = header.packet_len(payload) + overhead;
    match segment.checked_sub(len) {
        Some(missing @ 1..=MAX_PADDING) if len >= MIN_PADDED && header.padding == 0 => missing as u8,
        _ => 0,
    }
}
