//! An object of a bucket that is read: the reader says what it misses, and that is fetched. Nothing blocks.

use super::burst::Amount;
use super::place::Held;
use super::reader::{Ask, Reader};
use crate::source::flv::RawTag;
use crate::source::stream::Stream;

/// Parts that are fetched until the first tag can be read.
const MOST_ROUNDS: usize = 32;

/// An open object.
#[derive(Debug)]
pub struct ObjectReader {
    reader: Reader,
    stream: Stream,
}

impl ObjectReader {
    /// Opens an object.
    ///
    /// # Errors
    /// Why it is left to FFmpeg, in words.
    pub async fn open(mut stream: Stream, ask: Ask) -> Result<Self, String> {
        let mut held = Held::new(stream.size());
        for _ in 0..MOST_ROUNDS {
            // Long tables take a while, so they are looked at on a thread for that.
            let looked = tokio::task::spawn_blocking(move || Reader::open_object(held, ask)).await;
            let (mut in_hand, why) = match looked.map_err(|error| error.to_string())? {
                Ok(reader) => return Ok(Self { reader, stream }),
                Err(unfinished) => unfinished,
            };
            let missing = in_hand.missing().ok_or_else(|| why.to_string())?;
            in_hand.fetch(missing, &mut stream).await.map_err(|error| error.to_string())?;
            held = in_hand;
        }
        Err("its parts lie too far apart".to_owned())
    }

    /// Appends tags in order of time, about so many or what is in hand, and fetches what the call before
    /// missed. False when there are no more.
    ///
    /// # Errors
    /// Why nothing more can be read, in words.
    pub async fn read(&mut self, amount: Amount, tags: &mut Vec<RawTag>) -> Result<bool, String> {
        if let Some(held) = self.reader.held()
            && let Some(missing) = held.missing()
        {
            held.fetch(missing, &mut self.stream).await.map_err(|error| error.to_string())?;
        }
        let read = self.reader.read(amount, tags);
        let misses = self.reader.held().is_some_and(|held| held.misses());
        if misses { Ok(true) } else { read }
    }
}
