//! Letters on the slate. A name may hold anything, so FFmpeg never sees it in a filter: each line is a file of its own
//! in a folder of its own, taken as it is.

use state::atomic;
use state::ids;
use state::profile::Profile;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Longest name that is drawn, characters.
const LONGEST: usize = 100;
/// Longest line, in widths of the letter M.
const LINE_EM: f64 = 17.0;
const MOST_LINES: usize = 8;

/// Where fonts are, without asking fontconfig, which writes files of its own. The first that exists is used.
const FONTS: [&str; 8] = [
    "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
    "/usr/share/fonts/dejavu/DejaVuSans.ttf",
    "/usr/share/fonts/dejavu-sans-fonts/DejaVuSans.ttf",
    "/usr/share/fonts/TTF/DejaVuSans.ttf",
    "/usr/share/fonts/truetype/noto/NotoSans-Regular.ttf",
    "/usr/share/fonts/noto/NotoSans-Regular.ttf",
    "/usr/share/fonts/truetype/liberation/LiberationSans-Regular.ttf",
    "/usr/share/fonts/liberation-sans/LiberationSans-Regular.ttf",
];

/// A name in lines, ready to be drawn. Its folder is removed with it.
#[derive(Debug)]
pub(super) struct Lettering {
    folder: PathBuf,
    lines: usize,
    font: Option<&'static str>,
    /// Height of the letters and distance of the lines, pixels.
    size: u32,
    step: u32,
}

impl Lettering {
    /// Lays a name out for this picture and writes its lines below `cache`.
    pub(super) fn new(name: &str, profile: &Profile, cache: &Path) -> Result<Self, String> {
        let lines = lines_of(name);
        let size = size_of(&lines, profile);
        let mut tail = [0; 8];
        ids::fill_random(&mut tail);
        let tail: String = tail.iter().map(|byte| format!("{byte:02x}")).collect();
        let folder = cache.join(format!("lettering-{tail}"));
        let font = FONTS.into_iter().find(|font| Path::new(font).is_file());
        let lettering = Self { folder, lines: lines.len(), font, size, step: size * 4 / 3 };
        lettering.write(&lines).map_err(|error| format!("{}: {error}", lettering.folder.display()))?;
        Ok(lettering)
    }

    fn write(&self, lines: &[String]) -> io::Result<()> {
        atomic::private_folder(&self.folder)?;
        lines.iter().enumerate().try_for_each(|(n, line)| fs::write(self.folder.join(n.to_string()), line))
    }

    /// Where FFmpeg has to be started.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The filter that draws the lines one below the other in the middle of the picture.
    pub(super) fn filter(&self) -> String {
        let Self { size, step, lines, .. } = self;
        let font = self.font.map(|font| format!("fontfile={font}:")).unwrap_or_default();
        let line = |n: usize| {
            // Baselines are at equal distances, whatever letters a line has.
            let down = (n as f64 - *lines as f64 / 2.0 + 0.75) * f64::from(*step);
            format!(
                "drawtext=textfile={n}:expansion=none:{font}fontsize={size}:fontcolor=0xE6ECF2:\
                 x=(w-text_w)/2:y=h/2+({down:.0})-ascent"
            )
        };
        let drawn: Vec<String> = (0..*lines).map(line).collect();
        if drawn.is_empty() { "null".to_owned() } else { drawn.join(",") }
    }
}

impl Drop for Lettering {
    fn drop(&mut self) {
        // What stays is a few bytes in the cache.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A name in lines: broken between words, and within words that are too long.
fn lines_of(name: &str) -> Vec<String> {
    let shown: String = name.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect();
    let mut lines = vec![String::new()];
    for word in shown.split_whitespace() {
        for piece in pieces_of(word) {
            let last = lines.last().map_or(0.0, |line| width(line));
            match lines.last_mut() {
                Some(line) if line.is_empty() => line.push_str(&piece),
                Some(line) if last + width(&piece) + width(" ") <= LINE_EM => {
                    line.push(' ');
                    line.push_str(&piece);
                }
                _ => lines.push(piece),
            }
        }
    }
    lines.retain(|line| !line.is_empty());
    lines.truncate(MOST_LINES);
    lines
}

fn pieces_of(word: &str) -> Vec<String> {
    let mut pieces = vec![String::new()];
    for c in word.chars() {
        let full = pieces.last().is_some_and(|p| width(p) + letter(c) > LINE_EM && !p.is_empty());
        if full {
            pieces.push(String::new());
        }
        if let Some(piece) = pieces.last_mut() {
            piece.push(c);
        }
    }
    pieces
}

/// Rather too wide than too narrow, in ems.
fn width(text: &str) -> f64 {
    text.chars().map(letter).sum()
}

fn letter(c: char) -> f64 {
    match c {
        'i' | 'j' | 'l' | 'I' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' | ' ' => 0.42,
        'm' | 'w' | 'M' | 'W' | '@' | '%' => 1.02,
        'A'..='Z' => 0.78,
        _ if c.is_ascii() => 0.66,
        _ => 1.1,
    }
}

/// Letters that fit the width, the height, and are not shouted.
fn size_of(lines: &[String], profile: &Profile) -> u32 {
    let (w, h) = (f64::from(profile.width), f64::from(profile.height));
    let widest = lines.iter().map(|line| width(line)).fold(1.0, f64::max);
    let by_height = h * 0.8 / (lines.len().max(1) as f64 * 4.0 / 3.0);
    (w * 0.88 / widest).min(by_height).min(h / 8.0).max(8.0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_is_broken_between_words() {
        assert_eq!(lines_of("Main"), ["Main"]);
        assert_eq!(lines_of(" a\n\tb  c\u{0} "), ["a b c"]);
        assert_eq!(lines_of("The quick brown fox jumps over it"), ["The quick brown fox jumps", "over it"]);
        assert_eq!(lines_of(&"x".repeat(60)).len(), 3);
        assert_eq!(lines_of("\n"), Vec::<String>::new());
    }

    proptest! {
        #[test]
        fn any_name_fits_into_lines(name in "\\PC{0,120}") {
            let lines = lines_of(&name);
            prop_assert!(lines.len() <= MOST_LINES);
            prop_assert!(lines.iter().all(|line| width(line) <= LINE_EM + 0.01 && !line.contains('\n')), "{lines:?}");
        }
    }
}
