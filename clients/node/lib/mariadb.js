'use strict';

const { EventEmitter } = require('node:events');
const net = require('node:net');
const tls = require('node:tls');
const { Attempt, takeSettings } = require('./attempt.js');
const { constructAgain, discard } = require('./again.js');
const { originOf } = require('./redirect.js');

/** The versions of mariadb that can work: [major, minor, patch]. */
const FROM = [3, 4, 5];
const BEFORE = [3, 6, 0];

/** The options of a pool, of which each is a number, and those of which each is true or false. */
const POOL_NUMBERS = [
    'acquireTimeout',
    'connectionLimit',
    'idleTimeout',
    'initializationTimeout',
    'leakDetectionTimeout',
    'minDelayValidation',
    'minimumIdle',
    'pingTimeout',
];
const POOL_FLAGS = ['noControlAfterUse', 'resetAfterUse'];

/** Who may redirect a connection, by its option `stream`: the driver hands that on to its connections and pools. */
const settingsOf = new WeakMap();
/** The attempt of a connection to connect, until it is connected. */
const attempts = new WeakMap();
/** The modules that are prepared. */
const prepared = new WeakSet();

/**
 * Makes a module of the driver, `mariadb` or `mariadb/callback`, ready to follow redirects. Each has its own class of connections,
 * and none is public. Throws an error if the version is not known to work.
 */
function prepare(driver) {
    if (prepared.has(driver)) return;
    const { version } = driver;
    const Connection = isKnown(version) ? classOf(driver) : undefined;
    if (!Connection) {
        throw new Error(
            `instant-failover cannot follow redirects with mariadb ${version}; install mariadb ${FROM.join('.')} or later, ` +
                `before ${BEFORE.join('.')}, or a newer instant-failover`,
        );
    }
    watch(Connection);
    prepared.add(driver);
}

function isKnown(version) {
    const parts = version.split('.').map(Number);
    const compare = (other) => parts[0] - other[0] || parts[1] - other[1] || parts[2] - other[2];
    return compare(FROM) >= 0 && compare(BEFORE) < 0;
}

/** The class of a module's connections, if it has all that is used here. */
function classOf(driver) {
    const seen = new Set();
    const { on } = EventEmitter.prototype;
    EventEmitter.prototype.on = function (...parameters) {
        seen.add(this);
        return on.apply(this, parameters);
    };
    let made;
    try {
        // It never connects: this function gives no socket.
        made = driver.createConnection({ stream: () => {}, connectTimeout: 0 });
    } finally {
        EventEmitter.prototype.on = on;
    }
    made.catch?.(() => {});
    const methods = [
        'connect',
        'createSecureContext',
        'authFailHandler',
        'authSucceedHandler',
        'addCommandQueue',
        'destroy',
        'end',
    ];
    const isConnection = (object) =>
        methods.every((method) => typeof Object.getPrototypeOf(object)[method] === 'function') &&
        typeof object.connectRejectFct === 'function' &&
        object.waitingAuthenticationQueue !== undefined &&
        object.addCommand === object.addCommandQueue &&
        typeof object.opts?.stream === 'function';
    return [...seen].find(isConnection)?.constructor;
}

