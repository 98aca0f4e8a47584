// MariaDB Connector/Node.js, which does not follow.
'use strict';

const mariadb = require('mariadb');
const { answer, options, query } = require('./talk.js');

async function use(connection) {
    const names = [];
    for (const rows of [
        await connection.query(query),
        await connection.execute(`${query} WHERE 1 = ?`, [1]),
        await connection.query(query),
    ]) {
        names.push(rows[0].name);
    }
    return names;
}

async function connect() {
    const connection = await mariadb.createConnection(options);
    try {
        return await use(connection);
    } finally {
        await connection.end();
    }
}

// It fills itself as soon as it is made, and goes on trying. Its defaults, but for an acquireTimeout of 10 s.
let pool;

answer({
    connect,
    pool: () => {
        pool ??= mariadb.createPool({ ...options, acquireTimeout: 3000 });
        return use(pool);
    },
});
