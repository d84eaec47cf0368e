//! RTCP reports: when they are due, what is in them, and the round trip they measure (RFC 3550, section 6).
//!
//! A compound packet starts with a report and carries the canonical name. The interval is drawn anew each time between half
//! and one and a half times the mean (section 6.3.1); with the few members of a call the bandwidth share never stretches it.

use crate::{
    random::Random,
    reception::ReceptionBlock,
    time::Timestamp,
    units::{RtpTime, Ssrc},
};
use bytes::Bytes;
use rtcp::{
    goodbye::Goodbye,
    receiver_report::ReceiverReport,
    reception_report::ReceptionReport,
    sender_report::SenderReport,
    source_description::{SdesType, SourceDescription, SourceDescriptionChunk, SourceDescriptionItem},
};
use std::time::Duration;

/// Mean interval between two reports.
const MEAN_INTERVAL: Duration = Duration::from_millis(1_000);
/// The most blocks, chunks or sources a packet can count.
const MAX_BLOCKS: usize = 31;
/// A round trip beyond this is a report that makes no sense.
const MAX_RTT: Duration = Duration::from_secs(30);

/// When the next compound report is due.
#[derive(Clone, Debug)]
pub struct ReportSchedule {
    due: Option<Timestamp>,
}

impl ReportSchedule {
    /// Not started.
    pub const fn new() -> Self {
        Self { due: None }
    }

    /// Starts the clock, if it does not run: the first report comes after a shorter time (section 6.2).
    pub fn start(&mut self, now: Timestamp, random: &mut Random) {
        self.due.get_or_insert_with(|| now + MEAN_INTERVAL.mul_f64(0.1 + 0.2 * random.next_f64()));
    }

    /// Whether a report is due; if so the next one is scheduled.
    pub fn poll(&mut self, now: Timestamp, random: &mut Random) -> bool {
        let due = self.due.is_some_and(|due| due <= now);
        if due {
            self.due = Some(now + MEAN_INTERVAL.mul_f64(0.5 + random.next_f64()));
        }
        due
    }

    /// When the next one is due.
    pub const fn next_timeout(&self) -> Option<Timestamp> {
        self.due
    }
}

impl Default for ReportSchedule {
    fn default() -> Self {
        Self::new()
    }
}

/// The sender's side of a report.
#[derive(Clone, Copy, Debug)]
pub struct SenderInfo {
    /// The stream.
    pub ssrc: Ssrc,
    /// Its RTP time at the moment of the report.
    pub rtp_time: RtpTime,
    /// Packets sent.
    pub packets: u64,
    /// Payload bytes sent.
    pub bytes: u64,
}

/// The last sender report of a received stream.
#[derive(Clone, Copy, Debug)]
pub struct LastSenderReport {
    /// The middle 32 bits of its NTP time.
    pub ntp_middle: u32,
    /// When it came.
    pub arrived_at: Timestamp,
}

/// Wall-clock time since 1900 as NTP's 32.32 fixed point.
pub fn to_ntp(since_1900: Duration) -> u64 {
    let fraction = (u64::from(since_1900.subsec_nanos()) << 32) / 1_000_000_000;
    (since_1900.as_secs() << 32) | fraction
}

/// NTP's 32.32 fixed point as time since 1900.
pub fn from_ntp(ntp: u64) -> Duration {
    // Rounded up, so that a time survives the way there and back.
    let nanos = ((ntp & 0xffff_ffff) * 1_000_000_000).div_ceil(1 << 32);
    Duration::from_secs(ntp >> 32) + Duration::from_nanos(nanos)
}

/// The middle 32 bits of an NTP time: seconds in 16.16 fixed point.
pub const fn ntp_middle(ntp: u64) -> u32 {
    (ntp >> 16) as u32
}

/// The block about a received stream.
pub fn reception_report(
    now: Timestamp,
    ssrc: Ssrc,
    block: &ReceptionBlock,
    last: Option<LastSenderReport>,
) -> ReceptionReport {
    let delay = last.map_or(0, |sr| (now.since(sr.arrived_at).as_nanos() * 65_536 / 1_000_000_000) as u32);
    ReceptionReport {
        ssrc: ssrc.0,
        fraction_lost: block.fraction_lost,
        // 24 bits, two's complement, clamped (RFC 3550, section 6.4.1).
        total_lost: block.total_lost.clamp(-0x80_0000, 0x7f_ffff) as u32 & 0xff_ffff,
        last_sequence_number: block.highest,
        jitter: block.jitter,
        last_sender_report: last.map_or(0, |sr| sr.ntp_middle),
        delay,
    }
}

/// The cumulative loss of a block, as the signed number it is.
pub const fn total_lost(report: &ReceptionReport) -> i64 {
    (((report.total_lost & 0xff_ffff) << 8) as i32 >> 8) as i64
}

/// The round trip that a block about one of our streams tells (RFC 3550, section 6.4.1): now - LSR - DLSR.
pub fn round_trip(ntp_now: u64, report: &ReceptionReport) -> Option<Duration> {
    if report.last_sender_report == 0 {
        return None;
    }
    let rtt = ntp_middle(ntp_now).wrapping_sub(report.last_sender_report).wrapping_sub(report.delay);
    // A peer that rounds its delay up makes a very short path look negative.
    let rtt = if rtt > 0xffff_0000 { 0 } else { rtt };
    let rtt = Duration::from_nanos(u64::from(rtt) * 1_000_000_000 / 65_536);
    (rtt < MAX_RTT).then_some(rtt)
}

