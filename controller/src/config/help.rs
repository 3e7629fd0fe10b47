//! What `--help` prints: every variable in one line or two. What they mean in full is in docs/configuration.md.

/// What `--help` prints.
pub const HELP: &str = "\
stream-controller: keeps live channels on the air. Configured by environment variables only; all are optional.

  STATE_DIR            where everything is remembered (./data)
  HLS_DIR              where workers write HLS (STATE_DIR/hls)
  CONTROLLER_BIND      address and port of the API (127.0.0.1:8080)
  TRUSTED_PROXIES      addresses or networks of proxies in front, separated by commas
  CORS_ORIGINS         origins that browsers may call the API from, separated by commas (none)
  STORAGE_PROVIDER     where media live: local, r2 or s3 (local)
  STORAGE_LOCAL_DIR    folder with media (./media)
  STORAGE_PREFIX       only media whose key starts with this
  STORAGE_BUCKET, STORAGE_ACCESS_KEY_ID, STORAGE_SECRET_ACCESS_KEY
                       for r2 and s3
  STORAGE_ACCOUNT_ID   for r2: the account id (or STORAGE_ENDPOINT)
  STORAGE_ENDPOINT     for s3: https://... of the service, unless it is AWS
  STORAGE_REGION       for s3: the region (auto for r2)
  STORAGE_LINK_TTL_S   how long a signed link to an object is valid, s, 60 to 604800 (86400)
  STORAGE_PREPARED_PREFIX
                       folder of the bucket for prepared files, such as prepared/; other hosts find them there (none)
  CACHE_BYTES          copies of bucket media kept on this disk, such as 20GB; 0 keeps none
                       (10GB, or half of the free disk if that is less)
  CACHE_BYTES_PER_S    how fast they are fetched, such as 5MB; 0 is no limit (0)
  YOUTUBE_STREAM_KEY   sends channel main to YouTube
  YOUTUBE_RTMP_URL     (rtmps://a.rtmps.youtube.com:443/live2)
  FFMPEG_PATH          (ffmpeg)      5.1 or newer
  FFPROBE_PATH         (ffprobe)
  KEY_URL_PRIVATE      on or off (off): a destination's key_url may lead to this machine and its neighbours, and be
                       plain http
  TLS_CA_FILE          certificates to trust besides the system's, PEM
  MASTER_KEY           64 hexadecimal digits that seal stream keys (STATE_DIR/master.key, made when missing)
  WORKER_PATH          the worker program (stream-worker beside this one)
  PREPARE              on or off (on): files that do not fit their channel are prepared once
  PREPARE_LOUDNESS_LUFS
                       how loud prepared files become, -31 to -5 (-14)
  PREPARE_PEAK_DBTP    and their highest true peak, -9 to -1 (-1)
  PREPARE_PART_SECONDS an interrupted preparation loses at most this much of a file, 2 to 3600 (60)
  ALERT_WEBHOOKS       who is told of what is wrong: standard=, discord=, telegram= or ntfy= and an address,
                       separated by commas (none)
  ALERT_WEBHOOK_SECRET signs what standard ones are told: whsec_ and base64
  ALERT_ALLOW_PRIVATE  1 lets webhooks and the ping be in a private network or without TLS (0)
  ALERT_REMINDER_HOURS who does nothing is reminded after so many hours, 0 to 720; 0 is never (12)
  DEADMAN_URL          fetched while all wanted channels are on the air, so that somebody notices when it is not
  DEADMAN_SECONDS      how often, 1 to 86400 (60)
  LOG_LEVEL            trace, debug, info, warn, error (info)
  LOG_FORMAT           text or json (text)

Secrets may be given as files $CREDENTIALS_DIRECTORY/<variable in lower case> instead.
  --help, --version
";
