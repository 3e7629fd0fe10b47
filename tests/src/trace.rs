//! The timestamps of an FLV recording, without decoding anything: cheap enough for long recordings, and for files that
//! still grow.

use anyhow::{Context, Result, ensure};
use std::path::Path;

/// Decoding times of the two tracks, ms, in the order of the file. Sequence headers are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    /// Pictures.
    pub video: Vec<u32>,
    /// Sound.
    pub audio: Vec<u32>,
}

impl Trace {
    /// Reads a recording; half a tag at its end is left out.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        Self::of(&bytes).with_context(|| format!("understand {}", path.display()))
    }

    /// Reads tags (Adobe FLV 10.1, annex E.4.1).
    pub fn of(bytes: &[u8]) -> Result<Self> {
        ensure!(bytes.starts_with(b"FLV") && bytes.len() >= 13, "it is no FLV file");
        let mut trace = Self::default();
        let mut rest = &bytes[13..];
        while let Some((head, after)) = rest.split_at_checked(11) {
            let size = u32::from_be_bytes([0, head[1], head[2], head[3]]) as usize;
            let time = u32::from_be_bytes([head[7], head[4], head[5], head[6]]);
            let Some((body, next)) = after.split_at_checked(size) else { break };
            // The second byte tells a sequence header (0) from media (1).
            match (head[0] & 0x1f, body.get(1)) {
                (9, Some(1)) => trace.video.push(time),
                (8, Some(1)) => trace.audio.push(time),
                _ => {}
            }
            rest = next.get(4..).unwrap_or_default();
        }
        Ok(trace)
    }

    /// The longest step from one picture to the next, ms; the clock may pass 2^32.
    pub fn longest_step_ms(&self) -> u32 {
        steps(&self.video).max().unwrap_or(0)
    }

    /// Steps of either track that do not go forward.
    pub fn backward_steps(&self) -> usize {
        steps(&self.video).chain(steps(&self.audio)).filter(|step| *step == 0 || *step > u32::MAX / 2).count()
    }
}

fn steps(times: &[u32]) -> impl Iterator<Item = u32> + '_ {
    times.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(kind: u8, time: u32, body: &[u8]) -> Vec<u8> {
        let [high, a, b, c] = time.to_be_bytes();
        let size = body.len() as u8;
        let mut tag = vec![kind, 0, 0, size, a, b, c, high, 0, 0, 0];
        tag.extend_from_slice(body);
        tag.extend_from_slice(&[0, 0, 0, size + 11]);
        tag
    }

    #[test]
    fn headers_and_half_a_tag_are_left_out_and_steps_are_judged() {
        let mut file = b"FLV\x01\x05\0\0\0\x09\0\0\0\0".to_vec();
        let last = u32::MAX - 10;
        for (time, kind) in [(last, 0), (last, 1), (last + 5, 1), (29, 1), (29, 1)] {
            file.extend(tag(9, time, &[0x17, kind]));
        }
        file.extend(tag(8, 7, &[0xaf, 1]));
        file.extend(&tag(8, 9, &[0xaf, 1])[..12]);
        let trace = Trace::of(&file).unwrap();
        assert_eq!((trace.video.len(), trace.audio.len()), (4, 1));
        assert_eq!(trace.longest_step_ms(), 35);
        assert_eq!(trace.backward_steps(), 1);
        assert!(Trace::of(b"RIFF").is_err());
    }
}
