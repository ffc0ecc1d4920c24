//! What stands in for the image in a build without RocksDB: nothing. Starts read snapshot and log.

use bytes::Bytes;

use crate::storage::image::{Batch, View};
use crate::storage::{Image, ImageError};

pub struct NoImage;

impl NoImage {
    pub fn new(_: std::path::PathBuf) -> Self {
        Self
    }
}

fn none<T>() -> Result<T, ImageError> {
    Err(ImageError::Store("this build has no RocksDB".to_owned()))
}

impl Image for NoImage {
    type View = Self;

    fn open(&self) -> Result<(), ImageError> {
        none()
    }

    fn view(&self) -> Result<Self, ImageError> {
        none()
    }

    fn write(&self, _: &Batch) -> Result<(), ImageError> {
        none()
    }

    fn flush(&self) -> Result<(), ImageError> {
        none()
    }

    /// There is nothing that could stay.
    fn destroy(&self) -> Result<(), ImageError> {
        Ok(())
    }
}

impl View for NoImage {
    fn get(&self, _: &[u8]) -> Result<Option<Bytes>, ImageError> {
        none()
    }

    fn scan(&self, _: &mut dyn FnMut(&[u8], &[u8]) -> Result<(), ImageError>) -> Result<(), ImageError> {
        none()
    }
}
