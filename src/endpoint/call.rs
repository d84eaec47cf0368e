//! `halloo call`.

use super::{
    conversation::{Conversation, interrupted},
    sign_in,
    status::Status,
};
use crate::{cli::CallArgs, exit::Exit};
use anyhow::{Context, Result};
use halloo_engine::{Bitrate, CallOptions, clock};

/// Opens the media, signs in, calls, and talks.
///
/// # Errors
/// Where media, sign-in or the call itself failed; [`Exit::of`] gives the code.
pub async fn run(args: CallArgs) -> Result<Exit> {
    let mut status = Status::new();
    let window = args.media.prepare_sinks()?;
    let sending = args.media.open_sources(|text| eprintln!("{text}"))?;
    let engine = sign_in(&args.sign_in).await?;
    let user = engine.user();
    status.say(format!("signed in as {user}; calling {}", args.to));
    let started = clock::now();
    let options = CallOptions {
        video: args.media.video_state(),
        playout: args.media.playout(),
        max_bitrate: Bitrate::from_kbps(u64::from(args.media.video_kbps) * 2 + 500),
    };
    let call = tokio::select! {
        call = engine.call(&args.to, options) => call.with_context(|| format!("could not call {}", args.to))?,
        () = interrupted() => return Ok(Exit::Interrupted),
    };
    let conversation = Conversation { media: &args.media, sending, user, number: 1, started, window };
    let report = conversation.hold(call, &mut status).await;
    if args.media.json {
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(report.exit)
}
