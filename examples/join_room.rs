//! Joins a room, says a file once, records everybody who is there, and leaves when the file is over.
//!
//! `cargo run --release --example join_room -- ws://127.0.0.1:8080 standup archivist hello.wav recordings`

use halloo_engine::{
    Engine, JoinOptions, MediaEvent, RemoteTrack, Room, RoomEvent,
    audio::{AudioSettings, Repeat, WavSink, WavSource},
    video::{Y4mSink, Y4mSinkOptions},
};
use std::{collections::HashSet, path::Path};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [server, room, name, says, folder] = args.as_slice() else {
        return Err("give: SERVER ROOM NAME SAYS.wav FOLDER".into());
    };
    std::fs::create_dir_all(folder)?;
    let engine = Engine::builder().server(server).guest(name).build().await?;
    let room = engine.join(room, JoinOptions::default()).await?;
    room.publish_audio(Box::new(WavSource::open(says, Repeat::Once)?), AudioSettings::default());
    println!("{:?}", attend(room, Path::new(folder)).await?);
    Ok(())
}

async fn attend(room: Room, folder: &Path) -> Result<halloo_engine::EndedBy, Box<dyn std::error::Error>> {
    let mut events = room.events();
    let mut recorded = HashSet::new();
    while let Some(event) = events.next().await {
        match event {
            RoomEvent::ParticipantJoined(who) => println!("{} is here", who.user),
            RoomEvent::ParticipantLeft { participant, .. } => println!("{} has left", participant.user),
            RoomEvent::ActiveSpeaker(Some(who)) => println!("{} speaks", who.user),
            // A track that stopped and starts again has kept its sinks.
            RoomEvent::TrackStarted(track) if !recorded.insert((track.participant().to_owned(), track.kind())) => {}
            RoomEvent::TrackStarted(RemoteTrack::Audio(track)) => {
                let file = folder.join(format!("{}.wav", track.participant()));
                track.attach(Box::new(WavSink::create(file)?))?;
            }
            // A picture is received from when a sink takes it, and no larger than the sink shows it.
            RoomEvent::TrackStarted(RemoteTrack::Video(track)) => {
                let file = folder.join(format!("{}-{:?}.y4m", track.participant(), track.kind()));
                track.attach_at(Box::new(Y4mSink::create(file, Y4mSinkOptions::default())?), 640, 360)?;
            }
            RoomEvent::Media(MediaEvent::SourceEnded) => return Ok(room.leave().await.reason),
            RoomEvent::Ended(ended) => return Ok(ended.reason),
            _ => {}
        }
    }
    Ok(room.ended().await.reason)
}
