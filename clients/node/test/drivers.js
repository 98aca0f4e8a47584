'use strict';

// The four ways in, as functions that are alike: what must hold for one must hold for all.

const callback = require('../mysql2.js');
const mariadbCallback = require('../mariadb-callback.js');
const mariadbPromise = require('../mariadb.js');
const promise = require('../mysql2-promise.js');

/** Calls a function that takes a callback last. */
function call(object, method, ...parameters) {
    return new Promise((resolve, reject) => {
        object[method](...parameters, (error, result) => (error ? reject(error) : resolve(result)));
    });
}

const drivers = {
    'mysql2, promise': {
        module: promise,
        connect: async (options) => {
            const connection = await promise.createConnection(options);
            return {
                query: async (sql) => (await connection.query(sql))[0],
                end: () => connection.end(),
                destroy: () => connection.destroy(),
            };
        },
        pool: (options) => {
            const pool = promise.createPool(options);
            return { query: async (sql) => (await pool.query(sql))[0], end: () => pool.end() };
        },
        cluster: (options) => {
            const cluster = promise.createPoolCluster();
            cluster.add('node', options);
            return {
                query: async (sql) => {
                    const connection = await cluster.getConnection();
                    try {
                        return (await connection.query(sql))[0];
                    } finally {
                        connection.release();
                    }
                },
                end: () => cluster.end(),
            };
        },
    },
    'mysql2, callback': {
        module: callback,
        connect: async (options) => {
            const connection = callback.createConnection(options);
            await call(connection, 'connect');
            return {
                query: (sql) => call(connection, 'query', sql),
                end: () => call(connection, 'end'),
                destroy: () => connection.destroy(),
            };
        },
        pool: (options) => {
            const pool = callback.createPool(options);
            return { query: (sql) => call(pool, 'query', sql), end: () => call(pool, 'end') };
        },
        cluster: (options) => {
            const cluster = callback.createPoolCluster();
            cluster.add(options);
            return { query: (sql) => call(cluster.of('*'), 'query', sql), end: () => call(cluster, 'end') };
        },
    },
    'mariadb, promise': {
        module: mariadbPromise,
        connect: (options) => mariadbPromise.createConnection(options),
        pool: (options) => mariadbPromise.createPool(options),
        cluster: (options) => {
            const cluster = mariadbPromise.createPoolCluster();
            cluster.add('node', options);
            return {
                query: async (sql) => {
                    const connection = await cluster.getConnection();
                    try {
                        return await connection.query(sql);
                    } finally {
                        await connection.release();
                    }
                },
                end: () => cluster.end(),
            };
        },
    },
    'mariadb, callback': {
        module: mariadbCallback,
        connect: async (options) => {
            const connection = mariadbCallback.createConnection(options);
            await call(connection, 'connect');
            return {
                query: (sql) => call(connection, 'query', sql),
                end: () => call(connection, 'end'),
                destroy: () => connection.destroy(),
            };
        },
        pool: (options) => {
            const pool = mariadbCallback.createPool(options);
            return { query: (sql) => call(pool, 'query', sql), end: () => call(pool, 'end') };
        },
        cluster: (options) => {
            const cluster = mariadbCallback.createPoolCluster();
            cluster.add(options);
            return {
                query: async (sql) => {
                    const connection = await call(cluster, 'getConnection');
                    try {
                        return await call(connection, 'query', sql);
                    } finally {
                        connection.release();
                    }
                },
                end: () => cluster.end(),
            };
        },
    },
};

module.exports = { call, drivers };
