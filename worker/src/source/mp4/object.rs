//! An object of a bucket that is read: the reader says what it misses, and that is fetched. Nothing blocks.

use super::boxes::Refused;
use super::look::look_at;
use super::place::{Held, Place};
use super::reader::{Ask, Reader};
use crate::source::flv::RawTag;
use crate::source::probe::MediaInfo;
use crate::source::stream::Stream;

/// Parts that are fetched until the first tag can be read.
const MOST_ROUNDS: usize = 32;

/// What came of an object until now, and where more comes from.
#[derive(Debug)]
pub struct Parts {
    held: Held,
    stream: Stream,
}

impl Parts {
    /// Nothing yet.
    pub fn new(stream: Stream) -> Self {
        Self { held: Held::new(stream.size()), stream }
    }

    /// How much came and is still in hand, bytes.
    pub fn in_hand(&self) -> usize {
        self.held.in_hand()
    }

    /// What the object is, and what came of it.
    ///
    /// # Errors
    /// Why ffprobe has to be asked, in words.
    pub async fn look(self) -> Result<(MediaInfo, Self), String> {
        let (looked, stream) = self.until_done(look_object).await?;
        let (info, held) = looked;
        Ok((info, Self { held, stream }))
    }

    /// Opens the object.
    ///
    /// # Errors
    /// Why it is left to FFmpeg, in words.
    pub async fn open(self, ask: Ask) -> Result<ObjectReader, String> {
        let (reader, stream) = self.until_done(move |held| Reader::open_object(held, ask)).await?;
        Ok(ObjectReader { reader, stream })
    }

    /// Does something with what is in hand, again and again with what it missed.
    async fn until_done<T: Send + 'static>(
        self,
        what: impl Fn(Held) -> Result<T, (Held, Refused)> + Clone + Send + 'static,
    ) -> Result<(T, Stream), String> {
        let Self { mut held, mut stream } = self;
        for _ in 0..MOST_ROUNDS {
            let what = what.clone();
            // Long tables take a while, so they are looked at on a thread for that.
            let looked = tokio::task::spawn_blocking(move || what(held)).await;
            let (mut in_hand, why) = match looked.map_err(|error| error.to_string())? {
                Ok(done) => return Ok((done, stream)),
                Err(unfinished) => unfinished,
            };
            let missing = in_hand.missing().ok_or_else(|| why.to_string())?;
            in_hand.fetch(missing, &mut stream).await.map_err(|error| error.to_string())?;
            held = in_hand;
        }
        Err("its parts lie too far apart".to_owned())
    }
}

fn look_object(held: Held) -> Result<(MediaInfo, Held), (Held, Refused)> {
    let mut place = Place::Object(held);
    let looked = look_at(&mut place);
    let held = match place {
        Place::Object(held) => held,
        Place::File(_, size) => Held::new(size),
    };
    match looked {
        Ok(info) => Ok((info, held)),
        Err(why) => Err((held, why)),
    }
}

/// An open object.
#[derive(Debug)]
pub struct ObjectReader {
    reader: Reader,
    stream: Stream,
}

impl ObjectReader {
    /// Appends tags in order of time, about `bytes` of them or what is in hand, and fetches what the call before
    /// missed. False when there are no more.
    ///
    /// # Errors
    /// Why nothing more can be read, in words.
    pub async fn read(&mut self, bytes: usize, tags: &mut Vec<RawTag>) -> Result<bool, String> {
        if let Some(held) = self.reader.held()
            && let Some(missing) = held.missing()
        {
            held.fetch(missing, &mut self.stream).await.map_err(|error| error.to_string())?;
        }
        let read = self.reader.read(bytes, tags);
        let misses = self.reader.held().is_some_and(|held| held.misses());
        if misses { Ok(true) } else { read }
    }
}
