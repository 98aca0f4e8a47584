// The helper for mysql2 in `clients/`.
'use strict';

const fs = require('node:fs');
const { connect, targetOf } = require('../../../clients/node/mysql2_follow.js');
const { answer, options, prepared, query } = require('./talk.js');

// The file of the authority is `-` for no TLS.
async function follow(host, port, authority) {
    const ssl = authority === '-' ? undefined : { ca: fs.readFileSync(authority), verifyIdentity: true };
    const connection = await connect({ ...options, host, port: Number(port), ssl });
    try {
        const [rows] = await connection.query(query);
        const [parameterised] = await prepared(connection);
        const [again] = await connection.query(query);
        const [[{ Value: cipher }]] = await connection.query("SHOW STATUS LIKE 'Ssl_cipher'");
        return [rows[0].name, parameterised[0].name, again[0].name, cipher ? 'tls' : 'plain'];
    } finally {
        await connection.end();
    }
}

// Where the helper would go, for the bytes of a message in hexadecimal.
async function target(message) {
    const found = targetOf({ errno: 4196, sqlMessage: Buffer.from(message, 'hex').toString() });
    return found ? [found.host, found.port] : ['none'];
}

answer({ connect: follow, target });
