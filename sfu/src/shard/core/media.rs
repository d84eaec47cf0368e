//! SRTP and SRTCP: opened in place and given to their rooms.

use halloo_transport::Timestamp;

use super::Core;
use crate::{
    shard::{
        demux::{Kind, Protected},
        hosting::{Forwarding, Handshaking},
        session::SessionKey,
        wire::Wire,
    },
    srtp::SrtpError,
};

impl<R: Forwarding, H: Handshaking> Core<R, H> {
    /// Takes a datagram that SRTP protects.
    pub(super) fn handle_srtp(
        &mut self,
        now: Timestamp,
        key: SessionKey,
        kind: Protected,
        datagram: &mut [u8],
        wire: &mut impl Wire,
    ) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(srtp) = &mut session.srtp else { return self.keep_early(key, datagram) };
        let (index, from) = (session.room, session.participant);
        let opened = match kind {
            Protected::Rtp => srtp.inbound.unprotect_rtp(datagram),
            Protected::Rtcp => srtp.inbound.unprotect_rtcp(datagram),
        };
        let packet = match opened {
            Ok(len) => &datagram[..len],
            Err(error) => return self.count_refused(error),
        };
        match kind {
            Protected::Rtp => {
                self.stats.rtp_received += 1;
                self.in_room(index, wire, |room, egress| room.handle_rtp(now, from, packet, egress));
            }
            Protected::Rtcp => {
                self.stats.rtcp_received += 1;
                self.in_room(index, wire, |room, egress| room.handle_rtcp(now, from, packet, egress));
            }
        }
    }

    /// Takes what came of a session before its keys.
    pub(super) fn take_early(&mut self, now: Timestamp, key: SessionKey, wire: &mut impl Wire) {
        for mut datagram in self.early.take(key) {
            if let Some(Kind::Srtp(kind)) = Kind::of(&datagram) {
                self.handle_srtp(now, key, kind, &mut datagram, wire);
            }
        }
    }

    /// Keeps a datagram of a session whose handshake is under way.
    fn keep_early(&mut self, key: SessionKey, datagram: &[u8]) {
        let shakes = self.sessions.get_mut(key).is_some_and(|session| session.handshake.is_some());
        if !shakes || !self.early.keep(key, datagram) {
            self.stats.unknown += 1;
        }
    }

    const fn count_refused(&mut self, error: SrtpError) {
        match error {
            SrtpError::Replayed => self.stats.srtp_replayed += 1,
            _ => self.stats.srtp_refused += 1,
        }
    }
}
