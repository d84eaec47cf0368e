//! Received pictures, evenly spread over a recording, as PNGs for the page.

use crate::measure::y4m::Frames;
use anyhow::Result;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use halloo_engine::{
    media::VideoFrame,
    video::{frame_number, write_png},
};
use std::path::Path;

/// Widths of pictures on the page.
const LARGE: u32 = 320;
const SMALL: u32 = 160;

/// One picture.
#[derive(Debug)]
pub(super) struct Thumbnail {
    /// `data:image/png;base64,...`
    pub uri: String,
    /// Its place in the recording, in seconds.
    pub at: f64,
    /// The number read from it.
    pub number: Option<u32>,
}

/// `count` pictures of a recording.
///
/// # Errors
/// Where it cannot be read, or a picture not written.
pub(super) fn thumbnails(recording: &Path, count: usize, scratch: &Path) -> Result<Vec<Thumbnail>> {
    let total = Frames::open(recording)?.count();
    let frames = Frames::open(recording)?;
    let rate = frames.frame_rate;
    let wanted: Vec<usize> = (0..count).map(|i| (2 * i + 1) * total / (2 * count)).collect();
    let mut thumbnails = Vec::new();
    for (index, frame) in frames.enumerate() {
        if wanted.contains(&index) {
            let frame = frame?;
            let number = frame_number::read(&frame);
            thumbnails.push(Thumbnail { uri: png(&frame, LARGE, scratch)?, at: index as f64 / rate, number });
        }
    }
    Ok(thumbnails)
}

/// A picture from the middle of a recording, small; `None` where it holds none.
///
/// # Errors
/// Where it cannot be read, or the picture not written.
pub(super) fn thumbnail(recording: &Path, scratch: &Path) -> Result<Option<String>> {
    let total = Frames::open(recording)?.count();
    let frame = Frames::open(recording)?.nth(total / 2).transpose()?;
    frame.map(|frame| png(&frame, SMALL, scratch)).transpose()
}

fn png(frame: &VideoFrame, width: u32, scratch: &Path) -> Result<String> {
    let path = scratch.join("thumbnail.png");
    let width = frame.width().min(width);
    let height = (u64::from(frame.height()) * u64::from(width) / u64::from(frame.width())).max(1) as u32;
    write_png(&path, &halloo_engine::video::scale::scale(frame, width, height)?)?;
    let bytes = std::fs::read(&path)?;
    std::fs::remove_file(&path)?;
    Ok(format!("data:image/png;base64,{}", STANDARD.encode(bytes)))
}
