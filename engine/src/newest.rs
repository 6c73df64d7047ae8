//! A place for the newest item only: the storage of the policy `Latest`.
//!
//! With the feature `latest` it is a triple buffer, so that neither end waits for the other. Without it, neither end can
//! be made, and the compiler leaves out what they would do.

use std::sync::Arc;

use crate::Item;

#[cfg(feature = "latest")]
type Input<T> = triple_buffer::Input<Option<Arc<Item<T>>>>;
#[cfg(feature = "latest")]
type Output<T> = triple_buffer::Output<Option<Arc<Item<T>>>>;
#[cfg(not(feature = "latest"))]
type Input<T> = (std::convert::Infallible, std::marker::PhantomData<Arc<T>>);
#[cfg(not(feature = "latest"))]
type Output<T> = Input<T>;

/// The writing end.
#[derive(Debug)]
pub(crate) struct NewestWriter<T: Send + Sync>(Input<T>);

/// The reading end.
#[derive(Debug)]
pub(crate) struct NewestReader<T: Send + Sync>(Output<T>);

/// Creates both ends.
#[cfg(feature = "latest")]
pub(crate) fn newest<T: Send + Sync>() -> Option<(NewestWriter<T>, NewestReader<T>)> {
    let (input, output) = triple_buffer::TripleBuffer::default().split();
    Some((NewestWriter(input), NewestReader(output)))
}

#[cfg(feature = "latest")]
impl<T: Send + Sync> NewestWriter<T> {
    /// Puts an item in the place of the one before, which is returned if it was not taken. The caller drops it, and so
    /// frees its block now and not with the next item.
    pub(crate) fn put(&mut self, item: Arc<Item<T>>) -> Option<Arc<Item<T>>> {
        *self.0.input_buffer_mut() = Some(item);
        if self.0.publish() { self.0.input_buffer_mut().take() } else { None }
    }
}

#[cfg(feature = "latest")]
impl<T: Send + Sync> NewestReader<T> {
    /// Returns whether an item has come since the last look.
    pub(crate) fn has_new(&self) -> bool {
        self.0.updated()
    }

    /// Returns the newest item, which the writer then no longer counts as replaced: it must be taken.
    pub(crate) fn peek(&mut self) -> Option<&Arc<Item<T>>> {
        if self.0.output_buffer().is_none() {
            self.0.update();
        }
        self.0.output_buffer().as_ref()
    }

    /// Takes the newest item.
    pub(crate) fn take(&mut self) -> Option<Arc<Item<T>>> {
        self.peek()?;
        self.0.output_buffer_mut().take()
    }
}

#[cfg(not(feature = "latest"))]
pub(crate) fn newest<T: Send + Sync>() -> Option<(NewestWriter<T>, NewestReader<T>)> {
    None
}

#[cfg(not(feature = "latest"))]
impl<T: Send + Sync> NewestWriter<T> {
    pub(crate) fn put(&mut self, _: Arc<Item<T>>) -> Option<Arc<Item<T>>> {
        match self.0.0 {}
    }
}

#[cfg(not(feature = "latest"))]
impl<T: Send + Sync> NewestReader<T> {
    pub(crate) fn has_new(&self) -> bool {
        match self.0.0 {}
    }

    pub(crate) fn peek(&mut self) -> Option<&Arc<Item<T>>> {
        match self.0.0 {}
    }

    pub(crate) fn take(&mut self) -> Option<Arc<Item<T>>> {
        match self.0.0 {}
    }
}
