//! What the parameter sets of H.264 say of its pictures (ITU-T H.264, 7.3.2.1, 7.3.2.2 and E.1), as far as they are
//! what is copied: progressive, 4:2:0, 8 bit, limited range, square pixels. Everything else is refused.

use super::boxes::Refused;
use crate::source::asc::Bits;

const CUT: Refused = Refused("a parameter set is cut");

/// Longest parameter set that is read, bytes.
const LONGEST: usize = 1024;

/// What a sequence parameter set says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sequence {
    id: u32,
    /// FFmpeg's name of the profile.
    pub(super) profile: &'static str,
    /// Pixels that are shown.
    pub(super) width: u32,
    /// Pixels that are shown.
    pub(super) height: u32,
    /// Numbers of primaries, transfer and matrix (ITU-T H.273), where it says them.
    pub(super) colours: Option<[u32; 3]>,
}

/// Reads a sequence parameter set, with its NAL unit header.
///
/// # Errors
/// What about it is unusual.
pub(super) fn sequence(unit: &[u8]) -> Result<Sequence, Refused> {
    let bytes = payload(unit, 7)?;
    let mut bits = Fields(Bits::new(&bytes));
    let (profile_idc, constraints, _level) = (bits.u(8)?, bits.u(8)?, bits.u(8)?);
    let profile = match profile_idc {
        66 if constraints & 0x40 != 0 => "Constrained Baseline",
        66 => "Baseline",
        77 => "Main",
        100 => "High",
        _ => return Err(Refused("the H.264 profile is unusual")),
    };
    let id = bits.at_most(31)?;
    if profile_idc == 100 {
        high(&mut bits)?;
    }
    order(&mut bits)?;
    let (width, height) = size(&mut bits)?;
    let colours = if bits.flag()? { display(&mut bits)? } else { None };
    bits.ends(bytes.len())?;
    Ok(Sequence { id, profile, width, height, colours })
}

/// Reads a picture parameter set of this sequence, with its NAL unit header: its number.
///
/// # Errors
/// What about it is unusual.
pub(super) fn picture(unit: &[u8], of: &Sequence) -> Result<u32, Refused> {
    let bytes = payload(unit, 8)?;
    let mut bits = Fields(Bits::new(&bytes));
    let (id, sequence) = (bits.at_most(255)?, bits.at_most(31)?);
    let _entropy_coding_mode = bits.flag()?;
    // Its fields may be shown at times of their own, and then FFmpeg takes it for interlaced.
    if bits.flag()? {
        return Err(Refused("fields of a picture have times of their own"));
    }
    if sequence == of.id { Ok(id) } else { Err(Refused("a parameter set is missing")) }
}

/// The number of the picture parameter set of a slice, and which macroblock it begins with. A cut one will do.
///
/// # Errors
/// When it ends too early.
pub(super) fn slice(unit: &[u8]) -> Result<(u32, u32), Refused> {
    let bytes = without_emulation(unit.get(1..unit.len().min(32)).ok_or(CUT)?);
    let mut bits = Fields(Bits::new(&bytes));
    let (first, _kind) = (bits.ue()?, bits.ue()?);
    Ok((bits.ue()?, first))
}

/// The types of the messages in an SEI unit (7.3.2.3.1).
///
/// # Errors
/// When they do not fill it.
pub(super) fn messages(unit: &[u8]) -> Result<Vec<u32>, Refused> {
    let broken = Refused("a message in the pictures is broken");
    let bytes = without_emulation(unit.get(1..).ok_or(broken)?);
    let (mut rest, mut found) = (&bytes[..], Vec::new());
    while rest.len() > 1 {
        let mut number = || {
            let mut sum = 0_u32;
            loop {
                let (&byte, behind) = rest.split_first()?;
                rest = behind;
                sum = sum.checked_add(u32::from(byte))?;
                if byte != 0xFF {
                    return Some(sum);
                }
            }
        };
        let (kind, length) = (number().ok_or(broken)?, number().ok_or(broken)?);
        rest = rest.get(length as usize..).ok_or(broken)?;
        found.push(kind);
    }
    if rest == [0x80] { Ok(found) } else { Err(broken) }
}

fn payload(unit: &[u8], kind: u8) -> Result<Vec<u8>, Refused> {
    match unit.split_first() {
        Some((head, body)) if head & 0x1F == kind && body.len() <= LONGEST => Ok(without_emulation(body)),
        _ => Err(CUT),
    }
}

/// Without the bytes that keep start codes from appearing (7.4.1).
fn without_emulation(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(bytes.len());
    let mut zeros = 0;
    for &byte in bytes {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        plain.push(byte);
    }
    plain
}

