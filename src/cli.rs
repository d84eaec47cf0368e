//! The command line. Help texts teach: each command begins with what it is for and ends with examples.

use crate::{
    endpoint::media::{AudioIn, AudioOut, VideoIn, VideoOut, parse_duration, parse_size},
    exit, load, serve, token,
};
use clap::{ArgGroup, Args, Parser, Subcommand};
use halloo_engine::Fingerprint;
use std::{path::PathBuf, time::Duration};

/// Voice and video calls from a shell: a signaling server, native endpoints, and a demo that measures itself.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 110, after_help = concat!(
    "Start here:\n",
    "  halloo demo                              two call each other, six meet; ends with a report\n",
    "  halloo serve                             a server; open the address it prints in a browser\n",
    "  halloo answer --as bob                   wait for calls with microphone and speaker\n",
    "  halloo call --as alice --to bob          call\n",
    "  halloo join --as alice --room standup    meet with several in a room\n",
    "  halloo load --participants 6             load a server with clients, and measure it\n",
))]
pub struct Cli {
    /// Log more to standard error; twice for even more. RUST_LOG overrides it
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a signaling server with the web client inside
    Serve(Box<serve::ServeArgs>),
    /// Call somebody and talk until either side hangs up
    #[command(after_help = CALL_HELP)]
    Call(Box<CallArgs>),
    /// Wait for calls and take them, one after the other
    #[command(after_help = ANSWER_HELP)]
    Answer(Box<AnswerArgs>),
    /// Join a room, and stay until told to leave
    #[command(after_help = JOIN_HELP)]
    Join(Box<JoinArgs>),
    /// Show a call of two and a group call of six on this machine, measured: ends with a report page
    #[command(after_help = DEMO_HELP)]
    Demo(DemoArgs),
    /// Load a server with real clients, and measure it
    Load(Box<load::LoadArgs>),
    /// List microphones and speakers
    Devices(DevicesArgs),
    /// Mint a token for a user, or make a key
    Token(token::TokenArgs),
}

const CALL_HELP: &str = "Examples:\n  \
     halloo call --as alice --to bob\n  \
     halloo call --as alice --to bob --audio-in speech.wav --video-in clip.y4m --record got --duration 10s --json\n  \
     halloo call --token \"$TOKEN\" --to bob --server wss://calls.example.org --video-in screen\n";
const ANSWER_HELP: &str = "Examples:\n  \
     halloo answer --as bob\n  \
     halloo answer --as bob --audio-in speech.wav --video-in pattern --record got --once --json\n";
const JOIN_HELP: &str = "Examples:\n  \
     halloo join --as alice --room standup\n  \
     halloo join --as bot --room standup --audio-in speech.wav --video-in pattern --record got --duration 1m --json\n  \
     halloo join --token \"$TOKEN\" --room standup --server wss://calls.example.org --video-out window\n";
const DEMO_HELP: &str = "Examples:\n  \
     halloo demo\n  \
     halloo demo --seconds 10 --json out.json --out target/demo\n  \
     halloo demo --only group\n  \
     halloo demo --mic\n";

/// Where to sign in, and as whom.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("identity").required(true).multiple(true).args(["name", "token"]))]
pub struct SignIn {
    /// The signaling server
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:8080", env = "HALLOO_SERVER")]
    pub server: String,
    /// Sign in as a guest of this name, where the server allows guests
    #[arg(long = "as", value_name = "NAME")]
    pub name: Option<String>,
    /// Sign in with this token (see `halloo token`); it says who one is
    #[arg(long, env = "HALLOO_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Trust exactly the server with this certificate fingerprint, as `halloo serve --lan` prints it
    #[arg(long, value_name = "SHA-256")]
    pub pin: Option<Fingerprint>,
    /// This installation's name: signing in again under it replaces the earlier session. Default: drawn at random
    #[arg(long, value_name = "ID")]
    pub device: Option<String>,
}