/// A compound packet: sender reports, or a receiver report where nothing is sent, with all blocks, and the name.
pub fn compound(
    ntp_now: u64,
    senders: &[SenderInfo],
    feedback_ssrc: Ssrc,
    reports: &[ReceptionReport],
    cname: &str,
) -> Vec<Box<dyn rtcp::Packet>> {
    let mut packets: Vec<Box<dyn rtcp::Packet>> = Vec::new();
    let mut blocks = reports.chunks(MAX_BLOCKS);
    for sender in senders {
        packets.push(Box::new(SenderReport {
            ssrc: sender.ssrc.0,
            ntp_time: ntp_now,
            rtp_time: sender.rtp_time.wire(),
            packet_count: sender.packets as u32,
            octet_count: sender.bytes as u32,
            reports: blocks.next().unwrap_or_default().to_vec(),
            profile_extensions: Bytes::new(),
        }));
    }
    if senders.is_empty() {
        packets.push(Box::new(receiver_report(feedback_ssrc, blocks.next().unwrap_or_default())));
    }
    packets.extend(blocks.map(|rest| Box::new(receiver_report(feedback_ssrc, rest)) as Box<dyn rtcp::Packet>));
    let named: Vec<Ssrc> =
        if senders.is_empty() { vec![feedback_ssrc] } else { senders.iter().map(|s| s.ssrc).collect() };
    packets.push(Box::new(description(&named, cname)));
    packets
}

/// A compound packet that says goodbye for `sources` (RFC 3550, section 6.6).
pub fn goodbye(feedback_ssrc: Ssrc, sources: &[Ssrc], cname: &str) -> Vec<Box<dyn rtcp::Packet>> {
    vec![
        Box::new(receiver_report(feedback_ssrc, &[])),
        Box::new(description(&[feedback_ssrc], cname)),
        Box::new(Goodbye { sources: sources.iter().take(MAX_BLOCKS).map(|s| s.0).collect(), reason: Bytes::new() }),
    ]
}

fn receiver_report(ssrc: Ssrc, blocks: &[ReceptionReport]) -> ReceiverReport {
    ReceiverReport { ssrc: ssrc.0, reports: blocks.to_vec(), profile_extensions: Bytes::new() }
}

fn description(sources: &[Ssrc], cname: &str) -> SourceDescription {
    let name = Bytes::copy_from_slice(&cname.as_bytes()[..cname.len().min(255)]);
    let chunk = |ssrc: &Ssrc| SourceDescriptionChunk {
        source: ssrc.0,
        items: vec![SourceDescriptionItem { sdes_type: SdesType::SdesCname, text: name.clone() }],
    };
    SourceDescription { chunks: sources.iter().take(MAX_BLOCKS).map(chunk).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_spread_around_a_second() {
        let mut random = Random::new(1);
        let mut schedule = ReportSchedule::new();
        assert_eq!(schedule.next_timeout(), None);
        schedule.start(Timestamp::ZERO, &mut random);
        let mut last = Timestamp::ZERO;
        let mut spans = Vec::new();
        for _ in 0..200 {
            let due = schedule.next_timeout().unwrap();
            assert!(!schedule.poll(due - Duration::from_nanos(1), &mut random));
            assert!(schedule.poll(due, &mut random));
            spans.push(due.since(last).as_secs_f64());
            last = due;
        }
        let mean = spans[1..].iter().sum::<f64>() / 199.0;
        assert!(spans[0] < 0.31 && (0.9..1.1).contains(&mean), "{mean}");
        assert!(spans[1..].iter().all(|s| (0.5..1.5).contains(s)));
    }

    #[test]
    fn the_round_trip_is_what_remains_of_the_time_since_the_senders_report() {
        let start = Duration::from_secs(3_900_000_000) + Duration::from_millis(123);
        let sr = LastSenderReport { ntp_middle: ntp_middle(to_ntp(start)), arrived_at: Timestamp::from_millis(1_040) };
        let block = ReceptionBlock { fraction_lost: 0, total_lost: -3, highest: 7, jitter: 0 };
        let report = reception_report(Timestamp::from_millis(1_540), Ssrc(1), &block, Some(sr));
        let rtt = round_trip(to_ntp(start + Duration::from_millis(580)), &report).unwrap();
        assert!((79.9..80.1).contains(&(rtt.as_secs_f64() * 1e3)), "{rtt:?}");
        assert_eq!(total_lost(&report), -3);
        assert_eq!(round_trip(0, &ReceptionReport::default()), None);
    }

    #[test]
    fn ntp_time_survives_the_way_there_and_back() {
        for nanos in [0, 1, 999_999_999, 500_000_000, 123_456_789] {
            let time = Duration::new(3_913_056_000, nanos);
            let back = from_ntp(to_ntp(time));
            assert!(back.abs_diff(time) <= Duration::from_nanos(1), "{time:?} {back:?}");
        }
    }

    #[test]
    fn a_compound_packet_starts_with_a_report_and_carries_every_block() {
        let blocks: Vec<ReceptionReport> = (0..40).map(|ssrc| ReceptionReport { ssrc, ..Default::default() }).collect();
        let sender = SenderInfo { ssrc: Ssrc(9), rtp_time: RtpTime::new(5, 48_000), packets: 1, bytes: 2 };
        for senders in [&[][..], &[sender][..]] {
            let mut wire =
                rtcp::packet::marshal(&compound(1 << 40, senders, Ssrc(1), &blocks, "name")).unwrap().freeze();
            let packets = rtcp::packet::unmarshal(&mut wire).unwrap();
            assert_eq!(packets.len(), 3);
            let counted: usize = packets[..2].iter().map(|p| usize::from(p.header().count)).sum();
            assert_eq!(counted, 40);
        }
    }
}
