// What runs in the page: hls.js plays, a canvas samples what is shown, and everything odd is written down.

const BLACK_LUMA = 24;

const seen = {
  played_s: 0,
  errors: [],
  black_samples: 0,
  samples: 0,
  stalls: 0,
  discontinuities_seen: 0,
  items: [],
  dropped_frames: 0,
};

const video = document.getElementById("video");
const canvas = document.createElement("canvas");
canvas.width = 160;
canvas.height = 90;
const context = canvas.getContext("2d", { willReadFrequently: true });
let started = null;

function luma() {
  context.drawImage(video, 0, 0, canvas.width, canvas.height);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  return Array.from({ length: data.length / 4 }, (_, i) =>
    0.299 * data[4 * i] + 0.587 * data[4 * i + 1] + 0.114 * data[4 * i + 2]);
}

// The item's number: the first row of the clip's barcode, 8 blocks of a tenth of the picture each.
function item(pixels) {
  let number = 0;
  for (let column = 0; column < 8; column += 1) {
    const x = Math.round((column + 1.5) * canvas.width / 10);
    const y = Math.round(1.5 * canvas.height / 10);
    if (pixels[y * canvas.width + x] > 110) number |= 1 << column;
  }
  return number;
}

// Called for every picture that is presented, so that not one black picture goes by.
function sample() {
  video.requestVideoFrameCallback(sample);
  started ??= video.currentTime;
  const pixels = luma();
  const mean = pixels.reduce((sum, value) => sum + value, 0) / pixels.length;
  seen.samples += 1;
  if (mean < BLACK_LUMA) seen.black_samples += 1;
  const number = item(pixels);
  if (seen.items.at(-1) !== number) seen.items.push(number);
  seen.played_s = video.currentTime - started;
  seen.dropped_frames = video.getVideoPlaybackQuality().droppedVideoFrames;
}

function play(url) {
  const hls = new Hls({ enableWorker: false });
  let counter = null;
  hls.on(Hls.Events.ERROR, (_, data) => {
    if (data.details === "bufferStalledError") seen.stalls += 1;
    seen.errors.push({ type: data.type, details: data.details, fatal: data.fatal, reason: String(data.error ?? "") });
  });
  hls.on(Hls.Events.FRAG_CHANGED, (_, { frag }) => {
    if (counter !== null && frag.cc !== counter) seen.discontinuities_seen += 1;
    counter = frag.cc;
  });
  video.addEventListener("waiting", () => { if (started !== null) seen.stalls += 1; });
  video.addEventListener("error", () => seen.errors.push({ type: "video", details: video.error?.message, fatal: true }));
  hls.loadSource(url);
  hls.attachMedia(video);
  hls.on(Hls.Events.MANIFEST_PARSED, () => video.play().catch((error) =>
    seen.errors.push({ type: "play", details: String(error), fatal: true })));
  video.requestVideoFrameCallback(sample);
}

window.play = play;
window.seen = seen;
