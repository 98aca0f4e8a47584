// mysql2, which does not follow.
'use strict';

const mysql = require('mysql2/promise');
const { answer, options, query } = require('./talk.js');

async function use(connection) {
    const names = [];
    for (const [rows] of [
        await connection.query(query),
        await connection.execute(`${query} WHERE 1 = ?`, [1]),
        await connection.query(query),
    ]) {
        names.push(rows[0].name);
    }
    return names;
}

async function connect() {
    const connection = await mysql.createConnection(options);
    try {
        return await use(connection);
    } finally {
        await connection.end();
    }
}

const pool = mysql.createPool(options);

answer({ connect, pool: () => use(pool) });
