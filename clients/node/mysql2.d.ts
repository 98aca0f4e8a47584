import * as mysql from 'mysql2';

export * from 'mysql2';

/** Whose redirects are followed. Without it, the environment variable INSTANT_FAILOVER_FOLLOW says so, or else `auto`. */
export interface FollowOptions {
    instantFailover?: 'never' | 'verified' | 'auto' | 'always';
}

export function createConnection(config: string | (mysql.ConnectionOptions & FollowOptions)): mysql.Connection;
export function createPool(config: string | (mysql.PoolOptions & FollowOptions)): mysql.Pool;
export function createPoolCluster(config?: mysql.PoolClusterOptions): PoolCluster;

export interface PoolCluster extends mysql.PoolCluster {
    add(config: mysql.PoolOptions & FollowOptions): void;
    add(group: string, config: string | (mysql.PoolOptions & FollowOptions)): void;
}
