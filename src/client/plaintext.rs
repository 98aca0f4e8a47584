//! What a server says before TLS is not taken for what it says inside TLS.
//!
//! Connector/C reads as much as there is. What comes in one piece with the greeting stays in its buffer, and it takes it for the
//! answer to the login once TLS has begun: an attacker on the network, who cannot look into TLS, could add a redirect to a
//! server's greeting. So we stand in front of the function by which it reads a socket. While it connects for us and has no
//! greeting, it gets no byte behind the packet that it is reading. What an attacker adds is left to the TLS handshake, which fails:
//! between a greeting and TLS it reads nothing. A plugin that is to log in could make it do so, without TLS; that is noted, too.
//!
//! To read less than was asked for is always allowed, so a wrong idea of where a packet ends would break no connection. The first
//! packet alone would not do: with a handle that it has used before, Connector/C skips a report of progress in front of the greeting.
//!
//! Handles that do not block are read by another function up to Connector/C 3.3: see [`Handle::was_read_by_packets`].
//!
//! [`Handle::was_read_by_packets`]: super::handle::Handle::was_read_by_packets

use std::ffi::c_void;
use std::ptr::{self, NonNull};

use super::originals::Originals;
use super::packet::Position;
use super::socket;
use crate::boundary::callback;
use crate::loaded::{Module, Slot};
use crate::sys::{self, IFO_IO_READ, ifo_client_read, ifo_client_read_fn, st_ma_pvio};

/// Connector/C's function that reads a socket.
type Read = unsafe extern "C" fn(*mut st_ma_pvio, *mut u8, usize) -> isize;

const _: () = assert!(size_of::<ifo_client_read_fn>() == size_of::<Read>());

/// Which function of the table it is. Those behind it differ between releases.
const READ: usize = IFO_IO_READ as usize;

/// By the address of the table.
static ORIGINALS: Originals<Read> = Originals::new();

/// Puts our function into the table of the Connector/C in `module`. If there is any doubt about the table, or it is there
/// already, nothing changes. Nothing is ever put back.
pub(super) fn install(module: &Module<'_>) -> Option<()> {
    let table = socket::find(&module.data, &module.constants, &module.code)?;
    let place = NonNull::new(ptr::with_exposed_provenance_mut(table + READ * size_of::<usize>()))?;
    // SAFETY: an aligned word of a module that is loaded; Connector/C writes it nowhere.
    let slot = unsafe { Slot::new(place) };
    // SAFETY: recognised as Connector/C's function that reads.
    let original = unsafe { std::mem::transmute::<*mut (), Option<Read>>(slot.load()) }?;
    ORIGINALS.remember(table, original);
    let ours: Read = sys::ifo_c_client_read;
    slot.store(ours as *mut ()).then_some(())
}

callback! {
    /// A socket is to be read: at most the rest of a packet, up to the greeting.
    export fn ifo_rs_client_read(pvio: *mut st_ma_pvio, length: usize) -> ifo_client_read {
        // SAFETY: a connection of Connector/C's, which this thread is reading.
        let stream = unsafe { sys::ifo_c_client_stream(pvio) };
        let mut how = as_it_is(stream.io, length);
        if stream.is_greeting_due != 0 {
            how.length = length.min(Position::from_number(stream.position).left() as usize);
            how.position = stream.position;
            how.is_noted = 1;
        } else if stream.is_login_in_clear != 0 {
            // No TLS after the greeting, whatever the server has said that it can: what it says proves nothing.
            // SAFETY: as above.
            unsafe { sys::ifo_c_client_set_position(pvio, 0) };
        }
        how
    } on_panic {
        // The position is not noted, so no redirect that depends on TLS is followed.
        // SAFETY: as above.
        as_it_is(unsafe { sys::ifo_c_client_stream(pvio).io }, length)
    }
}

/// As without us.
fn as_it_is(table: *const c_void, length: usize) -> ifo_client_read {
    ifo_client_read { original: ORIGINALS.of(table.addr()), length, position: 0, is_noted: 0 }
}

callback! {
    /// So much of it was read.
    export fn ifo_rs_client_was_read(pvio: *mut st_ma_pvio, position: u32, buffer: *const u8, got: isize) {
        if let Ok(count @ 1..) = usize::try_from(got) {
            // SAFETY: what Connector/C has just read.
            let bytes = unsafe { std::slice::from_raw_parts(buffer, count) };
            let position = Position::from_number(position).after(bytes).number();
            // SAFETY: the connection of ifo_rs_client_read().
            unsafe { sys::ifo_c_client_set_position(pvio, position) };
        }
    } on_panic {
        // As above.
    }
}
