//! The one interceptor: the connection stack's packets go through [`Link`] and nothing else touches them.
//!
//! Inbound RTP and RTCP end here, below the stack's own tracks and their bounded channels. Outbound packets begin here:
//! media, retransmissions, probes, feedback and reports, whatever `Session::poll_transmit` gives. The stack calls these
//! methods on its driver task, and only once DTLS has given keys.

use super::{link::Link, outbox::Taken};
use halloo_transport::{Event, Transmit};
use rtc::{
    interceptor::{Interceptor, Packet, StreamInfo, TaggedPacket},
    sansio::Protocol,
    shared::{TransportContext, error::Error},
};
use std::{sync::Arc, time::Instant};

/// See the module's text.
pub(super) struct LinkInterceptor {
    link: Arc<Link>,
    taken: Taken,
    events: Vec<Event>,
}

impl LinkInterceptor {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self { link, taken: Taken::default(), events: Vec::new() }
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for LinkInterceptor {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        let now = self.link.clock.timestamp(packet.now);
        self.link.drive(&mut self.events, |session| match packet.message.packet {
            Packet::Rtp(rtp) => session.handle_rtp(now, rtp),
            Packet::Rtcp(rtcp) => session.handle_rtcp(now, &rtcp),
            _ => {}
        });
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        None
    }

    /// The stack has nothing to send of its own.
    fn handle_write(&mut self, _: TaggedPacket) -> Result<(), Error> {
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        let instant = Instant::now();
        let now = self.link.clock.timestamp(instant);
        self.link.flush(now, &mut self.taken);
        let packet = loop {
            match self.link.poll_transmit(now) {
                Some(Transmit::Rtp(packet)) => break Packet::Rtp(packet),
                // An empty compound means something else to the stack.
                Some(Transmit::Rtcp(packets)) if packets.is_empty() => {}
                Some(Transmit::Rtcp(packets)) => break Packet::Rtcp(packets),
                None => {
                    self.link.drive(&mut self.events, |_| {});
                    return None;
                }
            }
        };
        Some(TaggedPacket { now: instant, transport: TransportContext::default(), message: packet.into() })
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        let now = self.link.clock.timestamp(now);
        self.link.flush(now, &mut self.taken);
        self.link.drive(&mut self.events, |session| session.handle_timeout(now));
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        if self.link.has_queued() {
            return Some(Instant::now());
        }
        self.link.next_timeout().map(|at| self.link.clock.instant(at))
    }
}

/// Streams are the session's business: it knows them from the negotiation.
impl Interceptor for LinkInterceptor {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}
