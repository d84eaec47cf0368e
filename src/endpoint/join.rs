//! `halloo join`.

use super::{conversation::interrupted, media::VideoOut, meeting::Meeting, sign_in, status::Status};
use crate::{
    cli::{JoinArgs, MediaArgs},
    endpoint::media::AudioOut,
    exit::Exit,
};
use anyhow::{Context, Result, bail};
use halloo_engine::{Bitrate, JoinOptions, clock};

/// Opens the media, signs in, joins the room, and stays.
///
/// # Errors
/// Where media, sign-in or joining failed; [`Exit::of`] gives the code.
pub async fn run(args: JoinArgs) -> Result<Exit> {
    check(&args.media)?;
    let mut status = Status::new();
    let window = args.media.prepare_sinks()?;
    let sending = args.media.open_sources(|text| eprintln!("{text}"))?;
    let engine = sign_in(&args.sign_in).await?;
    let user = engine.user();
    status.say(format!("signed in as {user}; joining {}", args.room));
    let started = clock::now();
    let options = JoinOptions {
        token: args.room_token.clone(),
        playout: args.media.playout(),
        max_bitrate: Bitrate::from_kbps(u64::from(args.media.video_kbps) * 2 + 500),
        video_slots: args.slots,
        ..JoinOptions::default()
    };
    let room = tokio::select! {
        room = engine.join(&args.room, options) => room.with_context(|| format!("could not join {}", args.room))?,
        () = interrupted() => return Ok(Exit::Interrupted),
    };
    let report = Meeting::new(&args.media, sending, user, started, window).attend(room, &mut status).await;
    if args.media.json {
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(report.exit)
}

/// One file cannot hold what several people send.
fn check(media: &MediaArgs) -> Result<()> {
    if matches!(media.audio_out, Some(AudioOut::File(_))) || matches!(media.video_out, VideoOut::File(_)) {
        bail!("a room has several participants: use --record DIR, which makes files for each of them");
    }
    Ok(())
}