/// What is sent, and what becomes of what is received.
#[derive(Debug, Args)]
pub struct MediaArgs {
    /// Sound to send: `device`, `device:NAME`, `silence`, or a WAV file
    #[arg(long, value_name = "SOURCE", default_value = "device")]
    pub audio_in: AudioIn,
    /// Where received sound goes: `device`, `device:NAME`, `none`, or a WAV file
    #[arg(long, value_name = "SINK")]
    pub audio_out: Option<AudioOut>,
    /// Pictures to send: `camera`, `camera:NAME`, `screen`, `pattern`, `none`, or a Y4M file (8-bit 4:2:0)
    #[arg(long, value_name = "SOURCE", default_value = "none")]
    pub video_in: VideoIn,
    /// Where received pictures go: `window`, `none`, or a Y4M file
    #[arg(long, value_name = "SINK", default_value = "none")]
    pub video_out: VideoOut,
    /// Record what is received into this folder: received.wav and received.y4m, as long as the call; in a room, in a folder for
    /// each participant
    #[arg(long, value_name = "DIR")]
    pub record: Option<PathBuf>,
    /// Play files once instead of again and again
    #[arg(long)]
    pub play_once: bool,
    /// Pictures a second of recordings
    #[arg(long, value_name = "FPS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=60), hide_short_help = true)]
    pub record_rate: u32,
    /// Size of the test pattern
    #[arg(long, value_name = "WxH", default_value = "640x360", value_parser = parse_size)]
    pub pattern_size: (u32, u32),
    /// Pictures a second of the test pattern
    #[arg(long, value_name = "FPS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=60), hide_short_help = true)]
    pub pattern_rate: u32,
    /// Which of 16 test patterns: each has numbers and colours of its own, so that several can be told apart
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=15), hide_short_help = true)]
    pub pattern_series: u32,
    /// Most bits per second for pictures, in thousands
    #[arg(long, value_name = "KBPS", default_value_t = 1_500, value_parser = clap::value_parser!(u32).range(30..=50_000))]
    pub video_kbps: u32,
    /// Hang up after this long (10s, 2m, 500ms), counted from when media flows
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Print one JSON report on standard output at the end (see docs/report.md)
    #[arg(long)]
    pub json: bool,
    /// Log every block of sound and every numbered picture with the monotonic clock, for measuring
    #[arg(long, value_name = "DIR", hide_short_help = true)]
    pub media_log: Option<PathBuf>,
}

/// `halloo call`
#[derive(Debug, Args)]
#[command(after_long_help = exit::HELP)]
pub struct CallArgs {
    /// Where and as whom.
    #[command(flatten)]
    pub sign_in: SignIn,
    /// Whom to call
    #[arg(long, value_name = "NAME")]
    pub to: String,
    /// What to send and receive.
    #[command(flatten)]
    pub media: MediaArgs,
}

/// `halloo answer`
#[derive(Debug, Args)]
#[command(after_long_help = exit::HELP)]
pub struct AnswerArgs {
    /// Where and as whom.
    #[command(flatten)]
    pub sign_in: SignIn,
    /// What to send and receive.
    #[command(flatten)]
    pub media: MediaArgs,
    /// Leave after the first call
    #[arg(long)]
    pub once: bool,
    /// Take calls from this user only; others are declined
    #[arg(long, value_name = "NAME")]
    pub from: Option<String>,
}

/// `halloo join`
#[derive(Debug, Args)]
#[command(after_long_help = exit::HELP)]
pub struct JoinArgs {
    /// Where and as whom.
    #[command(flatten)]
    pub sign_in: SignIn,
    /// The room: it exists from the first who joins until the last has left
    #[arg(long, value_name = "NAME")]
    pub room: String,
    /// A token that grants this room, where the one for signing in does not
    #[arg(long, value_name = "TOKEN", env = "HALLOO_ROOM_TOKEN", hide_env_values = true)]
    pub room_token: Option<String>,
    /// Pictures that can be received at once
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u8).range(1..=25))]
    pub slots: u8,
    /// What to send and receive.
    #[command(flatten)]
    pub media: MediaArgs,
}

/// `halloo demo`
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// How long the two talk
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(3..=600))]
    pub seconds: u64,
    /// Also write the measurements here, as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Where recordings and the report page go
    #[arg(long, value_name = "DIR", default_value = "halloo-demo")]
    pub out: PathBuf,
    /// Show one part alone
    #[arg(long, value_name = "PART")]
    pub only: Option<DemoPart>,
    /// One side of the call speaks with this machine's microphone instead of recorded speech
    #[arg(long)]
    pub mic: bool,
}

/// A part of the demo.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum DemoPart {
    /// Two call each other.
    Call,
    /// Six meet in a room.
    Group,
}

/// `halloo devices`
#[derive(Debug, Args)]
pub struct DevicesArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
