//! `halloo load` on the command line.

use super::{clip::VideoShape, plan::Shape};
use crate::{endpoint::media::parse_size, span::Span};
use anyhow::{Result, bail};
use clap::Args;
use halloo_engine::{Bitrate, Fingerprint};
use halloo_protocol::RoomId;

/// What `--help` ends with.
pub const HELP: &str = "Examples:\n  \
     halloo load --rooms 2 --participants 6 --duration 30s\n  \
     halloo load --participants 31 --publishers 1 --ramp 50 --duration 1m --json\n  \
     halloo load --rooms 10 --participants 10 --churn 5 --seed 7\n  \
     halloo load --attach ws://127.0.0.1:8080 --room standup --participants 8 --publishers 2 --duration 5m\n\n\
     Exit codes: 0 everybody joined and stayed, 1 somebody could not, or the server did not start, 2 wrong usage";

/// Load a server with real clients, and measure it
///
/// Without --attach it starts a server of its own on free ports, so that processor time and memory of the server are measured
/// apart from those of the clients. Each client signs in, joins with an offer, connects by ICE and DTLS, sends AV1 and Opus
/// that were coded ahead of time, asks again for what it misses, and checks all that it receives. It decodes its first picture.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct LoadArgs {
    /// Rooms
    #[arg(long, value_name = "R", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rooms: u32,
    /// Participants of each room
    #[arg(long, value_name = "P", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub participants: u32,
    /// How many of them have camera and microphone on; all unless given
    #[arg(long, value_name = "K")]
    pub publishers: Option<u32>,
    /// How long to go on once all were asked to join
    #[arg(long, value_name = "TIME", default_value = "30s")]
    pub duration: Span,
    /// Participants who join per second, until all are there
    #[arg(long, value_name = "N", default_value_t = 20.0, value_parser = positive)]
    pub ramp: f64,
    /// Participants who leave per second, at random, each followed by another
    #[arg(long, value_name = "N", default_value_t = 0.0, value_parser = positive)]
    pub churn: f64,
    /// What is at random is the same for the same seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Size of the pictures
    #[arg(long, value_name = "WxH", default_value = "640x360", value_parser = parse_size)]
    pub size: (u32, u32),
    /// Pictures per second
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=60))]
    pub fps: u32,
    /// Bits per second of each camera, in thousands
    #[arg(long, value_name = "KBPS", default_value_t = 800, value_parser = clap::value_parser!(u32).range(30..=10_000))]
    pub video_kbps: u32,
    /// Pictures that each participant shows at once
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u8).range(1..=25))]
    pub tiles: u8,
    /// Threads that play the clients' media
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub threads: u8,
    /// Load the server that runs here instead of starting one. It must take guests, and enough connections of one address
    #[arg(long, value_name = "URL")]
    pub attach: Option<String>,
    /// The process of that server, where it is on this machine, to measure what it costs
    #[arg(long, value_name = "PID", requires = "attach")]
    pub server_pid: Option<u32>,
    /// Trust exactly the server with this certificate fingerprint, as `halloo serve --lan` prints it
    #[arg(long, value_name = "SHA-256", requires = "attach")]
    pub pin: Option<Fingerprint>,
    /// Threads that forward media, of the server that is started; one per processor unless given
    #[arg(long, value_name = "N", conflicts_with = "attach")]
    pub media_shards: Option<usize>,
    /// The room's name; with several rooms NAME-1, NAME-2 and so on
    #[arg(long, value_name = "NAME", default_value = "load")]
    pub room: String,
    /// Print one JSON report on standard output at the end, and no table (see docs/report.md)
    #[arg(long)]
    pub json: bool,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && (0.0..=1e6).contains(&number) => Ok(number),
        _ => Err(format!("{text:?} is not a number of at least 0")),
    }
}

impl LoadArgs {
    /// What to play.
    ///
    /// # Errors
    /// Where the numbers do not go together.
    pub fn shape(&self) -> Result<Shape> {
        let publishers = self.publishers.unwrap_or(self.participants);
        if publishers > self.participants {
            bail!(
                "{publishers} cannot publish in a room of {}: give --publishers at most --participants",
                self.participants
            );
        }
        if self.ramp < 0.1 {
            bail!("--ramp must be at least 0.1 a second");
        }
        Ok(Shape {
            rooms: self.rooms,
            participants: self.participants,
            publishers,
            ramp: self.ramp,
            churn: self.churn,
            duration: self.duration.0,
            seed: self.seed,
        })
    }

    /// What the pictures are like.
    pub fn video(&self) -> VideoShape {
        VideoShape { size: self.size, fps: self.fps, bitrate: Bitrate::from_kbps(self.video_kbps.into()) }
    }

    /// The rooms' names.
    ///
    /// # Errors
    /// Where a room cannot have that name.
    pub fn room_names(&self) -> Result<Vec<RoomId>> {
        let name = |number: u32| match self.rooms {
            1 => RoomId::new(self.room.clone()),
            _ => RoomId::new(format!("{}-{}", self.room, number + 1)),
        };
        Ok((0..self.rooms).map(name).collect::<Result<_, _>>()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        load: LoadArgs,
    }

    fn parse(args: &[&str]) -> LoadArgs {
        Command::parse_from([&["load"], args].concat()).load
    }

    #[test]
    fn everybody_publishes_unless_told_otherwise() {
        assert_eq!(parse(&["--participants", "4"]).shape().unwrap().publishers, 4);
        assert_eq!(parse(&["--publishers", "0"]).shape().unwrap().publishers, 0);
        assert!(parse(&["--participants", "4", "--publishers", "5"]).shape().is_err());
    }

    #[test]
    fn one_room_has_the_name_given_and_several_are_numbered() {
        let names = |args: &[&str]| parse(args).room_names().unwrap().iter().map(|id| id.as_str().to_owned()).collect();
        let one: Vec<String> = names(&["--room", "standup"]);
        let two: Vec<String> = names(&["--rooms", "2"]);
        assert_eq!((one, two), (vec!["standup".to_owned()], vec!["load-1".to_owned(), "load-2".to_owned()]));
        assert!(parse(&["--room", "a b"]).room_names().is_err());
    }
}
