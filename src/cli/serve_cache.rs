//! `windrow serve-cache`: this store as a binary cache over HTTP.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use windrow_net::serve::{Event, Limits, Notice, Offer, Packing, ServeError, Server};
use windrow_store::signer::Signer;
use windrow_sys::{interrupt, threads};

use super::{CommonArgs, print_lines};
use crate::error::{Error, Result};
use crate::session::Usual;
use crate::terminal::complain;

#[derive(Debug, Args)]
pub(super) struct ServeCacheArgs {
    /// Listen there; [::]:8080 is for all who reach this machine, port 0 any that is free
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    listen: String,

    /// Sign what is served with the key in FILE; may be repeated [default: setting
    /// secret-key-files]
    #[arg(long, value_name = "FILE")]
    secret_key_file: Vec<PathBuf>,

    /// Tell clients that the cache has priority N; they take the lowest first
    #[arg(
        long,
        value_name = "N",
        default_value_t = 30,
        allow_negative_numbers = true
    )]
    priority: i64,

    /// Compress archives; those that are not can be fetched in parts
    #[arg(long, value_enum, default_value_t = Compression::Zstd)]
    compression: Compression,

    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Compression {
    Zstd,
    None,
}

pub(super) fn run(args: &ServeCacheArgs) -> Result<()> {
    let session = args.common.session_with(&[], |_| Usual::OfMachine)?;
    let files = match args.secret_key_file.is_empty() {
        true => session
            .settings
            .secret_key_files
            .iter()
            .map(PathBuf::from)
            .collect(),
        false => args.secret_key_file.clone(),
    };
    let keys = Signer::new(files).load()?.to_vec();
    if keys.is_empty() && args.common.quiet == 0 {
        complain(
            "warning: this cache signs nothing, so others take only what was signed before; give \
             --secret-key-file, or have them say 'trusted=true' in its URL",
        );
    }
    let offer = Offer {
        read_only: session.read_only,
        keys,
        priority: args.priority,
        packing: match args.compression {
            Compression::Zstd => Packing::Zstd,
            Compression::None => Packing::None,
        },
        layout: session.layout,
    };
    // What is being sent may end after the first signal.
    let _patient = interrupt::Patient::new();
    let server = Server::bind(&args.listen, offer, Limits::default(), notice(&args.common))?;
    print_lines([format!("serving at http://{}", server.address())])?;
    let stopper = server.stopper();
    let stopping = threads::spawn("stop", move || {
        wait_for_signal();
        stopper.stop();
    });
    stopping.map_err(ServeError::Means)?;
    server.run();
    match interrupt::signal() {
        Some(signal) if interrupt::is_signalled() => Err(Error::Interrupted { signal }),
        // The first signal is how it ends: another status would be a failure to whoever runs
        // services.
        _ => Ok(()),
    }
}

fn wait_for_signal() {
    let Some(event) = interrupt::event() else {
        return std::thread::park();
    };
    let mut events = [PollFd::new(event, PollFlags::POLLIN)];
    while poll(&mut events, PollTimeout::NONE) == Err(Errno::EINTR) {}
}

/// What is said of requests: each with `-v`, else only trouble.
fn notice(common: &CommonArgs) -> Notice {
    let (tells_all, tells_trouble) = (common.verbose > common.quiet, common.quiet == 0);
    Arc::new(move |event: &Event<'_>| match event {
        Event::Answered(answered) if tells_all => complain(&answered.to_string()),
        Event::Trouble(text) if tells_trouble => complain(&format!("warning: {text}")),
        _ => {}
    })
}
