import * as mariadb from 'mariadb/callback';

export * from 'mariadb/callback';

/** Whose redirects are followed. Without it, the environment variable INSTANT_FAILOVER_FOLLOW says so, or else `auto`. */
export interface FollowOptions {
    instantFailover?: 'never' | 'verified' | 'auto' | 'always';
}

export function createConnection(config: string | (mariadb.ConnectionConfig & FollowOptions)): mariadb.Connection;
export function createPool(config: string | (mariadb.PoolConfig & FollowOptions)): mariadb.Pool;
export function createPoolCluster(config?: mariadb.PoolClusterConfig): PoolCluster;
export function importFile(
    config: mariadb.ImportFileConfig & FollowOptions,
    callback: (err: mariadb.SqlError | null) => void,
): void;

export interface PoolCluster extends mariadb.PoolCluster {
    add(config: mariadb.PoolConfig & FollowOptions): void;
    add(id: string, config: mariadb.PoolConfig & FollowOptions): void;
}
