//! Tracks whether a request body is still being sent. The HTTP/2 library sends it in a task of its own and buffers
//! pieces that flow control holds back after the body was read to its end, so each unwritten piece counts as well.

use std::sync::{Arc, Weak, atomic::Ordering};

use bytes::{Buf, Bytes};

use super::UploadSource;

/// A share in sending a body: an attempt's, or an unwritten piece's.
pub(crate) struct Sending(Arc<UploadSource>);

/// A piece of a body on its way out.
pub(crate) struct Piece {
    bytes: Bytes,
    _sending: Sending,
}

/// Shows whether a body is still being sent, without keeping it alive.
#[derive(Default)]
pub(crate) struct UploadWatch(Weak<UploadSource>);

impl Sending {
    pub(super) fn begin(source: Arc<UploadSource>) -> Self {
        source.shares.fetch_add(1, Ordering::Relaxed);
        Self(source)
    }

    pub(super) fn source(&self) -> &UploadSource {
        &self.0
    }

    pub(super) fn piece(&self, bytes: Bytes) -> Piece {
        Piece { bytes, _sending: Self::begin(self.0.clone()) }
    }

    pub(super) fn watch(&self) -> UploadWatch {
        UploadWatch(Arc::downgrade(&self.0))
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.shares.fetch_sub(1, Ordering::Release);
    }
}

impl UploadWatch {
    /// Returns true if the body is still being sent.
    pub(crate) fn flows(&self) -> bool {
        self.0.upgrade().is_some_and(|source| source.shares.load(Ordering::Acquire) > 0)
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }

    fn copy_to_bytes(&mut self, count: usize) -> Bytes {
        self.bytes.copy_to_bytes(count)
    }
}
