# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034  # What is not assigned here is in bench.sh and bench_common.sh.
# A channel out of a bucket beside the bare loop over HTTP, and the bytes that are fetched. Sourced by bench.sh.

need_for_storage() {
  need_packages curl jq nginx openssl
  need_ffmpeg
  need_rust
  [ "$memory_kib" -ge "$small_machine_kib" ] || die "this machine has too little memory to build the support for buckets"
  s3_server=$("$root_folder/scripts/need_s3s.sh")
}

measure_storage() {
  long_clip
  short_clips
  start_sink
  step "measuring for whole rounds of 90 s: a long and a short file, over HTTP and out of the cache"
  measure_http
  step "counting bytes over rounds of 14 s, for about $seconds s"
  measure_bytes
}

# start_s3 NAME FILE...: a server whose bucket holds these files; sets `bucket` for put_on_air.
start_s3() {
  local name=$1 port objects=$work/objects-$1 id=id-of-the-bench secret=secret-of-the-bench
  shift
  port=$(free_port 19400)
  rm -rf "$objects"
  mkdir -p "$objects/media"
  ln "$@" "$objects/media"
  "$s3_server" --host 127.0.0.1 --port "$port" --access-key "$id" --secret-key "$secret" "$objects" \
    >"$work/s3-$name.log" 2>&1 &
  pids+=($!)
  answers() { curl -s -o /dev/null "http://127.0.0.1:$port"; }
  wait_for 10 answers || die "the S3 server did not start; see $work/s3-$name.log"
  bucket=(STORAGE_PROVIDER=s3 STORAGE_BUCKET=media STORAGE_ENDPOINT="http://127.0.0.1:$port"
    STORAGE_ACCESS_KEY_ID="$id" STORAGE_SECRET_ACCESS_KEY="$secret")
}

# count_in_front NAME: an nginx in front of the server of start_s3, which counts what it sends. The server cannot be
# asked: it reads a file for its ETag, too.
count_in_front() {
  local port place=$work/front-$1
  port=$(free_port 19600)
  rm -rf "$place"
  mkdir -p "$place"
  cat >"$place/nginx.conf" <<CONF
daemon off;
pid $place/pid;
error_log $place/error.log;
events {}
http {
  log_format sent '\$request_method \$body_bytes_sent \$uri';
  access_log $place/access.log sent;
  client_body_temp_path $place/body;
  proxy_temp_path $place/proxy;
  fastcgi_temp_path $place/fastcgi;
  uwsgi_temp_path $place/uwsgi;
  scgi_temp_path $place/scgi;
  server {
    listen 127.0.0.1:$port;
    location / {
      proxy_pass ${bucket[2]#*=};
      proxy_set_header Host \$http_host;
      proxy_http_version 1.1;
      proxy_buffering off;
    }
  }
}
CONF
  "$(PATH=$PATH:/usr/sbin command -v nginx)" -p "$place" -c "$place/nginx.conf" >"$place/log" 2>&1 &
  pids+=($!)
  in_front() { curl -s -o /dev/null "http://127.0.0.1:$port"; }
  wait_for 10 in_front || die "nginx did not start; see $place/error.log"
  bucket[2]=STORAGE_ENDPOINT=http://127.0.0.1:$port
}
sent_by() { awk '$1 == "GET" && $3 ~ /[.]mp4$/ {sum += $2} END {printf "%d", sum}' "$work/front-$1/access.log"; }

# signed_link KEY: an address that the server of start_s3 answers for a day, as a worker is led to one.
signed_link() {
  local at=${bucket[2]#*=} when scope query key part digest
  when=$(date -u +%Y%m%dT%H%M%SZ)
  scope=${when%T*}/us-east-1/s3/aws4_request
  query="X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=${bucket[3]#*=}/$scope&X-Amz-Date=$when"
  query="${query//\//%2F}&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
  digest=$(printf 'GET\n/media/%s\n%s\nhost:%s\n\nhost\nUNSIGNED-PAYLOAD' "$1" "$query" "${at#http://}" |
    sha256sum | cut -d' ' -f1)
  key=$(printf 'AWS4%s' "${bucket[4]#*=}" | od -An -v -tx1 | tr -d ' \n')
  for part in ${scope//\// } "AWS4-HMAC-SHA256"$'\n'"$when"$'\n'"$scope"$'\n'"$digest"; do
    key=$(hmac "$key" "$part")
  done
  printf '%s/media/%s?%s&X-Amz-Signature=%s\n' "$at" "$1" "$query" "$key"
}
hmac() { printf '%s' "$2" | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$1" | sed 's/.* //'; }

measure_http() {
  # A boundary of the long file is in it, too.
  local name file seconds=$(((seconds + 89) / 90 * 90))
  for name in long short; do
    file=$([ $name = long ] && echo long.mp4 || echo 1.mp4)
    start_s3 "$name" "$media/$name/$file"
    put_on_air "$name" false "${bucket[@]}" CACHE_BYTES=0
    bare_loop "bare-$name" "$(signed_link "$file")"
    put_on_air "$name-kept" false "${bucket[@]}" CACHE_BYTES=1GB
  done
  at_the_sink 6
  watch long long-kept bare-long short short-kept bare-short
  row "CPU of worker + source beside the bare loop, 90 s file" "$(ratio "${cpu[long]}" "${cpu[bare-long]}")" 0.90
  row "the same out of the cache" "$(ratio "${cpu[long-kept]}" "${cpu[bare-long]}")" 0.90
  printf 'with a file of 5 s: %s over HTTP, %s out of the cache\n' \
    "$(ratio "${cpu[short]}" "${cpu[bare-short]}")" "$(ratio "${cpu[short-kept]}" "${cpu[bare-short]}")"
  end_from 1
}

cache_of() { api=${api_of[$1]} auth=${auth_of[$1]} ask "${api_of[$1]}/api/media/cache" | jq "$2"; }
measure_bytes() {
  local name loop loops=$(((seconds + 13) / 14))
  declare -A at_start=() fetched=() api_of=() auth_of=()
  loop=$(cat "$media"/short/[123].mp4 | wc -c)
  for name in kept through; do
    start_s3 "$name" "$media"/short/[123].mp4
    count_in_front "$name"
    put_on_air "$name" false "${bucket[@]}" CACHE_BYTES="$([ $name = kept ] && echo 1GB || echo 0)"
    api_of[$name]=$api auth_of[$name]=$auth
  done
  all_kept() { [ "$(cache_of kept .files)" = 3 ]; }
  wait_for 60 all_kept || die "the files were not fetched"
  row "fetched until all is kept, part of the loop" "$(ratio "$(cache_of kept .fetched_bytes)" "$loop")" 1.00
  # What was opened before the copies were there is over by then.
  sleep 14
  for name in kept through; do
    at_start[$name]=$(sent_by "$name")
    fetched[$name]=$(cache_of "$name" .fetched_bytes)
  done
  sleep $((loops * 14))
  for name in kept through; do
    at_start[$name]=$((($(sent_by "$name") - at_start[$name]) / loops))
    printf '%-10s %s bytes per loop of %s sent by the server; hits %s, misses %s\n' "$name" "${at_start[$name]}" \
      "$loop" "$(cache_of "$name" .hits)" "$(cache_of "$name" .misses)"
  done
  row "bytes per loop with the cache, part of the loop" "$(ratio "${at_start[kept]}" "$loop")" 0.01
  row "bytes that the cache fetched meanwhile" "$(($(cache_of kept .fetched_bytes) - fetched[kept]))" 0
  row "bytes per loop without the cache, part of the loop" "$(ratio "${at_start[through]}" "$loop")" 1.10
}
