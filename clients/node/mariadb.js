'use strict';

const mariadb = require('mariadb');
const { followNodes, following, prepare } = require('./lib/mariadb.js');

prepare(mariadb);

/** mariadb's, following redirects. */
function createConnection(options) {
    try {
        return mariadb.createConnection(following(mariadb, options));
    } catch (error) {
        return Promise.reject(error);
    }
}

/** mariadb's, following redirects: each of its connections begins at the server of the options. */
function createPool(options) {
    return mariadb.createPool(following(mariadb, options));
}

/** mariadb's, following redirects: each of its nodes is such a pool. */
function createPoolCluster(options) {
    return followNodes(mariadb, mariadb.createPoolCluster(options));
}

/** mariadb's, following redirects. */
function importFile(options) {
    try {
        return mariadb.importFile(following(mariadb, options));
    } catch (error) {
        return Promise.reject(error);
    }
}

// One by one, so that `import { createPool } from` finds them.
exports.version = mariadb.version;
exports.SqlError = mariadb.SqlError;
exports.Types = mariadb.Types;
exports.TypeNumbers = mariadb.TypeNumbers;
exports.defaultOptions = mariadb.defaultOptions;
exports.createConnection = createConnection;
exports.createPool = createPool;
exports.createPoolCluster = createPoolCluster;
exports.importFile = importFile;
