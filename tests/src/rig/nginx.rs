//! nginx with its RTMP module: a receiver that nobody here wrote. It records every publish; a TLS front with a
//! certificate of a private authority is in front of it.

use super::program;
use crate::media::run;
use anyhow::{Context, Result};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// A running nginx.
#[derive(Debug)]
pub struct Nginx {
    child: Child,
    folder: TempDir,
    plain: u16,
    tls: u16,
}

impl Nginx {
    /// Starts it on two free ports: RTMP and RTMPS.
    pub fn start() -> Result<Self> {
        Self::start_before(None)
    }

    /// The same, with another server behind the TLS front.
    pub fn in_front_of(server: SocketAddr) -> Result<Self> {
        Self::start_before(Some(server))
    }

    fn start_before(server: Option<SocketAddr>) -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder for nginx")?;
        let (plain, tls) = (program::free_port()?, program::free_port()?);
        std::fs::create_dir(folder.path().join("recordings")).context("make a folder for recordings")?;
        certify(folder.path())?;
        let config = folder.path().join("nginx.conf");
        std::fs::write(&config, configuration(folder.path(), plain, tls, server))
            .context("write nginx.conf")?;
        let mut command = Command::new(nginx_program());
        command.args(["-e", "stderr", "-c"]).arg(config).stdin(Stdio::null()).stderr(Stdio::null());
        let child =
            command.spawn().context("start nginx (is it installed, with its RTMP and stream modules?)")?;
        let mut rig = Self { child, folder, plain, tls };
        program::wait_for("nginx", Duration::from_secs(10), || {
            if let Some(status) = rig.child.try_wait().context("look after nginx")? {
                anyhow::bail!("nginx ended at once with {status}: {}", rig.log());
            }
            Ok([plain, tls]
                .iter()
                .all(|p| std::net::TcpStream::connect(("127.0.0.1", *p)).is_ok())
                .then_some(()))
        })?;
        Ok(rig)
    }

    /// Address of its application over plain RTMP, without a key.
    pub fn url(&self) -> String {
        format!("rtmp://127.0.0.1:{}/live", self.plain)
    }

    /// The same over TLS.
    pub fn tls_url(&self) -> String {
        format!("rtmps://localhost:{}/live", self.tls)
    }

    /// Host and port of the TLS front.
    pub fn tls_address(&self) -> String {
        format!("localhost:{}", self.tls)
    }

    /// The certificate of the private authority, in PEM.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// How many publishes began.
    pub fn publishes(&self) -> usize {
        self.log().matches("publish: name=").count()
    }

    /// How many publishes with this key were asked for. Recordings cannot tell: two that begin in the same second
    /// have the same name.
    pub fn publishes_of(&self, key: &str) -> usize {
        self.log().matches(&format!("publish: name='{key}'")).count()
    }

    /// The recordings, oldest first.
    pub fn recordings(&self) -> Result<Vec<PathBuf>> {
        let entries =
            std::fs::read_dir(self.folder.path().join("recordings")).context("list the recordings")?;
        let mut found: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
        found.sort_by_key(|path| path.metadata().and_then(|m| m.modified()).ok());
        Ok(found)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("error.log")).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        program::end(&mut self.child, Duration::from_secs(10));
    }
}

/// Debian keeps it where an ordinary user's PATH does not look.
fn nginx_program() -> &'static str {
    if Path::new("/usr/sbin/nginx").exists() { "/usr/sbin/nginx" } else { "nginx" }
}

fn configuration(folder: &Path, plain: u16, tls: u16, server: Option<SocketAddr>) -> String {
    let folder = folder.display();
    let behind = server.unwrap_or(SocketAddr::from(([127, 0, 0, 1], plain)));
    // Modules are looked up beside nginx's own prefix; one process, so that it ends as one.
    format!(
        "load_module modules/ngx_rtmp_module.so;\n\
         load_module modules/ngx_stream_module.so;\n\
         daemon off;\nmaster_process off;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log info;\n\
         events {{ worker_connections 128; }}\n\
         rtmp {{ access_log off; server {{ listen 127.0.0.1:{plain}; chunk_size 4096; ping 10s; ping_timeout 10s;\n\
           application live {{ live on; record all; record_unique on; record_path {folder}/recordings; }} }} }}\n\
         stream {{ server {{ listen 127.0.0.1:{tls} ssl; proxy_pass {behind};\n\
           ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server.key; }} }}\n"
    )
}

/// Makes an authority (`ca.pem`) and a certificate of it for localhost (`server.pem`, `server.key`).
fn certify(folder: &Path) -> Result<()> {
    let openssl = |arguments: &str| {
        let mut command = Command::new("openssl");
        run(command.args(arguments.split_whitespace()).current_dir(folder)).context("make certificates")
    };
    let names = "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n";
    std::fs::write(folder.join("names"), names).context("write the certificate's names")?;
    let new = "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!("{new} -x509 -days 2 -subj /CN=Test-CA -keyout ca.key -out ca.pem"))?;
    openssl(&format!("{new} -subj /CN=localhost -keyout server.key -out server.csr"))?;
    openssl(
        "x509 -req -days 2 -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile names -out server.pem",
    )?;
    Ok(())
}
