/* Connector/C's client_plugin.h includes this file, which no package ships. */
typedef struct st_ma_compress_ctx ma_compress_ctx;
