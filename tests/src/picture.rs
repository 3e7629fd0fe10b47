//! The picture of a test clip: a barcode of item and frame number, and a field that flashes. Pure functions.
//!
//! The code is 8 × 4 blocks, black or white on grey, each a tenth of the picture's width and height: big enough for
//! scaling, letterboxing and H.264 at low bitrates. The grey tells the picture from the black bars around it.

/// Luma of the ground.
const GROUND: u8 = 110;
/// Luma of a block that is 0, of one that is 1, and of the two states of the field.
const BLACK: u8 = 16;
const WHITE: u8 = 235;
const DARK: u8 = 60;
/// Rows darker than this on average are bars, not picture.
const BAR: u32 = 32;
const COLUMNS: usize = 8;
const ROWS: usize = 4;

/// What a frame says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// Which clip.
    pub item: u8,
    /// Which of its frames, from 0.
    pub frame: u16,
}

/// What was read from a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The barcode, where there is one whose check holds.
    pub code: Option<Code>,
    /// Whether the field is lit.
    pub flash: bool,
    /// Mean luma of the whole frame; about 16 is black.
    pub luma: u8,
    /// How much of the frame's width and height is picture and not black bar, percent.
    pub filled: [u8; 2],
}

/// Draws a frame as yuv420p bytes; `width` and `height` in pixels, even.
pub fn draw(width: usize, height: usize, code: Code, flash: bool) -> Vec<u8> {
    let mut bytes = vec![GROUND; width * height];
    bytes.resize(width * height * 3 / 2, 128);
    let bits = bits(code);
    for row in 0..ROWS {
        for column in 0..COLUMNS {
            let luma = if bits >> (row * COLUMNS + column) & 1 == 1 { WHITE } else { BLACK };
            fill(&mut bytes, width, block(width, height, row, column), luma);
        }
    }
    fill(&mut bytes, width, field(width, height), if flash { WHITE } else { DARK });
    bytes
}

/// Reads a frame of `width` × `height` luma bytes.
pub fn read(luma: &[u8], width: usize, height: usize) -> Reading {
    let mean = mean(luma, width, Area { left: 0, top: 0, right: width, bottom: height });
    let Some(bounds) = bounds(luma, width, height) else {
        return Reading { code: None, flash: false, luma: mean, filled: [0, 0] };
    };
    let (w, h) = (bounds.right - bounds.left, bounds.bottom - bounds.top);
    let level = |area: Area| self::mean(luma, width, area.middle().moved(bounds.left, bounds.top));
    let mut bits = 0u32;
    for row in 0..ROWS {
        for column in 0..COLUMNS {
            let lit = level(block(w, h, row, column)) > GROUND + 15;
            bits |= u32::from(lit) << (row * COLUMNS + column);
        }
    }
    let filled = [w * 100 / width, h * 100 / height].map(|percent| percent as u8);
    Reading { code: parse(bits), flash: level(field(w, h)) > 170, luma: mean, filled }
}

/// A rectangle in pixels, right and bottom excluded.
#[derive(Debug, Clone, Copy)]
struct Area {
    left: usize,
    top: usize,
    right: usize,
    bottom: usize,
}

impl Area {
    /// Its inner half: what scaling does not blur.
    fn middle(self) -> Area {
        let (x, y) = ((self.right - self.left) / 4, (self.bottom - self.top) / 4);
        Area { left: self.left + x, top: self.top + y, right: self.right - x, bottom: self.bottom - y }
    }

    fn moved(self, x: usize, y: usize) -> Area {
        Area { left: self.left + x, top: self.top + y, right: self.right + x, bottom: self.bottom + y }
    }
}

fn block(width: usize, height: usize, row: usize, column: usize) -> Area {
    let (left, top) = (width * (column + 1) / 10, height * (row + 1) / 10);
    Area { left, top, right: width * (column + 2) / 10, bottom: height * (row + 2) / 10 }
}

fn field(width: usize, height: usize) -> Area {
    Area { left: width / 10, top: height * 6 / 10, right: width * 9 / 10, bottom: height * 95 / 100 }
}

