//! `wasi:io/poll`: waiting for clocks and streams, as wasmtime has it, without a slot.

use std::sync::Arc;

use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::io::poll;

use crate::guest::Guest;
use crate::slot::Slot;

/// Links the interface, in the place of wasmtime's own.
pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    poll::add_to_linker::<Guest, HasPolls>(linker, Guest::polls)?;
    linker.allow_shadowing(false);
    Ok(())
}

struct HasPolls;

impl HasData for HasPolls {
    type Data<'a> = Polls<'a>;
}

/// What a guest can wait for, and its slot.
pub(crate) struct Polls<'a> {
    pub(crate) table: &'a mut ResourceTable,
    pub(crate) slot: Arc<Slot>,
}

impl poll::Host for Polls<'_> {
    async fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        self.slot.wait(self.table.poll(pollables)).await
    }
}

impl poll::HostPollable for Polls<'_> {
    async fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        self.slot.wait(self.table.block(pollable)).await
    }

    async fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        self.table.ready(pollable).await
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        poll::HostPollable::drop(self.table, pollable)
    }
}
