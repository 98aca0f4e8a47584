'use strict';

const net = require('node:net');
const tls = require('node:tls');
const mysql = require('mysql2');
const { version } = require('mysql2/package.json');
const { Attempt, takeSettings } = require('./attempt.js');
const { constructAgain, discard } = require('./again.js');
const { originOf } = require('./redirect.js');
const { check, findBase } = require('./mysql2-check.js');

/** The key of the settings in a driver's configuration. Connections without it are not changed. */
const SETTINGS = Symbol('instant-failover');
/** The attempt of a connection to connect. */
const attempts = new WeakMap();
/** The servers whose certificates were verified, for each `ssl` object. */
const verifiedServers = new WeakMap();

/** The class whose constructor makes the socket and begins the login, for connections of pools, too. */
const Base = findBase(version, mysql.Connection, ['addCommand', 'startTLS', '_notifyError']);
const { addCommand, startTLS, _notifyError } = Base.prototype;

Base.prototype.addCommand = function (command) {
    const settings = this.config[SETTINGS];
    const attempt = attempts.get(this);
    // The first command is the login: the constructor adds it.
    if (settings && (!attempt || attempt.isNew)) watch(this, command, settings);
    return addCommand.call(this, command);
};

// mysql2 checks the certificate of an address, if it is to check names, against the name localhost.
Base.prototype.startTLS = function (onSecure) {
    return startTLS.call(this, (error) => {
        const { host, ssl } = this.config;
        const isChecked = attempts.get(this)?.wasRedirected && ssl.verifyIdentity && ssl.rejectUnauthorized;
        onSecure(error ?? (isChecked && net.isIP(host) && !isVerifiedPeer(this) ? wrongName(host) : undefined));
    });
};

Base.prototype._notifyError = function (error) {
    const attempt = attempts.get(this);
    if (attempt && !attempt.isOver) attempt.explain(error);
    return _notifyError.call(this, error);
};

/** A connection's attempt. */
class Connecting extends Attempt {
    /** The constructor runs again, and will add another login. */
    isNew = false;
    /** It is in, or has failed. */
    isOver = false;
    /** The socket, below TLS. */
    socket;
    /** Where the connection has been sent, and is not yet on the way to. */
    target;
}

/** Watches the login of a connection. */
function watch(connection, login, settings) {
    const { host, port, socketPath, connectTimeout } = connection.config;
    const attempt = attempts.get(connection) ?? new Connecting(settings, socketPath ?? originOf(host, port), connectTimeout);
    attempt.isNew = false;
    attempt.socket = connection.stream;
    attempts.set(connection, attempt);
    const { execute } = login;
    login.execute = function (packet, ...others) {
        // Nothing that comes after a redirect counts.
        if (attempt.target) return false;
        const isVerified = isVerifiedPeer(connection);
        if (!packet?.isError()) return execute.call(this, packet, ...others);
        const error = packet.asError(connection.clientEncoding);
        attempt.target = attempt.next(error, peerOf(connection, login, isVerified));
        if (!attempt.target) {
            // The driver goes on with what the attempt has added to the error.
            packet.reset();
            packet.asError = () => error;
            try {
                return execute.call(this, packet, ...others);
            } finally {
                // The parser uses the packet again.
                delete packet.asError;
            }
        }
        discard(connection.stream);
        discard(attempt.socket);
        process.nextTick(moveOn, connection, attempt);
        return false;
    };
    login.once('end', () => {
        if (!attempt.target) attempt.isOver = true;
    });
}

/** What is known about the server that refuses the login. */
function peerOf({ config, stream }, login, verified) {
    const { ssl } = config;
    return {
        greeted: Boolean(login.handshake),
        usesTLS: Boolean(ssl),
        tls: isEncrypted(stream),
        asked: Boolean(ssl) && ssl.rejectUnauthorized !== false,
        verified,
        cure: 'ssl.ca',
        fixed:
            config.stream && typeof config.stream !== 'function'
                ? 'the option stream is a stream that leads to this server; give a function that makes one'
                : '',
    };
}

/**
 * Whether the server's certificate is that of an authority, for its name. mysql2 resumes the TLS sessions of one `ssl` object,
 * and then there is no certificate: what counts is how the session began.
 */
function isVerifiedPeer({ config, stream }) {
    if (!isEncrypted(stream)) return false;
    const { host, port, ssl } = config;
    const servers = verifiedServers.get(ssl) ?? new Set();
    verifiedServers.set(ssl, servers);
    const server = originOf(host, port);
    if (!stream.isSessionReused()) {
        const isVerified = stream.authorized && !tls.checkServerIdentity(host, stream.getPeerCertificate());
        servers[isVerified ? 'add' : 'delete'](server);
    }
    return stream.authorized && servers.has(server);
}

function wrongName(host) {
    return new Error(
        `the server's certificate is not for the address ${host}; redirect clients to the name of the certificate`,
    );
}

function isEncrypted(stream) {
    return Boolean(stream.encrypted) && !stream.secureConnecting;
}

/** Connects to the server that a connection has been sent to. */
function moveOn(connection, attempt) {
    const { target } = attempt;
    // The program may have closed the connection meanwhile.
    if (!target || connection._closing) return;
    const { config, _commands: commands } = connection;
    clearTimeout(connection.connectTimeout);
    const next = Object.create(Object.getPrototypeOf(config), Object.getOwnPropertyDescriptors(config));
    Object.assign(next, target, { socketPath: undefined, connectTimeout: attempt.timeLeft });
    attempt.isNew = true;
    attempt.target = undefined;
    constructAgain(connection, Base, { config: next });
    // What the program has asked for in the meantime.
    for (let command = commands.shift(); command; command = commands.shift()) connection._commands.push(command);
}

/** Makes the connections of a driver's configuration follow redirects. */
function follow(config, settings) {
    config[SETTINGS] = settings;
}

/** Makes the nodes that are added to a cluster follow redirects. */
function followNodes(cluster) {
    const { add } = cluster;
    cluster.add = function (...parameters) {
        const options = parameters.pop();
        const taken = takeSettings(options);
        const known = new Set(Object.keys(this._nodes));
        add.call(this, ...parameters, taken.options);
        for (const [id, node] of Object.entries(this._nodes)) {
            if (!known.has(id)) follow(node.pool.config.connectionConfig, taken.settings);
        }
    };
    return cluster;
}

check(
    version,
    (options) => {
        const config = new mysql.ConnectionConfig(options);
        follow(config, { name: 'check', value: 'always' });
        return new mysql.Connection({ config });
    },
    (connection) => attempts.get(connection)?.target,
    (connection) => moveOn(connection, attempts.get(connection)),
);

module.exports = { follow, followNodes };
