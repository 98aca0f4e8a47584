// How the Node clients talk with `cargo xtask clients`: a command a line in, an answer a line out.
'use strict';

const readline = require('node:readline');

const { DB_HOST: host, DB_PORT: port, DB_USER: user, DB_PASSWORD: password, DB_NAME: database } = process.env;
exports.options = { host, port: Number(port), user, password, database };
exports.query = 'SELECT name FROM this_server';

// Runs three statements, the one in the middle prepared, and returns the server's name as each saw it.
exports.use = async (connection, rowsOf = (result) => result) => {
    const names = [];
    for (const result of [
        await connection.query(exports.query),
        await connection.execute(`${exports.query} WHERE 1 = ?`, [1]),
        await connection.query(exports.query),
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
