//! What a server says before TLS is not taken for what it says inside TLS.
//!
//! Connector/C reads as much as there is. What comes in one piece with the greeting stays in its buffer, and it takes it for the
//! answer to the login once TLS has begun: an attacker on the network, who cannot look into TLS, could add a redirect to a
//! server's greeting. So we stand in front of the function by which it reads a socket. While it connects for us and has no
//! greeting, it gets no byte behind the packet that it is reading. What an attacker adds is left to the TLS handshake, which fails:
//! between a greeting and TLS it reads nothing.
//!
//! To read less than was asked for is always allowed, so a wrong idea of where a packet ends would break no connection. The first
//! packet alone would not do: with a handle that it has used before, Connector/C skips a report of progress in front of the greeting.
//!
//! Handles that do not block are read by another function up to Connector/C 3.3: see [`Handle::was_read_by_packets`].
//!
//! [`Handle::was_read_by_packets`]: super::handle::Handle::was_read_by_packets

use std::ptr::{self, NonNull};

use super::originals::Originals;
use super::packet::Position;
use super::socket;
use crate::boundary::callback;
use crate::loaded::{Module, Slot};
use crate::sys::{self, IFO_IO_READ, ifo_client_read_fn, st_ma_pvio};

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
    let ours: Read = read_packet;
    slot.store(ours as *mut ()).then_some(())
}

/// Connector/C's own function for this connection.
fn original(pvio: *mut st_ma_pvio) -> Option<Read> {
    // SAFETY: a connection of Connector/C's.
    let table = unsafe { sys::ifo_c_client_io(pvio) };
    ORIGINALS.of(table.addr())
}

callback! {
    /// Reads a socket: at most the rest of a packet, up to the greeting.
    pointer fn read_packet(pvio: *mut st_ma_pvio, buffer: *mut u8, length: usize) -> isize {
        let Some(read) = original(pvio) else { return -1 };
        // SAFETY: the arguments that Connector/C has given us, of which the length may be less; it has that much room, and what
        // it has read is there.
        unsafe {
            if sys::ifo_c_client_is_greeting_due(pvio) == 0 {
                return read(pvio, buffer, length);
            }
            let position = Position::from_number(sys::ifo_c_client_position(pvio));
            let got = read(pvio, buffer, length.min(position.left() as usize));
            if let Ok(count @ 1..) = usize::try_from(got) {
                let bytes = std::slice::from_raw_parts(buffer, count);
                sys::ifo_c_client_set_position(pvio, position.after(bytes).number());
            }
            got
        }
    } on_panic {
        // As without us. The position is not noted, so no redirect that depends on TLS is followed.
        // SAFETY: the arguments that Connector/C has given us.
        original(pvio).map_or(-1, |read| unsafe { read(pvio, buffer, length) })
    }
}
