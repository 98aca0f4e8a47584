'use strict';

const mysql = require('mysql2/promise');
const core = require('./mysql2.js');
const { followNodes } = require('./lib/mysql2.js');

/** mysql2's, following redirects. */
function createConnection(options) {
    const Chosen = options?.Promise ?? Promise;
    const connection = core.createConnection(options);
    const caller = new Error();
    Error.captureStackTrace?.(caller, createConnection);
    return new Chosen((resolve, reject) => {
        connection.once('connect', () => resolve(connection.promise(Chosen)));
        connection.once('error', (error) => {
            // Where the program called, not where the socket was read.
            error.stack = `${error.name}: ${error.message}${caller.stack.slice(caller.stack.indexOf('\n'))}`;
            reject(error);
        });
    });
}

/** mysql2's, following redirects: each of its connections begins at the server of the options. */
function createPool(options) {
    return core.createPool(options).promise(options?.Promise);
}

/** mysql2's, following redirects: each of its nodes is such a pool. */
function createPoolCluster(options) {
    const cluster = mysql.createPoolCluster(options);
    const core = followNodes(cluster.poolCluster);
    cluster.add = (...parameters) => core.add(...parameters);
    return cluster;
}

exports.createConnection = createConnection;
exports.createPool = createPool;
exports.createPoolCluster = createPoolCluster;
exports.Connection = mysql.Connection;
exports.PoolConnection = mysql.PoolConnection;
exports.PromisePool = mysql.PromisePool;
exports.PromiseConnection = mysql.PromiseConnection;
exports.PromisePoolConnection = mysql.PromisePoolConnection;
exports.escape = mysql.escape;
exports.escapeId = mysql.escapeId;
exports.format = mysql.format;
exports.raw = mysql.raw;
exports.Types = mysql.Types;
exports.TypedParameter = mysql.TypedParameter;
exports.Charsets = mysql.Charsets;
exports.CharsetToEncoding = mysql.CharsetToEncoding;
exports.setMaxParserCache = mysql.setMaxParserCache;
exports.clearParserCache = mysql.clearParserCache;
