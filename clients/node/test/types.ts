// Compiled, not run: the types of the package are those of the drivers, and have the option.
import * as mysql from 'instant-failover/mysql2';
import * as mysqlPromise from 'instant-failover/mysql2/promise';
import * as mariadb from 'instant-failover/mariadb';
import * as mariadbCallback from 'instant-failover/mariadb/callback';

export async function use(): Promise<void> {
    const pool = mysqlPromise.createPool({ host: 'db1', instantFailover: 'verified' });
    const [rows] = await pool.query<mysql.RowDataPacket[]>('SELECT 1 AS one');
    const one: number = rows[0].one;
    const cluster = mysqlPromise.createPoolCluster();
    cluster.add('db1', { host: 'db1', instantFailover: 'never' });
    mysql
        .createConnection({ host: 'db1', instantFailover: 'always' })
        .query('SELECT ?', [one], (error) => console.log(error));
    mysql.createPool('mysql://db1').getConnection((error, connection) => error ?? connection.release());

    const connection: mariadb.Connection = await mariadb.createConnection({ host: 'db1', instantFailover: 'auto' });
    await connection.query('SELECT 1');
    mariadb.createPoolCluster().add('db1', { host: 'db1', instantFailover: 'auto' });
    mariadbCallback
        .createConnection({ host: 'db1' })
        .query('SELECT 1', (error: mariadb.SqlError | null) => console.log(error));

    // @ts-expect-error there is no such value
    mysql.createConnection({ host: 'db1', instantFailover: 'sometimes' });
    // @ts-expect-error there is no such value
    mariadb.createPool({ host: 'db1', instantFailover: 'sometimes' });
}