/** Watches the logins of a class's connections. */
function watch(Connection) {
    const { connect, createSecureContext, authFailHandler, authSucceedHandler, destroy, end } = Connection.prototype;
    let isDestroying = false;

    Connection.prototype.connect = function () {
        const settings = settingsOf.get(this.opts.stream);
        if (settings && !isDestroying && !attempts.has(this)) {
            const { host, port, socketPath, connectTimeout } = this.opts;
            attempts.set(this, new Attempt(settings, socketPath ?? originOf(host, port), connectTimeout));
        }
        return connect.call(this);
    };

    // The driver checks the name of an address only after it has logged in there.
    Connection.prototype.createSecureContext = function (info, callback) {
        return createSecureContext.call(this, info, () => {
            const { opts, socket } = this;
            const isChecked =
                attempts.get(this)?.wasRedirected && opts.ssl.rejectUnauthorized !== false && socket.authorized;
            if (!isChecked || isNamed(opts, socket.getPeerCertificate())) return callback();
            const problem = `the server's certificate is not for ${opts.host}; redirect clients to the name of the certificate`;
            this.authFailHandler(Object.assign(new Error(problem), { fatal: true }));
        });
    };

    // The driver kills a statement that is running by a second connection: it must not be sent to another server, where the
    // number is that of someone else's session.
    Connection.prototype.destroy = function () {
        giveUp(this);
        isDestroying = true;
        try {
            return destroy.call(this);
        } finally {
            isDestroying = false;
        }
    };

    Connection.prototype.end = function (...parameters) {
        giveUp(this);
        return end.apply(this, parameters);
    };

    // What comes later, such as the errors of initSql, is no redirect.
    Connection.prototype.authSucceedHandler = function () {
        const attempt = attempts.get(this);
        if (attempt) attempt.isLoggedIn = true;
        return authSucceedHandler.call(this);
    };

    Connection.prototype.authFailHandler = function (error) {
        const attempt = attempts.get(this);
        if (!attempt || attempt.isGivenUp || !this.connectRejectFct) return authFailHandler.call(this, error);
        const target = attempt.isLoggedIn ? attempt.explain(error) : attempt.next(error, peerOf(this));
        if (!target) return authFailHandler.call(this, error);
        moveOn(this, Connection, target, attempt);
    };
}

/** The program does not want the connection any more: it is not to be moved. */
function giveUp(connection) {
    const attempt = attempts.get(connection);
    if (attempt) attempt.isGivenUp = true;
}

/** What is known about the server that refuses the login. */
function peerOf({ opts, info, socket }) {
    const ssl = opts.ssl;
    const isEncrypted = Boolean(socket?.encrypted) && !socket.secureConnecting;
    return {
        greeted: Boolean(info.serverVersion),
        usesTLS: Boolean(ssl),
        tls: isEncrypted,
        asked: Boolean(ssl) && ssl.rejectUnauthorized !== false,
        verified: isEncrypted && socket.authorized && isNamed(opts, socket.getPeerCertificate()),
        cure: 'ssl.ca',
    };
}

/** Whether a certificate names the server. The driver itself asks that only at the end of the login. */
function isNamed({ host, ssl }, certificate) {
    const check = ssl.checkServerIdentity ?? tls.checkServerIdentity;
    return check(ssl.servername || host, certificate) === undefined;
}

/** Connects to the server that a connection has been sent to. */
function moveOn(connection, Connection, target, attempt) {
    const { connectResolveFct, connectRejectFct, waitingAuthenticationQueue, socket, opts } = connection;
    clearTimeout(connection.timeout);
    discard(socket);
    const { _events, _eventsCount, _maxListeners, ...options } = opts;
    connection.removeAllListeners('close_prepare');
    constructAgain(connection, Connection, {
        ...options,
        ...target,
        socketPath: undefined,
        connectTimeout: attempt.timeLeft,
    });
    // What the program has asked for in the meantime.
    connection.waitingAuthenticationQueue = waitingAuthenticationQueue;
    connection.connect().then(connectResolveFct, connectRejectFct);
}

/** The driver's options that make connections, pools and nodes follow redirects. */
function following(driver, given) {
    const { options, settings } = takeSettings(given);
    // A URL has no place for a function.
    const base = typeof options === 'string' ? parse(driver, options) : options;
    const own = base?.stream;
    const stream =
        typeof own === 'function'
            ? function (...parameters) {
                  return own.apply(this, parameters);
              }
            : function () {
                  // As the driver does without this option; `this` is the options of the connection.
                  const socket = net.connect(this.port, this.host);
                  socket.setNoDelay(true);
                  return socket;
              };
    settingsOf.set(stream, settings);
    return { ...base, stream };
}

/** The options of a URL, as the driver reads it: defaultOptions() gives those of a connection. */
function parse(driver, url) {
    const options = driver.defaultOptions(url);
    for (const [name, value] of new URL(url).searchParams) {
        if (POOL_NUMBERS.includes(name)) options[name] = Number(value);
        if (POOL_FLAGS.includes(name)) options[name] = value === 'true';
    }
    return options;
}

/** Has a cluster make the pools of its nodes follow redirects, and returns it. */
function followNodes(driver, cluster) {
    const { add } = cluster;
    cluster.add = function (...parameters) {
        const options = parameters.pop();
        return add.call(this, ...parameters, following(driver, options));
    };
    return cluster;
}

module.exports = { followNodes, following, prepare };
