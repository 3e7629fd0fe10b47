//! A real nginx with its RTMP module: its own folder, its own ports, one process in the foreground.

use super::PATIENCE;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub struct Nginx {
    folder: TempDir,
    process: Option<Child>,
    pub rtmp_port: u16,
    pub rtmps_port: u16,
}

impl Nginx {
    /// Records what is published to `live`, one file for each publication.
    pub fn start() -> Self {
        Self::launch("")
    }

    /// The same, with TLS in front of it; the certificate is for `localhost` and signed by [`Self::authority`].
    pub fn start_with_tls() -> Self {
        Self::launch(
            "stream { server { listen 127.0.0.1:RTMPS ssl; ssl_certificate FOLDER/server.pem; \
             ssl_certificate_key FOLDER/server.key; proxy_pass 127.0.0.1:RTMP; } }",
        )
    }

    fn launch(stream: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("recordings")).unwrap();
        if !stream.is_empty() {
            make_certificates(folder.path());
        }
        let mut nginx = Self { folder, process: None, rtmp_port: 0, rtmps_port: 0 };
        let listens = (0..5).any(|_| {
            (nginx.rtmp_port, nginx.rtmps_port) = (free_port(), free_port());
            nginx.configure(stream);
            nginx.try_run()
        });
        assert!(listens, "{}", nginx.log());
        nginx
    }

    fn configure(&self, stream: &str) {
        let text = CONFIGURATION.replace("STREAM", stream);
        let text = text.replace("FOLDER", self.folder.path().to_str().unwrap());
        let text = text.replace("MODULES", &modules());
        let text = text.replace("RTMPS", &self.rtmps_port.to_string());
        fs::write(self.file("nginx.conf"), text.replace("RTMP", &self.rtmp_port.to_string())).unwrap();
    }

    /// Starts the process again.
    pub fn run(&mut self) {
        assert!(self.try_run(), "{}", self.log());
    }

    /// Starts the process and waits until it has written its process id, which it does once it listens. False
    /// when it ended instead, because somebody took its port.
    fn try_run(&mut self) -> bool {
        let _ = fs::remove_file(self.file("nginx.pid"));
        let mut child = Command::new(program())
            .args([
                "-p",
                self.folder.path().to_str().unwrap(),
                "-c",
                self.file("nginx.conf").to_str().unwrap(),
            ])
            .args(["-e", self.file("error.log").to_str().unwrap()])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        while !self.file("nginx.pid").exists() {
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(began.elapsed() < PATIENCE, "{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        self.process = Some(child);
        true
    }

    /// Ends the process as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.process.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Freezes the process: its kernel goes on listening, it does not.
    pub fn freeze(&self) {
        let pid = rustix::process::Pid::from_child(self.process.as_ref().unwrap());
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    }

    pub fn url(&self, app: &str) -> String {
        format!("rtmp://127.0.0.1:{}/{app}", self.rtmp_port)
    }

    pub fn rtmps_url(&self, app: &str) -> String {
        format!("rtmps://localhost:{}/{app}", self.rtmps_port)
    }

    /// The authority that signed the server's certificate.
    pub fn authority(&self) -> PathBuf {
        self.file("ca.pem")
    }

    /// Recordings so far, oldest first.
    pub fn recordings(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.file("recordings")).unwrap().map(|file| file.unwrap().path());
        let mut files: Vec<PathBuf> = files.collect();
        files.sort_by_key(|file| fs::metadata(file).and_then(|data| data.created()).unwrap());
        files
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.file("error.log")).unwrap_or_default()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.kill();
    }
}

const CONFIGURATION: &str = "
load_module MODULES/ngx_stream_module.so;
load_module MODULES/ngx_rtmp_module.so;
daemon off; master_process off; worker_processes 1; pid FOLDER/nginx.pid; error_log FOLDER/error.log info;
events { worker_connections 64; }
rtmp { server { listen 127.0.0.1:RTMP; ack_window 20000; ping 2s; ping_timeout 2s; access_log off;
  application live { live on; record all; record_path FOLDER/recordings; record_unique on; } } }
STREAM
";

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Distributions put it where only root looks.
fn program() -> &'static str {
    if Path::new("/usr/sbin/nginx").exists() { "/usr/sbin/nginx" } else { "nginx" }
}

fn modules() -> String {
    let output = Command::new(program()).arg("-V").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let path = said.split("--modules-path=").nth(1).and_then(|rest| rest.split_whitespace().next());
    path.expect("an nginx with dynamic modules").to_owned()
}

fn make_certificates(folder: &Path) {
    let openssl = |arguments: &str| {
        let output =
            Command::new("openssl").args(arguments.split_whitespace()).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    fs::write(folder.join("names"), "subjectAltName=DNS:localhost\n").unwrap();
    let new_key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(&format!("req -x509 {new_key} -keyout ca.key -out ca.pem -subj /CN=Test -days 2"));
    openssl(&format!("req {new_key} -keyout server.key -out server.csr -subj /CN=localhost"));
    openssl(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem",
    );
}
