//! Numbers by chance that are the same for the same seed.

/// A source of them (xorshift, G. Marsaglia 2003).
pub(super) struct Chance(u64);

/// Numbers at which code that counts goes wrong.
const ODD: [u32; 14] = [
    0,
    1,
    2,
    3,
    255,
    256,
    65_535,
    1 << 24,
    (1 << 25) - 1,
    1 << 25,
    i32::MAX as u32,
    1 << 31,
    u32::MAX - 1,
    u32::MAX,
];

impl Chance {
    pub(super) fn new(seed: u32) -> Self {
        Self(u64::from(seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below this one; 0 below 0.
    pub(super) fn below(&mut self, most: usize) -> usize {
        if most == 0 { 0 } else { (self.next() >> 11) as usize % most }
    }

    /// Once in so many times.
    pub(super) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// A number near this one, an odd one, or any.
    pub(super) fn word(&mut self, near: u32) -> u32 {
        match self.below(8) {
            0 | 1 => near.wrapping_add(1),
            2 => near.wrapping_sub(1),
            3 => near ^ 1 << self.below(32),
            4 => self.below(64) as u32,
            5 => self.next() as u32,
            _ => ODD[self.below(ODD.len())],
        }
    }
}
