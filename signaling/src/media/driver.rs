//! Carries orders from the hub to the media plane, and answers back.
//!
//! Invariant: the hub's lock is never held while the media plane is called, and orders reach it in the hub's order.

use super::{MediaEvents, MediaPlane};
use crate::{
    hub::MediaOrder,
    shared::{Shared, now},
};
use std::sync::Arc;

/// Carries orders for ever.
pub(crate) async fn drive(shared: Arc<Shared>, plane: Arc<dyn MediaPlane>) {
    let events = {
        let shared = Arc::downgrade(&shared);
        MediaEvents::new(move |room, event| {
            if let Some(shared) = shared.upgrade() {
                shared.with_hub(|hub| hub.handle_media_event(now(), &room, event));
            }
        })
    };
    plane.start(events);
    loop {
        shared.media_orders().await;
        while let Some(order) = shared.with_hub(crate::Hub::poll_media) {
            carry(&shared, &*plane, order);
        }
    }
}

fn carry(shared: &Arc<Shared>, plane: &dyn MediaPlane, order: MediaOrder) {
    match order {
        MediaOrder::Join { ticket, join } => {
            let (shared, joined) = (Arc::clone(shared), plane.join(join));
            // Not bounded in time: the hub has given its reply by then, and takes out whoever comes too late.
            tokio::spawn(async move {
                let joined = joined.await;
                shared.with_hub(|hub| hub.handle_media_joined(now(), ticket, joined));
            });
        }
        MediaOrder::Offer { ticket, room, participant, sdp } => {
            let (shared, answer) = (Arc::clone(shared), plane.offer(room, participant, sdp));
            tokio::spawn(async move {
                let answer = answer.await;
                shared.with_hub(|hub| hub.handle_media_answer(ticket, answer));
            });
        }
        MediaOrder::Command { room, command } => plane.command(room, command),
    }
}
