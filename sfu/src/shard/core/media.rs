//! SRTP and SRTCP: opened in place and given to their rooms.

use halloo_transport::Timestamp;

use super::Core;
use crate::{
    shard::{
        demux::Kind,
        hosting::{Forwarding, Handshaking},
        session::SessionKey,
        wire::Wire,
    },
    srtp::SrtpError,
};

impl<R: Forwarding, H: Handshaking> Core<R, H> {
    pub(super) fn handle_rtp(&mut self, now: Timestamp, key: SessionKey, datagram: &mut [u8], wire: &mut impl Wire) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(srtp) = &mut session.srtp else { return self.keep_early(key, datagram) };
        match srtp.inbound.unprotect_rtp(datagram) {
            Ok(len) => {
                self.stats.rtp_received += 1;
                let (index, from) = (session.room, session.participant);
                self.in_room(index, wire, |room, egress| room.handle_rtp(now, from, &datagram[..len], egress));
            }
            Err(error) => self.count_refused(error),
        }
    }

    pub(super) fn handle_rtcp(&mut self, now: Timestamp, key: SessionKey, datagram: &mut [u8], wire: &mut impl Wire) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(srtp) = &mut session.srtp else { return self.keep_early(key, datagram) };
        match srtp.inbound.unprotect_rtcp(datagram) {
            Ok(len) => {
                self.stats.rtcp_received += 1;
                let (index, from) = (session.room, session.participant);
                self.in_room(index, wire, |room, egress| room.handle_rtcp(now, from, &datagram[..len], egress));
            }
            Err(error) => self.count_refused(error),
        }
    }

    /// Takes what came of a session before its keys.
    pub(super) fn take_early(&mut self, now: Timestamp, key: SessionKey, wire: &mut impl Wire) {
        for mut datagram in self.early.take(key) {
            match Kind::of(&datagram) {
                Some(Kind::Rtp) => self.handle_rtp(now, key, &mut datagram, wire),
                Some(Kind::Rtcp) => self.handle_rtcp(now, key, &mut datagram, wire),
                _ => {}
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
