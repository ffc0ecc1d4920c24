//! Writing to a socket that has more than one writer, though never two at a time.
//!
//! A connection and a link each have a task that waits for their socket. Whoever has something to send while that task
//! has nothing to do sends it himself, and only what the socket does not take is left to the task.

use std::io;
use std::task::{Context, Poll};

use bytes::Buf;
use tokio::net::tcp::OwnedWriteHalf;

/// Like `AsyncWriteExt::write_all_buf`.
pub async fn write_all(output: &OwnedWriteHalf, bytes: &mut impl Buf) -> io::Result<()> {
    while bytes.has_remaining() {
        std::future::poll_fn(|cx| poll_write(output, cx, bytes)).await?;
    }
    Ok(())
}

/// Like `AsyncWrite::poll_write`, and takes what was written off `bytes`. Only for the task that waits for the socket.
pub fn poll_write(output: &OwnedWriteHalf, cx: &mut Context<'_>, bytes: &mut impl Buf) -> Poll<io::Result<usize>> {
    loop {
        std::task::ready!(output.as_ref().poll_write_ready(cx))?;
        match output.try_write(bytes.chunk()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            written => return Poll::Ready(written.inspect(|n| bytes.advance(*n))),
        }
    }
}
