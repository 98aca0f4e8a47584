// How the Node clients talk with `cargo xtask clients`: a command a line in, an answer a line out.
'use strict';

const readline = require('node:readline');

const { DB_HOST: host, DB_PORT: port, DB_USER: user, DB_PASSWORD: password, DB_NAME: database } = process.env;
exports.options = { host, port: Number(port), user, password, database };
exports.query = 'SELECT name FROM this_server';

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
