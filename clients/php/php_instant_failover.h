#ifndef PHP_INSTANT_FAILOVER_H
#define PHP_INSTANT_FAILOVER_H

#include "php.h"
#include "ext/mysqlnd/mysqlnd.h"

#include "follow.h"

#define PHP_INSTANT_FAILOVER_VERSION "0.2.0"

extern zend_module_entry instant_failover_module_entry;
#define phpext_instant_failover_ptr &instant_failover_module_entry

/* What the last packet of the login under way was. */
struct instant_failover_login {
	const MYSQLND_PFC *pfc; /* of the connection that logs in; only compared, it may be gone */
	unsigned int reads;     /* each packet is read in two: its header, its body */
	bool offers_tls;        /* in the greeting */
	bool runs_ahead;        /* more came with the greeting; PHP would read it after TLS has begun, as if it had come through TLS */
	bool is_error;
	unsigned int code;
	size_t length; /* of the message as the server sent it */
	char message[IF_MAX_MESSAGE]; /* its beginning, without a terminator */
};

ZEND_BEGIN_MODULE_GLOBALS(instant_failover)
	char *follow; /* instant_failover.follow; NULL if it is not set */
	struct instant_failover_login login;
ZEND_END_MODULE_GLOBALS(instant_failover)

ZEND_EXTERN_MODULE_GLOBALS(instant_failover)
#define IFG(v) ZEND_MODULE_GLOBALS_ACCESSOR(instant_failover, v)

#if defined(ZTS) && defined(COMPILE_DL_INSTANT_FAILOVER)
ZEND_TSRMLS_CACHE_EXTERN()
#endif

#endif
