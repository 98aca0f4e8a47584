'use strict';

/**
 * Runs the constructor of a driver's connection again, on a connection that exists.
 *
 * The program holds the connection object, with its listeners and its queue of commands, while the driver finds out that it
 * must connect elsewhere. No driver can start over, but its constructor sets everything: the socket, the parser, the state of
 * the login. Only the object must not be a new one, so super() gives it this one.
 */
function constructAgain(connection, Class, ...parameters) {
    const parent = Object.getPrototypeOf(Class);
    Object.setPrototypeOf(Class, function () {
        return connection;
    });
    try {
        new Class(...parameters);
    } finally {
        Object.setPrototypeOf(Class, parent);
    }
}

/** Closes a socket that the driver should hear nothing more from. */
function discard(socket) {
    for (const event of ['data', 'end', 'close', 'error', 'connect']) socket.removeAllListeners(event);
    socket.on('error', () => {});
    socket.destroy();
}

module.exports = { constructAgain, discard };
