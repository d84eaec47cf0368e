//! Descriptors of a synthetic encoder, for tests: four of the standard scalability modes, written from their definition.

#![allow(clippy::unwrap_used, reason = "for tests: what it writes always fits")]

use super::bits::BitWriter;

/// A scalability mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// One layer.
    L1T1,
    /// Three temporal layers.
    L1T3,
    /// Three spatial layers, each referring to the one below, of three temporal layers each.
    L3T3,
    /// The same, with references between spatial layers at key frames only.
    L3T3Key,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 4] = [Self::L1T1, Self::L1T3, Self::L3T3, Self::L3T3Key];

    /// How many spatial layers it has.
    pub const fn spatial(self) -> usize {
        match self {
            Self::L1T1 | Self::L1T3 => 1,
            Self::L3T3 | Self::L3T3Key => 3,
        }
    }

    const fn temporal(self) -> usize {
        if matches!(self, Self::L1T1) { 1 } else { 3 }
    }

    const fn targets(self) -> usize {
        self.spatial() * self.temporal()
    }

    fn templates(self) -> Vec<TemplateKind> {
        let positions =
            if self.temporal() == 1 { vec![None, Some(0)] } else { vec![None, Some(0), Some(1), Some(2), Some(3)] };
        let mut all = Vec::new();
        for spatial in 0..self.spatial() {
            for temporal in 0..self.temporal() {
                all.extend(
                    positions
                        .iter()
                        .map(|position| TemplateKind { spatial, position: *position })
                        .filter(|t| t.temporal() == temporal),
                );
            }
        }
        all
    }
}

/// Which of the pictures of a cycle of four a frame is in; `None` for the key picture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct TemplateKind {
    spatial: usize,
    position: Option<usize>,
}

impl TemplateKind {
    const fn temporal(self) -> usize {
        match self.position {
            None | Some(0) => 0,
            Some(2) => 1,
            Some(_) => 2,
        }
    }

    /// Pictures back to the one it refers to in its own layer.
    fn back(self, mode: Mode) -> usize {
        match self.position {
            _ if mode == Mode::L1T1 => 1,
            Some(0) => 4,
            Some(2) => 2,
            _ => 1,
        }
    }

    fn diffs(self, mode: Mode) -> Vec<usize> {
        let mut diffs = Vec::new();
        if self.position.is_some() {
            diffs.push(self.back(mode) * mode.spatial());
        }
        if self.spatial > 0 && (self.position.is_none() || mode == Mode::L3T3) {
            diffs.push(1);
        }
        diffs
    }

    fn indication(self, mode: Mode, target: usize) -> u32 {
        let (spatial, temporal) = (target / mode.temporal(), target % mode.temporal());
        let in_space = match mode {
            Mode::L3T3Key if self.position.is_some() => self.spatial == spatial,
            _ => self.spatial <= spatial,
        };
        if !in_space || self.temporal() > temporal {
            return 0;
        }
        let referred_above = mode == Mode::L3T3 && self.spatial < spatial;
        match self.temporal() {
            2 if !referred_above => 1,
            _ if self.spatial == spatial => 2,
            _ => 3,
        }
    }
}

/// A packet's frame.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// Its stream's mode.
    pub mode: Mode,
    /// Frames since the key frame, of all layers.
    pub index: usize,
    /// The packet is its first.
    pub first: bool,
    /// The packet is its last.
    pub last: bool,
    /// Its number.
    pub number: u16,
}

impl Frame {
    fn kind(&self) -> TemplateKind {
        let (picture, spatial) = (self.index / self.mode.spatial(), self.index % self.mode.spatial());
        let cycle = if self.mode == Mode::L1T1 { 1 } else { 4 };
        TemplateKind { spatial, position: (picture > 0).then_some(picture % cycle) }
    }

    /// Its spatial layer.
    pub fn spatial(&self) -> usize {
        self.kind().spatial
    }
}

/// The descriptor of a packet; the first packet of a key frame brings the structure.
pub fn descriptor(frame: &Frame) -> Vec<u8> {
    let (mode, kind) = (frame.mode, frame.kind());
    let templates = mode.templates();
    let id = templates.iter().position(|t| *t == kind).unwrap();
    let mut out = vec![0; 255];
    let mut writer = BitWriter::new(&mut out);
    writer.write(u32::from(frame.first), 1);
    writer.write(u32::from(frame.last), 1);
    writer.write(id as u32, 6);
    writer.write(u32::from(frame.number), 16);
    if frame.index == 0 && frame.first {
        writer.write(0b10000, 5);
        structure(&mut writer, mode, &templates);
    }
    let len = writer.finish().unwrap();
    out.truncate(len);
    out
}

fn structure(writer: &mut BitWriter<'_>, mode: Mode, templates: &[TemplateKind]) {
    writer.write(0, 6);
    writer.write(mode.targets() as u32 - 1, 5);
    for pair in templates.windows(2) {
        let next = match pair {
            [a, b] if a.spatial != b.spatial => 2,
            [a, b] if a.temporal() != b.temporal() => 1,
            _ => 0,
        };
        writer.write(next, 2);
    }
    writer.write(3, 2);
    for template in templates {
        (0..mode.targets()).for_each(|target| writer.write(template.indication(mode, target), 2));
    }
    for template in templates {
        for diff in template.diffs(mode) {
            writer.write(1, 1);
            writer.write(diff as u32 - 1, 4);
        }
        writer.write(0, 1);
    }
    // No chains: the code of 0 below targets + 1.
    writer.write(0, 31 - (mode.targets() as u32 + 1).leading_zeros());
    writer.write(u32::from(mode.spatial() > 1), 1);
    if mode.spatial() > 1 {
        for spatial in 0..mode.spatial() {
            writer.write((320 << spatial) - 1, 16);
            writer.write((180 << spatial) - 1, 16);
        }
    }
}
