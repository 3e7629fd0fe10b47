//! Writes over single places of an MP4 file: what no encoder at hand can be told to say.

use anyhow::{Context, Result, ensure};

/// A place and what is written there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Patch {
    /// The picture is to be turned right by a quarter (`tkhd` of the first track, ISO/IEC 14496-12, 8.3.2).
    TurnRight,
    /// AAC is HE-AAC: its configuration says that spectral band replication doubles the rate of 24 kHz. The frames
    /// have none, which is allowed; a decoder then doubles the rate without it (ISO/IEC 14496-3, 1.6.5).
    SignalBandReplication,
    /// `avcC` holds no parameter sets: those in the stream must do (ISO/IEC 14496-15, 5.3.3, `avc3`).
    EmptyParameterSets,
}

impl Patch {
    /// Writes it.
    ///
    /// # Errors
    /// The file is not what it was expected to be.
    pub fn apply(self, file: &mut [u8]) -> Result<()> {
        match self {
            Patch::TurnRight => turn_right(file),
            Patch::SignalBandReplication => signal_band_replication(file),
            Patch::EmptyParameterSets => empty_parameter_sets(file),
        }
    }
}

/// Body of the first box of this type, wherever it is.
fn body_of<'a>(file: &'a mut [u8], kind: &[u8; 4]) -> Result<&'a mut [u8]> {
    let at = file.windows(4).position(|w| w == kind).context("no such box")?;
    let size = u32::from_be_bytes(file[at - 4..at].try_into()?) as usize;
    file.get_mut(at + 4..at - 4 + size).context("a box is cut off")
}

fn turn_right(file: &mut [u8]) -> Result<()> {
    let track = body_of(file, b"tkhd")?;
    ensure!(track[0] == 0, "tkhd is not of version 0");
    let one = 1i32 << 16;
    // The height as it is stored becomes the width: the picture is moved back into sight by that much.
    let height = i32::from_be_bytes(track[80..84].try_into()?);
    let matrix = [0, one, 0, -one, 0, 0, height, 0, 1 << 30];
    for (place, value) in track[40..76].chunks_exact_mut(4).zip(matrix) {
        place.copy_from_slice(&value.to_be_bytes());
    }
    Ok(())
}

fn signal_band_replication(file: &mut [u8]) -> Result<()> {
    // AAC-LC, 24 kHz, stereo, and the extension that says whether there is band replication: no.
    const PLAIN: [u8; 5] = [0x13, 0x10, 0x56, 0xE5, 0x00];
    let description = body_of(file, b"esds")?;
    let at = description.windows(5).position(|w| w == PLAIN).context("no such configuration")?;
    // Yes, to 48 kHz.
    description[at + 4] = 0x98;
    Ok(())
}

fn empty_parameter_sets(file: &mut [u8]) -> Result<()> {
    let record = body_of(file, b"avcC")?;
    ensure!(record[5] == 0xE1, "avcC does not hold one sequence parameter set");
    record[5] = 0xE0;
    record[6..].fill(0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_the_box_and_one_that_is_cut_off_are_refused() {
        let cut = b"\0\0\0\x20avcC\x01\x64".to_vec();
        for patch in [Patch::TurnRight, Patch::SignalBandReplication, Patch::EmptyParameterSets] {
            assert!(patch.apply(&mut [0; 64]).is_err());
            assert!(patch.apply(&mut cut.clone()).is_err());
        }
    }
}
