// mysql2, which does not follow.
'use strict';

const mysql = require('mysql2/promise');
const { answer, at, ca, options, use, useOnce } = require('./talk.js');

if (ca) {
    options.ssl = { ca, verifyIdentity: true };
}

// It gives rows and columns, not rows alone.
const rowsOf = ([rows]) => rows;
const pool = mysql.createPool(options);

answer({
    connect: () => useOnce(mysql.createConnection(options), rowsOf),
    pool: () => use(pool, rowsOf),
    list: async (...addresses) => {
        // By default it tries a server five times before it removes it.
        const cluster = mysql.createPoolCluster({ defaultSelector: 'ORDER', removeNodeErrorCount: 1 });
        for (const address of addresses) {
            cluster.add(address, at(address));
        }
        const connection = await cluster.getConnection();
        try {
            return await use(connection, rowsOf);
        } finally {
            connection.release();
            await cluster.end();
        }
    },
});
