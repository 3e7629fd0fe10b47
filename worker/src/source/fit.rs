//! How a picture is made to fit the profile: FFmpeg's filters and encoder for it. Pure text; what is decided is in
//! `recipe`.

use super::probe::VideoInfo;
use super::recipe::words;
use state::profile::Profile;
use std::ffi::OsString;

/// Pictures of at least this height are meant in BT.709 where they do not say; smaller ones in BT.601.
const HD_HEIGHT: u32 = 720;

/// All filters for a picture: whole frames in the profile's size and rate, square pixels, 8 bit, BT.709 by name.
pub(crate) fn filter(profile: &Profile, video: Option<&VideoInfo>) -> String {
    let deinterlace = deinterlace(video);
    format!("{deinterlace}{}", house(profile, video))
}

/// What makes frames of fields, with a comma at its end; nothing where there are none.
pub(crate) fn deinterlace(video: Option<&VideoInfo>) -> &'static str {
    if video.is_some_and(|v| v.interlaced) { "yadif=deint=interlaced," } else { "" }
}

/// The filters after that. The settings at the end are those under which x264 writes the same parameter sets for
/// every source.
pub(crate) fn house(profile: &Profile, video: Option<&VideoInfo>) -> String {
    let Profile { width, height, fps, .. } = profile;
    let scale = scale(profile, video);
    let tone = video.filter(|v| v.is_hdr()).map(tone).unwrap_or_default();
    format!(
        "{scale},{tone}pad={width}:{height}:(ow-iw)/2:(oh-ih)/2,setsar=1,fps={fps},format=yuv420p,\
         setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709:range=tv"
    )
}

/// High dynamic range onto what everybody can see, with a comma at its end. The scaled picture is small, which keeps
/// this cheap. 150 cd/m² for white keeps a middle grey (26 cd/m², ITU-R BT.2408) what it is; what the file leaves out is
/// what BT.2100 says.
fn tone(video: &VideoInfo) -> String {
    let said = |name: &str| !matches!(name, "" | "unknown" | "reserved");
    let matrix = if said(&video.matrix) { "" } else { "setparams=colorspace=bt2020nc," };
    let primaries = if said(&video.primaries) { "" } else { "setparams=color_primaries=bt2020," };
    format!(
        "{matrix}{primaries}zscale=t=linear:npl=150,format=gbrpf32le,zscale=p=bt709,tonemap=mobius:desat=0,\
         zscale=t=bt709:m=bt709:r=tv,format=yuv420p,"
    )
}

/// Into the profile's frame, with room at two sides where the shapes differ. `dar` is the shape in which the picture
/// is meant to be seen, whatever its pixels are.
fn scale(profile: &Profile, video: Option<&VideoInfo>) -> String {
    let Profile { width, height, .. } = profile;
    let w = format!("max(2\\,min({width}\\,round({height}*dar/2)*2))");
    let h = format!("max(2\\,min({height}\\,round({width}/dar/2)*2))");
    let colours = match video {
        // The slate is drawn in what it is to be; the tones of HDR are made of what they are.
        None => String::new(),
        Some(video) if video.is_hdr() => String::new(),
        Some(video) => format!(":in_color_matrix={}:out_color_matrix=bt709:out_range=tv", matrix(video)),
    };
    format!("scale={w}:{h}{colours}")
}

/// The matrix that a picture's colours are coded with, in FFmpeg's words for its scaler.
fn matrix(video: &VideoInfo) -> &'static str {
    match video.matrix.as_str() {
        "bt709" => "bt709",
        "bt470bg" | "smpte170m" => "bt601",
        "fcc" => "fcc",
        "smpte240m" => "smpte240m",
        "bt2020nc" | "bt2020c" => "bt2020",
        _ if video.height >= HD_HEIGHT => "bt709",
        _ => "bt601",
    }
}

/// x264 at a constant rate with closed GOPs of 2 s; never CRF, whose value would change the picture parameter set.
pub(crate) fn encoder(profile: &Profile) -> Vec<OsString> {
    let gop = (profile.fps.per_second() * 2.0).round().max(1.0);
    let kbps = profile.video_kbps;
    words(&format!(
        "-c:v libx264 -preset veryfast -profile:v high -level {} -bf 2 -g {gop} -keyint_min {gop} -sc_threshold 0 \
         -b:v {kbps}k -maxrate {kbps}k -bufsize {}k",
        level(profile),
        kbps * 2
    ))
}

/// The lowest common H.264 level (table A-1) that holds the picture; never `auto`, which depends on the source.
fn level(profile: &Profile) -> &'static str {
    let rate = f64::from(profile.width.div_ceil(16) * profile.height.div_ceil(16)) * profile.fps.per_second();
    match rate {
        r if r <= 245_760.0 => "4.0",
        r if r <= 522_240.0 => "4.2",
        r if r <= 983_040.0 => "5.1",
        _ => "6.2",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn video(matrix: &str, transfer: &str, height: u32) -> VideoInfo {
        VideoInfo { matrix: matrix.into(), transfer: transfer.into(), height, ..VideoInfo::default() }
    }

    #[test]
    fn colours_are_taken_for_what_they_are_or_for_what_is_usual_at_their_size() {
        let cases = [
            ("bt709", 480, "bt709"),
            ("smpte170m", 1080, "bt601"),
            ("", 576, "bt601"),
            ("unknown", 720, "bt709"),
        ];
        for (said, height, meant) in cases {
            let filter = filter(&Profile::default(), Some(&video(said, "", height)));
            assert!(filter.contains(&format!("in_color_matrix={meant}:out_color_matrix=bt709")), "{filter}");
        }
    }

    #[test]
    fn only_high_dynamic_range_is_mapped_and_only_fields_are_joined() {
        for (transfer, mapped) in [("smpte2084", true), ("arib-std-b67", true), ("bt709", false), ("", false)]
        {
            let filter = filter(&Profile::default(), Some(&video("bt2020nc", transfer, 2160)));
            assert_eq!(filter.contains("tonemap"), mapped, "{filter}");
        }
        let bare = filter(&Profile::default(), Some(&video("", "smpte2084", 2160)));
        assert!(
            bare.contains("setparams=colorspace=bt2020nc,setparams=color_primaries=bt2020,zscale"),
            "{bare}"
        );
        let fields = VideoInfo { interlaced: true, ..VideoInfo::default() };
        assert!(filter(&Profile::default(), Some(&fields)).starts_with("yadif"));
        assert!(filter(&Profile::default(), None).starts_with("scale"));
    }
}
