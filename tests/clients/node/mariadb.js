// MariaDB Connector/Node.js, which does not follow.
'use strict';

const mariadb = require('mariadb');
const { answer, at, ca, options, use, useOnce } = require('./talk.js');

if (ca) {
    options.ssl = { ca };
}

// It fills itself as soon as it is created, and keeps retrying. Its defaults, but for an acquireTimeout of 10 s.
let pool;

answer({
    connect: () => useOnce(mariadb.createConnection(options)),
    pool: () => {
        pool ??= mariadb.createPool({ ...options, acquireTimeout: 3000 });
        return use(pool);
    },
    list: async (...addresses) => {
        const cluster = mariadb.createPoolCluster({ defaultSelector: 'ORDER' });
        for (const address of addresses) {
            // It waits this long, 10 s by default, before it tries the next server.
            cluster.add(address, { ...at(address), acquireTimeout: 1000 });
        }
        const connection = await cluster.getConnection();
        try {
            return await use(connection);
        } finally {
            await connection.release();
            await cluster.end();
        }
    },
});
