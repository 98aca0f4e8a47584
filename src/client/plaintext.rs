//! What a server says before TLS is not taken for what it says inside TLS.
//!
//! Connector/C reads as much as there is. What comes in one piece with the greeting stays in its buffer, and it takes it for the
//! answer to the login once TLS has begun: an attacker on the network, who cannot look into TLS, could add a redirect to a
//! server's greeting. So we stand in front of the function by which it reads a socket. While it connects for us and TLS has not
//! begun, it gets no byte behind the packet that it is reading. What an attacker adds is left to the TLS handshake, which fails.
//!
//! To read less than was asked for is always allowed, so a wrong idea of where a packet ends would break no connection. The first
//! packet alone would not do: with a handle that it has used before, Connector/C skips a report of progress in front of the greeting.

use std::ptr::{self, NonNull};

use super::originals::Originals;
use super::packet::Position;
use super::socket;
use crate::boundary::callback;
use crate::loaded::{Module, Slot};
use crate::sys::{self, IFO_IO_READ, IFO_IO_READ_ASYNC, ifo_client_read_fn, st_ma_pvio};

/// Connector/C's function that reads a socket.
type Read = unsafe extern "C" fn(*mut st_ma_pvio, *mut u8, usize) -> isize;

const _: () = assert!(size_of::<ifo_client_read_fn>() == size_of::<Read>());

/// Which function of the table waits, and which does not.
const READ: usize = IFO_IO_READ as usize;
const READ_ASYNC: usize = IFO_IO_READ_ASYNC as usize;

/// Both, by the address of their table.
#[derive(Clone, Copy)]
struct Reads {
    read: Read,
    read_async: Read,
}

static ORIGINALS: Originals<Reads> = Originals::new();

/// Puts our functions into the table of the Connector/C in `module`. If there is any doubt about the table, or they are there
/// already, nothing changes. Nothing is ever put back.
pub(super) fn install(module: &Module<'_>) -> Option<()> {
    let table = socket::find(&module.data, &module.constants, &module.code)?;
    let slot = |place: usize| {
        let place = NonNull::new(ptr::with_exposed_provenance_mut(table + place * size_of::<usize>()))?;
        // SAFETY: an aligned word of a module that is loaded; Connector/C writes it nowhere.
        Some(unsafe { Slot::new(place) })
    };
    let (read, read_async) = (slot(READ)?, slot(READ_ASYNC)?);
    // SAFETY: recognised as Connector/C's functions that read.
    let originals = unsafe {
        Reads {
            read: std::mem::transmute::<*mut (), Option<Read>>(read.load())?,
            read_async: std::mem::transmute::<*mut (), Option<Read>>(read_async.load())?,
        }
    };
    ORIGINALS.remember(table, originals);
    let ours: [Read; 2] = [read_packet::<READ>, read_packet::<READ_ASYNC>];
    (read.store(ours[0] as *mut ()) && read_async.store(ours[1] as *mut ())).then_some(())
}

/// Connector/C's own function for this connection.
fn original<const PLACE: usize>(pvio: *mut st_ma_pvio) -> Option<Read> {
    // SAFETY: a connection of Connector/C's.
    let table = unsafe { sys::ifo_c_client_io(pvio) };
    ORIGINALS.of(table.addr()).map(|reads| if PLACE == READ { reads.read } else { reads.read_async })
}

callback! {
    /// Reads a socket: at most the rest of a packet, before TLS.
    pointer fn read_packet<const PLACE: usize>(pvio: *mut st_ma_pvio, buffer: *mut u8, length: usize) -> isize {
        let Some(original) = original::<PLACE>(pvio) else { return -1 };
        // SAFETY: the arguments that Connector/C has given us, of which the length may be less; it has that much room, and what
        // it has read is there.
        unsafe {
            if sys::ifo_c_client_is_login_in_clear(pvio) == 0 {
                return original(pvio, buffer, length);
            }
            let position = Position::from_number(sys::ifo_c_client_position(pvio));
            let read = original(pvio, buffer, length.min(position.left() as usize));
            if let Ok(read @ 1..) = usize::try_from(read) {
                let bytes = std::slice::from_raw_parts(buffer, read);
                sys::ifo_c_client_set_position(pvio, position.after(bytes).number());
            }
            read
        }
    } on_panic {
        // As without us. The position is not noted, so no redirect that depends on TLS is followed.
        // SAFETY: the arguments that Connector/C has given us.
        original::<PLACE>(pvio).map_or(-1, |original| unsafe { original(pvio, buffer, length) })
    }
}
