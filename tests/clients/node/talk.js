// The protocol between the Node clients and `cargo xtask clients`: one command per line in, one answer per line out.
'use strict';

const fs = require('node:fs');
const readline = require('node:readline');

const { DB_HOST: host, DB_PORT: port, DB_USER: user, DB_PASSWORD: password, DB_NAME: database } = process.env;
const { DB_QUERY: query, DB_CONDITION: condition, DB_AUTHORITY: authority } = process.env;
exports.options = { host, port: Number(port), user, password, database };
// The same for another `host:port`.
exports.at = (address) => {
    const [host, port] = address.split(':');
    return { ...exports.options, host, port: Number(port) };
};
// The authority, for TLS.
exports.ca = authority && fs.readFileSync(authority);
exports.query = query;
// A prepared statement; a plain one with a server that prepares nothing.
exports.prepared = (connection) =>
    condition ? connection.execute(`${query} ${condition}`, [1]) : connection.query(query);

// Runs three statements, the one in the middle prepared, and returns the server's name as each saw it.
exports.use = async (connection, rowsOf = (result) => result) => {
    const names = [];
    for (const result of [
        await connection.query(query),
        await exports.prepared(connection),
        await connection.query(query),
    ]) {
        names.push(rowsOf(result)[0].name);
    }
    return names;
};

// The same with a connection that is being made, and ended afterwards.
exports.useOnce = async (connecting, rowsOf) => {
    const connection = await connecting;
    try {
        return await exports.use(connection, rowsOf);
    } finally {
        await connection.end();
    }
};

// Carries out commands, given by name as functions of the line's other words, until there are no more.
exports.answer = async (commands) => {
    for await (const line of readline.createInterface({ input: process.stdin })) {
        const [name, ...words] = line.split('\t');
        const answer = await commands[name](...words).then(
            (names) => `ok ${names.join(' ')}`,
            // A pool may put the server's error inside one of its own.
            (error) => `error ${error.errno} ${error.message} ${error.cause ? `[${error.cause.message}]` : ''}`
        );
        console.log(answer.split(/\s+/).join(' ').trim());
    }
    process.exit();
};