/// What only high profiles say: colour sampling, depth, scaling matrices.
fn high(bits: &mut Fields<'_>) -> Result<(), Refused> {
    if bits.ue()? != 1 {
        return Err(Refused("the colours are not 4:2:0"));
    }
    if (bits.ue()?, bits.ue()?) != (0, 0) {
        return Err(Refused("the pictures have more than 8 bits"));
    }
    if bits.flag()? {
        return Err(Refused("the H.264 profile is unusual"));
    }
    if bits.flag()? {
        for length in [16, 16, 16, 16, 16, 16, 64, 64] {
            if bits.flag()? {
                scaling_list(bits, length)?;
            }
        }
    }
    Ok(())
}

fn scaling_list(bits: &mut Fields<'_>, length: usize) -> Result<(), Refused> {
    let (mut last, mut next) = (8, 8);
    for _ in 0..length {
        if next != 0 {
            next = (last + bits.se()? + 256) % 256;
        }
        last = if next == 0 { last } else { next };
    }
    Ok(())
}

/// In which order pictures are shown, and how many are kept.
fn order(bits: &mut Fields<'_>) -> Result<(), Refused> {
    bits.at_most(12)?;
    match bits.ue()? {
        0 => drop(bits.at_most(12)?),
        2 => {}
        _ => return Err(Refused("the order of its pictures is unusual")),
    }
    bits.at_most(16)?;
    let _gaps_allowed = bits.flag()?;
    Ok(())
}

/// Width and height that are shown.
fn size(bits: &mut Fields<'_>) -> Result<(u32, u32), Refused> {
    let (width, height) = ((bits.at_most(1023)? + 1) * 16, (bits.at_most(1023)? + 1) * 16);
    if !bits.flag()? {
        return Err(Refused("it may be interlaced"));
    }
    let _direct_8x8_inference = bits.flag()?;
    if !bits.flag()? {
        return Ok((width, height));
    }
    // In units of two pixels with 4:2:0.
    let [left, right, top, bottom] = [bits.ue()?, bits.ue()?, bits.ue()?, bits.ue()?];
    let shown =
        |all: u32, a: u32, b: u32| all.checked_sub(a.checked_add(b)?.checked_mul(2)?).filter(|n| *n > 0);
    match (left, top, shown(width, left, right), shown(height, top, bottom)) {
        (0, 0, Some(width), Some(height)) => Ok((width, height)),
        _ => Err(Refused("the picture is cut out of a larger one")),
    }
}

/// How pictures are to be displayed (E.1.1): their colours, where it says them.
fn display(bits: &mut Fields<'_>) -> Result<Option<[u32; 3]>, Refused> {
    if bits.flag()? {
        square(bits)?;
    }
    // Overscan.
    if bits.flag()? {
        bits.flag()?;
    }
    let colours = if bits.flag()? { signal(bits)? } else { None };
    // Where samples of colour are.
    if bits.flag()? {
        bits.at_most(5)?;
        bits.at_most(5)?;
    }
    // Units in a tick, ticks in a second, whether all pictures last as long.
    if bits.flag()? {
        bits.u(32)?;
        bits.u(32)?;
        bits.u(1)?;
    }
    let (units, video) = (buffering(bits)?, buffering(bits)?);
    if units || video {
        let _low_delay = bits.flag()?;
    }
    if bits.flag()? {
        return Err(Refused("its pictures may say that they are interlaced"));
    }
    if bits.flag()? {
        let _vectors_over_edges = bits.flag()?;
        for _ in 0..6 {
            bits.at_most(16)?;
        }
    }
    Ok(colours)
}

/// The shape of a pixel: unknown, or as wide as high.
fn square(bits: &mut Fields<'_>) -> Result<(), Refused> {
    let fits = match bits.u(8)? {
        0 | 1 => true,
        255 => {
            let (width, height) = (bits.u(16)?, bits.u(16)?);
            width == height && width > 0
        }
        _ => false,
    };
    if fits { Ok(()) } else { Err(Refused("pixels are not square")) }
}

fn signal(bits: &mut Fields<'_>) -> Result<Option<[u32; 3]>, Refused> {
    let _format = bits.u(3)?;
    if bits.flag()? {
        return Err(Refused("the pictures have full range"));
    }
    Ok(if bits.flag()? { Some([bits.u(8)?, bits.u(8)?, bits.u(8)?]) } else { None })
}

/// What it says of buffers (E.1.2), where it does.
fn buffering(bits: &mut Fields<'_>) -> Result<bool, Refused> {
    if !bits.flag()? {
        return Ok(false);
    }
    let count = bits.at_most(31)? + 1;
    bits.u(8)?;
    for _ in 0..count {
        bits.ue()?;
        bits.ue()?;
        bits.flag()?;
    }
    bits.u(20)?;
    Ok(true)
}

