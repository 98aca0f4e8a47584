'use strict';

const mysql = require('mysql2');
const { takeSettings } = require('./lib/attempt.js');
const { follow, followNodes } = require('./lib/mysql2.js');

/** mysql2's, following redirects. */
function createConnection(options) {
    const taken = takeSettings(options);
    const config = new mysql.ConnectionConfig(taken.options);
    follow(config, taken.settings);
    return new mysql.Connection({ config });
}

/** mysql2's, following redirects: each of its connections begins at the server of the options. */
function createPool(options) {
    const taken = takeSettings(options);
    const pool = mysql.createPool(taken.options);
    follow(pool.config.connectionConfig, taken.settings);
    return pool;
}

/** mysql2's, following redirects: each of its nodes is such a pool. */
function createPoolCluster(options) {
    return followNodes(mysql.createPoolCluster(options));
}

// One by one, so that `import { createPool } from` finds them.
exports.createConnection = createConnection;
exports.connect = createConnection;
exports.createPool = createPool;
exports.createPoolCluster = createPoolCluster;
exports.Connection = mysql.Connection;
exports.ConnectionConfig = mysql.ConnectionConfig;
exports.Pool = mysql.Pool;
exports.PoolCluster = mysql.PoolCluster;
exports.PoolConnection = mysql.PoolConnection;
exports.createQuery = mysql.createQuery;
exports.createServer = mysql.createServer;
exports.authPlugins = mysql.authPlugins;
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
Object.defineProperties(exports, {
    createConnectionPromise: { enumerable: true, get: () => require('./mysql2-promise.js').createConnection },
    createPoolPromise: { enumerable: true, get: () => require('./mysql2-promise.js').createPool },
    createPoolClusterPromise: { enumerable: true, get: () => require('./mysql2-promise.js').createPoolCluster },
});
