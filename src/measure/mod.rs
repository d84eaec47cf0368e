//! What a call was like, measured from outside: what was heard, how late, and what was seen.
//!
//! Everything here is computed from recordings and media logs, never from what an endpoint says about itself. The pure
//! parts take samples and instants; only the logs and readers of recordings touch files.

pub mod alignment;
pub mod audio_log;
pub mod delay;
pub mod freezes;
pub mod glass;
pub mod heard;
pub mod reception;
pub mod signal;
pub mod summary;
pub mod video_log;
pub mod wav;
pub mod y4m;

pub use heard::heard_correlation;
pub use summary::{Summary, Traces};