/// Fields of a parameter set, in order.
struct Fields<'a>(Bits<'a>);

impl Fields<'_> {
    fn u(&mut self, bits: usize) -> Result<u32, Refused> {
        self.0.take(bits).ok_or(CUT)
    }

    fn flag(&mut self) -> Result<bool, Refused> {
        Ok(self.u(1)? == 1)
    }

    /// A number without sign (9.1).
    fn ue(&mut self) -> Result<u32, Refused> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return Err(CUT);
            }
        }
        Ok((1 << zeros) - 1 + self.u(zeros)?)
    }

    fn at_most(&mut self, most: u32) -> Result<u32, Refused> {
        let value = self.ue()?;
        if value <= most { Ok(value) } else { Err(Refused("a parameter set is unusual")) }
    }

    /// A change of a scaling list (9.1.1).
    fn se(&mut self) -> Result<i32, Refused> {
        let value = self.at_most(256)? as i32;
        let signed = if value % 2 == 1 { (value + 1) / 2 } else { -value / 2 };
        if signed <= 127 { Ok(signed) } else { Err(CUT) }
    }

    /// Nothing may follow but the bit that ends it and zeros.
    fn ends(&mut self, length: usize) -> Result<(), Refused> {
        let mut ended = self.flag()?;
        for _ in 0..length * 8 {
            match self.0.take(1) {
                Some(0) => {}
                Some(_) => ended = false,
                None => break,
            }
        }
        if ended { Ok(()) } else { Err(Refused("a parameter set says more than it should")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Writes fields: a value and how many bits it has.
    fn bits(fields: &[(u32, usize)]) -> Vec<u8> {
        let all: Vec<u8> = fields
            .iter()
            .flat_map(|&(value, n)| (0..n).rev().map(move |at| (value >> at & 1) as u8))
            .collect();
        all.chunks(8).map(|byte| (0..8).fold(0, |sum, at| sum << 1 | byte.get(at).unwrap_or(&0))).collect()
    }

    /// Main profile, 64×48 of which 60×44 are shown; `rest` follows the cropping.
    fn main_profile(rest: &[(u32, usize)]) -> Vec<u8> {
        let head = [(0x67, 8), (77, 8), (0, 8), (30, 8), (1, 1), (1, 1), (1, 1), (1, 1), (2, 3), (0, 1)];
        let size = [(4, 5), (3, 3), (1, 1), (1, 1), (1, 1), (1, 1), (3, 3), (1, 1), (3, 3)];
        bits(&[&head[..], &size, rest].concat())
    }

    #[test]
    fn a_plain_set_is_read() {
        let found = sequence(&main_profile(&[(0, 1), (1, 1)])).unwrap();
        assert_eq!((found.profile, found.width, found.height, found.colours), ("Main", 60, 44, None));
        assert!(sequence(&main_profile(&[(0, 1), (1, 1), (1, 1)])).is_err(), "more than it should");
        assert_eq!(sequence(&main_profile(&[(1, 1)])), Err(CUT));
    }

    #[test]
    fn its_colours_are_read_and_full_range_is_refused() {
        let shown = |range: u32| {
            let end = [(0, 1), (0, 1), (0, 1), (0, 1), (0, 1), (0, 1), (1, 1)];
            let display =
                [(1, 1), (0, 1), (0, 1), (1, 1), (5, 3), (range, 1), (1, 1), (9, 8), (16, 8), (9, 8)];
            sequence(&main_profile(&[&display[..], &end].concat()))
        };
        assert_eq!(shown(0).unwrap().colours, Some([9, 16, 9]));
        assert_eq!(shown(1), Err(Refused("the pictures have full range")));
    }

    #[test]
    fn messages_are_told_apart() {
        assert_eq!(messages(&[6, 1, 2, 9, 9, 0x93, 1, 18, 0x80]), Ok(vec![1, 147]));
        assert_eq!(messages(&[6, 0xFF, 1, 0, 0x80]), Ok(vec![256]));
        assert!(messages(&[6, 1, 9, 0, 0x80]).is_err() && messages(&[]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0..9_u8) {
            let unit = [&[kind], &bytes[..]].concat();
            let of = Sequence { id: 0, profile: "Main", width: 1, height: 1, colours: None };
            let _ = (sequence(&unit), picture(&unit, &of), slice(&unit), messages(&unit));
        }

        #[test]
        fn any_high_profile_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = sequence(&[&[0x67, 100, 0, 30], &bytes[..]].concat());
        }
    }
}
