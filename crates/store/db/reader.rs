//! The database for threads beside the scheduler's: one connection, opened when somebody first
//! asks. Answers questions only; the scheduler decides what becomes valid.

use std::sync::Mutex;

use windrow_sys::mutex;

use crate::Database;
use crate::DatabaseOptions;
use crate::Layout;
use crate::error::Result;

/// A connection that threads share.
#[derive(Debug)]
pub struct Reader {
    layout: Layout,
    options: DatabaseOptions,
    database: Mutex<Option<Database>>,
}

impl Reader {
    /// A reader of that store's database, which is not opened yet.
    pub fn new(layout: Layout, options: DatabaseOptions) -> Self {
        Self {
            layout,
            options,
            database: Mutex::new(None),
        }
    }

    /// Asks the database; one thread at a time does.
    ///
    /// # Errors
    /// When the database can't be opened, and those of the question.
    pub fn ask<T>(&self, question: impl FnOnce(&Database) -> Result<T>) -> Result<T> {
        // Whoever panicked while asking left at most a transaction that only reads.
        let mut database = mutex::lock(&self.database);
        let database = match &mut *database {
            Some(database) => database,
            // Opened like the scheduler's own, for only so do their locks exclude each other in
            // every mode.
            closed => closed.insert(Database::open(&self.layout, &self.options)?),
        };
        question(database)
    }

    /// Where the store lies.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }
}
