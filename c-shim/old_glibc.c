/*
  Lets a library that was linked on a new system load on an older one.

  glibc 2.33 and 2.34 gave new versions to functions that had not changed, when
  stat became a function and libdl and libpthread became part of libc. A linker
  there binds to the new versions, which older systems lack. build.rs has the
  linker pass these functions by here (--wrap), where each call is bound to the
  version that every glibc has, the new ones included.
*/
#include <features.h>

#if (defined(__x86_64__) || defined(__aarch64__)) && defined(__GLIBC__)

#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The first version of glibc there, that in which a thread got a name, and the
   version of struct stat (below). */
#ifdef __x86_64__
#define OLD(ret, name, params, args) OF(2.2.5, ret, name, params, args)
#define NAMED(ret, name, params, args) OF(2.12, ret, name, params, args)
#define STAT_VERSION 1
#else
#define OLD(ret, name, params, args) OF(2.17, ret, name, params, args)
#define NAMED OLD
#define STAT_VERSION 0
#endif
#define OF(version, ret, name, params, args)                                                        \
  ret old_##name params;                                                                            \
  __asm__(".symver old_" #name "," #name "@GLIBC_" #version);                                       \
  ret __wrap_##name params;                                                                         \
  ret __wrap_##name params { return old_##name args; }

OLD(int, dladdr, (const void *address, void *info), (address, info))
OLD(int, dlclose, (void *handle), (handle))
OLD(void *, dlopen, (const char *path, int flags), (path, flags))
OLD(void *, dlsym, (void *handle, const char *name), (handle, name))
OLD(int, pthread_attr_setstacksize, (void *attributes, size_t size), (attributes, size))
OLD(int, pthread_create, (unsigned long *thread, const void *attributes, void *(*start)(void *), void *argument),
    (thread, attributes, start, argument))
OLD(int, pthread_detach, (unsigned long thread), (thread))
OLD(int, pthread_join, (unsigned long thread, void **result), (thread, result))
NAMED(int, pthread_setname_np, (unsigned long thread, const char *name), (thread, name))
OLD(int, pthread_key_create, (unsigned *key, void (*destroy)(void *)), (key, destroy))
OLD(int, pthread_key_delete, (unsigned key), (key))
OLD(int, pthread_setspecific, (unsigned key, const void *value), (key, value))

/* Before they were functions, these were macros for functions that take the
   version of struct stat first. */
OLD(int, __fxstat64, (int version, int fd, void *stat), (version, fd, stat))
OLD(int, __xstat64, (int version, const char *path, void *stat), (version, path, stat))
int __wrap_fstat64(int fd, void *stat);
int __wrap_fstat64(int fd, void *stat) { return old___fxstat64(STAT_VERSION, fd, stat); }
int __wrap_stat64(const char *path, void *stat);
int __wrap_stat64(const char *path, void *stat) { return old___xstat64(STAT_VERSION, path, stat); }

/* New functions, which Rust's standard library uses where they are there. */
int __wrap_gettid(void);
int __wrap_gettid(void) { return (int) syscall(SYS_gettid); }
int __wrap_statx(int dir, const char *path, int flags, unsigned mask, void *statx);
int __wrap_statx(int dir, const char *path, int flags, unsigned mask, void *statx)
{
  return (int) syscall(SYS_statx, dir, path, flags, mask, statx);
}

#else
/* ISO C wants something in a file. */
typedef int old_glibc_is_not_needed;
#endif
