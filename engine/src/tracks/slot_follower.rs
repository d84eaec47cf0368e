//! Which stream a track is taken from, as its source moves from one receive slot to another.
//!
//! Each slot is a stream of its own (one SSRC, its own numbers). A track's packets come by one slot at a time; what still comes
//! late by a slot that was left must not pull the track back. Invariant: packets that are admitted switch streams only
//! forwards in time.

use halloo_transport::{ReceivedPacket, SeqNo, Ssrc};

/// Slots remembered: as many as a room gives.
const MAX_LEFT: usize = 32;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct SlotFollower {
    current: Option<(Ssrc, SeqNo)>,
    /// The newest number seen in each slot that was left.
    left: Vec<(Ssrc, SeqNo)>,
}

impl SlotFollower {
    /// Whether the packet belongs to the track; a newer stream becomes the current one.
    pub(super) fn admit(&mut self, packet: &ReceivedPacket) -> bool {
        match &mut self.current {
            Some((ssrc, newest)) if *ssrc == packet.ssrc => {
                *newest = (*newest).max(packet.seq);
                true
            }
            current => {
                let late = self.left.iter().any(|(ssrc, newest)| *ssrc == packet.ssrc && packet.seq <= *newest);
                if late || current.is_some() && packet.retransmitted {
                    return false;
                }
                let before = current.replace((packet.ssrc, packet.seq));
                self.left.retain(|(ssrc, _)| *ssrc != packet.ssrc);
                self.left.extend(before);
                if self.left.len() > MAX_LEFT {
                    self.left.remove(0);
                }
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use halloo_transport::{RtpTime, Timestamp, session::MediaKind};

    fn packet(ssrc: u32, seq: u64, retransmitted: bool) -> ReceivedPacket {
        ReceivedPacket {
            kind: MediaKind::Video,
            ssrc: Ssrc(ssrc),
            csrcs: vec![5],
            mid: None,
            seq: SeqNo(seq),
            rtp_time: RtpTime::new(0, 90_000),
            marker: false,
            payload: Bytes::from_static(b"x"),
            arrived_at: Timestamp::ZERO,
            retransmitted,
            audio_level: None,
        }
    }

    #[test]
    fn a_source_moves_to_another_slot_and_back() {
        let mut follower = SlotFollower::default();
        let steps = [
            // slot, number, repaired, admitted
            (1, 10, false, true),
            (1, 12, false, true),
            (1, 11, true, true),
            (2, 500, false, true),
            (1, 11, false, false), // late by the slot that was left
            (1, 13, true, false),  // repaired there too late
            (2, 501, false, true),
            (1, 40, false, true), // back, at a later number
            (2, 501, false, false),
            (1, 41, false, true),
        ];
        for (ssrc, seq, retransmitted, admitted) in steps {
            assert_eq!(follower.admit(&packet(ssrc, seq, retransmitted)), admitted, "{ssrc} {seq}");
        }
    }
}
