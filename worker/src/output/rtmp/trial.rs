//! A connection test: every step of the way to a server but the last. Nothing is published, and the key stays here.

use super::dial::{self, Addresses, Link};
use super::failure::{Failure, Stage};
use super::protocol::handshake;
use super::protocol::publish::{self, PublishError};
use super::protocol::url::Target;
use serde::{Deserialize, Serialize};
use state::mask;
use state::wire::DestinationSpec;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest time for one step; there are five.
const STEP: Duration = Duration::from_secs(4);

/// What is to be tried.
#[derive(Debug, Deserialize)]
pub struct Trial {
    /// Where.
    #[serde(flatten)]
    pub destination: DestinationSpec,
    /// Certificates to trust besides the system's, in PEM.
    #[serde(default)]
    pub tls_ca_file: Option<PathBuf>,
}

/// How it went.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// The steps up to the first that failed.
    pub steps: Vec<Step>,
    /// Whether all went well.
    pub ok: bool,
}

/// One step: `resolve`, `connect`, `tls`, `handshake`, `rtmp`; `url` where the address cannot be used.
#[derive(Debug, Serialize)]
pub struct Step {
    /// Which.
    pub step: &'static str,
    /// Whether it went well.
    pub ok: bool,
    /// How long it took.
    pub ms: u64,
    /// What happened, and what to do if it failed. No secrets.
    pub words: String,
    /// The address of the server: the first one after `resolve`, the one in use after `connect`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

impl Trial {
    /// Tries all steps, each within four seconds.
    pub async fn run(&self) -> Outcome {
        let mut steps = Steps(Vec::new());
        let went = match Target::parse(&self.destination.url, &self.destination.key) {
            Ok(target) => self.walk(&target, &mut steps).await,
            Err(error) => {
                steps.note("url", Instant::now(), Err::<(), _>(Failure::bad_url(&error)), |()| no_words())
            }
        };
        Outcome { ok: went.is_some(), steps: steps.0 }
    }

    async fn walk(&self, target: &Target, steps: &mut Steps) -> Option<()> {
        let clean = |failure: Failure| failure.cleaned(target);

        let began = Instant::now();
        let found = dial::resolve(target, &mut Addresses::default(), STEP).await;
        let addresses = steps.note("resolve", began, found.map_err(clean), |found| resolved(found))?;

        let began = Instant::now();
        let connected = dial::connect(target, &addresses, STEP).await;
        let (tcp, _) = steps.note("connect", began, connected.map_err(clean), connected_to)?;

        let began = Instant::now();
        let secured = dial::secure(target, tcp, self.tls_ca_file.as_deref(), STEP).await;
        let mut link = match target.tls {
            true => steps.note("tls", began, secured.map_err(clean), |_| verified(target))?,
            false => secured.ok()?,
        };

        let began = Instant::now();
        let shaken = within("shake hands", target, Stage::Handshake, handshake::shake(&mut link)).await;
        let c2 = steps.note("handshake", began, shaken.map_err(clean), |_| spoken())?;

        let began = Instant::now();
        let accepted =
            within("accept the application", target, Stage::Publish, connect(&mut link, c2, target)).await;
        steps.note("rtmp", began, accepted.map_err(clean), |()| accepted_as(target))
    }
}

async fn connect(link: &mut Link, c2: Vec<u8>, target: &Target) -> Result<(), PublishError> {
    publish::connect(link, c2, target).await.map(|_| ())
}

async fn within<T>(
    what: &str,
    target: &Target,
    stage: Stage,
    step: impl Future<Output = Result<T, PublishError>>,
) -> Result<T, Failure> {
    let done = timeout(STEP, step).await.map_err(|_| Failure::timeout(target, what, STEP))?;
    done.map_err(|error| Failure::publish(target, stage, &error))
}

/// Words, and an address where there is one.
type Said = (String, Option<String>);

fn no_words() -> Said {
    (String::new(), None)
}

fn resolved(addresses: &[SocketAddr]) -> Said {
    let first = addresses.first().map(ToString::to_string);
    (
        format!(
            "The name has {} usable address{}.",
            addresses.len(),
            if addresses.len() == 1 { "" } else { "es" }
        ),
        first,
    )
}

fn connected_to((_, address): &(TcpStream, SocketAddr)) -> Said {
    ("The server answers.".to_owned(), Some(address.to_string()))
}

fn verified(target: &Target) -> Said {
    (format!("The certificate is valid for {}.", target.host), None)
}

fn spoken() -> Said {
    ("The server speaks RTMP.".to_owned(), None)
}

fn accepted_as(target: &Target) -> Said {
    let app = target.app.split('?').next().unwrap_or_default();
    let app = mask::line(app, &target.secrets());
    (
        format!(
            "The application {app} is accepted. The stream key was not tried: only a publication shows it."
        ),
        None,
    )
}

struct Steps(Vec<Step>);

impl Steps {
    /// Notes a step; `None` when it failed.
    fn note<T>(
        &mut self,
        step: &'static str,
        began: Instant,
        result: Result<T, Failure>,
        say: impl FnOnce(&T) -> Said,
    ) -> Option<T> {
        let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (ok, (words, address)) = match &result {
            Ok(value) => (true, say(value)),
            Err(failure) => (false, (failure.words.clone(), None)),
        };
        self.0.push(Step { step, ok, ms, words, address });
        result.ok()
    }
}
