//! RocksDB behind [`Image`].
//!
//! One column family, no write-ahead log: a batch lies in one memtable, and memtables reach the disk in their
//! order, so whatever a crash leaves is the state after some batch. Buffers are small, since the tree is in
//! memory anyway and the rows are read once, at a start.

use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock, mpsc};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rocksdb::{BlockBasedOptions, Cache, DB, DBCompressionType, LogLevel, Options, ReadOptions, WriteBatch};

use crate::storage::image::{Batch, TakeRow, View};
use crate::storage::{Image, ImageError};

const MEMTABLE: usize = 8 << 20;
/// A file is written out when it is complete, and whoever syncs the log at that time waits for all of it. (RocksDB
/// could write it out in pieces, `bytes_per_sync`, but the crate builds it without what that needs.)
const FILE: u64 = 8 << 20;
const BLOCK_CACHE: usize = 1 << 20;
const BLOCK: usize = 32 << 10;
const READ_AHEAD: usize = 2 << 20;

/// A store in a directory of its own, below one that holds nothing else. The directory is named by a number,
/// because a view may outlive its store, and while it does RocksDB opens no other in the same place.
pub struct RocksImage {
    path: PathBuf,
    store: RwLock<Store>,
}

#[derive(Default)]
struct Store {
    number: u64,
    db: Option<Arc<DB>>,
}

impl RocksImage {
    /// Nothing is opened yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), store: RwLock::default() }
    }

    fn db(&self) -> Result<Arc<DB>, ImageError> {
        let db = self.store.read().expect("no holder panics").db.clone();
        db.ok_or_else(|| ImageError::Store("it is not open".to_owned()))
    }
}

fn options() -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(BLOCK_CACHE));
    table.set_block_size(BLOCK);
    let mut options = Options::default();
    // Whoever waits for a reply comes first.
    if let Ok(mut env) = rocksdb::Env::new() {
        env.lower_thread_pool_cpu_priority();
        env.lower_high_priority_thread_pool_cpu_priority();
        options.set_env(&env);
    }
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(MEMTABLE);
    options.set_max_write_buffer_number(2);
    options.set_max_background_jobs(2);
    options.set_target_file_size_base(FILE);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(2);
    options.set_max_open_files(256);
    options
}

fn failed(error: rocksdb::Error) -> ImageError {
    ImageError::Store(error.into_string())
}

fn open(path: &Path) -> Result<DB, ImageError> {
    std::fs::create_dir_all(path).map_err(|error| ImageError::Store(error.to_string()))?;
    DB::open(&options(), path).map_err(failed)
}

/// The store that was made last; there is another only if its removal was cut off.
fn newest(path: &Path) -> Option<u64> {
    let names = std::fs::read_dir(path).ok()?.flatten().map(|entry| entry.file_name());
    names.filter_map(|name| name.to_str()?.parse().ok()).max()
}

impl Image for RocksImage {
    type View = RocksView;

    fn open(&self) -> Result<(), ImageError> {
        let mut store = self.store.write().expect("no holder panics");
        if store.db.is_none() {
            store.number = newest(&self.path).unwrap_or(store.number);
            store.db = Some(Arc::new(open(&self.path.join(store.number.to_string()))?));
        }
        Ok(())
    }

    fn view(&self) -> Result<RocksView, ImageError> {
        Ok(RocksView::new(self.db()?))
    }

    fn write(&self, batch: &Batch) -> Result<(), ImageError> {
        let mut rows = WriteBatch::default();
        for (key, value) in &batch.rows {
            match value {
                Some(value) => rows.put(key, value),
                None => rows.delete(key),
            }
        }
        let mut options = rocksdb::WriteOptions::default();
        options.disable_wal(true);
        self.db()?.write_opt(rows, &options).map_err(failed)
    }

    fn flush(&self) -> Result<(), ImageError> {
        self.db()?.flush().map_err(failed)
    }

    fn destroy(&self) -> Result<(), ImageError> {
        let mut store = self.store.write().expect("no holder panics");
        store.db = None;
        match std::fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(ImageError::Store(error.to_string()));
            }
            _ => {}
        }
        store.number += 1;
        store.db = Some(Arc::new(open(&self.path.join(store.number.to_string()))?));
        Ok(())
    }
}

/// A view that keeps its store open.
pub struct RocksView {
    /// Borrows from `db`, so it stands before it and is dropped first.
    snapshot: rocksdb::Snapshot<'static>,
    _db: Arc<DB>,
}

impl RocksView {
    fn new(db: Arc<DB>) -> Self {
        // SAFETY: the store lives in the Arc beside it, never moves there, and outlives the snapshot, which
        // is dropped before it and handed out by no method.
        let borrowed: &'static DB = unsafe { &*Arc::as_ptr(&db) };
        Self { snapshot: borrowed.snapshot(), _db: db }
    }
}

impl View for RocksView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ImageError> {
        Ok(self.snapshot.get(key).map_err(failed)?.map(Bytes::from))
    }

    /// One thread reads and unpacks blocks, this one takes the rows.
    fn scan(&self, take: TakeRow<'_>) -> Result<(), ImageError> {
        std::thread::scope(|scope| {
            let (to_us, chunks) = mpsc::sync_channel::<Bytes>(8);
            let reader = scope.spawn(move || read_rows(&self.snapshot, &to_us));
            for mut chunk in chunks {
                while chunk.has_remaining() {
                    let (key_len, value_len) = (chunk.get_u32() as usize, chunk.get_u32() as usize);
                    let (key, value) = chunk[..key_len + value_len].split_at(key_len);
                    take(key, value)?;
                    chunk.advance(key_len + value_len);
                }
            }
            reader.join().expect("the reading thread does not panic")
        })
    }
}

/// Rows are handed over in pieces of about this size.
const CHUNK: usize = 256 << 10;

fn read_rows(snapshot: &rocksdb::Snapshot<'_>, to: &mpsc::SyncSender<Bytes>) -> Result<(), ImageError> {
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    options.set_readahead_size(READ_AHEAD);
    options.set_verify_checksums(true);
    let mut rows = snapshot.raw_iterator_opt(options);
    rows.seek_to_first();
    let mut chunk = BytesMut::with_capacity(CHUNK + 4096);
    while let Some((key, value)) = rows.item() {
        chunk.put_u32(key.len() as u32);
        chunk.put_u32(value.len() as u32);
        chunk.put_slice(key);
        chunk.put_slice(value);
        if chunk.len() >= CHUNK {
            let full = std::mem::replace(&mut chunk, BytesMut::with_capacity(CHUNK + 4096));
            // Nobody takes them any more: an earlier row was refused.
            if to.send(full.freeze()).is_err() {
                return Ok(());
            }
        }
        rows.next();
    }
    rows.status().map_err(failed)?;
    let _ = to.send(chunk.freeze());
    Ok(())
}
