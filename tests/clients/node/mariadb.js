// MariaDB Connector/Node.js, which does not follow.
'use strict';

const mariadb = require('mariadb');
const { answer, ca, options, use, useOnce } = require('./talk.js');

if (ca) {
    options.ssl = { ca };
}

// It fills itself as soon as it is made, and goes on trying. Its defaults, but for an acquireTimeout of 10 s.
let pool;

answer({
    connect: () => useOnce(mariadb.createConnection(options)),
    pool: () => {
        pool ??= mariadb.createPool({ ...options, acquireTimeout: 3000 });
        return use(pool);
    },
});
