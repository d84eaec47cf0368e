//! AV1 over RTP, without a codec: OBUs, the payload format (AV1 RTP specification, section 4), and the order of frames.

pub(crate) mod frame_buffer;
pub(crate) mod obu;
pub(crate) mod packetize;
