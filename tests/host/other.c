/*
  A library with an authentication plugin. Compiled twice: as it is, and with
  CONSTANT, which puts the descriptor into memory that the linker protects.
*/
#include "host.h"

#ifdef CONSTANT
#define NAME "fixed"
#define DESCRIPTOR static const
#else
#define NAME "other"
#define DESCRIPTOR static
#endif

/* Found by its name: what the descriptor should hold when it is not hooked. */
MYSQL_PLUGIN_EXPORT int authenticate(MYSQL_PLUGIN_VIO *vio, MYSQL_SERVER_AUTH_INFO *info);

int authenticate(MYSQL_PLUGIN_VIO *vio, MYSQL_SERVER_AUTH_INFO *info)
{
  unsigned char *packet;
  return vio->read_packet(vio, &packet) < 0 ? CR_ERROR : original_outcome(vio, info);
}

DESCRIPTOR struct st_mysql_auth descriptor= {
  MYSQL_AUTHENTICATION_INTERFACE_VERSION, "mysql_native_password", authenticate, NULL, NULL
};

maria_declare_plugin(other)
{
  MYSQL_AUTHENTICATION_PLUGIN, (void *) &descriptor, NAME, "", "", PLUGIN_LICENSE_BSD, NULL, NULL, 1, NULL, NULL, "1",
  MariaDB_PLUGIN_MATURITY_STABLE
}
maria_declare_plugin_end;
