import * as mysql from 'mysql2/promise';
import { FollowOptions } from './mysql2.js';

export * from 'mysql2/promise';

export function createConnection(config: string | (mysql.ConnectionOptions & FollowOptions)): Promise<mysql.Connection>;
export function createPool(config: string | (mysql.PoolOptions & FollowOptions)): mysql.Pool;
export function createPoolCluster(config?: mysql.PoolClusterOptions): PoolCluster;

export interface PoolCluster extends mysql.PoolCluster {
    add(config: mysql.PoolOptions & FollowOptions): void;
    add(group: string, config: string | (mysql.PoolOptions & FollowOptions)): void;
}
