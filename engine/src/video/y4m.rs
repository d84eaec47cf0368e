//! The YUV4MPEG2 format: its header line, frame lines and what of it is supported (8-bit 4:2:0).
//!
//! See the mjpegtools manual page `yuv4mpeg(5)`. Files are streamed: nothing is held but one frame.

mod sink;
mod source;

pub use sink::{Y4mSink, Y4mSinkOptions, Y4mSinkStats};
pub use source::{Repeat, Y4mSource};

const SIGNATURE: &[u8] = b"YUV4MPEG2";
/// Longest header or frame line that is read: real ones have under a hundred bytes.
const MAX_LINE: u64 = 4_096;

/// What a file's first line says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Header {
    width: u32,
    height: u32,
    /// Frames per second as a ratio.
    rate: (u64, u64),
}

impl Header {
    /// Reads the line, without its line feed. The error says what was found and what is supported.
    fn parse(line: &[u8]) -> Result<Self, String> {
        let Some(fields) = line.strip_prefix(SIGNATURE).filter(|rest| rest.first().is_none_or(|&b| b == b' ')) else {
            return Err("is not a Y4M file: it does not begin with YUV4MPEG2".into());
        };
        let (mut width, mut height, mut rate) = (None, None, (25, 1));
        for field in String::from_utf8_lossy(fields).split_ascii_whitespace() {
            let (tag, value) = field.split_at(field.chars().next().map_or(0, char::len_utf8));
            match tag {
                "W" => width = value.parse().ok(),
                "H" => height = value.parse().ok(),
                "F" => rate = parse_rate(value)?,
                "C" => check_colour_space(value)?,
                "I" if !matches!(value, "p" | "?" | "") => {
                    return Err(format!("is interlaced (I{value}); only progressive pictures (Ip) are supported"));
                }
                _ => {}
            }
        }
        match (width, height) {
            (Some(width @ 1..=16_384), Some(height @ 1..=16_384)) => Ok(Self { width, height, rate }),
            (Some(width), Some(height)) => {
                Err(format!("has pictures of {width}x{height}; 1 to 16384 a side is supported"))
            }
            _ => Err("has no picture width and height (W and H) in its first line".into()),
        }
    }

    /// Bytes of one frame's samples.
    fn frame_len(&self) -> usize {
        let (w, h) = (self.width as usize, self.height as usize);
        w * h + 2 * w.div_ceil(2) * h.div_ceil(2)
    }
}

fn parse_rate(value: &str) -> Result<(u64, u64), String> {
    let rate = value.split_once(':').and_then(|(n, d)| Some((n.parse().ok()?, d.parse().ok()?)));
    match rate {
        // The format's way to say "unknown".
        Some((0, 0)) => Ok((25, 1)),
        Some((n, d)) if d > 0 && (0.1..=240.0).contains(&(n as f64 / d as f64)) => Ok((n, d)),
        _ => Err(format!("has a frame rate of F{value}; a ratio from 0.1 to 240 frames per second is supported")),
    }
}

fn check_colour_space(value: &str) -> Result<(), String> {
    match value {
        "420" | "420jpeg" | "420mpeg2" | "420paldv" => Ok(()),
        _ => Err(format!(
            "has colour space C{value}; 8-bit 4:2:0 is supported (C420, C420jpeg, C420mpeg2, C420paldv). Convert it, for \
             example with: ffmpeg -i IN -pix_fmt yuv420p OUT.y4m"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_common_writers_are_read() {
        let cases = [
            ("YUV4MPEG2 W640 H360 F30:1 Ip A1:1 C420jpeg XYSCSS=420JPEG", 640, 360, (30, 1)),
            ("YUV4MPEG2 W17 H33 F30000:1001 Ip A0:0 C420mpeg2", 17, 33, (30_000, 1_001)),
            ("YUV4MPEG2 H2 W4", 4, 2, (25, 1)),
            ("YUV4MPEG2 W4 H2 F0:0 C420paldv I?", 4, 2, (25, 1)),
            ("YUV4MPEG2 W4 H2 F25:2 C420 XCOLORRANGE=LIMITED", 4, 2, (25, 2)),
        ];
        for (line, width, height, rate) in cases {
            assert_eq!(Header::parse(line.as_bytes()), Ok(Header { width, height, rate }), "{line}");
        }
    }

    #[test]
    fn errors_name_what_was_found() {
        let cases = [
            ("RIFF....AVI ", "not a Y4M"),
            ("YUV4MPEG2X W4 H2", "not a Y4M"),
            ("YUV4MPEG2 W640 H360 C444", "C444"),
            ("YUV4MPEG2 W640 H360 C420p10", "C420p10"),
            ("YUV4MPEG2 W640 H360 Cmono", "Cmono"),
            ("YUV4MPEG2 W640", "W and H"),
            ("YUV4MPEG2 W0 H10", "0x10"),
            ("YUV4MPEG2 W10 H10 F30:0", "F30:0"),
            ("YUV4MPEG2 W10 H10 It", "interlaced (It)"),
        ];
        for (line, found) in cases {
            let error = Header::parse(line.as_bytes()).unwrap_err();
            assert!(error.contains(found), "{line}: {error}");
        }
    }
}
