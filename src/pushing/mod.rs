//! Pushes what was built to binary caches, as the setting `upload-caches` names them: in the
//! background while builds run ([`background`]), and by `windrow push` ([`command`]). What waits is
//! in the store's own database, so that it survives the run, whatever ends that.

mod background;
mod batch;
mod command;
mod outbox;
pub(crate) mod targets;

use windrow_components::settings::Settings;
use windrow_net::client::Notice;
use windrow_net::copy::{BinaryCache, CopyError, Destination};
use windrow_net::store_url::StoreUrl;
use windrow_store::Layout;
use windrow_store::own::uploads::UploadQueue;

use crate::caches::copy_config;
use crate::error::Result;
use crate::session::Session;

pub(crate) use background::while_building;
pub(crate) use command::{Push, list, run};

/// Opens a cache to write it.
fn open(
    url: &StoreUrl,
    settings: &Settings,
    layout: &Layout,
    notice: Notice,
) -> Result<Box<dyn Destination>, CopyError> {
    let config = copy_config(settings, layout, notice);
    Ok(Box::new(BinaryCache::open(url, &config)?))
}

/// What waits in the store of a session; `None` if nothing ever did.
///
/// # Errors
/// When it can't be read, or not be opened to be changed.
fn queue(session: &Session, to_change: bool) -> Result<Option<UploadQueue>> {
    match to_change {
        true => Ok(session.own_database(true)?.map(UploadQueue::new)),
        false => Ok(UploadQueue::open_read_only(&session.layout)?),
    }
}