fn fill(luma: &mut [u8], width: usize, area: Area, value: u8) {
    for y in area.top..area.bottom {
        luma[y * width + area.left..y * width + area.right].fill(value);
    }
}

fn mean(luma: &[u8], width: usize, area: Area) -> u8 {
    let pixels = (area.right - area.left) * (area.bottom - area.top);
    let sum: u32 = (area.top..area.bottom)
        .flat_map(|y| &luma[y * width + area.left..y * width + area.right])
        .map(|value| u32::from(*value))
        .sum();
    u8::try_from(sum / pixels.max(1) as u32).unwrap_or(u8::MAX)
}

/// The picture inside its black bars; `None` where everything is black or too small to hold a code.
fn bounds(luma: &[u8], width: usize, height: usize) -> Option<Area> {
    let row = |y: &usize| {
        let sum: u32 = luma[y * width..(y + 1) * width].iter().map(|v| u32::from(*v)).sum();
        sum / width as u32 > BAR
    };
    let column = |x: &usize| {
        let sum: u32 = (0..height).map(|y| u32::from(luma[y * width + x])).sum();
        sum / height as u32 > BAR
    };
    let area = Area {
        left: (0..width).find(column)?,
        top: (0..height).find(row)?,
        right: (0..width).rfind(column)? + 1,
        bottom: (0..height).rfind(row)? + 1,
    };
    (area.right - area.left >= 40 && area.bottom - area.top >= 40).then_some(area)
}

fn bits(code: Code) -> u32 {
    let payload = u32::from(code.item) | u32::from(code.frame) << 8;
    payload | u32::from(check(payload)) << 24
}

fn parse(bits: u32) -> Option<Code> {
    let payload = bits & 0x00FF_FFFF;
    let [item, low, high, _] = payload.to_le_bytes();
    (u32::from(check(payload)) == bits >> 24).then(|| Code { item, frame: u16::from_le_bytes([low, high]) })
}

/// CRC-8 (polynomial 0x07, start 0xFF), so that an all-black picture is no code.
fn check(payload: u32) -> u8 {
    payload.to_le_bytes()[..3].iter().fold(0xFF, |crc, byte| {
        (0..8).fold(crc ^ byte, |c: u8, _| if c & 0x80 != 0 { c << 1 ^ 0x07 } else { c << 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_is_read_back_with_and_without_bars() {
        for (item, frame, flash) in [(1, 0, false), (255, 65535, true), (17, 4711, false)] {
            let code = Code { item, frame };
            let picture = draw(160, 120, code, flash);
            let boxed = letterbox(&picture[..160 * 120], 160, 120, 214);
            let expected = Some(code);
            assert_eq!(read(&picture[..160 * 120], 160, 120).code, expected);
            assert_eq!(read(&boxed, 214, 120).code, expected);
            assert_eq!(read(&boxed, 214, 120).flash, flash);
            assert_eq!(read(&boxed, 214, 120).filled, [74, 100]);
        }
    }

    #[test]
    fn a_black_picture_and_one_wrong_block_are_no_code() {
        assert_eq!(
            read(&[16; 160 * 90], 160, 90),
            Reading { code: None, flash: false, luma: 16, filled: [0, 0] }
        );
        let mut picture = draw(160, 90, Code { item: 3, frame: 9 }, false);
        let area = block(160, 90, 0, 2);
        let inverted = if picture[area.top * 160 + area.left] == WHITE { BLACK } else { WHITE };
        fill(&mut picture, 160, area, inverted);
        assert_eq!(read(&picture[..160 * 90], 160, 90).code, None);
    }

    fn letterbox(luma: &[u8], width: usize, height: usize, wide: usize) -> Vec<u8> {
        let left = (wide - width) / 2;
        let mut out = vec![16; wide * height];
        for y in 0..height {
            out[y * wide + left..y * wide + left + width].copy_from_slice(&luma[y * width..(y + 1) * width]);
        }
        out
    }
}
