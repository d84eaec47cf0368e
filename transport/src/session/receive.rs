//! RTP that comes in: to which stream it belongs, and what is told about it.
//!
//! Streams are the configured ones and no others: an SSRC that nobody declared is taken for a stream that still lacks one, by
//! mid where the packet carries it, else by payload type.

use super::{Event, Session, wire_size};
use crate::{
    extensions,
    reception::Route,
    rtx,
    time::Timestamp,
    units::{PayloadType, Ssrc},
};
use rtp::header::Header;

impl Session {
    /// Takes a decrypted RTP packet.
    pub fn handle_rtp(&mut self, now: Timestamp, packet: rtp::Packet) {
        if let Some(seq) = extensions::transport_seq(&packet.header, self.transport_cc_id) {
            self.arrival_log.on_packet(now, seq, wire_size(&packet));
        }
        self.schedule.start(now, &mut self.random);
        let Some((at, route)) = self.find_stream(now, &packet.header) else {
            self.discarded += 1;
            return;
        };
        let Some(stream) = self.recv.get_mut(at) else { return };
        let media = match (route, stream.ssrc) {
            (Route::Retransmitted, Some(ssrc)) => rtx::unwrap(packet, ssrc, stream.config.payload_type),
            (Route::Retransmitted, None) => None,
            (Route::Direct, _) => Some(packet),
        };
        if let Some(received) = media.and_then(|packet| stream.receive(now, packet, route)) {
            self.push_event(Event::Media(received));
        }
    }

    fn find_stream(&mut self, now: Timestamp, header: &Header) -> Option<(usize, Route)> {
        let (ssrc, payload_type) = (Ssrc(header.ssrc), PayloadType(header.payload_type));
        for (at, stream) in self.recv.iter().enumerate() {
            if stream.ssrc == Some(ssrc) {
                return (stream.config.payload_type == payload_type).then_some((at, Route::Direct));
            }
            if stream.rtx_ssrc == Some(ssrc) {
                let is_rtx = stream.config.rtx.is_some_and(|rtx| rtx.payload_type == payload_type);
                return is_rtx.then_some((at, Route::Retransmitted));
            }
        }
        self.learn_stream(now, header, ssrc, payload_type)
    }

    fn learn_stream(
        &mut self,
        now: Timestamp,
        header: &Header,
        ssrc: Ssrc,
        payload_type: PayloadType,
    ) -> Option<(usize, Route)> {
        let mut chosen = None;
        for (at, stream) in self.recv.iter().enumerate() {
            let rtx = stream.config.rtx.filter(|rtx| rtx.payload_type == payload_type);
            let route = if stream.config.payload_type == payload_type && stream.is_open(now) {
                Route::Direct
            } else if rtx.is_some_and(|rtx| rtx.ssrc.is_none()) && stream.ssrc.is_some() {
                Route::Retransmitted
            } else {
                continue;
            };
            let named = extensions::mid(header, stream.config.extensions.mid);
            match named {
                Some(mid) if stream.config.mid.as_ref() == Some(&mid) => {
                    chosen = Some((at, route));
                    break;
                }
                Some(_) => {}
                None => chosen = chosen.or(Some((at, route))),
            }
        }
        let (at, route) = chosen?;
        let stream = self.recv.get_mut(at)?;
        match route {
            Route::Direct => stream.learn(ssrc),
            Route::Retransmitted => stream.rtx_ssrc = Some(ssrc),
        }
        Some((at, route))
    }
}
