/**
 * A JDBC driver around MariaDB Connector/J that follows the redirects of servers with the instant
 * failover plugin.
 *
 * <p>{@link org.mariadb.instantfailover.Driver} is all that an application uses.
 */
package org.mariadb.instantfailover;
