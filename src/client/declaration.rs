//! What Connector/C looks up in the library.

use std::ptr;

use super::connect::{ifo_rs_client_close, ifo_rs_client_connect, ifo_rs_client_options, ifo_rs_client_reconnect};
use crate::sys::{
    IFO_CLIENT_INTERFACE_VERSION, IFO_CLIENT_PLUGIN_TYPE, ifo_c_client_init, ifo_c_client_set_connection,
    ifo_client_plugin,
};

/// The plugin. Connector/C writes to it as it loads the library.
#[repr(transparent)]
pub(super) struct Declaration(ifo_client_plugin);

// SAFETY: written by Connector/C alone, under a lock of its own.
unsafe impl Sync for Declaration {}

/// What a handle that is ours refers to.
pub(super) fn declaration() -> *const ifo_client_plugin {
    (&raw const _mysql_client_plugin_declaration_).cast()
}

#[unsafe(no_mangle)]
pub(super) static mut _mysql_client_plugin_declaration_: Declaration = Declaration(ifo_client_plugin {
    type_: IFO_CLIENT_PLUGIN_TYPE.cast_signed(),
    interface_version: IFO_CLIENT_INTERFACE_VERSION,
    name: c"instant_failover".as_ptr(),
    author: c"The Instant Failover authors".as_ptr(),
    description: c"Follows the redirects of MariaDB servers".as_ptr(),
    version: crate::VERSION,
    license: c"BSD".as_ptr(),
    mysql_api: ptr::null_mut(),
    init: Some(ifo_c_client_init),
    deinit: None,
    options: Some(ifo_rs_client_options),
    connect: Some(ifo_rs_client_connect),
    close: Some(ifo_rs_client_close),
    set_optionsv: ptr::null_mut(),
    set_connection: Some(ifo_c_client_set_connection),
    reconnect: Some(ifo_rs_client_reconnect),
    reset: ptr::null_mut(),
});
