'use strict';

const { EventEmitter } = require('node:events');

/** The versions of mysql2 that can work: [major, minor]. */
const FROM = [3, 16];
const BEFORE = [4, 0];

/** A socket that leads nowhere. */
class Nowhere extends EventEmitter {
    write = () => true;
    end = () => {};
    destroy = () => {};
    setKeepAlive = () => {};
    setNoDelay = () => {};
}

/**
 * Finds the class that has all these methods of its own: a connection, or what it extends. Throws an error if there is none, or
 * if the version cannot work.
 */
function findBase(version, Connection, methods) {
    const [major, minor] = version.split('.').map(Number);
    const isWithin = ([from, least]) => major > from || (major === from && minor >= least);
    if (!isWithin(FROM) || isWithin(BEFORE)) throw unknown(version, 'that version is not known to work');
    for (let Class = Connection; Class?.prototype; Class = Object.getPrototypeOf(Class)) {
        if (methods.every((method) => Object.hasOwn(Class.prototype, method))) return Class;
    }
    throw unknown(version, `its connections lack one of ${methods.join(', ')}`);
}

/**
 * Throws an error unless connections of this version of mysql2 can be watched and moved. Both depend on its insides, so a
 * redirecting server is played, over sockets that lead nowhere.
 * @param make makes a connection that is followed, from options
 * @param targetOf gives where the connection is sent, once
 * @param moveOn moves the connection there
 */
function check(version, make, targetOf, moveOn) {
    let problem;
    try {
        problem = play(make, targetOf, moveOn);
    } catch (error) {
        problem = error.message;
    }
    if (problem) throw unknown(version, problem);
}

function unknown(version, problem) {
    return new Error(
        `instant-failover cannot follow redirects with mysql2 ${version}: ${problem}; install mysql2 ${FROM.join('.')} or ` +
            `later, before ${BEFORE.join('.')}, or a newer instant-failover`,
    );
}

/** What is wrong; empty if nothing. */
function play(make, targetOf, moveOn) {
    const sockets = [];
    const stream = () => sockets[sockets.push(new Nowhere()) - 1];
    const connection = make({ host: 'db1', user: 'app', stream, connectTimeout: 0, debug: false });
    let isConnected = false;
    connection.once('connect', () => (isConnected = true));
    const pending = connection.query('SELECT 1');
    pending.on('error', () => {});
    sockets[0].emit('data', packet(0, greeting()));
    sockets[0].emit('data', packet(2, Buffer.from('\xff\x64\x10#HY000|text|db2:3307', 'latin1')));
    const target = targetOf(connection);
    if (target?.host !== 'db2' || target.port !== 3307) return 'a redirect was not noticed';
    moveOn(connection);
    if (sockets.length !== 2 || connection.stream !== sockets[1] || connection.config.host !== 'db2')
        return 'no second socket';
    sockets[1].emit('data', packet(0, greeting()));
    sockets[1].emit('data', packet(2, Buffer.from([0, 0, 0, 2, 0, 0, 0])));
    if (!isConnected) return 'the second login did not end';
    return connection._command === pending ? '' : 'a command was lost';
}

function packet(sequence, body) {
    return Buffer.concat([Buffer.from([body.length, 0, 0, sequence]), body]);
}

function greeting() {
    const flags = '\x0f\xa2\x2d\x02\x00\x08\x00\x15';
    const text = `\x0a11.8.6-MariaDB\0\x07\0\0\0abcdefgh\0${flags}${'\0'.repeat(10)}ijklmnopqrst\0mysql_native_password\0`;
    return Buffer.from(text, 'latin1');
}

module.exports = { check, findBase };
