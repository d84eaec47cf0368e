use super::*;
use halloo_transport::av1::{Descriptor, Structure};
use proptest::prelude::*;
use std::collections::HashSet;

/// One coded frame as it went out.
#[derive(Clone, Debug)]
struct Sent {
    descriptor: Descriptor,
    bytes: usize,
}

/// Pictures of these active layers; in each, `dropped(picture, spatial)` frames are left out by rate control.
fn send(spatial: u8, active: &[u8], dropped: impl Fn(usize, u8) -> bool) -> (Vec<Vec<Sent>>, Structure) {
    let mut scalability = Scalability::new(spatial);
    let sizes = (0..spatial).map(|s| Resolution { width: 320 << s, height: 180 << s }).collect();
    let templates = scalability.structure(sizes);
    let mut structure = None;
    let mut pictures = Vec::new();
    for (index, active) in active.iter().enumerate() {
        let picture = scalability.next_picture(false, *active);
        let mut frames = Vec::new();
        for spatial in 0..picture.spatial {
            if !picture.key && dropped(index, spatial) {
                continue;
            }
            let frame = scalability.layer_frame(&picture, spatial);
            let sent = scalability.coded(&picture, &frame);
            let descriptors = templates.descriptors(&sent, 2);
            assert_eq!(descriptors.len(), 2, "{sent:?}");
            let descriptor = Descriptor::read(&descriptors[0], &mut structure).unwrap();
            assert_eq!(Descriptor::read(&descriptors[1], &mut structure).unwrap().targets(), descriptor.targets());
            frames.push(Sent { descriptor, bytes: descriptors[0].len() });
        }
        if !frames.is_empty() {
            scalability.finish(&picture);
        }
        pictures.push(frames);
    }
    (pictures, structure.unwrap())
}

#[test]
fn a_stream_without_drops_is_all_templates() {
    // As long as libwebrtc's for the same modes.
    for (spatial, key_bytes) in [(1, 20), (2, 0), (3, 90)] {
        let (pictures, structure) = send(spatial, &[spatial; 30], |_, _| false);
        assert_eq!(structure.targets(), spatial * 3);
        assert_eq!(structure.templates().len(), usize::from(spatial) * 5);
        for (index, frame) in pictures.iter().enumerate().flat_map(|(i, p)| p.iter().map(move |f| (i, f))) {
            let brings_structure = index == 0 && frame.descriptor.spatial == 0;
            assert_eq!(frame.descriptor.starts_key_frame(), brings_structure);
            if !brings_structure {
                assert_eq!(frame.bytes, 3, "{index}");
            } else if key_bytes > 0 {
                assert_eq!(frame.bytes, key_bytes);
            }
        }
        let temporal: Vec<u8> = pictures[..9].iter().map(|p| p[0].descriptor.temporal).collect();
        assert_eq!(temporal, [0, 2, 1, 2, 0, 2, 1, 2, 0]);
        assert_eq!(structure.resolution(spatial - 1).unwrap().height, 180 << (spatial - 1));
    }
}

#[test]
fn a_target_above_the_lowest_needs_the_layers_below_in_key_pictures_alone() {
    let (pictures, structure) = send(3, &[3; 10], |_, _| false);
    let top = 1 << 8;
    let of = |picture: usize| -> Vec<bool> {
        pictures[picture].iter().map(|frame| frame.descriptor.targets() & top != 0).collect()
    };
    assert_eq!(of(0), [true; 3]);
    (1..10).for_each(|picture| assert_eq!(of(picture), [false, false, true]));
    assert_eq!((structure.spatial(8), structure.temporal(8)), (2, 2));
}

#[test]
fn a_layer_that_is_off_is_said_and_comes_back_with_a_key_picture() {
    let active = [3, 3, 3, 3, 3, 1, 1, 1, 1, 1, 1, 3, 3];
    let (pictures, _) = send(3, &active, |_, _| false);
    let said: Vec<Option<u32>> = pictures.iter().map(|p| p[0].descriptor.active_targets).collect();
    // Said at base frames, which everybody gets: the structure of a key frame says "all".
    assert_eq!((said[0], said[4], said[8], said[11]), (Some(0x1ff), None, Some(0b111), Some(0x1ff)));
    assert_eq!(pictures.iter().map(Vec::len).collect::<Vec<_>>(), active.map(usize::from));
    let keys: Vec<usize> = (0..active.len()).filter(|i| pictures[*i][0].descriptor.starts_key_frame()).collect();
    assert_eq!(keys, [0, 11]);
}

/// Checks that each target decodes from its own frames, and that a switch point is one.
fn check_decodable(pictures: &[Vec<Sent>], structure: &Structure) {
    let frames: Vec<&Descriptor> = pictures.iter().flatten().map(|sent| &sent.descriptor).collect();
    for target in 0..structure.targets() {
        // Whoever joins the target at frame `start` from whatever other target.
        for from in 0..structure.targets() {
            let mut have: HashSet<u16> = HashSet::new();
            let mut current = from;
            for frame in &frames {
                let joins = frame.indication(target) == Indication::Switch
                    && frame.diffs().iter().all(|diff| have.contains(&(frame.frame_number - diff)));
                if joins {
                    current = target;
                }
                if frame.indication(current) == Indication::NotPresent {
                    continue;
                }
                for diff in frame.diffs() {
                    let reference = frame.frame_number - diff;
                    assert!(have.contains(&reference), "{from} to {target}: {} misses {reference}", frame.frame_number);
                }
                have.insert(frame.frame_number);
            }
        }
    }
}

proptest! {
    #[test]
    fn every_target_decodes_whatever_is_dropped_or_switched_off(
        spatial in 1_u8..=3,
        active in proptest::collection::vec(1_u8..=3, 1..60),
        holes in proptest::collection::hash_set((0_usize..60, 0_u8..3), 0..40),
    ) {
        let (pictures, structure) = send(spatial, &active, |picture, layer| holes.contains(&(picture, layer)));
        check_decodable(&pictures, &structure);
    }
}
