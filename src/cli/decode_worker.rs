//! `decode-worker`: the process that decodes photos for a server (`decode/apart.rs`). No command of people's: no help tells of
//! it, and it reads no settings, for it is to have nothing of its server's.

use anyhow::Context;

use super::Answer;
use crate::decode::worker;

/// Does what the arguments say, where they say that this process is a decoder.
pub(super) fn run() -> Option<anyhow::Result<Answer>> {
    // Arguments that are not UTF-8 are none of its own.
    let mut arguments = std::env::args_os().skip(1).map_while(|argument| argument.into_string().ok());
    if arguments.next()? != worker::COMMAND {
        return None;
    }
    let done = worker::run(arguments).map(|()| Answer::Yes);
    Some(done.with_context(|| format!("cannot work as {}, which `serve --isolate-decoding` starts", worker::COMMAND)))
}
