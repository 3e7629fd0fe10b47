//! The simple handshake (RTMP 1.0, section 5.2). The digest form was for Flash servers; no ingest of today asks for it.

use super::chunk::Malformed;
use super::publish::PublishError;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const VERSION: u8 = 3;
const LENGTH: usize = 1536;

/// Sends C0 and C1, reads S0, S1 and S2, and returns C2, which travels together with the first commands.
///
/// # Errors
/// When the connection ends, or when the peer's version is not RTMP's.
pub async fn shake<S>(io: &mut S) -> Result<Vec<u8>, PublishError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut hello = [0; 1 + LENGTH];
    hello[0] = VERSION;
    state::ids::fill_random(&mut hello[9..]); // after our time and four zero bytes
    io.write_all(&hello).await?;
    io.flush().await?;
    let mut answer = [0; 1 + 2 * LENGTH];
    io.read_exact(&mut answer[..1]).await?;
    if answer[0] != VERSION {
        return Err(Malformed("not an RTMP server").into());
    }
    io.read_exact(&mut answer[1..]).await?;
    Ok(answer[1..=LENGTH].to_vec())
}
