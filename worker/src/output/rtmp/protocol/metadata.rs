//! `onMetaData`: what the stream looks like, told before the first picture and at every change.

use super::amf::{self, Value};
use crate::media::{Shape, TrackConfig};

/// The body of the data message `@setDataFrame("onMetaData", {…})`. Tracks that are not known yet are left out.
pub fn body(video: Option<&TrackConfig>, audio: Option<&TrackConfig>) -> Vec<u8> {
    let mut fields = vec![number("duration", 0.0), number("fileSize", 0.0)];
    for config in [video, audio].into_iter().flatten() {
        describe(&config.shape, &mut fields);
    }
    fields
        .push(("encoder".to_owned(), Value::text(concat!("stream-controller/", env!("CARGO_PKG_VERSION")))));
    let mut body = Vec::new();
    amf::encode(&[Value::text("@setDataFrame"), Value::text("onMetaData"), Value::Array(fields)], &mut body);
    body
}

fn describe(shape: &Shape, fields: &mut amf::Fields) {
    match *shape {
        Shape::Video { width, height, fps, kbps } => {
            fields.push(number("width", f64::from(width)));
            fields.push(number("height", f64::from(height)));
            fields.push(number("framerate", fps));
            fields.push(number("videocodecid", 7.0));
            fields.extend(rate("videodatarate", kbps));
        }
        Shape::Audio { sample_rate, channels, kbps } => {
            fields.push(number("audiocodecid", 10.0));
            fields.push(number("audiosamplerate", f64::from(sample_rate)));
            fields.push(number("audiosamplesize", 16.0));
            fields.push(number("audiochannels", f64::from(channels)));
            fields.push(("stereo".to_owned(), Value::Boolean(channels == 2)));
            fields.extend(rate("audiodatarate", kbps));
        }
    }
}

fn number(name: &str, value: f64) -> (String, Value) {
    (name.to_owned(), Value::Number(value))
}

/// A rate of 0 means that nobody knows it; saying nothing is better than saying 0.
fn rate(name: &str, kbps: u32) -> Option<(String, Value)> {
    (kbps > 0).then(|| number(name, f64::from(kbps)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn it_says_sizes_rates_and_codecs() {
        let shape = Shape::Video { width: 1280, height: 720, fps: 29.97, kbps: 3000 };
        let video = TrackConfig { header: Bytes::new(), shape };
        let shape = Shape::Audio { sample_rate: 48_000, channels: 2, kbps: 0 };
        let audio = TrackConfig { header: Bytes::new(), shape };
        let values = amf::decode(&body(Some(&video), Some(&audio)));
        assert_eq!(values[..2], [Value::text("@setDataFrame"), Value::text("onMetaData")]);
        let told = |name: &str| values[2].get(name).cloned();
        assert_eq!(told("height"), Some(Value::Number(720.0)));
        assert_eq!(told("videodatarate"), Some(Value::Number(3000.0)));
        assert_eq!(told("stereo"), Some(Value::Boolean(true)));
        assert_eq!(told("audiodatarate"), None);
    }
}
