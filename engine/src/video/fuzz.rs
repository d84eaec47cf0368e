//! An entry for fuzzers: bytes to packets to the frame buffer, as a hostile peer would send them.

use super::frame_buffer::{FrameBuffer, FrameBufferConfig};
use crate::Timestamp;
use bytes::Bytes;
use halloo_transport::{ReceivedPacket, RtpTime, SeqNo, Ssrc, session::MediaKind};

/// Reads `data` as packets (step of the sequence number, step of the time, flags, length, payload) and plays them to a frame buffer.
/// Returns how many things the buffer wanted done.
pub fn frame_buffer(data: &[u8]) -> usize {
    let mut buffer = FrameBuffer::new(FrameBufferConfig { max_packets: 64, ..FrameBufferConfig::default() });
    let (mut seq, mut ticks, mut outputs) = (1_u64 << 16, 1_u64 << 32, 0);
    let mut rest = data;
    while let [seq_step, time_step, flags, len, after @ ..] = rest {
        let (payload, after) = after.split_at(after.len().min(usize::from(*len)));
        rest = after;
        seq = seq.wrapping_add_signed(i64::from(*seq_step as i8)).max(1);
        ticks += u64::from(*time_step) * 100;
        let now = Timestamp::from_millis(ticks / 90);
        buffer.insert(ReceivedPacket {
            kind: MediaKind::Video,
            ssrc: Ssrc(u32::from(flags >> 6)),
            csrcs: Vec::new(),
            mid: None,
            seq: SeqNo(seq),
            rtp_time: RtpTime::new(ticks, 90_000),
            marker: flags & 1 != 0,
            payload: Bytes::copy_from_slice(payload),
            arrived_at: now,
            retransmitted: flags & 2 != 0,
            audio_level: None,
        });
        while buffer.poll(now).is_some() {
            outputs += 1;
        }
    }
    outputs
}
