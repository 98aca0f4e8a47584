// mysql2, which does not follow.
'use strict';

const mysql = require('mysql2/promise');
const { answer, ca, options, use, useOnce } = require('./talk.js');

if (ca) {
    options.ssl = { ca, verifyIdentity: true };
}

// It gives rows and columns, not rows alone.
const rowsOf = ([rows]) => rows;
const pool = mysql.createPool(options);

answer({
    connect: () => useOnce(mysql.createConnection(options), rowsOf),
    pool: () => use(pool, rowsOf),
});
